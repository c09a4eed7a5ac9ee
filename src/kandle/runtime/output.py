"""What a task writes with its next commit: final, live and late rows, and records that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from kandle.engine.bars import Finals
from kandle.engine.pipeline import Pipeline, Processed
from kandle.log.port import TopicPartition
from kandle.log.records import HEADERS, Batch, Records, RejectedRecord, Write
from kandle.runtime.state import TaskContext
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

GAP_HEADER = [{"name": "gap", "value": "true"}]

REPORT_INTERVAL = MINUTE
"""The least time between two log lines about dead letters, in microseconds."""


class TaskOutput:
    """The rows of one partition that wait for the next commit.

    Finals, late rows and dead letters are gathered here; live bars are taken from the pipeline when they are written, so that
    only the newest state of a bucket leaves.

    Args:
        context: What the tasks of the query work with.
        partition: The partition of the task.
    """

    def __init__(self, context: TaskContext, partition: int) -> None:
        self._topics, self._counters, self._clock = context.topics, context.counters, context.clock
        self._partition = partition
        self._finals: list[Finals] = []
        self._late: list[pl.DataFrame] = []
        self._dead = DeadLetters(context, TopicPartition(context.topics.events, partition))
        self.events = 0
        """Events processed since the last commit."""

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return bool(self._finals)

    def add_finals(self, closed: Iterable[Finals]) -> None:
        """Have finals written with the next commit."""
        self._finals.extend(closed)

    def add_processed(self, processed: Processed, events: int) -> None:
        """Count what became of a batch of events, and have the late ones written if they have a topic."""
        counters = self._counters
        counters.events += events
        counters.filtered += processed.filtered
        counters.outside_sessions += processed.outside_sessions
        counters.late += processed.late.height
        self.events += events
        if processed.late.height and self._topics.late is not None:
            self._late.append(processed.late)

    def add_rejects(self, batches: Sequence[Batch]) -> bool:
        """Have the unreadable records of batches written; return whether there are any, of these or of earlier ones."""
        self._dead.take(batches)
        return bool(self._dead)

    def writes(self, pipeline: Pipeline, *, live: bool) -> list[Write]:
        """Return the writes of the next commit, finals first.

        Args:
            pipeline: The pipeline whose open buckets are the live bars.
            live: Whether live bars leave with this commit; otherwise they wait for the next one, so that finals leave sooner.
        """
        live_writes = self._live_writes(pipeline) if live else ()
        return [*self._final_writes(), *live_writes, *self._late_writes(), *self._dead.writes()]

    def _final_writes(self) -> Iterator[Write]:
        for bar in self._topics.plan.emitted:
            closed = [finals for finals in self._finals if finals.plan is bar]
            if closed:
                bars = pl.concat([finals.bars for finals in closed])
                gaps = pl.concat([finals.gaps for finals in closed])
                yield Write(bar.final_topic, self._partition, Records(bars, _gap_headers(gaps)))
                if self._topics.is_written_live(bar):
                    # The last value of a bucket in the live topic is its final.
                    yield Write(bar.live_topic, self._partition, Records(bars, _gap_headers(gaps)))

    def _live_writes(self, pipeline: Pipeline) -> Iterator[Write]:
        for bar, frame in pipeline.changes():
            if self._topics.is_written_live(bar):
                yield Write(bar.live_topic, self._partition, Records(frame))
            self._counters.timeframes[bar.name].live += frame.height

    def _late_writes(self) -> Iterator[Write]:
        if self._late and self._topics.late is not None:
            yield Write(self._topics.late, self._partition, Records(pl.concat(self._late)))

    def committed(self) -> None:
        """Note that the commit was made: count the finals, and begin anew."""
        now = self._clock.now()
        for finals in self._finals:
            counters = self._counters.timeframes[finals.plan.name]
            counters.finals += finals.bars.height
            counters.gaps += int(finals.gaps.sum())
            newest = int(finals.complete.max())  # type: ignore[arg-type]
            counters.newest = newest if counters.newest is None else max(counters.newest, newest)
            counters.delay = now - newest - finals.plan.grace
        self._finals, self._late, self.events = [], [], 0
        self._dead.committed()


def _gap_headers(gaps: pl.Series) -> pl.Series | None:
    """Return the header `gap` beside the bars that fill one."""
    if not gaps.any():
        return None
    header = pl.lit(pl.Series([GAP_HEADER], dtype=HEADERS)).first()
    return pl.select(pl.when(pl.lit(gaps)).then(header).otherwise(None).alias("headers"))["headers"]


class DeadLetters:
    """Records of one partition that cannot be read; they are written as they are, in the commit that goes past them.

    Args:
        context: What the tasks of the query work with.
        source: The partition that they come from.
    """

    def __init__(self, context: TaskContext, source: TopicPartition) -> None:
        self._log, self._clock, self._counters = context.log, context.clock, context.counters
        self._spec = context.topics.dead_letters.spec
        self._source = source
        self._waiting: list[RejectedRecord] = []
        self._first: RejectedRecord | None = None
        self._unreported = 0
        self._reported_at: int | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, batches: Sequence[Batch]) -> None:
        """Have the unreadable records of these batches written with the next commit."""
        for batch in batches:
            self._waiting += batch.rejects

    def writes(self) -> list[Write]:
        """Return the dead letters; their topic is created with the first."""
        if not self._waiting:
            return []
        self._log.ensure(self._spec)
        rows = [(*self._source, record.offset, record.reason, record.key, record.value) for record in self._waiting]
        frame = pl.DataFrame(rows, schema=self._spec.schema, orient="row")
        return [Write(self._spec.name, self._source.partition % self._spec.partitions, Records(frame))]

    def committed(self) -> None:
        """Note that they are written, and report once a minute all that have come since the last report."""
        self._counters.rejected += len(self._waiting)
        if self._waiting and self._unreported == 0:
            self._first = self._waiting[0]
        self._unreported += len(self._waiting)
        self._waiting = []
        now = self._clock.steady()
        if self._unreported and (self._reported_at is None or not 0 <= now - self._reported_at < REPORT_INTERVAL):
            self._report()
            self._reported_at, self._unreported = now, 0

    def _report(self) -> None:
        assert self._first is not None
        logger.warning(
            "%d records of %s, partition %d, cannot be read and are in topic %s; the first, at offset %d: %s",
            self._unreported, self._source.topic, self._source.partition, self._spec.name,
            self._first.offset, self._first.reason,
        )  # fmt: skip
