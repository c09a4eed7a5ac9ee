"""What goes wrong for a while and passes: its beginning and its end are told, and nothing in between."""

from __future__ import annotations

import logging

from kandle.errors import UnavailableError
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE, SECOND

logger = logging.getLogger("kandle")

SETTLED = 10 * SECOND
"""What fails again sooner than this, in microseconds, is the same outage: something may be written between two failures."""

LONGEST_SILENCE = 10 * MINUTE
"""The same where nothing was written: rounds without partitions go well in an outage, too, and attempts may take long."""


class Outage:
    """Failures of a group's worker, and what it writes in spite of them."""

    def __init__(self, group: str, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self._failed_at: int | None = None
        self._has_written = False

    def failed(self, error: UnavailableError) -> None:
        """Something failed that may go well later."""
        if self._failed_at is None or self._is_over():
            logger.error("%s: %s", self._group, error)
        self._failed_at, self._has_written = self._clock.steady(), False

    def written(self) -> None:
        """Something was committed."""
        self._has_written = True
        if self._is_over():
            logger.info("%s: goes on", self._group)
            self._failed_at = None

    def _is_over(self) -> bool:
        if self._failed_at is None:
            return False
        return self._clock.steady() - self._failed_at > (SETTLED if self._has_written else LONGEST_SILENCE)
