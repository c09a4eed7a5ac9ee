"""Warm standby: the state of partitions that other processes own, replica ready to be taken over.

It has a thread and a connection of its own, beside the worker: a read of a changelog waits for open transactions, for seconds
if their process has died, and finals must not wait with it.

    owner     commit [change 7] ─ commit [change 8] ─ dies
    standby        follow 7 ─────────── follow 8 ──────────── replica(): follow what is left, and it is the task's state
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from kandle.errors import KandleError
from kandle.log.port import Log
from kandle.runtime.schedule import ScheduleProvider
from kandle.runtime.state import Replica, TaskContext
from kandle.time.timeframe import SECOND

logger = logging.getLogger("kandle")

EVERY = SECOND
"""How often changelogs are read, in microseconds; as much may be left to read when a partition is taken over."""

ROWS_AT_ONCE = 100
"""About how many records of a partition are read at once; a takeover of that partition waits for them."""

RESTS = 4
"""It rests for this many times as long as it has worked, so that it takes at most a fifth of a processor from the worker."""

LONGEST_REST = 2 * SECOND


class Standby:
    """Follows the changelogs of all partitions that this process does not own.

    Args:
        context: What the tasks of the query work with.
        log: A connection of its own.
        owned: Returns the partitions that the worker owns now.
        schedule: A schedule of its own, where the query has one.
    """

    def __init__(
        self, context: TaskContext, log: Log, owned: Callable[[], Collection[int]], schedule: ScheduleProvider | None = None
    ) -> None:
        self._context = replace(context, log=log, schedule=schedule)
        self._owned = owned
        self._replicas: dict[int, Replica] = {}
        self._ends: dict[int, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.problem: str | None = None
        """Why no state is kept ready here now, in words."""

    @property
    def partitions(self) -> tuple[int, ...]:
        """Partitions whose state is ready here."""
        return tuple(sorted(number for number, replica in list(self._replicas.items()) if replica.has_state))

    def replica(self, context: TaskContext, partition: int) -> Replica:
        """Return the state of a partition that was assigned, as of the last commit; the worker calls this."""
        with self._lock:
            replica = self._replicas.pop(partition, None)
        if replica is None or not replica.adopt(context):
            return Replica(context, partition)
        context.counters.warm += replica.has_state
        return replica

    def run(self) -> None:
        """Follow until `stop`."""
        try:
            while not self._stop.wait(EVERY / SECOND):
                self.round(self._rest)
        except BaseException as error:
            # The worker goes on without it, and restores what it takes over from the log.
            logger.exception("standby of %s failed", self._context.topics.changelog)
            self.problem = f"the standby has ended, so takeovers restore all state from the log: {error}"
            self._replicas.clear()

    def stop(self) -> None:
        """Have `run` end soon; any thread may call this."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the connection, once `run` has ended."""
        self._context.log.close()

    def round(self, rest: Callable[[int], bool] = lambda worked: False) -> None:
        """Read on once; while the log cannot be used, say so in `problem`.

        Args:
            rest: As for `step`.
        """
        try:
            self.step(rest)
            self.problem = None
        except KandleError as error:
            problem = f"standby: {error}"
            if problem != self.problem:
                logger.warning("standby of %s: %s", self._context.topics.changelog, error)
            self.problem = problem

    def _rest(self, worked: int) -> bool:
        return self._stop.wait(min(RESTS * worked, LONGEST_REST) / SECOND)

    def step(self, rest: Callable[[int], bool] = lambda worked: False) -> None:
        """Read on in the changelogs of all partitions.

        Args:
            rest: Called with the microseconds that each partition took; True ends the round.
        """
        schedule = self._context.schedule
        if schedule is not None:
            schedule.refresh()
            if schedule.calendar is None:
                return
        owned = set(self._owned())
        self._drop(owned)
        for number, end in enumerate(self._context.log.ends(self._context.topics.changelog)):
            if number in owned or self._is_read(number, end):
                continue
            began = self._context.clock.steady()
            if self._follow(number):
                self._ends[number] = end
            if rest(self._context.clock.steady() - began):
                return

    def _drop(self, owned: Collection[int]) -> None:
        with self._lock:
            for number in self._replicas.keys() & owned:
                del self._replicas[number]

    def _is_read(self, number: int, end: int) -> bool:
        """Return whether everything up to the end of a changelog was read already."""
        return number in self._replicas and self._ends.get(number) == end

    def _follow(self, number: int) -> bool:
        """Read on in one changelog; return False if there may be more, or if its replica was dropped."""
        replica = self._replicas.get(number)
        if replica is None:
            fresh = Replica(self._context, number)
            with self._lock:
                if number not in self._owned():
                    self._replicas[number] = fresh
            return True
        # Reading may wait for transactions; it holds no lock, so that a takeover does not wait with it.
        records = list(replica.changelog.beyond(ROWS_AT_ONCE))
        with self._lock:
            if self._replicas.get(number) is not replica:
                return False
            if not replica.follow(records):
                del self._replicas[number]
                return False
        return len(records) < ROWS_AT_ONCE
