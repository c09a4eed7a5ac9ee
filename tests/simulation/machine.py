"""The time of a simulated machine, and the clocks of its processes; nothing moves it but the scheduler."""

from __future__ import annotations


class MachineClock:
    """The clock by which the log stamps records: a steady one, which never jumps, and how far the time is from it.

    Args:
        start: The time at first, in microseconds since the epoch.
    """

    is_simulated = False
    """What a production process believes of its clock, so that all checks of production are made."""

    def __init__(self, start: int) -> None:
        self._steady = 0
        self._offset = start
        self.highest = start
        """The latest time that it has ever shown."""

    def now(self) -> int:
        return self._steady + self._offset

    def steady(self) -> int:
        return self._steady

    def pause(self, duration: int) -> None:
        """Return at once: time passes where the scheduler says so."""

    async def sleep_until(self, instant: int) -> None:
        raise NotImplementedError("nothing sleeps in a simulation")

    async def sleep(self, duration: int) -> None:
        raise NotImplementedError("nothing sleeps in a simulation")

    def advance(self, duration: int) -> None:
        """Let some time pass."""
        self._steady += duration
        self.highest = max(self.highest, self.now())

    def jump(self, by: int) -> None:
        """Set the time, as somebody may set the clock of a machine; no time passes."""
        self._offset += by
        self.highest = max(self.highest, self.now())


class ProcessClock(MachineClock):
    """The clock of a process, which may be fast or slow; it runs evenly.

    Args:
        machine: The clock of the machine.
        skew: How far it is ahead, in microseconds.
    """

    def __init__(self, machine: MachineClock, skew: int) -> None:
        self._machine = machine
        self.skew = skew

    def now(self) -> int:
        return self._machine.now() + self.skew

    def steady(self) -> int:
        return self._machine.steady()
