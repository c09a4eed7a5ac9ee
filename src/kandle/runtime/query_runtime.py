"""Everything that runs in one process for one query: its schedule, its worker, its heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import time

from kandle.log.port import GroupSpec, Log
from kandle.plan.plan import HEARTBEATS
from kandle.plan.topics import QueryTopics, Retentions
from kandle.runtime.barrier import Barrier
from kandle.runtime.counters import Counters, QueryHealth, State, TimeframeCounters
from kandle.runtime.heartbeats import Leadership, Runner, Sender
from kandle.runtime.planner import Planner
from kandle.runtime.schedule import ScheduleProvider, Universe
from kandle.runtime.standby import Standby
from kandle.runtime.surroundings import Surroundings
from kandle.runtime.worker import Pace, Worker
from kandle.store.port import Store
from kandle.time.clock import Clock
from kandle.time.timeframe import DAY, MILLISECOND, MINUTE, SECOND


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """How queries run; durations in microseconds.

    `instance` names the process in its groups, `group` begins the names of these. `expiry` is how long a key may be silent
    before it gets no more gap bars: 0 is for ever, -1 is for ever with a schedule and seven days without one.
    """

    instance: str
    group: str
    pace: Pace = field(default_factory=Pace)
    lease: int = 5 * SECOND
    retentions: Retentions = field(default_factory=Retentions)
    refuses_differences: bool = False
    """Whether a topic that is kept otherwise than declared is an error."""
    heartbeats: str = HEARTBEATS
    """What the names of the topics of heartbeats begin with."""
    backfill: int = MINUTE
    jitter: int = 5 * MILLISECOND
    refresh_at: time = time(0, 5)
    schedule_retry: int = 10 * SECOND
    expiry: int = -1
    universe: tuple[tuple[str, ...], ...] = ()
    open_store: Callable[[str], Store] | None = None
    """Opens the local copy of a query's state by the name of its changelog topic; None keeps it in memory and the log only."""
    standby: bool = False
    """Whether the state of partitions that other processes own is kept ready here."""


logger = logging.getLogger("kandle")

EXPIRY_WITHOUT_SCHEDULE = 7 * DAY


class QueryRuntime:
    """One query: its topics are made when this is built; `start` has it run in threads of its own."""

    def __init__(self, log: Log, clock: Clock, topics: QueryTopics, spec: RuntimeSpec, barrier: Barrier | None = None) -> None:
        self._log = log
        self._clock = clock
        self._spec = spec
        self._barrier = barrier
        self.topics = topics
        plan = topics.plan
        self.group = f"{spec.group}-{plan.query.target.topic}"
        self.counters = Counters(timeframes={bar.name: TimeframeCounters() for bar in plan.emitted})
        self.schedule = self._schedule(log)
        self._universe = Universe(plan, spec.universe)
        self._store = self._opened_store()
        self.leadership = Leadership(self.group, topics.heartbeats)
        self._standby: Standby | None = None
        self.worker = self._worker()
        self.runner = self._runner()
        self._threads: list[threading.Thread] = []
        self._beats: _Beats | None = None
        self.outside: str | None = None
        """What is wrong with those that bring events, in words."""
        self.missing: str | None = None
        """Which topics are gone, in words."""

    def _schedule(self, log: Log) -> ScheduleProvider | None:
        query, spec = self.topics.plan.query, self._spec
        if query.schedule is None:
            return None
        return ScheduleProvider(log, query, self._clock, refresh_at=spec.refresh_at, retry=spec.schedule_retry)

    def _opened_store(self) -> Store | None:
        return None if self._spec.open_store is None else self._spec.open_store(self.topics.changelog)

    def _worker(self) -> Worker:
        expiry = self._spec.expiry
        if expiry < 0:
            expiry = EXPIRY_WITHOUT_SCHEDULE if self.schedule is None else 0
        around = Surroundings(
            self._log, self._clock, self.topics, self.counters, self.schedule, self._store, expiry if expiry > 0 else None
        )
        group = GroupSpec(self.group, self.topics.read, self._spec.instance, lease=self._spec.lease)
        if not self._spec.standby:
            return Worker(around, group, self.leadership, self._spec.pace)
        log = self._log.connect()
        self._standby = Standby(around, log, lambda: self.worker.partitions, self._schedule(log))
        return Worker(around, group, self.leadership, self._spec.pace, self._standby.replica)

    def _runner(self) -> Runner:
        plan = self.topics.plan
        graces = {bar.grace for bar in plan.bars}
        planner = Planner(
            plan.base.timeframe,
            graces,
            zone=plan.zone,
            backfill=self._spec.backfill,
            calendar=lambda: None if self.schedule is None else self.schedule.calendar,
        )
        self._beat_log = self._log.connect()
        sender = Sender(self._beat_log, self.topics, self.leadership, self.group, self.counters, self._barrier)
        return Runner(planner, sender, self._clock, self._spec.jitter)

    def start(self) -> None:
        """Schedule, then election, then the runner of heartbeats: each begins when the one before is there."""
        self._start_thread("", lambda: self.worker.run(self._joined))

    def _start_thread(self, part: str, target: Callable[[], None]) -> None:
        name = f"kandle-{self.topics.plan.query.target.topic}{part}"
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _joined(self) -> None:
        self._beats = _Beats(self.runner, self.fail)
        if self._standby is not None:
            self._start_thread("-standby", self._standby.run)

    def fail(self, error: BaseException) -> None:
        """End: something that it cannot do without has failed."""
        logger.error("%s cannot go on: %s", self.group, error)
        self.worker.problem, self.worker.state = error, State.FAILED
        self.worker.stop()

    def stop(self) -> None:
        """Hand over at once: commit, leave the group, end the threads."""
        self.worker.stop()
        if self._standby is not None:
            self._standby.stop()
        for thread in self._threads:
            thread.join()
        if self._beats is not None:
            self._beats.stop()
        self.worker.close()
        if self._standby is not None:
            self._standby.close()
        self._beat_log.close()
        if self._store is not None:
            self._store.close()

    def watch(self, there: Collection[str]) -> None:
        """Say which of the topics are not among those that are there: nothing is written or read until they are."""
        gone = [name for name in self.topics.required if name not in there]
        missing = f"{self.group}: there is no topic {', '.join(gone)} any more; was it deleted?" if gone else None
        if missing is not None and missing != self.missing:
            logger.error("%s", missing)
        self.missing = missing

    def settle(self) -> bool:
        """Do what is due now, in the caller's thread; False if there was nothing."""
        sent, was_leader = self.counters.heartbeats_sent, self.leadership.is_leader
        self.runner.beat()
        is_moved = self.worker.step()
        self.worker.flush()
        # A new leader has heartbeats to send.
        return is_moved or self.counters.heartbeats_sent != sent or self.leadership.is_leader != was_leader

    def health(self) -> QueryHealth:
        """How it is doing."""
        tasks = list(self.worker.tasks.values())
        observed = self._universe.observed(task.keys for task in tasks)
        calendar = None if self.schedule is None else self.schedule.calendar
        problem = (
            self.missing or self.worker.problem or self.outside or (None if self.schedule is None else self.schedule.problem)
        )
        return QueryHealth(
            query=self.topics.plan.query.target.name,
            group=self.group,
            state=self.worker.state,
            is_leader=self.leadership.is_leader,
            partitions=self.worker.partitions,
            lag=self.worker.lag(),
            keys=len(observed),
            silent_keys=len(self._universe.silent(observed, calendar)),
            open_buckets=sum(task.open_buckets for task in tasks),
            schedule_sessions=None if calendar is None else len(calendar.opens),
            problem=None if problem is None else str(problem),
            counters=self.counters,
            standby=() if self._standby is None else self._standby.partitions,
            client=self.worker.statistics,
        )


class _Beats:
    """The runner of heartbeats in a thread and an event loop of its own."""

    def __init__(self, runner: Runner, on_error: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(runner.run())
        self._on_error = on_error
        self._thread = threading.Thread(target=self._run, name="kandle-heartbeats", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._on_error(error)
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Cancel the runner and wait for its end."""
        with contextlib.suppress(RuntimeError):
            # A loop that is closed has nothing left to cancel.
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
