"""Events that may be too late wait for the heartbeat that says so, so that the same log always gives the same finals.

```
events       .. e7   e8 (its bucket is over by the clock)
heartbeat        position 8: decided before e8 was appended, and heard of after it
```

A heartbeat closes a bucket before the events from its position on. While it is on its way, events behind its position may have
been read already: they are held back until it is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kandle.engine.expressions import evaluated
from kandle.log.records import Batch
from kandle.plan.plan import Plan
from kandle.time.buckets import buckets
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND

LONGEST = SECOND
"""Heartbeats are not on their way for longer. None comes where nobody leads, or outside of sessions."""


class Holding:
    """The batches of one partition that wait, in their order."""

    def __init__(self, plan: Plan, event_time: pl.Expr, clock: Clock, heard: int) -> None:
        self._buckets = buckets(plan.base.timeframe, plan.zone)
        self._grace = plan.base.grace
        self._event_time = event_time
        self._clock = clock
        self._heard = heard
        self._held: list[Batch] = []
        self._since: int | None = None

    def heard(self, instant: int) -> None:
        """A heartbeat was read: what is over by it is known."""
        self._heard = max(self._heard, instant)

    def ready(self, batches: Sequence[Batch]) -> list[Batch]:
        """Those of the held and the new batches that may be processed; the others are held."""
        every = [*self._held, *batches]
        count = next((at for at, batch in enumerate(every) if self._is_waiting(batch)), len(every))
        self._held = every[count:]
        if not self._held:
            self._since = None
        return every[:count]

    def _is_waiting(self, batch: Batch) -> bool:
        """Whether some event's bucket is over by the clock, but no heartbeat has said so yet."""
        now = self._clock.now()
        if not len(batch) or self._heard >= now:
            return False
        times = evaluated(batch.records.frame, [self._event_time.alias("time")])["time"].drop_nulls().to_numpy()
        over = self._buckets.next(times) + self._grace
        return bool(((over <= now) & (over > self._heard)).any()) and not self._is_enough(now)

    def _is_enough(self, now: int) -> bool:
        """Whether it was waited for long enough; then what is over by now is not waited for again."""
        steady = self._clock.steady()
        if self._since is None:
            self._since = steady
        if 0 <= steady - self._since < LONGEST:
            return False
        self._heard = now
        return True
