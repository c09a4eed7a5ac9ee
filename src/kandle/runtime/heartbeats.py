"""Sends heartbeats: always tries, does nothing on followers, and never sends the same twice."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping, Sequence

import polars as pl

from kandle.errors import FencedError, UnavailableError
from kandle.log.port import Fence, Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.plan.topics import QueryTopics
from kandle.runtime.barrier import Barrier, usual_barrier
from kandle.runtime.counters import Counters
from kandle.runtime.planner import DueBeat, Planner
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND


class Leadership:
    """A flag that an assignment raises and a revocation lowers at once; other partitions never touch it."""

    def __init__(self, group: str, topic: str) -> None:
        self._group = group
        self.partition = TopicPartition(topic, 0)
        self._fence: Fence | None = None

    @property
    def is_leader(self) -> bool:
        return self._fence is not None

    @property
    def fence(self) -> Fence | None:
        """What a leader's append must still hold; None on followers."""
        return self._fence

    def assigned(self, partitions: Collection[TopicPartition], epochs: Mapping[TopicPartition, int]) -> None:
        """These partitions have come."""
        if self.partition in partitions:
            self._fence = Fence(self._group, self.partition, epochs[self.partition])

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions go, or are gone."""
        if self.partition in partitions:
            self._fence = None


logger = logging.getLogger("kandle")


def own_heartbeats(heartbeats: pl.DataFrame, events: str) -> pl.Series:
    """Return which heartbeats are of these events; those of old versions have no topic's name and are taken for own.

    Args:
        heartbeats: Rows of a heartbeats' topic, which may serve several queries on a cluster.
        events: The topic that the tasks of the query read.

    Returns:
        A Boolean for each row.
    """
    return heartbeats["events"].is_null() | (heartbeats["events"] == events)


NEWEST_ROWS = 64


class Sender:
    """Appends heartbeats to every partition of their topic, each with the position of the events at that moment.

    The barrier has them wait until all events of before are where that position is.
    """

    def __init__(
        self,
        log: Log,
        topics: QueryTopics,
        leadership: Leadership,
        group: str,
        counters: Counters,
        barrier: Barrier | None = None,
    ) -> None:
        self._log = log
        self._topics = topics
        self._leadership = leadership
        self._group = group
        self._counters = counters
        self._epoch: int | None = None
        self._last: int | None = None
        self._barrier: Barrier = usual_barrier(log, topics, group) if barrier is None else barrier

    @property
    def last(self) -> int | None:
        """The newest instant sent by anybody, as the topic says; asked for again with each new leadership."""
        fence = self._leadership.fence
        try:
            return None if fence is None else self._newest(fence)
        except FencedError:
            # Another process leads by now; `send` is refused as well, and says so.
            return None

    def _newest(self, fence: Fence) -> int | None:
        if fence.epoch != self._epoch:
            # From here on the leader before can append nothing more, so what is newest stays so.
            self._log.append([], fence)
            self._barrier.reset()
            self._epoch, self._last = fence.epoch, self._recovered()
        return self._last

    def _recovered(self) -> int | None:
        partition = self._leadership.partition
        end = self._log.ends(partition.topic)[partition.partition]
        offset = max(self._log.first(partition), end - NEWEST_ROWS)
        newest: int | None = None
        # A read may stop short of the end.
        while batches := self._log.read(partition, offset, NEWEST_ROWS):
            for batch in batches:
                frame = batch.records.frame
                own = frame.filter(own_heartbeats(frame, self._topics.events))
                if own.height:
                    instant = int(own["instant"].to_physical().max())  # type: ignore[arg-type]
                    newest = instant if newest is None else max(newest, instant)
            offset = batches[-1].next_offset
        return newest

    def send(self, beats: Sequence[DueBeat]) -> bool:
        """Send what is newer than the last; False if some still have to wait for events."""
        # Taken once: leadership may go at any moment, and what is appended afterwards must be refused by its fence.
        fence = self._leadership.fence
        if fence is None:
            return True
        try:
            fresh = self._fresh(beats, fence)
            passed = self._fresh(self._barrier.passed(fresh), fence) if fresh else []
            if passed:
                self._append(passed, fence)
            return len(passed) == len(fresh)
        except FencedError:
            logger.info("heartbeats of %s belong to another process by now", self._group)
            # Should they come back under the same claim, the topic tells what the other has sent meanwhile.
            self._epoch = None
        return True

    def _fresh(self, beats: Sequence[DueBeat], fence: Fence) -> list[DueBeat]:
        """What nobody has sent yet."""
        last = self._newest(fence)
        return [beat for beat in beats if last is None or beat.instant > last]

    def _append(self, beats: list[DueBeat], fence: Fence) -> None:
        ends = self._log.ends(self._topics.events)
        writes = [
            Write(self._topics.heartbeats, number, _records(beats, end, self._topics.events)) for number, end in enumerate(ends)
        ]
        try:
            self._log.append(writes, fence)
        except UnavailableError:
            # Whether they are kept is not known; the topic tells.
            self._epoch = None
            raise
        self._last = beats[-1].instant
        self._counters.heartbeats_sent += len(beats)


def _records(beats: Sequence[DueBeat], position: int, events: str) -> Records:
    instant = pl.Datetime("us", "UTC")
    columns = {
        "start": pl.Series([beat.start for beat in beats], dtype=pl.Int64).cast(instant),
        "grace": pl.Series([beat.grace for beat in beats], dtype=pl.Int64),
        "instant": pl.Series([beat.instant for beat in beats], dtype=pl.Int64).cast(instant),
        "position": pl.Series([position] * len(beats), dtype=pl.Int64),
        "events": pl.Series([events] * len(beats), dtype=pl.String),
    }
    return Records(pl.DataFrame(columns))


RETRY = 5 * MILLISECOND
LONGEST_SLEEP = 60 * SECOND


class Runner:
    """Wakes at absolute instants of the clock, never after summed-up sleeps, so that it cannot drift.

    `jitter` is the most by which it wakes later, in microseconds, so that many processes do not wake at once.
    """

    def __init__(self, planner: Planner, sender: Sender, clock: Clock, jitter: int = 0) -> None:
        self._planner = planner
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._is_running = False
        self._is_waiting = False

    async def run(self) -> None:
        """Go on until cancelled; a second start while it runs is ignored."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while True:
                await self._clock.sleep_until(self._wake_at(self.beat()))
        finally:
            self._is_running = False

    def beat(self) -> bool:
        """Send what is due now; False if it has to be tried again soon."""
        now = self._clock.now()
        try:
            is_sent = self._sender.send(self._planner.due(now, self._sender.last))
        except UnavailableError as error:
            if not self._is_waiting:
                logger.warning("heartbeats wait: %s", error)
            self._is_waiting = True
            return False
        self._is_waiting = False
        return is_sent

    def _wake_at(self, is_sent: bool) -> int:
        now = self._clock.now()
        if not is_sent:
            return now + RETRY
        # A clock that is set back must not make it sleep until the old time comes again.
        return min(self._planner.next(now), now + LONGEST_SLEEP) + round(random.uniform(0, self._jitter))
