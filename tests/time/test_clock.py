from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from kandle.errors import TimeframeError
from kandle.time.clock import ManualClock, SystemClock
from kandle.time.timeframe import HOUR, MINUTE
from tests.waiting import LIMIT


def test_the_system_clock_says_the_systems_time() -> None:
    before = time.time_ns() // 1000
    now = SystemClock().now()
    assert before <= now <= time.time_ns() // 1000


def test_the_system_clock_sleeps_until_an_instant_and_not_shorter() -> None:
    clock = SystemClock()
    until = clock.now() + 20_000
    asyncio.run(clock.sleep_until(until))
    assert clock.now() >= until


def test_the_system_clock_does_not_wait_for_what_is_over() -> None:
    clock = SystemClock()
    asyncio.run(asyncio.wait_for(clock.sleep_until(clock.now() - HOUR), LIMIT))


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    async def scenario() -> list[int]:
        clock = ManualClock(100)
        times = [clock.now(), clock.now()]
        await clock.advance("1m")
        times.append(clock.now())
        await clock.advance(timedelta(seconds=1))
        await clock.set(100 + 2 * MINUTE)
        return [*times, clock.now()]

    assert asyncio.run(scenario()) == [100, 100, 100 + MINUTE, 100 + 2 * MINUTE]


def test_sleepers_wake_in_the_order_of_their_instants_and_see_that_time() -> None:
    """
    0     10     20     30    set(30)
          b      a,c    d
    """

    async def scenario() -> list[tuple[str, int]]:
        clock, woken = ManualClock(0), []

        async def sleeper(name: str, until: int) -> None:
            await clock.sleep_until(until)
            woken.append((name, clock.now()))

        async with asyncio.TaskGroup() as tasks:
            for name, until in {"a": 20, "b": 10, "c": 20, "d": 30, "e": 0}.items():
                tasks.create_task(sleeper(name, until))
            await asyncio.sleep(0)
            await clock.set(30)
        return woken

    assert asyncio.run(scenario()) == [("e", 0), ("b", 10), ("a", 20), ("c", 20), ("d", 30)]


def test_who_sleeps_again_wakes_again_within_one_move() -> None:
    async def scenario() -> list[int]:
        clock, ticks = ManualClock(0), []

        async def every_ten() -> None:
            for number in range(1, 4):
                await clock.sleep_until(number * 10)
                ticks.append(clock.now())

        task = asyncio.create_task(every_ten())
        await asyncio.sleep(0)
        await clock.set(35)
        await task
        return ticks

    assert asyncio.run(scenario()) == [10, 20, 30]


def test_a_sleeper_that_is_not_due_goes_on_sleeping() -> None:
    async def scenario() -> tuple[bool, bool]:
        clock = ManualClock(0)
        task = asyncio.create_task(clock.sleep_until(10))
        await asyncio.sleep(0)
        await clock.set(9)
        before = task.done()
        await clock.set(10)
        await asyncio.sleep(0)
        return before, task.done()

    assert asyncio.run(scenario()) == (False, True)


def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    async def scenario() -> int:
        clock = ManualClock(0)
        task = asyncio.create_task(clock.sleep_until(10))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clock.set(20)
        return clock.now()

    assert asyncio.run(scenario()) == 20


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(TimeframeError, match="a clock does not go back"):
        asyncio.run(ManualClock(10).set(9))
