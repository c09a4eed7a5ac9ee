"""When a worker commits, and what happens when a commit fails.

One commit holds everything that the tasks did since the last one: finals, live and late rows, changes of the state, and the
positions of events and heartbeats. It is made as a whole or not at all:

    read 1..5 ─ process ─ commit [finals of 1..5, state after 5, position 6]
    read 6..9 ─ process ─ commit fails ─┐
    ┌───────────────────────────────────┘
    └ restore the state after 5, seek to 6 ─ read 6..9 ─ process ─ commit [finals of 6..9, state after 9, position 10]

A process that dies at any point is restored in the same way, so every final is written exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kandle.errors import FencedError, UnavailableError, UnwritableError
from kandle.runtime.membership import Membership
from kandle.runtime.state import TaskContext
from kandle.runtime.tasks import EVENTS_PER_COMMIT, Tasks
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

logger = logging.getLogger("kandle")

SETTLED = 10 * SECOND
"""A failure sooner than this after the last one, in microseconds, belongs to the same outage, even if something was written."""

BEHIND_INTERVAL = SECOND
"""The least time between two commits with live bars while events are processed that wait since longer, in microseconds."""

LONGEST_SILENCE = 10 * MINUTE
"""The same where nothing was written: rounds without partitions succeed during an outage, too, and attempts may take long."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker divides its time: microseconds, and events per round.

    Live bars leave with every commit, so `commit_interval` is also the rate of live bars; finals never wait for it. Those of a
    backlog, whose buckets are mostly over, leave once a second.
    `round_interval` lets events gather a little, so that a trickle does not cost a round each. `idle` is how long a round
    waits for records when nothing is to be committed.
    """

    commit_interval: int = 100 * MILLISECOND
    round_interval: int = 5 * MILLISECOND
    batch_rows: int = 100_000
    idle: int = SECOND


class Outage:
    """Logs an outage once when it starts and once when it ends.

    Args:
        group: The consumer group whose worker fails.
        clock: The clock by which failures belong to the same outage.
    """

    def __init__(self, group: str, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self._failed_at: int | None = None
        self._has_written = False

    def failed(self, error: UnavailableError) -> None:
        """Note a failure that may pass by itself."""
        if self._failed_at is None or self._is_over():
            logger.error("%s: %s", self._group, error)
        self._failed_at, self._has_written = self._clock.steady(), False

    def written(self) -> None:
        """Note that something was committed."""
        self._has_written = True
        if self._is_over():
            logger.info("%s: the outage is over", self._group)
            self._failed_at = None

    def _is_over(self) -> bool:
        if self._failed_at is None:
            return False
        return self._clock.steady() - self._failed_at > (SETTLED if self._has_written else LONGEST_SILENCE)


class Committer:
    """Commits the work of all tasks when it is time, and goes back to the last commit after a failure.

    Args:
        context: What the tasks work with.
        tasks: The tasks of the owned partitions.
        membership: The membership through which they are committed.
        pace: How often live bars leave.
        outage: Is told of each commit.
    """

    def __init__(self, context: TaskContext, tasks: Tasks, membership: Membership, pace: Pace, outage: Outage) -> None:
        self._clock, self._counters, self._letters = context.clock, context.counters, context.letters
        self._tasks = tasks
        self._membership = membership
        self._interval = pace.commit_interval
        self._outage = outage
        self._committed_at = 0
        self._live_at = 0
        self._must_restore = False

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Go back to the last commit if the block fails: its work may be half done, so nothing of it is committed."""
        try:
            yield
        except FencedError as error:
            # Another process owns the partitions, and has begun at the last commit too: nothing was written twice.
            logger.warning("%s; going back to the last commit", error)
            self._counters.fenced += 1
            self._must_restore = True
            self._restore()
        except BaseException:
            self._must_restore = True
            raise

    def restore_if_failed(self) -> None:
        """Go back to the last commit, if the round before has failed."""
        if self._must_restore:
            self._restore()

    def _restore(self) -> None:
        self._letters.forget()
        self._membership.restore()
        self._must_restore = False

    def time_left(self) -> int:
        """Return how long the next commit may wait, in microseconds."""
        waited = self._clock.steady() - self._committed_at
        return max(0, min(self._interval - waited, self._interval))

    def commit_if_due(self) -> None:
        """Commit if finals wait, or the interval is over, or many events wait; live bars never hold up finals."""
        if self._is_due():
            interval = max(self._interval, BEHIND_INTERVAL if self._tasks.is_behind else 0)
            is_due = not 0 <= self._clock.steady() - self._live_at < interval
            self._commit(live=is_due and not self._tasks.has_finals)

    def _is_due(self) -> bool:
        if not self._tasks.is_dirty:
            return False
        waited = self._clock.steady() - self._committed_at
        return not 0 <= waited < self._interval or self._tasks.is_urgent or self._tasks.waiting_events >= EVENTS_PER_COMMIT

    def flush(self) -> None:
        """Commit whatever is done, at once; but nothing after a failure, since it may be half done."""
        if not self._membership.is_joined or self._must_restore:
            return
        with self.guard():
            self._commit(live=True)

    def _commit(self, *, live: bool) -> None:
        pending = self._tasks.pending(live=live)
        if pending is None:
            return
        while True:
            try:
                self._membership.commit(pending)
                break
            except UnwritableError as error:
                # Nothing was written; the next attempt has one dead letter more for each record that was refused.
                pending = pending.without(error.rows)
        self._counters.commits += 1
        self._committed_at = self._clock.steady()
        if live:
            self._live_at = self._committed_at
        self._outage.written()
