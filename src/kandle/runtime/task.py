"""A task: all that one partition of a query does. It owns the state of the partition's keys and makes all their bars.

It joins four objects, each of which knows one thing:

    TaskInput      what was read, in which order it is processed, and how far that has come
    Pipeline       the open buckets (of the engine; without I/O)
    TaskOutput     the rows that wait for the next commit
    StateRecorder  what the next commit adds to the changelog
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from kandle.engine.operator import UNSEEN
from kandle.engine.pipeline import Pipeline
from kandle.errors import DataError
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Write
from kandle.runtime.backlog import MOST_OPEN
from kandle.runtime.dead_letters import RefusedRows
from kandle.runtime.input import HeldEvents, TaskInput
from kandle.runtime.output import TaskOutput
from kandle.runtime.planner import closing_spec
from kandle.runtime.preparing import check_source_partitions
from kandle.runtime.reading import KeyPlacement, record_reader
from kandle.runtime.state import Replica, StateRecorder, TaskContext
from kandle.time.closings import NewestClosings
from kandle.time.timeframe import SECOND

LONG_WAIT = SECOND
"""An event that was appended longer ago than this when it is processed belongs to a backlog, in microseconds."""


class Task:
    """One partition of a query, restored to what its group committed last.

    Args:
        context: What the tasks of the query work with.
        partition: The number of the partition.
        replica: The restored state; None restores it from the changelog.
    """

    def __init__(self, context: TaskContext, partition: int, replica: Replica | None = None) -> None:
        replica = replica if replica is not None else Replica(context, partition)
        topics, pipeline = context.topics, replica.pipeline
        self._context = context
        self.events = TopicPartition(topics.events, partition)
        self.heartbeats = TopicPartition(topics.heartbeats, partition)
        self._pipeline, self._watermark = pipeline, replica.watermark
        # Copies of several partitions mix old events with new ones, and rows of ksqlDB have no order at all.
        self._backlog = replica.backlog if topics.events == topics.source else None
        # The live bars of the last commit may not have been written.
        pipeline.touch()
        held = None if topics.table is not None else self._held_events()
        self._input = TaskInput(topics.events, held, context.refused)
        self._reader = record_reader(topics)
        self._placement = KeyPlacement(topics, partition)
        self._placement.skip(pipeline.keys)
        self._output = TaskOutput(context, partition, replica.guard)
        version = context.schedule.version if context.schedule is not None and replica.is_current else None
        self._recorder = StateRecorder(replica, context, version)
        self._input.known_last = replica.last
        self._failures = replica.failures
        self._is_dirty = False
        self._appended = 0
        context.counters.restored += replica.has_state

    def _held_events(self) -> HeldEvents:
        context, beats = self._context, self.heartbeats
        held = HeldEvents(
            context.topics.plan,
            self._pipeline.event_time,
            context.clock,
            NewestClosings(closing_spec(context.topics.plan), lambda: context.calendar),
            lambda: context.log.ends(beats.topic)[beats.partition],
        )
        held.hear(self._pipeline.target)
        return held

    @property
    def closed(self) -> int | None:
        """The instant up to which buckets are closed, in microseconds; None if none is."""
        closed = self._pipeline.numbers()["closed"]
        return None if closed == UNSEEN else closed

    def start_at(self, events: int, heartbeats: int) -> None:
        """Set the positions from which the group reads."""
        self._input.start_at(events, heartbeats)

    def commit_soon(self) -> None:
        """Have the next commit write the state and the positions, even if nothing has happened since."""
        self._is_dirty = True

    @property
    def keys(self) -> pl.DataFrame | None:
        """Keys seen, with their numbers."""
        return self._pipeline.keys

    @property
    def open_buckets(self) -> int:
        """Open buckets of all timeframes."""
        return self._pipeline.open_rows

    @property
    def pipeline(self) -> Pipeline:
        """The open buckets; only the thread of the worker may change them."""
        return self._pipeline

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return self._pipeline.is_closing or self._input.has_next

    @property
    def waiting_rows(self) -> int:
        """Events that were read and are not processed yet."""
        return self._input.waiting_rows

    def lag(self, events: int, heartbeats: int) -> int:
        """Return how much is left to be done: events, heartbeats, and a closing that has begun.

        Args:
            events: The next offset of the events' partition.
            heartbeats: The next offset of the heartbeats' partition.
        """
        unread = max(0, heartbeats - self._input.heartbeats_read) + self._input.waiting_heartbeats
        return max(0, events - self._input.event_position) + unread + self._pipeline.is_closing

    @property
    def is_behind(self) -> bool:
        """Whether events were processed since the last commit that had waited for long."""
        return self._output.events > 0 and self._context.clock.now() - self._appended > LONG_WAIT

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return self._output.has_finals

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return self._is_dirty

    @property
    def output(self) -> TaskOutput:
        """What waits for the next commit."""
        return self._output

    def take(self, events: Sequence[Batch], heartbeats: Sequence[Batch]) -> None:
        """Add what was read; `work` processes it.

        Args:
            events: New batches of the events' topic, in their order.
            heartbeats: New batches of the heartbeats' topic, in their order.
        """
        self._adopt_schedule()
        self._input.add(events, heartbeats)
        if refused := self._input.take_refused():
            self._output.count("heartbeats_refused", refused)

    def work(self, most_events: int, most_finals: int) -> bool:
        """Do a piece of what is to be done: close some buckets, or process some events.

        How the work is cut makes no difference. A commit may come after each piece: the state says up to which instant
        buckets are closed and up to which they are to be closed, so whoever takes the partition over goes on in the middle.

        Args:
            most_events: The most events to process.
            most_finals: About the most finals to make.

        Returns:
            Whether there was anything to do.

        Raises:
            SchemaError: The topic of the events has other partitions than before.
            DataError: A group key belongs to another partition, or the time of an event cannot be right.
        """
        if self._pipeline.is_closing:
            self._output.add_finals(self._pipeline.close_some(most_finals))
            self._output.add_failures(self._failures, (), self._input.event_position)
            self._is_dirty = True
            return True
        portion = self._input.next(most_events)
        if portion is None:
            return False
        for batches in self._output.split([batch for batch in portion.batches if len(batch)]):
            self._process(batches)
        self._is_dirty |= self._output.add_rejects(portion.batches)
        if portion.heartbeat is not None:
            self._pipeline.aim(portion.heartbeat.instant)
            self._output.count("heartbeats_applied", 1)
            self._is_dirty = True
        return True

    def _process(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        for piece, instant in self._pieces(batches):
            processed = self._reader.take(self._pipeline, self._watermark, piece)
            self._check_placement()
            self._appended = int(piece[-1].timestamps[-1])
            self._output.add_processed(processed, sum(len(batch) for batch in piece))
            self._output.add_failures(self._failures, piece, piece[-1].next_offset)
            self._pipeline.aim(self._watermark.value)
            if instant is not None and self._pipeline.has_open_base_rows(MOST_OPEN):
                self._pipeline.aim(instant)
            self._is_dirty = True

    def _pieces(self, batches: Sequence[Batch]) -> Iterable[tuple[Sequence[Batch], int | None]]:
        """Return batches as they are processed, and the instant up to which a backlog may close after each."""
        if self._backlog is None:
            return [(batches, None)]
        pieces = self._backlog.pieces(batches)
        if self._pipeline.most_base_rows + sum(len(batch) for batch in batches) <= MOST_OPEN:
            # However these events fall into buckets, the backlog closes none, and larger pieces are faster.
            for _ in pieces:
                pass
            return [(batches, None)]
        return pieces

    def _check_placement(self) -> None:
        try:
            self._placement.check(self._pipeline.keys)
        except DataError:
            # Keys move when partitions are added to the topic; that is the reason to be named then.
            check_source_partitions(self._context.log, self._context.topics)
            raise

    def _adopt_schedule(self) -> None:
        """Go on with newer schedule rows, if there are any."""
        version = None if self._context.schedule is None else self._context.schedule.version
        if version is None or version is self._recorder.schedule:
            return
        self._pipeline.replace_calendar(version.calendar)
        self._recorder.replace_schedule(version)
        self._is_dirty = True

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offsets, to be committed."""
        return {self.events: self._input.event_position, self.heartbeats: self._input.heartbeat_position}

    def writes(self, *, live: bool = True) -> list[Write]:
        """Return all writes of one commit: finals with their marks, live bars, late events, dead letters, the state.

        Args:
            live: Whether live bars leave with this commit; otherwise they wait for the next one.
        """
        # The changelog comes last: `committed` finds its offset there.
        return [*self._output.writes(self._pipeline, live=live), *self._recorder.writes(self._input.last)]

    def without(self, writes: Sequence[Write], refused: RefusedRows) -> list[Write]:
        """Return what `writes` has returned without records that the log refuses: they become dead letters."""
        return self._output.without(writes, refused, self._input.event_position)

    def committed(self, offsets: Sequence[int]) -> None:
        """Note that the commit was made.

        Args:
            offsets: The offset of the first record of each write, in the order of `writes`.

        Raises:
            StateError: The changelog was deleted and created again.
        """
        self._recorder.committed(offsets[-1] if offsets else None)
        self._output.committed()
        self._is_dirty = self._pipeline.has_changes
