"""The clock of the log and those of processes: a leader whose clock is wrong neither makes events late nor stops finals.

The log's clock is the one that is moved by hand; those of processes differ from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from kandle.errors import UnavailableError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Fence
from kandle.log.records import AnyWrite, Write
from kandle.runtime.heartbeats import HeartbeatRunner, HeartbeatSender, SenderSources, heartbeat_records
from kandle.runtime.input import LONGEST_WAIT
from kandle.runtime.log_time import LONGEST_FLIGHT, LogTime, RefusedHeartbeats, ahead_of_log, refused_by_log
from kandle.runtime.planner import DueHeartbeat
from kandle.runtime.state import TaskContext
from kandle.runtime.task import Task
from kandle.time.clock import ManualClock
from kandle.time.timeframe import MINUTE, SECOND
from tests.runtime.building import FINALS, Member, Parts, beat, finals_of, instants, parts_of, read, t, tick
from tests.runtime.declarations import bars_market


class WrongClock(ManualClock):
    """A clock that differs from another one, and can be set; its steady time is that of the other one."""

    def __init__(self, right: ManualClock, ahead: int) -> None:
        super().__init__(0)
        self._right = right
        self.ahead = ahead

    @property
    def is_simulated(self) -> bool:
        return False

    def now(self) -> int:
        return self._right.now() + self.ahead

    def steady(self) -> int:
        return self._right.now() - t("2024-03-01T00:00")


class Leader:
    """A process that leads and has a clock of its own."""

    def __init__(self, parts: Parts, ahead: int, closed: Callable[[], int | None] = lambda: None, name: str = "one") -> None:
        self.parts = parts
        self.clock = WrongClock(parts.clock, ahead)
        self.member = Member(parts, name)
        self.member.poll()
        time = LogTime(self.clock, is_measured=True)
        sources = SenderSources(closed=closed)
        sender = HeartbeatSender(parts.log, parts.topics, self.member.leadership, self.member.counters, time, sources)
        self.runner = HeartbeatRunner(parts.planner(), sender, self.clock)

    def beat(self, until: str) -> None:
        """Look for what is due each second up to a time of the log."""
        while self.parts.clock.now() < t(until):
            self.parts.clock.jump(self.parts.clock.now() + SECOND)
            self.member.poll()
            self.runner.beat()


def valid(parts: Parts) -> list[str]:
    """Return when the buckets of those heartbeats were over that tasks do not refuse, each once."""
    kept = []
    for batch in read(parts.log, parts.topics.heartbeats):
        kept += batch.records.frame.filter(~ahead_of_log(batch))["instant"].dt.strftime("%H:%M:%S").to_list()
    return list(dict.fromkeys(kept))


@pytest.mark.parametrize("ahead", [30 * SECOND, -30 * SECOND, 90 * SECOND, -90 * SECOND, 0])
def test_heartbeats_are_sent_by_the_clock_of_the_log(ahead: int) -> None:
    parts = parts_of("14:29:30")
    parts.add(tick("14:29:20"))
    Leader(parts, ahead).beat("14:33:05")
    assert valid(parts)[-4:] == ["14:30:00", "14:31:00", "14:32:00", "14:33:00"]
    stamps: dict[int, int] = {}
    for batch in read(parts.log, parts.topics.heartbeats):
        sent = batch.records.frame["instant"].to_physical().to_list()
        for instant, stamp, is_ahead in zip(sent, batch.timestamps.tolist(), ahead_of_log(batch), strict=True):
            if not is_ahead:
                stamps.setdefault(instant, stamp)
    # Once the clock is measured, each is sent when it is due.
    assert all(abs(stamps[t(f"14:{minute}")] - t(f"14:{minute}")) <= SECOND for minute in (31, 32, 33))


@pytest.mark.parametrize("ahead", [30 * SECOND, -30 * SECOND])
def test_a_new_leader_measures_before_it_sends_anything_new(ahead: int) -> None:
    parts = parts_of("14:29:30")
    Leader(parts, 0).beat("14:31:05")
    before = len(parts.beats())
    parts.clock.jump(t("14:31:20"))
    leader = Leader(parts, ahead)
    leader.beat("14:31:55")
    # Only the newest one again, as it was.
    again = parts.beats()[before:]
    assert {row["instant"] for row in again} == {t("14:31")} and len({tuple(row.items()) for row in again}) == 1
    leader.beat("14:32:05")
    assert instants(parts.beats())[-1] == "14:32:00" and leader.member.counters.heartbeats_refused == 0


@pytest.mark.parametrize("jump", [45 * SECOND, -45 * SECOND])
def test_a_clock_that_is_set_while_it_leads_changes_nothing(jump: int) -> None:
    parts = parts_of("14:29:30")
    leader = Leader(parts, 0)
    leader.beat("14:31:10")
    leader.clock.ahead = jump
    leader.beat("14:33:05")
    assert valid(parts)[-3:] == ["14:31:00", "14:32:00", "14:33:00"]
    assert not any(ahead_of_log(batch).any() for batch in read(parts.log, parts.topics.heartbeats))


def context_of(parts: Parts) -> TaskContext:
    return TaskContext(parts.log, parts.clock, parts.topics, parts.counters, refused=RefusedHeartbeats("kandle-bars"))


def send(parts: Parts, *beats: DueHeartbeat) -> None:
    position = parts.log.ends("ticks")[0]
    parts.log.append([Write(parts.topics.heartbeats, 0, heartbeat_records(beats, position, "ticks"))])


def run(parts: Parts, context: TaskContext) -> None:
    """Process all that stands in the log from its beginning, and write the finals."""
    task = Task(context, 0)
    task.start_at(0, 0)
    task.take(read(parts.log, "ticks"), read(parts.log, parts.topics.heartbeats))
    while task.work(1_000, 1_000):
        pass
    parts.log.append([write for write in task.writes() if write.topic == FINALS])
    task.output.committed()


def test_a_heartbeat_ahead_of_the_log_is_refused_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of("14:30")
    parts.add(tick("14:30:10"))
    send(parts, beat("14:30"))  # Its bucket is over at 14:31, a minute from now.
    parts.add(tick("14:30:20"), tick("14:30:30"))
    context = context_of(parts)
    assert context.refused is not None
    with caplog.at_level(logging.WARNING):
        run(parts, context)
        run(parts, context)
    assert finals_of(parts) == [] and parts.counters.heartbeats_refused == 2
    said = "kandle-bars: heartbeats are 1m ahead of the log's clock and are refused; is the clock of the leading process wrong?"
    assert [message for message in caplog.messages if "ahead" in message] == [said] and context.refused.problem == said
    parts.clock.jump(t("14:31:00.005"))
    send(parts, beat("14:30"))
    run(parts, context)
    # All three ticks count, since the first heartbeat said nothing; and the problem is over.
    assert finals_of(parts) == [("A", 30, 3)] and context.refused.problem is None


def test_what_is_refused_is_so_whenever_the_log_is_read() -> None:
    parts = parts_of("14:30")
    parts.add(tick("14:30:10"))
    send(parts, beat("14:30"))
    parts.clock.jump(t("14:40"))
    context = context_of(parts)
    run(parts, context)
    assert finals_of(parts) == [] and parts.counters.heartbeats_refused == 1


def test_stamps_may_be_a_little_behind() -> None:
    parts = parts_of("14:30:59.600")
    parts.add(tick("14:30:10"))
    send(parts, beat("14:30"))
    run(parts, context_of(parts))
    assert finals_of(parts) == [("A", 30, 1)]


def test_without_heartbeats_in_the_topic_the_state_says_what_was_closed() -> None:
    parts = parts_of("14:32:30")
    parts.add(tick("14:29:20"))
    leader = Leader(parts, -30 * SECOND, closed=lambda: t("14:32") + 1)
    leader.beat("14:33:05")
    # Not those of 14:31 and 14:32 again; and the clock was measured although nothing was due by it.
    assert instants(parts.beats())[-1] == "14:33:00"
    assert set(instants(parts.beats())) == {"14:32:00", "14:33:00"}
    assert leader.member.counters.heartbeats_backfilled == 0


def test_without_both_they_are_backfilled_and_counted() -> None:
    parts = parts_of("14:32:30")
    leader = Leader(parts, 0)
    leader.beat("14:33:05")
    assert instants(parts.beats()) == ["14:32:00", "14:33:00"]
    assert leader.member.counters.heartbeats_backfilled == 1
    parts.clock.jump(parts.clock.now() + 2 * MINUTE)
    second = Leader(parts, 0, name="two")
    second.member.poll()
    second.runner.beat()
    assert second.member.counters.heartbeats_backfilled == second.member.counters.heartbeats_sent


def test_clocks_that_agree_are_used_as_they_are() -> None:
    clock = WrongClock(ManualClock(t("14:30")), 20_000)
    time = LogTime(clock, is_measured=True)
    time.begin()
    time.end(t("14:30"))
    assert time.now() == clock.now() and not time.is_due
    clock.ahead = 300_000
    assert time.is_due and time.now() == t("14:30") + 20_000


def test_leadership_that_is_lost_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of(partitions=2)
    with caplog.at_level(logging.INFO):
        worker = parts.worker()
        worker.step()
        worker.close()
    assert [message for message in caplog.messages if "lead" in message] == [
        "one leads: it sends the heartbeats of kandle-bars",
        "one does not lead any more: it sends no more heartbeats of kandle-bars",
    ]


class SlowLog(EmbeddedLog):
    """A log that stores what is written to one partition only after some time, as while its broker is away."""

    def __init__(self, start: str) -> None:
        self.moved = ManualClock(t(start))
        super().__init__(None, self.moved)
        self.delays: dict[int, int] = {}
        """Microseconds by partition, each for the next append."""
        self.during: Callable[[], None] = lambda: None
        self.fails = False

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        if not writes or not writes[0].topic.startswith("bars_hb"):
            return super().append(writes, fence)
        offsets = []
        for write in writes:
            if delay := self.delays.pop(write.partition, 0):
                self.during()
                self.moved.jump(self.moved.now() + delay)
            if self.fails:
                self.fails = False
                raise UnavailableError("the broker of the partition is away")
            offsets += super().append([write], fence)
        return offsets


def obeyed(parts: Parts, partition: int) -> list[tuple[str, int]]:
    """Return the heartbeats of a partition that are obeyed: when their buckets were over, and their positions."""
    frames = [batch.records.frame.filter(~refused_by_log(batch)) for batch in read(parts.log, parts.topics.heartbeats, partition)]
    times = [time for frame in frames for time in frame["instant"].dt.strftime("%H:%M:%S").to_list()]
    return list(zip(times, [position for frame in frames for position in frame["position"].to_list()], strict=True))


def slow_leader(log: SlowLog) -> Leader:
    return Leader(Parts(bars_market(minutes=1), "14:30", partitions=2, log=log), 0)


@pytest.mark.parametrize("delay", [LONGEST_FLIGHT // 2, LONGEST_FLIGHT, LONGEST_FLIGHT + SECOND, 20 * SECOND])
def test_a_heartbeat_that_was_on_its_way_for_long_is_sent_again_to_its_partition_alone(delay: int) -> None:
    log = SlowLog("14:29:50")
    leader = slow_leader(log)
    leader.beat("14:30:30")
    log.delays[1] = delay
    log.during = lambda: leader.parts.add(tick("14:30:59"), partition=1)
    leader.beat("14:31:30")
    assert [row for row in obeyed(leader.parts, 0) if row[0] == "14:31:00"] == [("14:31:00", 0)]
    # The event that came meanwhile is before the position of what is obeyed, unless it came so soon that it was waited for.
    position = 0 if delay <= LONGEST_FLIGHT else 1
    assert [row for row in obeyed(leader.parts, 1) if row[0] == "14:31:00"] == [("14:31:00", position)]


def test_an_append_that_failed_in_part_is_made_up_for_where_it_is_missing() -> None:
    log = SlowLog("14:29:50")
    leader = slow_leader(log)
    leader.beat("14:30:30")
    log.delays[1], log.fails = 1, False
    log.during = lambda: setattr(log, "fails", True)
    leader.beat("14:31:30")
    for partition in (0, 1):
        assert [row[0] for row in obeyed(leader.parts, partition)].count("14:31:00") == 1


def test_events_that_were_counted_before_a_slow_heartbeat_are_counted_whenever_the_log_is_read() -> None:
    """
    14:31:00    the position 1 is asked for
    14:31:02    an event of 14:30:59 comes, is held for some seconds, and counts, since no heartbeat says otherwise
    14:31:20    the heartbeat with the position 1 is stored
    14:31:21    it is sent again, with the position 2
    """
    parts = parts_of("14:30")
    parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:31"))
    asked, first = parts.clock.now(), parts.log.ends("ticks")[0]
    parts.clock.jump(t("14:31:02"))
    parts.add(tick("14:30:59"))
    context = context_of(parts)
    live = Task(context, 0)
    live.start_at(0, 0)
    live.take(read(parts.log, "ticks"), [])
    parts.clock.jump(parts.clock.now() + LONGEST_WAIT)
    live.take([], [])
    assert live.work(1_000, 1_000)
    for moment, position, when in (("14:31:20", first, asked), ("14:31:21", 2, t("14:31:21"))):
        parts.clock.jump(t(moment))
        records = heartbeat_records([beat("14:30")], position, "ticks", when)
        parts.log.append([Write(parts.topics.heartbeats, 0, records)])
        live.take([], read(parts.log, parts.topics.heartbeats)[-1:])
    while live.work(1_000, 1_000):
        pass
    parts.log.append([write for write in live.writes() if write.topic == FINALS])
    run(parts, context_of(parts))
    assert finals_of(parts) == [("A", 30, 2), ("A", 30, 2)]
    assert parts.counters.late == 0
