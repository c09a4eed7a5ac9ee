"""Records that are left out on purpose: counted for `health()`, and logged at most once a minute for each topic."""

from __future__ import annotations

import threading
from collections import Counter

from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE


class SkipCounter:
    """Counts records that were left out, by their topic; any thread may call the methods.

    Args:
        clock: Tells when the next line of the log may be written.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._logged_at: dict[str, int] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How many there were, by topic."""
        with self._lock:
            return dict(self._counts)

    def add(self, topic: str, count: int = 1) -> int | None:
        """Count records.

        Args:
            topic: Their topic.
            count: How many they are.

        Returns:
            How many have come since the last line of the log, if it is time for the next one; otherwise None.
        """
        now = self._clock.steady()
        with self._lock:
            self._counts[topic] += count
            self._unlogged[topic] += count
            logged_at = self._logged_at.get(topic)
            if logged_at is not None and 0 <= now - logged_at < MINUTE:
                return None
            self._logged_at[topic] = now
            return self._unlogged.pop(topic)
