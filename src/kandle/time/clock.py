"""The clock: the only module that asks the system for the time, and the only one that sleeps."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from kandle.errors import TimeframeError
from kandle.time.timeframe import from_instant, parse_duration

if TYPE_CHECKING:
    import asyncio


class Clock(Protocol):
    """What time it is, in microseconds since the epoch, and waiting until then.

    `steady` also counts microseconds, from anywhere, but is never set: it is for durations, and the same in all processes of a
    machine. `pause` blocks the thread for a duration of steady time.
    """

    def now(self) -> int: ...

    def steady(self) -> int: ...

    def pause(self, duration: int) -> None: ...

    async def sleep_until(self, instant: int) -> None: ...


class SystemClock:
    """The system's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def steady(self) -> int:
        return time.monotonic_ns() // 1000

    def pause(self, duration: int) -> None:
        time.sleep(duration / 1_000_000)

    async def sleep_until(self, instant: int) -> None:
        """Wait until the system clock says `instant`; looks again after each sleep, since a clock may be set."""
        import asyncio

        while (left := instant - self.now()) > 0:
            await asyncio.sleep(min(left / 1_000_000, 1.0))


class ScaledClock(SystemClock):
    """A clock that said `start` when the system's clock said `since`, and runs `speed` times as fast."""

    def __init__(self, start: int, since: int, speed: float) -> None:
        if not speed > 0:
            raise TimeframeError(f"a clock cannot run at a speed of {speed}; give a factor above 0")
        self._start, self._since, self._speed = start, since, speed

    def now(self) -> int:
        return self._start + round((super().now() - self._since) * self._speed)

    async def sleep_until(self, instant: int) -> None:
        import asyncio

        while (left := instant - self.now()) > 0:
            await asyncio.sleep(min(left / self._speed / 1_000_000, 1.0))


class ManualClock:
    """A clock that stands still until it is moved by hand."""

    def __init__(self, start: int) -> None:
        self._now = start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> int:
        return self._now

    def steady(self) -> int:
        return self._now

    def pause(self, duration: int) -> None:
        """Nothing to wait for: this clock is moved by hand."""

    async def sleep_until(self, instant: int) -> None:
        if instant <= self._now:
            return
        import asyncio

        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        self._sleepers.append((instant, self._count, waiting))
        await waiting

    def jump(self, instant: int) -> None:
        """Be at any instant, also an earlier one, as somebody may set the clock of a machine; nobody is woken."""
        self._now = instant

    async def advance(self, duration: str | timedelta) -> None:
        """Move on by a duration such as `1m`."""
        await self.set(self._now + parse_duration(duration))

    async def set(self, instant: int) -> None:
        """Move on to an instant; those who sleep until then wake in the order of their instants, at that time."""
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
