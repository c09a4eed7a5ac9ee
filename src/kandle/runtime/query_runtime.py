"""Everything that runs in one process for one query: its schedule, its worker, its heartbeats, its standby."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import time

from kandle.errors import StateError
from kandle.log.letters import LetterRate
from kandle.log.port import GroupSpec, Log
from kandle.plan.declaration import QueryDeclaration, declaration
from kandle.plan.plan import Plan, expiry_of
from kandle.plan.query_topics import DEFAULT_SETTINGS, QueryTopics, QueryTopicSettings
from kandle.runtime.active_keys import ActiveKeys, key_names
from kandle.runtime.barrier import Barrier
from kandle.runtime.committing import Pace
from kandle.runtime.counters import Counters, QueryHealth, QueryState, TimeframeCounters
from kandle.runtime.generations import Generation, QueryGenerations
from kandle.runtime.heartbeats import HeartbeatRunner, HeartbeatSender, Leadership, SenderSources
from kandle.runtime.log_time import LogTime, RefusedHeartbeats
from kandle.runtime.planner import HeartbeatPlanner, closing_spec
from kandle.runtime.schedule import ScheduleProvider
from kandle.runtime.standby import Standby
from kandle.runtime.state import TaskContext
from kandle.runtime.upgrading import FormerGroup
from kandle.runtime.worker import Worker
from kandle.store.port import Store
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

logger = logging.getLogger("kandle")

MOST_NAMED_KEYS = 100
"""How many keys without sessions the health of a query names."""

MOST_LOGGED_KEYS = 10
"""How many of them a line of the log names."""

STALL = MINUTE
"""How long a worker may be without a poll or a commit, in microseconds, before its partitions go to others: a round takes a
second, so one that takes this long does not end."""


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """How queries run; durations are in microseconds.

    `instance` is the name of the process, and `service` that of what it belongs to. `expire_after` is how long a key may
    be silent before it gets no more gap bars, see `expiry_of`.
    """

    instance: str
    service: str
    pace: Pace = field(default_factory=Pace)
    lease: int = 5 * SECOND
    topics: QueryTopicSettings = DEFAULT_SETTINGS
    """How the topics that queries write are created."""
    refuses_differences: bool = False
    """Whether a topic with other settings than declared is an error."""
    backfill: int = MINUTE
    """How far back heartbeats are made up after a start."""
    jitter: int = 5 * MILLISECOND
    """The most by which heartbeats are sent later."""
    refresh_at: time = time(0, 5)
    """When all rows of a schedule are read again, in UTC."""
    schedule_retry: int = 10 * SECOND
    """The least time between two warnings about a schedule."""
    expire_after: int | str = "auto"
    universe: tuple[tuple[str, ...], ...] = ()
    """Keys that should have events, as parts in their order."""
    open_store: Callable[[str], Store] | None = None
    """Opens the store that keeps a local copy of a changelog, by its name; None reads the state from the log only."""
    standby: bool = False
    """Whether the state of partitions that other processes own is kept ready here."""
    replaces: Mapping[str, int | None] = field(default_factory=dict)
    """By topic of bars, queries whose declaration replaces the one that counts, and the instant from which on it reads events."""
    letter_rate: LetterRate | None = None
    """How many dead letters of records and events are written; None for all."""

    @property
    def member(self) -> str:
        """The name of the process in the groups of queries, which processes of other services share."""
        return f"{self.service}-{self.instance}"

    def declaration(self, plan: Plan, engine: str = "embedded") -> QueryDeclaration:
        """Return the declaration of a query in this process."""
        return declaration(plan, engine, self.topics.heartbeats, self.expire_after)

    def former_group(self, topics: QueryTopics) -> str:
        """Return the name of the group in which older versions of kandle ran a query of this service."""
        return f"{self.service}-{topics.plan.query.target.topic}"


class QueryRuntime:
    """One query, whose topics exist; `start` has it run in threads of its own.

    Args:
        log: A log connection for the worker; others are opened from it.
        clock: The clock.
        topics: The topics of the query.
        spec: How queries run.
        barrier: Holds heartbeats back where other programs bring the events; None takes the usual one.
        generation: The declaration that counts; None is the first one, whatever it says.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        topics: QueryTopics,
        spec: RuntimeSpec,
        barrier: Barrier | None = None,
        generation: Generation | None = None,
    ) -> None:
        plan = topics.plan
        self._spec = spec
        self.topics = topics
        self.group = topics.group
        self.counters = Counters(timeframes={bar.name: TimeframeCounters() for bar in plan.emitted})
        self.leadership = Leadership(self.group, topics.heartbeats)
        self._active = ActiveKeys(plan, spec.universe)
        self._logged_keys: frozenset[str] = frozenset()
        self._context = TaskContext(
            log=log,
            clock=clock,
            topics=topics,
            counters=self.counters,
            schedule=self._schedule(log, clock),
            store=None if spec.open_store is None else spec.open_store(topics.changelog),
            expiry=expiry_of(plan.query, spec.expire_after),
            generation=generation,
            refused=None if clock.is_simulated else RefusedHeartbeats(topics.group),
            letter_rate=spec.letter_rate,
        )
        self._generations: QueryGenerations | None = None
        self._standby: Standby | None = None
        self.worker = self._worker()
        own_log = log.connect()
        self._heartbeats = _HeartbeatThread(own_log, self._runner(own_log, barrier))
        self._threads: list[threading.Thread] = []
        self.outside: str | None = None
        """What is wrong with the programs that bring events, in words."""
        self.missing: str | None = None
        """Which topics are gone, in words."""

    def _schedule(self, log: Log, clock: Clock) -> ScheduleProvider | None:
        plan, spec = self.topics.plan, self._spec
        if plan.query.schedule is None:
            return None
        return ScheduleProvider(log, plan, clock, refresh_at=spec.refresh_at, retry=spec.schedule_retry)

    def _worker(self) -> Worker:
        context = self._context
        group = GroupSpec(self.group, self.topics.read, self._spec.member, lease=self._spec.lease, stall=STALL)
        former = FormerGroup(context.log, self.topics, self._spec.former_group(self.topics))
        if not self._spec.standby:
            return Worker(context, group, self.leadership, self._spec.pace, former=former)
        log = context.log.connect()
        self._standby = Standby(context, log, lambda: self.worker.partitions, self._schedule(log, context.clock))
        return Worker(context, group, self.leadership, self._spec.pace, self._standby.replica, former)

    def _runner(self, log: Log, barrier: Barrier | None) -> HeartbeatRunner:
        plan, schedule = self.topics.plan, self._context.schedule
        planner = HeartbeatPlanner(
            closing_spec(plan),
            {bar.grace for bar in plan.bars},
            backfill=self._spec.backfill,
            calendar=lambda: None if schedule is None else schedule.calendar,
        )
        time = LogTime(self._context.clock, is_measured=log.has_own_clock)
        sender = HeartbeatSender(log, self.topics, self.leadership, self.counters, time, SenderSources(barrier, self._closed))
        return HeartbeatRunner(planner, sender, self._context.clock, self._spec.jitter)

    def _closed(self) -> int | None:
        """Return up to which instant the partition that makes the leader has closed buckets."""
        task = self.worker.tasks.get(self.leadership.partition.partition)
        return None if task is None else task.closed

    @property
    def steps(self) -> dict[str, Callable[[], object]]:
        """What its threads do again and again, by the name of the thread: for whoever runs it without threads."""
        steps: dict[str, Callable[[], object]] = {"worker": self.worker.attempt, "heartbeats": self._heartbeats.runner.beat}
        return steps if self._standby is None else steps | {"standby": self._standby.round}

    def start(self) -> None:
        """Start the worker; heartbeats and standby begin once it has joined the group, and so has a schedule."""
        self._start_thread("", lambda: self.worker.run(self._joined))

    def _start_thread(self, part: str, target: Callable[[], None]) -> None:
        name = f"kandle-{self.topics.plan.query.target.topic}{part}"
        thread = threading.Thread(target=self._run_part, args=(target,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_part(self, target: Callable[[], None]) -> None:
        """Do the work of a thread; an error that ends it ends the query, since nobody else would notice."""
        try:
            target()
        except BaseException as error:
            self.fail(error)

    def _joined(self) -> None:
        self._heartbeats.start(self.fail)
        if self._standby is not None:
            self._start_thread("-standby", self._standby.run)

    def fail(self, error: BaseException) -> None:
        """End the query, because something that it cannot do without has failed."""
        logger.error("%s cannot go on: %s", self.group, error)
        self.worker.fail(error)

    def stop(self) -> None:
        """Hand over at once: commit, leave the group, end the threads."""
        self.worker.stop()
        if self._standby is not None:
            self._standby.stop()
        for thread in self._threads:
            thread.join()
        self._heartbeats.stop()
        self.worker.close()
        if self._standby is not None:
            self._standby.close()
        self._heartbeats.close()
        if self._context.store is not None:
            self._context.store.close()

    def watch(self, existing: Collection[str]) -> None:
        """Note which topics of the query are not among the existing ones: nothing is written or read until they are."""
        gone = [name for name in self.topics.required if name not in existing]
        missing = f"{self.group}: there is no topic {', '.join(gone)} any more; was it deleted?" if gone else None
        if missing is not None and missing != self.missing:
            logger.error("%s", missing)
        self.missing = missing
        self._log_unscheduled_keys()

    def _log_unscheduled_keys(self) -> None:
        """Log each key without sessions once, when it is new: its events are outside of sessions."""
        schedule = self._context.schedule
        if schedule is None:
            return
        observed = self._active.observed(task.keys for task in list(self.worker.tasks.values()))
        keys = frozenset(self._active.unscheduled(observed, schedule.calendar))
        if fresh := keys - self._logged_keys:
            names = "; ".join(key_names(fresh, MOST_LOGGED_KEYS))
            more = f" and {len(fresh) - MOST_LOGGED_KEYS} more" if len(fresh) > MOST_LOGGED_KEYS else ""
            topic = schedule.topic
            logger.warning(
                "%s: no sessions in topic %s for the keys %s%s", self.topics.plan.query.target.name, topic, names, more
            )
        self._logged_keys = keys

    def check_generation(self, log: Log) -> None:
        """End the query if its declaration was replaced; always called with the same connection, by one thread."""
        generation = self._context.generation
        if generation is None or self.worker.state is QueryState.FAILED:
            return
        if self._generations is None:
            self._generations = QueryGenerations(log, self.topics.plan, generation.declaration)
        try:
            self._generations.check(generation)
        except StateError as error:
            self.fail(error)

    def settle(self) -> bool:
        """Do what is due now, in the caller's thread; return False if there was nothing."""
        sent, was_leader = self.counters.heartbeats_sent, self.leadership.is_leader
        self._heartbeats.runner.beat()
        is_moved = self.worker.step()
        self.worker.flush()
        self._log_unscheduled_keys()
        # A new leader has heartbeats to send.
        return is_moved or self.counters.heartbeats_sent != sent or self.leadership.is_leader != was_leader

    def health(self) -> QueryHealth:
        """Return how the query is doing in this process."""
        tasks = list(self.worker.tasks.values())
        observed = self._active.observed(task.keys for task in tasks)
        schedule = self._context.schedule
        calendar = None if schedule is None else schedule.calendar
        problem = (
            self.missing
            or self.worker.problem
            or self.outside
            or (None if schedule is None else schedule.problem)
            or (None if self._context.refused is None else self._context.refused.problem)
            or (None if self._standby is None else self._standby.problem)
        )
        return QueryHealth(
            query=self.topics.plan.query.target.name,
            group=self.group,
            state=self.worker.state,
            is_leader=self.leadership.is_leader,
            partitions=self.worker.partitions,
            lag=self.worker.lag(),
            keys=len(observed),
            silent_keys=len(self._active.silent(observed, calendar)),
            open_buckets=sum(task.open_buckets for task in tasks),
            schedule_sessions=None if calendar is None else len(calendar.opens),
            problem=None if problem is None else str(problem),
            counters=copy.deepcopy(self.counters),
            standby=() if self._standby is None else self._standby.partitions,
            client=self.worker.statistics,
            unscheduled_keys=key_names(self._active.unscheduled(observed, calendar), MOST_NAMED_KEYS),
            catching_up=self.worker.catching_up,
        )


class _HeartbeatThread:
    """The runner of heartbeats, with a log connection, a thread and an event loop of its own."""

    def __init__(self, log: Log, runner: HeartbeatRunner) -> None:
        self._log = log
        self.runner = runner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    def start(self, on_error: Callable[[BaseException], None]) -> None:
        """Send heartbeats until `stop`; an error that ends this is given to `on_error`."""
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self.runner.run())
        self._thread = threading.Thread(target=self._run, args=(on_error,), name="kandle-heartbeats", daemon=True)
        self._thread.start()

    def _run(self, on_error: Callable[[BaseException], None]) -> None:
        assert self._loop is not None and self._task is not None
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            return
        except BaseException as error:
            on_error(error)
        finally:
            self._loop.close()

    def stop(self) -> None:
        """Cancel the runner and wait for its end."""
        if self._loop is None or self._task is None or self._thread is None:
            return
        with contextlib.suppress(RuntimeError):
            # A closed loop has nothing left to cancel.
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def close(self) -> None:
        """Close the log connection, once the runner has ended."""
        self._log.close()
