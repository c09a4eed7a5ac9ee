"""Warm standby: the state of partitions that other processes own, kept ready to be taken over.

It has a thread and a connection of its own, beside the worker: a read of a changelog waits for transactions that are open, for
seconds if their process has died, and finals must not wait with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from kandle.errors import KandleError
from kandle.log.port import Log
from kandle.runtime.schedule import ScheduleProvider
from kandle.runtime.state import Replica
from kandle.runtime.surroundings import Surroundings
from kandle.time.timeframe import SECOND

logger = logging.getLogger("kandle")

EVERY = SECOND
"""How often changelogs are looked at (microseconds): so much may be left to read when a partition is taken over."""

ROWS_AT_ONCE = 100
"""About how many records of a partition are taken in one go; a partition that comes meanwhile waits for them."""

RESTS = 4
"""How many times as long as it has worked it rests, so that it takes no more than a fifth of a processor from the worker."""

LONGEST_REST = 2 * SECOND


class Standby:
    """Follows the changelogs of all partitions but the `owned` ones; `log` and `schedule` are its own."""

    def __init__(
        self, around: Surroundings, log: Log, owned: Callable[[], Collection[int]], schedule: ScheduleProvider | None = None
    ) -> None:
        self._around = replace(around, log=log, schedule=schedule)
        self._owned = owned
        self._replicas: dict[int, Replica] = {}
        self._ends: dict[int, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._problem: str | None = None

    @property
    def partitions(self) -> tuple[int, ...]:
        """Partitions whose state is here; those that have none yet are left out."""
        return tuple(sorted(number for number, kept in list(self._replicas.items()) if kept.has_state))

    def replica(self, around: Surroundings, partition: int) -> Replica:
        """The state of a partition that has come, as of the last commit; called by the worker."""
        with self._lock:
            kept = self._replicas.pop(partition, None)
        if kept is None or not kept.adopted(around):
            return Replica(around, partition)
        around.counters.warm += kept.has_state
        return kept

    def run(self) -> None:
        """Follow until `stop`."""
        try:
            while not self._stop.wait(EVERY / SECOND):
                self._round()
        except Exception:
            # The worker goes on without it, and restores what it takes over from the log.
            logger.exception("standby of %s failed", self._around.topics.changelog)
            self._replicas.clear()

    def stop(self) -> None:
        """Have `run` end soon; any thread may call this."""
        self._stop.set()

    def close(self) -> None:
        """Let go of the connection, once `run` has ended."""
        self._around.log.close()

    def _round(self) -> None:
        try:
            self.step(self._rest)
            self._problem = None
        except KandleError as error:
            if str(error) != self._problem:
                logger.warning("standby of %s: %s", self._around.topics.changelog, error)
            self._problem = str(error)

    def _rest(self, worked: int) -> bool:
        return self._stop.wait(min(RESTS * worked, LONGEST_REST) / SECOND)

    def step(self, rest: Callable[[int], bool] = lambda worked: False) -> None:
        """Bring all replicas nearer to their changelogs' ends; `rest` is told how long each took, and says when to stop."""
        schedule = self._around.schedule
        if schedule is not None:
            schedule.refresh()
            if schedule.calendar is None:
                return
        owned = set(self._owned())
        self._keep(owned)
        for number, end in enumerate(self._around.log.ends(self._around.topics.changelog)):
            if number in owned or self._is_told(number, end):
                continue
            began = self._around.clock.steady()
            if self._followed(number):
                self._ends[number] = end
            if rest(self._around.clock.steady() - began):
                return

    def _keep(self, owned: Collection[int]) -> None:
        with self._lock:
            for number in self._replicas.keys() & owned:
                del self._replicas[number]

    def _is_told(self, number: int, end: int) -> bool:
        """Whether all up to the end is known already."""
        return number in self._replicas and self._ends.get(number) == end

    def _followed(self, number: int) -> bool:
        """Take what is new in one changelog; False if there may be more, or it has to begin anew."""
        kept = self._replicas.get(number)
        if kept is None:
            fresh = Replica(self._around, number)
            with self._lock:
                if number not in self._owned():
                    self._replicas[number] = fresh
            return True
        # This may wait, so whoever takes the partition over does not wait for it.
        records = list(kept.changelog.beyond(ROWS_AT_ONCE))
        with self._lock:
            if self._replicas.get(number) is not kept:
                return False
            if not kept.follow(records):
                del self._replicas[number]
                return False
        return len(records) < ROWS_AT_ONCE
