"""What a task writes with its next commit: final, live and late rows, and dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from kandle.engine.bars import Finals
from kandle.engine.failures import FailedBar, FailureCollector
from kandle.engine.pipeline import Pipeline, Processed
from kandle.errors import DataError
from kandle.log.headers import HEADERS
from kandle.log.letters import Letter, LetterKind
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.log.versions import marked, version_headers
from kandle.model.texts import named_rows
from kandle.plan.plan import BarPlan
from kandle.query.nodes import WindowBound
from kandle.runtime.dead_letters import DeadLetters, RefusedRows, bar_letter, event_letters, row_letter
from kandle.runtime.replacing import FinalGuard, before, following
from kandle.runtime.state import TaskContext

LIVE_PER_COMMIT = 20_000
"""About the most live bars of a timeframe in one commit; the others leave with the next ones."""

GAP_HEADER = [{"name": "gap", "value": b"true"}]


class TaskOutput:
    """The rows of one partition that wait for the next commit.

    Finals, late rows and dead letters are gathered here; live bars are taken from the pipeline when they are written, so that
    only the newest state of a bucket leaves.

    Args:
        context: What the tasks of the query work with.
        partition: The partition of the task.
        guard: Keeps back what a former declaration has made; None if there was none.
    """

    def __init__(self, context: TaskContext, partition: int, guard: FinalGuard | None = None) -> None:
        self._topics, self._counters, self._clock = context.topics, context.counters, context.clock
        self._partition = partition
        self._version = version_headers(context.topics.plan.query.target)
        self._guard = guard
        self._is_repeated = False
        self._finals: list[Finals] = []
        self._late: list[pl.DataFrame] = []
        self._failed: list[FailedBar] = []
        self._dead = DeadLetters(context, TopicPartition(context.topics.events, partition))
        self._counts: Counter[str] = Counter()
        self._live_counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.finals = 0
        """Finals that wait for the next commit, and bars that do not fit."""
        self.bytes = 0
        """About how much memory these finals take."""

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return bool(self._finals)

    @property
    def events(self) -> int:
        """Events processed since the last commit."""
        return self._counts["events"]

    def count(self, name: str, number: int) -> None:
        """Add to a counter of the query with the next commit: work that is rolled back does not count."""
        self._counts[name] += number

    def add_finals(self, closed: Iterable[Finals]) -> None:
        """Have finals written with the next commit."""
        for finals in closed if self._guard is None else map(self._guard.finals, closed):
            if not finals.bars.height:
                continue
            self._finals.append(finals)
            self.finals += finals.bars.height
            self.bytes += int(finals.bars.estimated_size())

    def split(self, batches: Sequence[Batch]) -> Iterator[Sequence[Batch]]:
        """Yield batches of events: first those that a former declaration has processed, whose late rows are written already."""
        done_until = 0 if self._guard is None else self._guard.done_until
        self._is_repeated = True
        if repeated := before(batches, done_until):
            yield repeated
        self._is_repeated = False
        yield batches if not repeated else following(batches, done_until)

    def add_processed(self, processed: Processed, events: int) -> None:
        """Count what became of a batch of events, and have the late ones written if they have a topic."""
        self.count("events", events)
        self.count("filtered", processed.filtered)
        self.count("outside_sessions", processed.outside_sessions)
        self.count("late", processed.late.height)
        if processed.late.height and self._topics.late is not None and not self._is_repeated:
            self._late.append(processed.late)

    def add_rejects(self, batches: Sequence[Batch]) -> bool:
        """Have the unreadable records of batches written; return whether there are any, of these or of earlier ones."""
        self._dead.take(batches, 0 if self._guard is None else self._guard.done_until)
        return bool(self._dead)

    def add_failures(self, failures: FailureCollector, batches: Sequence[Batch], position: int) -> None:
        """Have events that cannot be computed and bars that do not fit written as dead letters.

        Args:
            failures: What the pipeline has left out.
            batches: The batches of which the events are.
            position: The next offset of the events, before which those of the bars stand.
        """
        query = self._topics.plan.query
        events = failures.take_events()
        bars = [bar for bar in failures.take_bars() if self._guard is None or bar.start >= self._guard.whole_from]
        if not self._is_repeated:
            self._dead.add(*event_letters(query.source, batches, events))
        self._dead.add(*(bar_letter(query.target, bar, position) for bar in bars))
        self._failed += bars
        self.finals += len(bars)

    def writes(self, pipeline: Pipeline, *, live: bool) -> list[Write]:
        """Return the writes of the next commit, finals first.

        Args:
            pipeline: The pipeline whose open buckets are the live bars.
            live: Whether live bars leave with this commit; otherwise they wait for the next one, so that finals leave sooner.
        """
        live_writes = self._live_writes(pipeline) if live else ()
        removals = self._removals(pipeline, self._failed)
        return [*self._final_writes(), *removals, *live_writes, *self._late_writes(), *self._dead.writes()]

    def _removals(self, pipeline: Pipeline, bars: Sequence[FailedBar]) -> Iterator[Write]:
        """Yield tombstones for the live bars of buckets whose bars do not fit: an earlier value that did is none of them."""
        for plan in self._topics.plan.emitted:
            failed = [bar for bar in bars if bar.timeframe == plan.name]
            keys = pipeline.bar_keys(failed) if failed and self._topics.is_written_live(plan) else None
            if keys is not None:
                tombstones = pl.Series("tombstones", [True] * keys.height)
                yield Write(plan.live_topic, self._partition, marked(Records(keys, tombstones=tombstones), self._version))

    def _final_writes(self) -> Iterator[Write]:
        for bar in self._topics.plan.emitted:
            closed = [finals for finals in self._finals if finals.plan is bar]
            if closed:
                bars = pl.concat([finals.bars for finals in closed])
                gaps = pl.concat([finals.gaps for finals in closed])
                records = marked(Records(bars, _gap_headers(gaps)), self._version)
                yield Write(bar.final_topic, self._partition, records)
                if self._topics.is_written_live(bar):
                    # The last value of a bucket in the live topic is its final.
                    yield Write(bar.live_topic, self._partition, records)

    def _live_writes(self, pipeline: Pipeline) -> Iterator[Write]:
        for bar, frame in self._allowed(pipeline.changes()):
            if self._topics.is_written_live(bar):
                yield Write(bar.live_topic, self._partition, marked(Records(frame), self._version))
            self._live_counts[bar.name] += frame.height
        yield from self._removals(pipeline, pipeline.left_out)

    def _allowed(self, live: Iterable[tuple[BarPlan, pl.DataFrame]]) -> Iterator[tuple[BarPlan, pl.DataFrame]]:
        for bar, frame in live:
            allowed = frame if self._guard is None else frame.filter(self._guard.allowed(bar.name, frame))
            if allowed.height:
                yield bar, allowed

    def _late_writes(self) -> Iterator[Write]:
        if self._late and self._topics.late is not None:
            yield Write(self._topics.late, self._partition, Records(pl.concat(self._late)))

    def without(self, writes: Sequence[Write], refused: RefusedRows, position: int) -> list[Write]:
        """Return writes without records that the log refuses, such as those that are too large; see `DeadLetters.without`.

        Args:
            writes: All writes of the task.
            refused: The records that the log refuses.
            position: The next offset of the events, before which all of them stand.
        """
        query = self._topics.plan.query
        bars = {bar.final_topic: bar for bar in self._topics.plan.emitted}
        start = next(item.field for item in query.projection if item.expression == WindowBound("start"))

        def letter_of(write: Write, row: int, reason: str) -> Letter | None:
            fields = named_rows(write.records.frame.slice(row, 1))[0]
            if write.topic in bars:
                bar = bars[write.topic]
                self._refused[bar.name] += 1
                letter = row_letter(LetterKind.BAR, query.target, fields, position, reason)
                return replace(letter, timeframe=bar.name, start=fields[start])
            if write.topic == self._topics.late:
                return row_letter(LetterKind.EVENT, query.source, fields, position, reason)
            if write.topic in {bar.live_topic for bar in self._topics.plan.emitted}:
                # Its final says the same.
                return None
            raise DataError(reason)

        return self._dead.without(writes, refused, letter_of)

    def committed(self) -> None:
        """Note that the commit was made: count what was done, and begin anew."""
        self._counters.add(self._counts, self._live_counts)
        now = self._clock.now()
        for finals in self._finals:
            counters = self._counters.timeframes[finals.plan.name]
            counters.finals += finals.bars.height - self._refused.pop(finals.plan.name, 0)
            counters.gaps += int(finals.gaps.sum())
            newest = int(finals.complete.max())  # type: ignore[arg-type]
            counters.newest = newest if counters.newest is None else max(counters.newest, newest)
            counters.delay = now - newest - finals.plan.grace
        self._finals, self._late, self._failed, self.finals, self.bytes = [], [], [], 0, 0
        self._counts.clear()
        self._live_counts.clear()
        self._dead.committed()


def _gap_headers(gaps: pl.Series) -> pl.Series | None:
    """Return the header `gap` beside the bars that fill one."""
    if not gaps.any():
        return None
    header = pl.lit(pl.Series([GAP_HEADER], dtype=HEADERS)).first()
    return pl.select(pl.when(pl.lit(gaps)).then(header).otherwise(None).alias("headers"))["headers"]
