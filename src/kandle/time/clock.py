"""The clock: the only module that asks the system for the time, and the only one that sleeps."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from kandle.errors import TimeframeError
from kandle.time.timeframe import MINUTE, from_instant, parse_duration

if TYPE_CHECKING:
    import asyncio


LONGEST_SHIFT = 10 * MINUTE
"""A clock that is further away from the system's, in microseconds, shows another time on purpose."""


class Clock(Protocol):
    """Says what time it is, and waits; instants and durations are microseconds."""

    @property
    def is_simulated(self) -> bool:
        """Whether it shows another time than the present on purpose, as for a replay."""

    def now(self) -> int:
        """Return the time, in microseconds since the epoch."""

    def steady(self) -> int:
        """Return microseconds since some moment, by a clock that is never set: for durations.

        All processes of a machine have the same one.
        """

    def pause(self, duration: int) -> None:
        """Block the thread for a duration of steady time."""

    async def sleep_until(self, instant: int) -> None:
        """Wait until the clock says `instant`."""

    async def sleep(self, duration: int) -> None:
        """Wait for a duration of steady time."""


class SystemClock:
    """The clock of the operating system."""

    @property
    def is_simulated(self) -> bool:
        return False

    def now(self) -> int:
        return time.time_ns() // 1000

    def steady(self) -> int:
        return time.monotonic_ns() // 1000

    def pause(self, duration: int) -> None:
        time.sleep(duration / 1_000_000)

    async def sleep_until(self, instant: int) -> None:
        import asyncio

        # Short sleeps, since the clock may be set meanwhile.
        while (left := instant - self.now()) > 0:
            await asyncio.sleep(min(left / 1_000_000, 1.0))

    async def sleep(self, duration: int) -> None:
        import asyncio

        await asyncio.sleep(duration / 1_000_000)


class ScaledClock(SystemClock):
    """A clock that runs faster or slower than the system's.

    Args:
        start: What it said when the system's clock said `since`, in microseconds since the epoch.
        since: An instant of the system's clock.
        speed: How many times as fast as the system's clock it runs.

    Raises:
        TimeframeError: The speed is not above 0.
    """

    def __init__(self, start: int, since: int, speed: float) -> None:
        if not speed > 0:
            raise TimeframeError(f"a clock cannot run at a speed of {speed}; give a factor above 0")
        self._start, self._since, self._speed = start, since, speed

    @property
    def is_simulated(self) -> bool:
        return self._speed != 1 or abs(self._start - self._since) > LONGEST_SHIFT

    def now(self) -> int:
        return self._start + round((super().now() - self._since) * self._speed)

    async def sleep_until(self, instant: int) -> None:
        import asyncio

        while (left := instant - self.now()) > 0:
            await asyncio.sleep(min(left / self._speed / 1_000_000, 1.0))


class ManualClock:
    """A clock that stands still until it is moved by hand.

    Args:
        start: What it says at first, in microseconds since the epoch.
    """

    def __init__(self, start: int) -> None:
        self._now = start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @property
    def is_simulated(self) -> bool:
        return True

    def now(self) -> int:
        return self._now

    def steady(self) -> int:
        return self._now

    def pause(self, duration: int) -> None:
        """Return at once: this clock only moves by hand."""

    async def sleep_until(self, instant: int) -> None:
        if instant <= self._now:
            return
        import asyncio

        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        self._sleepers.append((instant, self._count, waiting))
        await waiting

    async def sleep(self, duration: int) -> None:
        await self.sleep_until(self._now + duration)

    def jump(self, instant: int) -> None:
        """Set the clock to any instant, also an earlier one, as a machine's clock may be set; this wakes no sleeper."""
        self._now = instant

    async def advance(self, duration: str | timedelta) -> None:
        """Move forward by a duration such as `1m`."""
        await self.set(self._now + parse_duration(duration))

    async def set(self, instant: int) -> None:
        """Move forward to an instant; sleepers wake in the order of their instants, and each finds the clock at its own."""
        if instant < self._now:
            raise TimeframeError(f"a clock does not go back: {from_instant(instant)} is before {from_instant(self._now)}")
        import asyncio

        while self._sleepers and min(self._sleepers)[0] <= instant:
            first = min(self._sleepers, key=lambda sleeper: sleeper[:2])
            self._sleepers.remove(first)
            self._now = max(self._now, first[0])
            if not first[2].done():
                first[2].set_result(None)
            # One turn of the loop lets the sleeper go on, and sleep again, before the next one wakes.
            await asyncio.sleep(0)
        self._now = instant
