"""How far time has come in one partition, by what its events say."""

from __future__ import annotations

import numpy as np

from kandle.time.timeframe import IntArray

BEFORE_ALL = int(np.iinfo(np.int64).min)
"""The watermark before any event."""


class Watermark:
    """The running maximum of event times, in microseconds."""

    def __init__(self, value: int = BEFORE_ALL) -> None:
        self.value = value

    def observe(self, instants: IntArray) -> IntArray:
        """For each event the greatest time of all events before it, those of earlier batches included; then move on."""
        before = np.empty(len(instants), np.int64)
        if len(instants):
            before[0] = self.value
            np.maximum(np.maximum.accumulate(instants[:-1]), self.value, out=before[1:])
            self.value = max(int(before[-1]), int(instants[-1]))
        return before

    def snapshot(self) -> int:
        """The state; `Watermark(state)` goes on from there."""
        return self.value
