"""The watermark: how far the event times of one partition have come."""

from __future__ import annotations

import numpy as np

from kandle.time.arrays import IntArray
from kandle.time.timeframe import MINUTE

BEFORE_ALL = int(np.iinfo(np.int64).min)
"""The watermark before any event."""


LONGEST_DELAY = MINUTE
"""How long after its time an event may be appended and still prove that the time has passed."""


def proven_times(times: IntArray, appended: IntArray) -> IntArray:
    """Return which instant each event proves to have passed: its own time, if it was appended then or soon after.

    An event from the future has a wrong clock, and proves nothing. Events that are much older than their append are history that
    somebody adds: one wrong time among them, however far ahead, must not make all others late.

    Args:
        times: Event times.
        appended: When each event was appended by the clock of the log; `BEFORE_ALL` where the log does not say.

    Returns:
        Microseconds since the epoch, `BEFORE_ALL` for events that prove nothing.
    """
    # As numbers without a sign, delays below 0 are the longest ones.
    is_proof = (appended - times).view(np.uint64) <= LONGEST_DELAY
    return times if is_proof.all() else np.where(is_proof, times, BEFORE_ALL)


class Watermark:
    """The running maximum of event times.

    Args:
        value: Where it stands, in microseconds since the epoch; a snapshot continues where it was taken.
    """

    def __init__(self, value: int = BEFORE_ALL) -> None:
        self.value = value

    def observe(self, instants: IntArray) -> IntArray:
        """Return the watermark before each event, which is the latest time of all events before it; then move on."""
        before = np.empty(len(instants), np.int64)
        if len(instants):
            before[0] = self.value
            np.maximum(np.maximum.accumulate(instants[:-1]), self.value, out=before[1:])
            self.value = max(int(before[-1]), int(instants[-1]))
        return before

    def snapshot(self) -> int:
        """Return the state, from which `Watermark(state)` continues."""
        return self.value
