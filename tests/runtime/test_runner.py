"""The runner of heartbeats: it wakes at instants of the clock, whatever happens to the clock, until it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kandle.errors import UnavailableError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Fence, TopicPartition
from kandle.log.records import Write
from kandle.runtime.heartbeats import LONGEST_SLEEP, HeartbeatRunner
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, MILLISECOND, MINUTE, SECOND, from_instant
from tests.runtime.building import Member, Parts, instants, t, tick
from tests.runtime.declarations import bars_market
from tests.waiting import LIMIT


class WatchedClock(ManualClock):
    """A clock that is moved by hand and writes down until when somebody wanted to sleep."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.slept: list[int] = []

    async def sleep_until(self, instant: int) -> None:
        self.slept.append(instant)
        await super().sleep_until(instant)

    @property
    def wishes(self) -> list[str]:
        return [from_instant(instant).strftime("%H:%M:%S.%f").rstrip("0").rstrip(".") for instant in self.slept]


class Running:
    """A leader's runner on a clock of its own."""

    def __init__(self, start: str, jitter: int = 0, parts: Parts | None = None, **windows: Any) -> None:
        self.parts = parts or Parts(bars_market(**(dict[str, Any]({"minutes": 1}) | windows)), start)
        self.clock = WatchedClock(t(start))
        self.member = Member(self.parts).poll()
        self.runner = HeartbeatRunner(self.parts.planner(), self.member.sender, self.clock, jitter)

    async def move(self, instant: int) -> None:
        await self.clock.set(instant)
        await turns()

    @property
    def sent(self) -> list[str]:
        return instants(self.parts.beats())


async def turns() -> None:
    """Let everybody go on until all sleep."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(story: Callable[[Running], Awaitable[None]], running: Running) -> None:
    """The story, while the runner runs; then the runner is cancelled."""

    async def both() -> None:
        task = asyncio.create_task(running.runner.run())
        await turns()
        try:
            await story(running)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(both())


def test_it_sends_what_is_due_at_its_start_and_then_wakes_at_every_end_of_a_bucket() -> None:
    """
    14:30      14:30:17   14:31     14:32
      |-----------|---------|---------|
                start     sent      sent
    """

    async def story(running: Running) -> None:
        assert running.sent == ["14:30:00"]
        await running.move(t("14:30:59.999999"))
        assert running.sent == ["14:30:00"]
        await running.move(t("14:31:00"))
        assert running.sent == ["14:30:00", "14:31:00"]
        await running.move(t("14:34:10"))
        assert running.sent == ["14:30:00", "14:31:00", "14:32:00", "14:33:00", "14:34:00"]

    running = Running("14:30:17")
    run(story, running)
    assert running.clock.wishes == ["14:31:00", "14:32:00", "14:33:00", "14:34:00", "14:35:00"]


def test_it_wakes_when_the_grace_is_over() -> None:
    async def story(running: Running) -> None:
        await running.move(t("14:31:01"))
        assert running.sent == ["14:30:02"]
        await running.move(t("14:31:02"))
        assert running.sent == ["14:30:02", "14:31:02"]

    run(story, Running("14:30:17", grace="2s"))


def test_time_that_sending_takes_does_not_add_up() -> None:
    """A machine that always wakes 700 ms late still wakes for every second."""

    async def story(running: Running) -> None:
        for second in range(1, 60):
            await running.move(t("14:30:00") + second * SECOND + 700 * MILLISECOND)

    running = Running("14:30:00", seconds=1, minutes=())
    run(story, running)
    assert running.sent[-59:] == [f"14:30:{second:02d}" for second in range(1, 60)]
    assert running.clock.slept == [t("14:30:00") + second * SECOND for second in range(1, 61)]


def test_jitter_delays_by_no_more_than_it_says_and_makes_nothing_early() -> None:
    async def story(running: Running) -> None:
        for minute in range(31, 59):
            await running.move(t(f"14:{minute}:00") - 1)
            await running.move(t(f"14:{minute}:00") + 50 * MILLISECOND)

    running = Running("14:30:17", jitter=50 * MILLISECOND)
    run(story, running)
    assert running.sent == [f"14:{minute}:00" for minute in range(30, 59)]
    late = [instant % MINUTE for instant in running.clock.slept]
    assert max(late) <= 50 * MILLISECOND
    assert len(set(late)) > 5


def test_a_second_start_while_it_runs_is_ignored() -> None:
    async def story(running: Running) -> None:
        await asyncio.wait_for(running.runner.run(), LIMIT)
        await running.move(t("14:31:00"))
        assert running.sent == ["14:30:00", "14:31:00"]

    running = Running("14:30:17")
    run(story, running)
    assert running.clock.wishes == ["14:31:00", "14:32:00"]


def test_after_it_was_cancelled_it_can_be_started_again() -> None:
    async def nothing(running: Running) -> None:
        assert running.sent == ["14:30:00"]

    async def more(running: Running) -> None:
        await running.move(t("14:31:30"))

    running = Running("14:30:17")
    run(nothing, running)
    run(more, running)
    assert running.sent == ["14:30:00", "14:31:00"]


def test_cancelled_it_sends_nothing_more() -> None:
    async def nothing(running: Running) -> None:
        pass

    running = Running("14:30:17")
    run(nothing, running)
    asyncio.run(running.clock.set(t("14:40:00")))
    assert running.sent == ["14:30:00"]


def test_a_clock_that_was_set_back_makes_it_sleep_a_minute_at_most_and_send_nothing_twice() -> None:
    """
    13:31    13:32               14:30:17  14:31
      |--------|--------- ... -------|-------|
    set back  wakes                start   last sent
    """

    async def story(running: Running) -> None:
        await running.move(t("14:31:00"))
        # It sleeps until 14:32 by the old clock; a system clock would notice by itself, this one has to be woken.
        running.clock.jump(t("13:31:00"))
        await running.move(t("14:32:00"))
        assert running.sent == ["14:30:00", "14:31:00", "14:32:00"]
        running.clock.jump(t("13:32:10"))
        running.runner.beat()
        assert running.sent == ["14:30:00", "14:31:00", "14:32:00"]

    run(story, Running("14:30:17"))


def test_however_far_back_it_was_set_the_next_wish_is_near() -> None:
    async def story(running: Running) -> None:
        running.clock.jump(t("2020-01-01T00:00:30"))
        # Whoever sleeps is woken by hand here; what counts is until when it then wants to sleep.
        await wake(running)
        assert running.clock.slept[-1] - running.clock.now() <= LONGEST_SLEEP
        assert running.sent == ["14:30:00"]

    run(story, Running("14:30:17", days=1, minutes=(1,)))
    run(story, Running("14:30:17"))


async def wake(running: Running) -> None:
    """Have the sleeper look at the clock again, as that of the system does every second."""
    now = running.clock.now()
    sleepers, running.clock._sleepers = running.clock._sleepers, []
    for _, _, waiting in sleepers:
        waiting.set_result(None)
    await turns()
    assert running.clock.now() == now


def test_it_never_sleeps_longer_than_a_minute_even_if_buckets_are_days() -> None:
    async def story(running: Running) -> None:
        for minute in range(1, 4):
            await running.move(t("14:30:17") + minute * MINUTE)

    running = Running("14:30:17", minutes=(), days=1)
    run(story, running)
    assert running.clock.slept == [t("14:30:17") + minute * LONGEST_SLEEP for minute in range(1, 5)]


def test_a_clock_that_was_set_forward_has_the_heartbeat_of_what_is_over_by_then() -> None:
    async def story(running: Running) -> None:
        running.clock.jump(t("18:30:10"))
        await wake(running)
        assert running.sent == ["14:30:00", "18:30:00"]
        await running.move(t("18:31:00"))
        assert running.sent == ["14:30:00", "18:30:00", "18:31:00"]

    run(story, Running("14:30:17"))


def test_while_events_are_being_copied_it_tries_again_every_few_milliseconds() -> None:
    parts = Parts(bars_market(minutes=1, partitions=2), "14:30:17")
    parts.add(tick("14:30:01"))

    async def story(running: Running) -> None:
        assert running.sent == []
        assert running.clock.slept == [t("14:30:17.005")]
        await running.move(t("14:30:17.020"))
        assert running.sent == []
        assert running.member.consumer is not None
        running.member.consumer.commit({TopicPartition("ticks", 0): 1})
        await running.move(t("14:30:17.025"))
        assert running.sent == ["14:30:00"] * 2
        assert running.clock.slept[-1] == t("14:31:00")

    run(story, Running("14:30:17", parts=parts))


class SometimesFull(EmbeddedLog):
    """A log whose disk is full while `is_full`."""

    is_full = False

    def append(self, writes: list[Write], fence: Fence | None = None) -> list[int]:  # type: ignore[override]
        if self.is_full:
            raise UnavailableError("the disk is full")
        return super().append(writes, fence)


def test_while_the_disk_is_full_it_tries_again_and_then_sends_the_newest() -> None:
    log = SometimesFull(None, ManualClock(t("14:30:17")))

    async def story(running: Running) -> None:
        log.is_full = True
        await running.move(t("14:31:00"))
        assert running.sent == ["14:30:00"]
        assert running.clock.slept[-1] == t("14:31:00.005")
        log.is_full = False
        await running.move(t("14:31:00.005"))
        assert running.sent == ["14:30:00", "14:31:00"]

    run(story, Running("14:30:17", parts=Parts(bars_market(minutes=1), "14:30:17", log=log)))


def test_any_other_error_ends_it() -> None:
    running = Running("14:30:17")

    async def story() -> None:
        task = asyncio.create_task(running.runner.run())
        await turns()
        running.parts.log.close()
        await running.clock.set(t("14:31:00"))
        await turns()
        with pytest.raises(Exception, match="closed"):
            await asyncio.wait_for(task, LIMIT)

    asyncio.run(story())


def test_a_beat_by_hand_sends_what_is_due() -> None:
    running = Running("14:30:17")
    assert running.runner.beat()
    assert running.runner.beat()
    assert running.sent == ["14:30:00"]
    running.clock.jump(t("14:30:17") + HOUR)
    assert running.runner.beat()
    assert running.sent == ["14:30:00", "15:30:00"]
