"""A task: all that one partition of a query does. It owns the state of the partition's keys and makes all their bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from kandle.engine.bars import Finals
from kandle.engine.pipeline import Processed
from kandle.log.port import TopicPartition
from kandle.log.records import HEADERS, Batch, Records, Write
from kandle.runtime.dead_letters import DeadLetters
from kandle.runtime.heartbeats import own_heartbeats
from kandle.runtime.intake import Holding, Placement, intake_of
from kandle.runtime.state import Replica, change_frames, snapshot_frames, state_is_gone
from kandle.runtime.surroundings import Surroundings
from kandle.store.changelog import CHANGE, SNAPSHOT

LEAST_CHANGES = 1 << 20
"""Bytes of changes below which a snapshot is not worth writing."""

GAP_HEADER = [{"name": "gap", "value": "true"}]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that was read: buckets are over up to an instant, once all events before a position are in."""

    offset: int
    instant: int
    position: int


@dataclass(slots=True)
class Outbox:
    """What is to be written with the next commit."""

    finals: list[Finals] = field(default_factory=list)
    late: list[pl.DataFrame] = field(default_factory=list)
    events: int = 0


class Task:
    """One partition of a query, restored to what its group committed last."""

    def __init__(self, surroundings: Surroundings, partition: int, replica: Replica | None = None) -> None:
        replica = replica if replica is not None else Replica(surroundings, partition)
        self._around = surroundings
        self._topics = surroundings.topics
        self.partition = partition
        self.events = TopicPartition(self._topics.events, partition)
        self.heartbeats = TopicPartition(self._topics.heartbeats, partition)
        self._changelog = replica.changelog
        self._journal = replica.journal
        self._watermark = replica.watermark
        self._pipeline = replica.pipeline
        # Live bars of before may not have left any more.
        self._pipeline.touch()
        self._beats: list[Beat] = []
        self._beat_position = 0
        self._event_position = 0
        self._known_keys = 0 if self._pipeline.keys is None else self._pipeline.keys.height
        self._snapshot_size = 0
        self._changes_size = 0
        self._outbox = Outbox()
        self._dead = DeadLetters(surroundings.log, surroundings.clock, self._topics, surroundings.counters, self.events)
        self._intake = intake_of(self._topics)
        self._holding = None
        if self._topics.table is None:
            closed = self._pipeline.numbers()["closed"]
            self._holding = Holding(self._topics.plan, self._pipeline.event_time, surroundings.clock, closed)
        self._placement = Placement(self._topics, partition)
        self._placement.skip(self._pipeline.keys)
        self._dirty = False
        self._recorded: dict[str, int] = {}
        self._version = self._version_of(replica)
        self._snapshot_due = False
        surroundings.counters.restored += replica.has_state

    def _version_of(self, replica: Replica) -> tuple[tuple[int, int], ...]:
        """Which schedule rows the restored state belongs to; none that are known, if not to the newest."""
        schedule = self._around.schedule
        return schedule.version if schedule is not None and replica.is_current else ()

    def start_at(self, events: int, heartbeats: int) -> None:
        """The positions from which the group reads."""
        self._event_position, self._beat_position = events, heartbeats

    @property
    def keys(self) -> pl.DataFrame | None:
        """Keys seen, with their numbers."""
        return self._pipeline.keys

    @property
    def open_buckets(self) -> int:
        """Open buckets of all timeframes."""
        return self._pipeline.open_rows

    @property
    def event_position(self) -> int:
        """The next event to be processed."""
        return self._event_position

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return bool(self._outbox.finals)

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return self._dirty

    @property
    def waiting_events(self) -> int:
        """Events processed since the last commit."""
        return self._outbox.events

    def take(self, events: Sequence[Batch], heartbeats: Sequence[Batch]) -> None:
        """Process events, and close buckets where heartbeats stand between them."""
        self._adopt_schedule()
        for batch in heartbeats:
            self._hear(batch)
        if self._holding is not None:
            events = self._holding.ready(events)
        batches = [batch for batch in events if len(batch)]
        end = events[-1].next_offset if events else self._event_position
        for beat in self._due(end):
            self._process(_before(batches, beat.position))
            batches = _from(batches, beat.position)
            self._close(self._pipeline.advance(beat.instant))
            self._around.counters.heartbeats_applied += 1
            self._beat_position = beat.offset + 1
            self._dirty = True
        self._process(batches)
        self._event_position = end
        self._dead.take(events)
        self._dirty |= bool(self._dead)

    def _hear(self, batch: Batch) -> None:
        frame = batch.records.frame
        rows = zip(
            batch.offsets.tolist(),
            frame["instant"].to_physical().to_list(),
            frame["position"].to_list(),
            own_heartbeats(frame, self._topics.events),
            strict=True,
        )
        fresh = [Beat(offset, instant, position) for offset, instant, position, is_own in rows if is_own]
        self._beats += fresh
        if self._holding is not None and fresh:
            self._holding.heard(max(beat.instant for beat in fresh))

    def _due(self, end: int) -> list[Beat]:
        """Heartbeats whose events are all there; of several at the same position the last one does for all."""
        due: list[Beat] = []
        while self._beats and self._beats[0].position <= end:
            beat = self._beats.pop(0)
            if due and due[-1].position == beat.position:
                beat = replace(beat, instant=max(due.pop().instant, beat.instant))
            due.append(beat)
        return due

    def _process(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        processed = self._intake.take(self._pipeline, self._watermark, batches)
        self._placement.check(self._pipeline.keys)
        self._count(processed, sum(len(batch) for batch in batches))
        self._close(self._pipeline.advance(self._watermark.value))
        self._dirty = True

    def _count(self, processed: Processed, events: int) -> None:
        counters = self._around.counters
        counters.events += events
        counters.filtered += processed.filtered
        counters.outside_sessions += processed.outside_sessions
        counters.late += processed.late.height
        self._outbox.events += events
        if processed.late.height and self._topics.late is not None:
            self._outbox.late.append(processed.late)

    def _close(self, every: Iterable[Finals]) -> None:
        self._outbox.finals.extend(every)

    def _adopt_schedule(self) -> None:
        """Go on with newer schedule rows; what is on record belongs to the older ones, so a whole snapshot is due."""
        schedule = self._around.schedule
        if schedule is None or schedule.calendar is None or schedule.version == self._version:
            return
        self._pipeline.replace_calendar(schedule.calendar)
        self._version = schedule.version
        self._snapshot_due = True
        self._dirty = True

    def positions(self) -> dict[TopicPartition, int]:
        """The next offsets to be committed."""
        return {self.events: self._event_position, self.heartbeats: self._beat_position}

    def writes(self, *, live: bool = True) -> list[Write]:
        """Finals with their marks, live bars, late events and changes of the state: one commit.

        Without `live` the live bars wait for the next one, so that finals leave sooner.
        """
        writes = [*self._final_writes(), *(self._live_writes() if live else ()), *self._late_writes(), *self._dead.writes()]
        self._record()
        # What belongs to the changelog comes last.
        return writes + self._changelog.writes()

    def _final_writes(self) -> list[Write]:
        found: list[Write] = []
        for bar in self._topics.plan.emitted:
            every = [finals for finals in self._outbox.finals if finals.plan is bar]
            if every:
                bars = pl.concat([finals.bars for finals in every])
                gaps = pl.concat([finals.gaps for finals in every])
                found.append(Write(bar.final_topic, self.partition, Records(bars, _gap_headers(gaps))))
                if self._topics.is_written_live(bar):
                    # The last value of a bucket in the live topic is its final.
                    found.append(Write(bar.live_topic, self.partition, Records(bars, _gap_headers(gaps))))
        return found

    def _live_writes(self) -> list[Write]:
        found = []
        for bar, frame in self._pipeline.changes():
            if self._topics.is_written_live(bar):
                found.append(Write(bar.live_topic, self.partition, Records(frame)))
            self._around.counters.timeframes[bar.name].live += frame.height
        return found

    def _late_writes(self) -> list[Write]:
        if not self._outbox.late or self._topics.late is None:
            return []
        return [Write(self._topics.late, self.partition, Records(pl.concat(self._outbox.late)))]

    def _record(self) -> None:
        """Write down what changed, or everything when the changes have outgrown the last snapshot."""
        marks = {"watermark": self._watermark.value}
        numbers = self._pipeline.numbers() | marks
        if not self._journal and numbers == self._recorded and not self._snapshot_due:
            return
        self._recorded = numbers
        is_grown = self._changes_size > max(LEAST_CHANGES, 2 * self._snapshot_size)
        if self._snapshot_size == 0 or self._snapshot_due or is_grown:
            positions = dict(self._version)
            frames = snapshot_frames(self._pipeline, marks, positions)
            self._snapshot_size = self._changelog.record(SNAPSHOT, frames)
            self._changes_size = 0
            self._snapshot_due = False
        else:
            frames = change_frames(self._pipeline, self._journal, self._known_keys, marks)
            self._changes_size += self._changelog.record(CHANGE, frames)

    def committed(self, offsets: Sequence[int]) -> None:
        """The commit was made, and these are the offsets of the first records of its writes."""
        if offsets:
            self._check_changelog(offsets[-1])
            self._changelog.committed(offsets[-1])
        now = self._around.clock.now()
        for finals in self._outbox.finals:
            counters = self._around.counters.timeframes[finals.plan.name]
            counters.finals += finals.bars.height
            counters.gaps += int(finals.gaps.sum())
            newest = int(finals.complete.max())  # type: ignore[arg-type]
            counters.newest = newest if counters.newest is None else max(counters.newest, newest)
            counters.delay = now - newest - finals.plan.grace
        self._outbox = Outbox()
        self._dead.committed()
        self._journal.clear()
        self._known_keys = 0 if self._pipeline.keys is None else self._pipeline.keys.height
        self._dirty = self._pipeline.has_changes

    def _check_changelog(self, first: int) -> None:
        """StateError if what was written came to lie before what there was: then the topic is another one."""
        if self._changelog.is_of_another_topic(first):
            raise state_is_gone(self._topics, f"partition {self.partition} goes on at {first}, though it had more records before")


def _gap_headers(gaps: pl.Series) -> pl.Series | None:
    """The header `gap` beside the bars that fill one."""
    if not gaps.any():
        return None
    header = pl.lit(pl.Series([GAP_HEADER], dtype=HEADERS)).first()
    return pl.select(pl.when(pl.lit(gaps)).then(header).otherwise(None).alias("headers"))["headers"]


def _before(batches: Sequence[Batch], position: int) -> list[Batch]:
    """The records below an offset."""
    found = []
    for batch in batches:
        count = int(np.searchsorted(batch.offsets, position))
        if count:
            found.append(batch if count == len(batch) else batch.slice(0, count))
    return found


def _from(batches: Sequence[Batch], position: int) -> list[Batch]:
    """The records from an offset on."""
    found = []
    for batch in batches:
        count = int(np.searchsorted(batch.offsets, position))
        if count < len(batch):
            found.append(batch.slice(count) if count else batch)
    return found
