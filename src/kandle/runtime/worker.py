"""A worker: one process' share of a query. It polls, lets the tasks of its partitions work, and commits.

Membership ── which partitions are owned, records that are read
    │
  Tasks ───── one task per partition: events in, bars out
    │
Committer ─── when the work of all tasks is committed; back to the last commit after a failure
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping

from kandle.errors import StateError, UnavailableError
from kandle.log.port import GroupSpec
from kandle.runtime.committing import Committer, Outage, Pace
from kandle.runtime.counters import QueryState
from kandle.runtime.heartbeats import Leadership
from kandle.runtime.membership import Membership
from kandle.runtime.progress import CatchingUp
from kandle.runtime.schedule import SCHEDULE_INTERVAL
from kandle.runtime.state import Replica, TaskContext
from kandle.runtime.task import Task
from kandle.runtime.tasks import RestoreReplica, Tasks
from kandle.runtime.upgrading import FormerGroup
from kandle.time.timeframe import SECOND

logger = logging.getLogger("kandle")

RETRY = SECOND
"""How long a worker waits after a failure of the log, in microseconds."""


class Worker:
    """Runs the tasks of the owned partitions of one query; `step` is one round, `run` goes on until it is stopped.

    Args:
        context: What the tasks work with.
        group: The consumer group of the query, and the name of this member.
        leadership: The flag of who sends heartbeats.
        pace: How it divides its time.
        restore: Returns the state of a partition that was assigned.
        former: The group in which an older version of kandle ran the query; None if there is none.
    """

    def __init__(
        self,
        context: TaskContext,
        group: GroupSpec,
        leadership: Leadership,
        pace: Pace | None = None,
        restore: RestoreReplica = Replica,
        former: FormerGroup | None = None,
    ) -> None:
        self._context = context
        self._pace = pace if pace is not None else Pace()
        self._group = group.group
        self._tasks = Tasks(context, group.group, restore)
        self._membership = Membership(context.log, group, self._tasks, leadership)
        self._outage = Outage(group.group, context.clock)
        self._committer = Committer(context, self._tasks, self._membership, self._pace, self._outage)
        self._catching_up = CatchingUp(group.group, self._tasks, context.counters, context.clock)
        self._former = former
        self._stop = threading.Event()
        self._phase = QueryState.STARTING
        self._trouble: BaseException | None = None
        """What passes by itself; the thread of the worker alone sets it."""
        self._failures: deque[BaseException] = deque()
        """What has ended the query; any thread adds to it, and nothing takes it away."""

    @property
    def state(self) -> QueryState:
        """What the worker is doing."""
        return QueryState.FAILED if self._failures else self._phase

    @property
    def problem(self) -> BaseException | None:
        """What has ended the query, or else what keeps it from working now."""
        return self._failures[0] if self._failures else self._trouble

    @property
    def catching_up(self) -> str | None:
        """How far a long catching-up has come, in words."""
        return self._catching_up.text

    def fail(self, error: BaseException) -> None:
        """End the query for good; any thread may call this."""
        self._failures.append(error)
        self.stop()

    def run(self, on_joined: Callable[[], None] = lambda: None) -> None:
        """Work until `stop`; then commit, leave the group and return. An error that ends it is kept in `problem`.

        Args:
            on_joined: Called once, when the group has been joined.
        """
        try:
            if self._join_when_ready():
                on_joined()
            while not self._stop.is_set():
                began = self._context.clock.steady()
                if self.attempt(self._patience()):
                    self._gather(began)
                else:
                    self._stop.wait(RETRY / SECOND)
        except BaseException as error:
            # Whatever it is, a panic of a library included: a thread that ends unseen leaves a query that does nothing.
            logger.exception("worker of %s failed", self._group)
            self.fail(error)
        finally:
            self.close()

    def attempt(self, patience: int = 0) -> bool:
        """Do one round; after one that the log has kept from being done, the next one goes back to the last commit.

        Args:
            patience: How long to wait for records, in microseconds.

        Returns:
            False where the log cannot be used now (a full disk, say), so that the next round should wait a little.
        """
        try:
            self.step(patience)
        except UnavailableError as error:
            self._outage.failed(error)
            self._trouble = error
            return False
        self._trouble = None
        return True

    def _join_when_ready(self) -> bool:
        """Join the group, once there is a schedule where one is needed; return False if it was stopped before."""
        while not self._stop.is_set():
            try:
                if self.start():
                    return True
                wait = SCHEDULE_INTERVAL
            except UnavailableError as error:
                # Whether brokers go away before a worker starts or after makes no difference to it.
                self._outage.failed(error)
                self._trouble, wait = error, RETRY
            self._stop.wait(wait / SECOND)
        return False

    def _gather(self, began: int) -> None:
        """Let some time pass between rounds."""
        rest = self._pace.round_interval - (self._context.clock.steady() - began)
        if rest > 0:
            self._context.clock.pause(rest)

    def _patience(self) -> int:
        """Return how long a round may wait for records, in microseconds."""
        if self._stop.is_set() or self._tasks.has_work:
            return 0
        return self._committer.time_left() if self._tasks.is_dirty else self._pace.idle

    def start(self) -> bool:
        """Join the group, if that was not done yet; return False if something must be there first."""
        if self._membership.is_joined:
            return True
        schedule = self._context.schedule
        if schedule is not None:
            schedule.refresh()
            if schedule.calendar is None:
                self._phase = QueryState.WAITING_FOR_SCHEDULE
                return False
        if not self._adopt_former():
            return False
        self._membership.join(self._committer.flush)
        self._phase = QueryState.RUNNING
        return True

    def _adopt_former(self) -> bool:
        """Take over the positions of the former group; return False while older versions run there."""
        if self._former is None:
            return True
        positions = self._former.positions()
        if positions is None:
            self._trouble = StateError(self._former.waiting)
            return False
        self._tasks.former, self._former, self._trouble = positions, None, None
        return True

    def step(self, patience: int = 0) -> bool:
        """Do one round: poll, do some of the work, and commit if it is time; what is left is done in the next rounds.

        Args:
            patience: How long to wait for records, in microseconds.

        Returns:
            Whether there was anything to do.

        Raises:
            UnavailableError: The log cannot be read or written now; the next round starts from the last commit.
        """
        if not self.start():
            return False
        if self._context.schedule is not None:
            self._context.schedule.refresh_if_due()
        with self._committer.guard():
            self._committer.restore_if_failed()
            batches = self._membership.poll(patience, self._pace.batch_rows)
            self._tasks.take(batches)
            is_done = self._tasks.work()
            self._committer.commit_if_due()
            self._catching_up.note_round()
            return bool(batches) or is_done
        return True

    def flush(self) -> None:
        """Commit whatever is done, at once; but not after a failure."""
        self._committer.flush()

    def stop(self) -> None:
        """Have `run` end soon; any thread may call this."""
        self._stop.set()
        self._membership.wake()

    def close(self) -> None:
        """Commit what is done and leave the group; `run` does so by itself."""
        if not self._membership.is_joined:
            return
        problem = self._membership.leave()
        if problem is not None:
            self._failures.append(problem)
        self._phase = QueryState.STOPPED

    @property
    def tasks(self) -> Mapping[int, Task]:
        """The tasks that run here, by partition."""
        return self._tasks.by_partition

    @property
    def partitions(self) -> tuple[int, ...]:
        """Partitions whose tasks run here."""
        return tuple(sorted(self.tasks))

    @property
    def statistics(self) -> Mapping[str, int]:
        """Figures of the client library of the log, if there is one."""
        return self._membership.statistics

    def lag(self) -> int:
        """Return how much is left to be done in the owned partitions: events and heartbeats."""
        return self._tasks.lag()
