"""The watermark: how far the event times of one partition have come."""

from __future__ import annotations

import numpy as np

from kandle.time.arrays import IntArray

BEFORE_ALL = int(np.iinfo(np.int64).min)
"""The watermark before any event."""


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
