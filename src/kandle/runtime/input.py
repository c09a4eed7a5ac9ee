"""The order in which a task processes what it reads from two topics, events and heartbeats.

Each heartbeat carries the position of the events at the moment when it was sent, and acts as a barrier at that position, in
whatever order the two topics are read:

    offsets of events    0      1      2  |  3      4
    events             30:10  30:20  30:50|31:05  30:58 (late)
    heartbeat                             |  bucket 30 is over, position 3

Events 0 to 2 are processed, then bucket 30 is closed, then the events from 3 on are processed. A heartbeat whose position is
not reached yet waits for the events before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from kandle.engine.admission import possible_times
from kandle.engine.failures import evaluate_rows
from kandle.log.records import Batch
from kandle.plan.plan import Plan
from kandle.runtime.heartbeats import own_heartbeats
from kandle.runtime.log_time import LONGEST_FLIGHT, RefusedHeartbeats, refused_by_log
from kandle.runtime.resuming import LastEvent
from kandle.time.arrays import IntArray
from kandle.time.clock import Clock
from kandle.time.closings import Closings
from kandle.time.timeframe import MILLISECOND, SECOND
from kandle.time.watermark import BEFORE_ALL


@dataclass(frozen=True, slots=True)
class ReadHeartbeat:
    """A heartbeat that was read: buckets are over up to `instant`, once all events before `position` are processed."""

    offset: int
    instant: int
    position: int


@dataclass(frozen=True, slots=True)
class Portion:
    """Events up to a heartbeat, or as many as were asked for."""

    batches: Sequence[Batch]
    heartbeat: ReadHeartbeat | None = None


class TaskInput:
    """The events and heartbeats of one partition that were read, and how far they are processed.

    Args:
        events: The topic of the events; heartbeats of other queries in the same topic are passed over.
        held: Holds events back for the heartbeats before them; None where their order does not matter.
        refused: Reports heartbeats that nobody obeys, which are passed over; None takes them all.
    """

    def __init__(self, events: str, held: HeldEvents | None, refused: RefusedHeartbeats | None = None) -> None:
        self._events = events
        self._held = held
        self._reports = refused
        self._refused = 0
        self._released: deque[Batch] = deque()
        self._beats: deque[ReadHeartbeat] = deque()
        self._end = 0
        self._released_rows = 0
        self._last_batch: Batch | None = None
        self.known_last: LastEvent | None = None
        """The last event of the state with which the task has begun."""
        self.event_position = 0
        """The next event to be processed, as the group commits it."""
        self.heartbeat_position = 0
        """The next heartbeat to be applied, as the group commits it."""
        self.heartbeats_read = 0
        """The next heartbeat to be read."""

    def start_at(self, events: int, heartbeats: int) -> None:
        """Set the positions from which the group reads."""
        self.event_position = self._end = events
        self.heartbeat_position = heartbeats
        self._note_read(heartbeats)

    @property
    def waiting_rows(self) -> int:
        """Number of events that were read and are not processed yet."""
        return self._released_rows + (0 if self._held is None else self._held.rows)

    @property
    def waiting_heartbeats(self) -> int:
        """Number of heartbeats that were read and are not applied yet."""
        return len(self._beats)

    @property
    def has_next(self) -> bool:
        """Whether `next` has something to return."""
        return bool(self._released) or self._due() is not None

    def add(self, events: Sequence[Batch], heartbeats: Sequence[Batch]) -> None:
        """Add what was read; both may be empty, since what was held may be released with time."""
        for batch in heartbeats:
            self._read(batch)
        for batch in events if self._held is None else self._held.release(events):
            self._released.append(batch)
            self._released_rows += len(batch)
            self._end = batch.next_offset

    def _refuse(self, batch: Batch) -> pl.Series:
        """Return which heartbeats are refused."""
        if self._reports is None:
            return pl.repeat(False, len(batch), eager=True)
        refused = refused_by_log(batch)
        self._refused += int(refused.sum())
        self._reports.note(batch, refused)
        return refused

    def take_refused(self) -> int:
        """Return how many heartbeats were refused since the last call."""
        refused, self._refused = self._refused, 0
        return refused

    def _read(self, batch: Batch) -> None:
        frame = batch.records.frame
        refused = self._refuse(batch)
        rows = zip(
            batch.offsets.tolist(),
            frame["instant"].to_physical().to_list(),
            frame["position"].to_list(),
            own_heartbeats(frame, self._events) & ~refused,
            strict=True,
        )
        fresh = [ReadHeartbeat(offset, instant, position) for offset, instant, position, is_valid in rows if is_valid]
        self._beats += fresh
        self._note_read(batch.next_offset)
        if fresh and self._held is not None:
            self._held.hear(max(beat.instant for beat in fresh))

    def _note_read(self, position: int) -> None:
        self.heartbeats_read = position
        if self._held is not None:
            self._held.read_to = position

    def next(self, most: int) -> Portion | None:
        """Take out the next events, at most so many; positions move behind them.

        A heartbeat that stands behind them comes with them; of several at one position the last serves for all.

        Returns:
            The portion; None if nothing is left but heartbeats whose events are not read yet.
        """
        beat = self._due()
        batches = self._taken(None if beat is None else beat.position, most)
        if beat is None or (self._released and _count_before(self._released[0], beat.position)):
            return Portion(batches) if batches else None
        instant = beat.instant
        while self._beats and self._beats[0].position == beat.position:
            beat = self._beats.popleft()
            instant = max(instant, beat.instant)
        self.heartbeat_position = beat.offset + 1
        return Portion(batches, replace(beat, instant=instant))

    def _due(self) -> ReadHeartbeat | None:
        """Return the next heartbeat, if all events before it were read."""
        return self._beats[0] if self._beats and self._beats[0].position <= self._end else None

    def _taken(self, before: int | None, most: int) -> list[Batch]:
        """Take out events below an offset, at most so many."""
        batches: list[Batch] = []
        while self._released:
            batch = self._released[0]
            count = min(len(batch) if before is None else _count_before(batch, before), most)
            if count == len(batch):
                batches.append(self._released.popleft())
            elif count:
                batches.append(batch.slice(0, count))
                self._released[0] = batch.slice(count)
            else:
                break
            most -= count
            self._released_rows -= count
            self.event_position = batches[-1].next_offset
        self._last_batch = next((batch for batch in reversed(batches) if len(batch)), self._last_batch)
        return batches

    @property
    def last(self) -> LastEvent:
        """The end of what was processed of the events."""
        if self._last_batch is not None:
            return LastEvent.of(self.event_position, self._last_batch)
        known = self.known_last
        return LastEvent(self.event_position) if known is None else replace(known, position=self.event_position)


def _count_before(batch: Batch, position: int) -> int:
    """Return how many records of a batch lie below an offset."""
    return int(np.searchsorted(batch.offsets, position))


def event_times(batch: Batch, event_time: pl.Expr) -> IntArray:
    """Return the event times of a batch that can be computed, in microseconds."""
    times = evaluate_rows(batch.records.frame, [event_time.alias("time")], {}).frame["time"]
    possible = possible_times(times)
    return times.to_numpy() if possible is None else times.filter(pl.Series(possible)).to_numpy()


LONGEST_WAIT = LONGEST_FLIGHT + SECOND
"""How long events wait for a heartbeat that may be on its way, in microseconds; clocks of brokers may differ a little."""

LOOK_INTERVAL = 100 * MILLISECOND
"""How often the end of the heartbeats is asked for while nobody leads, at most."""


class HeldEvents:
    """Holds events back whose bucket is over, by the clock or by the log's, until the heartbeat of that bucket has been read.

    Events and heartbeats are in two topics and may be read in either order. Whether such an event counts for its bucket or is
    late depends on the position of the heartbeat, so it is not processed before that is known:

        clock        14:31:00.004
        events       6: 14:30:59.990    7: 14:30:59.995     both are read, and their bucket is over by the clock: held
        heartbeats   30 is over, position 7                 read a moment later: event 6 counts, event 7 is late

    None comes where nobody leads. A heartbeat with a position before a held event was decided before that event was read, so it
    is in its topic after `LONGEST_FLIGHT`, or nobody obeys it. The event is therefore held for a little longer, and until that
    topic has been read as far as it went then, however long that takes a busy machine; it counts if no heartbeat says otherwise.

    Args:
        plan: The plan of the query.
        event_time: The time of an event in microseconds.
        clock: The clock by which buckets are over.
        closings: Returns when buckets are over, without grace.
        heartbeats_end: Returns the next offset of the partition of heartbeats, open transactions included.
    """

    def __init__(
        self,
        plan: Plan,
        event_time: pl.Expr,
        clock: Clock,
        closings: Callable[[], Closings],
        heartbeats_end: Callable[[], int],
    ) -> None:
        self._grace = plan.base.grace
        self._event_time = event_time
        self._clock = clock
        self._closings = closings
        self._heartbeats_end = heartbeats_end
        self._known = BEFORE_ALL
        self._held: list[tuple[Batch, int]] = []
        """Batches, and when each was read, by the steady clock."""
        self._sure: int | None = None
        """All heartbeats were read that may stand before what was read up to this moment."""
        self._look: _Look | None = None
        self._looked_at: int | None = None
        self.rows = 0
        """Number of events that are held."""
        self.read_to = 0
        """The next heartbeat to be read."""

    def hear(self, instant: int) -> None:
        """Note that a heartbeat was read: it is known which events of buckets that are over by this instant are late."""
        self._known = max(self._known, instant)

    def release(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return those of the held and the new batches, in their order, that may be processed; hold the others.

        Raises:
            UnavailableError: The log cannot be asked for the end of the heartbeats now.
        """
        steady = self._clock.steady()
        waiting = [*self._held, *((batch, steady) for batch in batches)]
        count = next((at for at, one in enumerate(waiting) if self._is_early(*one)), len(waiting))
        self._held = waiting[count:]
        self.rows = sum(len(batch) for batch, _ in self._held)
        return [batch for batch, _ in waiting[:count]]

    def _is_early(self, batch: Batch, read_at: int) -> bool:
        """Return whether the bucket of some event is over by the clock or by the log's, but no heartbeat has said so yet."""
        now = self._clock.now()
        if len(batch) and batch.has_append_times:
            # The clock of this process may be behind; by the log's it was as late as this when the events came.
            now = max(now, int(batch.timestamps[-1]))
        if not len(batch) or self._known >= now:
            return False
        # An event is before the end of its bucket, so that most need no closer look.
        times = event_times(batch, self._event_time)
        suspects = times[times + self._grace < now]
        ends = self._closings().ends(suspects)
        over = ends[ends <= now - self._grace]
        return bool((over + self._grace > self._known).any()) and not self._has_waited(read_at)

    def _has_waited(self, read_at: int) -> bool:
        """Return whether all heartbeats were read that may stand before events that were read at a moment."""
        if self._sure is not None and read_at <= self._sure:
            return True
        steady = self._clock.steady()
        if self._look is None:
            was_just_now = self._looked_at is not None and 0 <= steady - self._looked_at < LOOK_INTERVAL
            if was_just_now or 0 <= steady - read_at < LONGEST_WAIT:
                return False
            self._look, self._looked_at = _Look(max(steady - LONGEST_WAIT, read_at), self._heartbeats_end()), steady
        if self.read_to < self._look.end:
            return False
        self._sure, self._look = self._look.before, None
        return read_at <= self._sure


@dataclass(frozen=True, slots=True)
class _Look:
    """The end of the heartbeats' topic: when it is read, nothing is missing for events that were read before a moment."""

    before: int
    end: int
