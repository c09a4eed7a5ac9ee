"""Heartbeats: who sends them, when, and with which positions.

A heartbeat is a record that says that a base bucket is over. Since it stands in the log, replaying the log closes the same
buckets after the same events. Every process runs a sender, but only the leader's does anything: the owner of partition 0 of
the heartbeats' topic. What it appends is fenced by its claim to that partition, so a leader that was replaced without knowing
it (it was paused, say) cannot append anything:

    process A   leads, epoch 4 │ sends 30 │ paused ................................ │ sends 31: refused, epoch 4 is over
    process B                              │ leads, epoch 5 │ reads the newest: 30 │ sends 31
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from kandle.errors import FencedError, UnavailableError
from kandle.log.port import Fence, Log, TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.plan.query_topics import QueryTopics
from kandle.plan.topics import INSTANT
from kandle.runtime.barrier import Barrier, HeartbeatGate, default_barrier
from kandle.runtime.counters import Counters
from kandle.runtime.log_time import LONGEST_FLIGHT, TOLERANCE, LogTime, refused_by_log
from kandle.runtime.planner import DueHeartbeat, HeartbeatPlanner
from kandle.runtime.preparing import changed_partitions
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND


class Leadership:
    """Whether this process sends the heartbeats of a query: an assignment starts it, a revocation ends it at once.

    Args:
        group: The consumer group of the query.
        topic: The topic of its heartbeats, whose partition 0 makes the leader.
    """

    def __init__(self, group: str, topic: str) -> None:
        self._group = group
        self.partition = TopicPartition(topic, 0)
        self._fence: Fence | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this process leads."""
        return self._fence is not None

    @property
    def fence(self) -> Fence | None:
        """The claim with which a leader appends; None on followers."""
        return self._fence

    def assigned(self, partitions: Collection[TopicPartition], epochs: Mapping[TopicPartition, int]) -> None:
        """Note that partitions were assigned, with the epochs of all owned ones."""
        if self.partition in partitions:
            self._fence = Fence(self._group, self.partition, epochs[self.partition])

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Note that partitions go, or are gone."""
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

QUICK = LONGEST_FLIGHT // 2
"""What was stored so soon after its positions were asked for, in microseconds, needs no second look."""


@dataclass(frozen=True, slots=True)
class SenderSources:
    """What a sender depends on beside the log.

    Attributes:
        barrier: Holds heartbeats back until all events before them are where their position is; None takes the usual one.
        closed: Returns the instant up to which this process has closed buckets, for a topic without heartbeats; None if it has
            closed none.
    """

    barrier: Barrier | None = None
    closed: Callable[[], int | None] = lambda: None


@dataclass(frozen=True, slots=True)
class SentHeartbeat:
    """The newest heartbeat in the topic: it may be appended again as it is, to learn the time by the log's clock."""

    beat: DueHeartbeat
    position: int


class HeartbeatSender:
    """Appends heartbeats to every partition of their topic, each with the position of the events at that moment.

    Args:
        log: A log that no other thread waits on.
        topics: The topics of the query.
        leadership: Whether this process sends at all.
        counters: Where sent heartbeats are counted.
        time: The time by the log's clock, which is measured by what is appended; None takes that of the log's process.
        sources: What else it depends on.
    """

    def __init__(
        self,
        log: Log,
        topics: QueryTopics,
        leadership: Leadership,
        counters: Counters,
        time: LogTime | None = None,
        sources: SenderSources | None = None,
    ) -> None:
        sources = SenderSources() if sources is None else sources
        self._log = log
        self._topics = topics
        self._leadership = leadership
        self._counters = counters
        self.time = time
        self._closed = sources.closed
        self._epoch: int | None = None
        self._last: list[SentHeartbeat | None] = []
        self._began: int | None = None
        self._ends: list[int] = []
        self._gate = HeartbeatGate(default_barrier(log, topics) if sources.barrier is None else sources.barrier)

    @property
    def is_leader(self) -> bool:
        """Whether this process sends at all."""
        return self._leadership.is_leader

    @property
    def last(self) -> int | None:
        """The newest instant that any process has sent, as the topic says; read again with each new leadership."""
        fence = self._leadership.fence
        try:
            return None if fence is None else self._newest(fence)
        except FencedError:
            # Another process leads by now; `send` is refused as well, and says so.
            return None

    def _newest(self, fence: Fence) -> int | None:
        if fence.epoch != self._epoch:
            # From here on the former leader can append nothing more, so the newest heartbeat stays the newest.
            self._log.append([], fence)
            self._gate.reset()
            self._epoch, self._last, self._began, self._ends = fence.epoch, self._recovered(), None, []
        known = self._last[0] if self._last else None
        if known is not None and self.time is not None and self.time.is_due:
            # Known heartbeats change nothing, so that the first measurement comes before the first new one.
            again = heartbeat_records([known.beat], known.position, self._topics.events)
            self._measured_append([Write(self._topics.heartbeats, 0, again)], fence)
        if self._began is None and self.time is not None:
            self._began = self.time.now()
        instants = [None if sent is None else sent.beat.instant for sent in self._last]
        return None if None in instants else min(instants, default=None)  # type: ignore[type-var]

    def _recovered(self) -> list[SentHeartbeat | None]:
        """Return the newest heartbeat of each partition: of the topic, or else one for what the state says is closed."""
        topic = self._leadership.partition.topic
        ends = enumerate(self._log.ends(topic))
        newest = [self._newest_of(TopicPartition(topic, number), end) for number, end in ends]
        if any(sent is not None for sent in newest):
            return newest
        return [self._of_state()] * len(newest)

    def _newest_of(self, partition: TopicPartition, end: int) -> SentHeartbeat | None:
        offset = max(self._log.first(partition), end - NEWEST_ROWS)
        newest: SentHeartbeat | None = None
        # A read may stop short of the end.
        while offset < end and (batches := self._log.read(partition, offset, NEWEST_ROWS)):
            for batch in batches:
                frame = batch.records.frame
                own = frame.filter(own_heartbeats(frame, self._topics.events) & ~self._refused(batch))
                for sent in _sent(own):
                    newest = sent if newest is None else max(newest, sent, key=lambda one: one.beat.instant)
            offset = batches[-1].next_offset
        return newest

    def _refused(self, batch: Batch) -> pl.Series:
        """Return which heartbeats are refused by all tasks, so that they were as good as not sent."""
        return refused_by_log(batch) if self._is_checked else pl.repeat(False, len(batch), eager=True)

    @property
    def _is_checked(self) -> bool:
        return self.time is not None and self.time.is_checked

    def _of_state(self) -> SentHeartbeat | None:
        closed = self._closed()
        if closed is None:
            return None
        # Instants are milliseconds in the topic.
        instant = closed // MILLISECOND * MILLISECOND
        return SentHeartbeat(DueHeartbeat(instant, instant, 0), self._log.ends(self._topics.events)[0])

    def send(self, beats: Sequence[DueHeartbeat]) -> bool:
        """Send heartbeats that are newer than the last one, if this process leads.

        Args:
            beats: Heartbeats that are due, ascending.

        Returns:
            False if some still have to wait for events, so that this has to be called again soon.

        Raises:
            UnavailableError: The log cannot be written now.
            SchemaError: The topic of the events has other partitions than there are tasks.
        """
        # The fence is read once: leadership may go at any moment, and what is appended afterwards must be refused.
        fence = self._leadership.fence
        if fence is None:
            return True
        try:
            fresh = self._fresh(beats, fence)
            passed = self._fresh(self._gate.passed(fresh), fence) if fresh else []
            if passed:
                self._append(passed, fence)
            return len(passed) == len(fresh)
        except FencedError:
            logger.info("heartbeats of %s belong to another process by now", self._topics.group)
            # Should leadership come back under the same claim, read what the other process has sent meanwhile.
            self._epoch = None
        return True

    def _fresh(self, beats: Sequence[DueHeartbeat], fence: Fence) -> list[DueHeartbeat]:
        """Return the heartbeats that no process has sent yet."""
        last = self._newest(fence)
        return [beat for beat in beats if last is None or beat.instant > last]

    def _append(self, beats: list[DueHeartbeat], fence: Fence) -> None:
        topics = self._topics
        asked = None if self.time is None else self.time.now()
        ends = self._log.ends(topics.events)
        if len(ends) != topics.partitions and not topics.is_repartitioned:
            # A heartbeat would close buckets whose events are in partitions that nobody reads.
            raise changed_partitions(topics, len(ends))
        ends = ends[: topics.partitions]
        if any(end < before for end, before in zip(ends, self._ends, strict=False)):
            # With a position before the end, buckets would close without the events behind it.
            raise UnavailableError(f"topic {topics.events} ends at {ends}, and ended at {self._ends} before; brokers lag behind")
        fresh = [self._fresh_of(number, beats) for number in range(len(ends))]
        writes = [
            Write(topics.heartbeats, number, heartbeat_records(missing, end, topics.events, asked))
            for number, (missing, end) in enumerate(zip(fresh, ends, strict=True))
            if missing
        ]
        newest = max((sent.beat.instant for sent in self._last if sent is not None), default=None)
        offsets = self._measured_append(writes, fence)
        self._ends = ends
        unsent = [beat for beat in beats if newest is None or beat.instant > newest]
        self._counters.heartbeats_sent += len(unsent)
        if self._began is not None and self.time is not None:
            # The first measurement may show that the own clock is fast.
            self._began = min(self._began, self.time.now())
            self._counters.heartbeats_backfilled += sum(beat.instant < self._began for beat in unsent)
        if self._may_be_refused(beats, asked):
            # What is refused by everybody is sent again, when it is due by the log's clock.
            self._note_kept(writes, offsets)
        else:
            for write in writes:
                self._last[write.partition] = SentHeartbeat(fresh[write.partition][-1], ends[write.partition])

    def _may_be_refused(self, beats: Sequence[DueHeartbeat], asked: int | None) -> bool:
        """Return whether heartbeats just appended came late, or are ahead of the log's clock as it was measured since."""
        if self.time is None or asked is None or not self._is_checked:
            return False
        now = self.time.now()
        return beats[-1].instant > now + TOLERANCE or not 0 <= now - asked < QUICK

    def _fresh_of(self, number: int, beats: Sequence[DueHeartbeat]) -> list[DueHeartbeat]:
        """Return the heartbeats that are not in a partition yet."""
        self._last += [None] * (number + 1 - len(self._last))
        last = self._last[number]
        return [beat for beat in beats if last is None or beat.instant > last.beat.instant]

    def _note_kept(self, writes: Sequence[Write], offsets: Sequence[int]) -> None:
        """Look up which of the heartbeats that were appended are obeyed."""
        for write, offset in zip(writes, offsets, strict=True):
            kept = self._newest_of(TopicPartition(write.topic, write.partition), offset + len(write.records))
            if kept is not None:
                self._last[write.partition] = kept

    def _measured_append(self, writes: Sequence[Write], fence: Fence) -> list[int]:
        """Append heartbeats, and measure the log's clock by them if that is due; return the offset of each write."""
        is_due = self.time is not None and self.time.is_due
        if self.time is not None:
            self.time.begin()
        try:
            offsets = self._log.append(writes, fence)
            first = TopicPartition(writes[0].topic, writes[0].partition)
            appended = self._log.read(first, offsets[0], 1) if is_due else []
        except UnavailableError:
            # Whether they were kept is not known, so the topic has to be read again.
            self._epoch = None
            raise
        if appended and self.time is not None:
            self.time.end(int(appended[0].timestamps[0]) if appended[0].has_append_times else None)
        return offsets


def _sent(frame: pl.DataFrame) -> Iterator[SentHeartbeat]:
    """Yield rows of a heartbeats' topic."""
    columns = [frame[name].to_physical().to_list() for name in ("instant", "start", "grace", "position")]
    for instant, start, grace, position in zip(*columns, strict=True):
        yield SentHeartbeat(DueHeartbeat(instant, start, grace), position)


def heartbeat_records(beats: Sequence[DueHeartbeat], position: int, events: str, asked: int | None = None) -> Records:
    """Return heartbeats as records of their topic, all with the same position of the events.

    Args:
        beats: The heartbeats.
        position: The next offset of the partition of the events.
        events: The topic of the events.
        asked: When the position was asked for, by the log's clock; None where that does not matter.
    """
    columns = {
        "start": pl.Series([beat.start for beat in beats], dtype=pl.Int64).cast(INSTANT),
        "grace": pl.Series([beat.grace for beat in beats], dtype=pl.Int64),
        "instant": pl.Series([beat.instant for beat in beats], dtype=pl.Int64).cast(INSTANT),
        "position": pl.Series([position] * len(beats), dtype=pl.Int64),
        "events": pl.Series([events] * len(beats), dtype=pl.String),
        # Instants are milliseconds in the topic.
        "asked": pl.Series([asked and asked // MILLISECOND * MILLISECOND] * len(beats), dtype=pl.Int64).cast(INSTANT),
    }
    return Records(pl.DataFrame(columns))


RETRY = 5 * MILLISECOND
"""How soon heartbeats that could not be sent are tried again, in microseconds."""

LONGEST_SLEEP = 60 * SECOND
LONGEST_SLEEP_OF_FOLLOWER = SECOND
"""How soon a new leader begins: what became due while nobody led is waiting."""


class HeartbeatRunner:
    """Sends heartbeats at absolute instants of the clock, so that it cannot drift as it would with summed-up sleeps.

    Args:
        planner: Lists what is due.
        sender: Sends it.
        clock: The clock.
        jitter: The most by which it wakes later, in microseconds, so that many processes do not wake at once.
    """

    def __init__(self, planner: HeartbeatPlanner, sender: HeartbeatSender, clock: Clock, jitter: int = 0) -> None:
        self._planner = planner
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._is_running = False
        self._is_waiting = False

    async def run(self) -> None:
        """Send heartbeats until cancelled; a second call while it runs returns at once."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while True:
                await self._sleep(self.beat())
        finally:
            self._is_running = False

    def beat(self) -> bool:
        """Send what is due now; return False if that has to be tried again soon."""
        if not self._sender.is_leader:
            return True
        try:
            # The time is asked for after the newest heartbeat: that may have measured the log's clock.
            last = self._sender.last
            is_sent = self._sender.send(self._planner.due(self._now(), last))
        except UnavailableError as error:
            if not self._is_waiting:
                logger.warning("heartbeats wait: %s", error)
            self._is_waiting = True
            return False
        self._is_waiting = False
        return is_sent

    def _now(self) -> int:
        return self._clock.now() if self._sender.time is None else self._sender.time.now()

    async def _sleep(self, is_sent: bool) -> None:
        """Wait for the next instant; in short pieces by the steady clock where the log has a clock of its own."""
        time = self._sender.time
        if time is None or not time.is_measured:
            await self._clock.sleep_until(self._wake_at(is_sent))
            return
        instant = self._wake_at(is_sent)
        while (left := instant - time.now()) > 0:
            await self._clock.sleep(min(left, LONGEST_SLEEP_OF_FOLLOWER))
            if time.is_due and self._sender.is_leader:
                return

    def _wake_at(self, is_sent: bool) -> int:
        now = self._now()
        if not is_sent:
            return now + RETRY
        # After the clock was set back, the next instant may be far away.
        longest = LONGEST_SLEEP if self._sender.is_leader else LONGEST_SLEEP_OF_FOLLOWER
        return min(self._planner.next(now), now + longest) + round(random.uniform(0, self._jitter))
