"""How far a worker that was away has come: a line in the log after a while, then now and then, and one at the end."""

from __future__ import annotations

import logging

from kandle.runtime.counters import Counters
from kandle.runtime.tasks import Tasks
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND, duration_text, from_instant

logger = logging.getLogger("kandle")

FIRST_REPORT = 5 * SECOND
"""How long the work must not end before it is reported, in microseconds: less is everyday life."""

REPORT_INTERVAL = 30 * SECOND
"""The time between two reports, in microseconds."""


class CatchingUp:
    """Notices that the work does not end, and logs how far it has come and how fast it goes.

    Args:
        group: The consumer group of the query.
        tasks: The tasks of the owned partitions.
        counters: The counters of the query.
        clock: The clock.
    """

    def __init__(self, group: str, tasks: Tasks, counters: Counters, clock: Clock) -> None:
        self._group = group
        self._tasks = tasks
        self._counters = counters
        self._clock = clock
        self._began: int | None = None
        self._due = 0
        self._finals_before = 0
        self._events_before = 0
        self.text: str | None = None
        """The last report, while it is of interest."""

    def note_round(self) -> None:
        """Note that a round of the worker is over, and report if it is time."""
        now = self._clock.steady()
        if not self._tasks.has_work:
            if self.text is not None:
                logger.info("%s: caught up: %s in %s", self._group, self._done(), duration_text(self._seconds(now) * SECOND))
            self._began = self.text = None
        elif self._began is None:
            self._began, self._due = now, now + FIRST_REPORT
            self._finals_before, self._events_before = self._finals, self._counters.events
        elif now >= self._due:
            self.text = self._report(now)
            logger.info("%s: catching up: %s", self._group, self.text)
            self._due = now + REPORT_INTERVAL

    @property
    def _finals(self) -> int:
        return sum(frame.finals for frame in self._counters.timeframes.values())

    def _seconds(self, now: int) -> int:
        assert self._began is not None
        return max(1, (now - self._began) // SECOND)

    def _done(self) -> str:
        finals, events = self._finals - self._finals_before, self._counters.events - self._events_before
        return f"{finals:,} finals" if not events else f"{finals:,} finals, {events:,} events"

    def _report(self, now: int) -> str:
        closing = [task.pipeline for task in self._tasks.by_partition.values() if task.pipeline.is_closing]
        finals, seconds = self._finals - self._finals_before, self._seconds(now)
        parts = []
        if closing:
            left = sum(pipeline.bars_left for pipeline in closing)
            known = [pipeline.closed for pipeline in closing if pipeline.closed > 0]
            if known:
                target = max(pipeline.target for pipeline in closing)
                parts.append(f"closed up to {_text(min(known))} of {_text(target)}")
            parts.append(f"{finals:,} of about {finals + left:,} finals, {finals // seconds:,} a second")
            if finals:
                parts.append(f"about {duration_text((left * seconds // finals + 1) * SECOND)} left")
        else:
            events = self._counters.events - self._events_before
            parts.append(f"{events:,} events, {events // seconds:,} a second, {finals:,} finals")
        waiting = sum(task.waiting_rows for task in self._tasks.by_partition.values())
        return ", ".join([*parts, f"{waiting:,} events read and waiting"] if waiting else parts)


def _text(instant: int) -> str:
    return from_instant(instant // SECOND * SECOND).strftime("%Y-%m-%dT%H:%M:%SZ")
