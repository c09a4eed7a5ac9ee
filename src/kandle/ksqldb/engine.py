"""Queries whose base bars a ksqlDB aggregates: it is told what to do, then they run on its tables, and it is looked after."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kandle.errors import KandleError, KsqlError, PlanError
from kandle.ksql.program import Program, ScriptRole, WindowStore
from kandle.ksql.script import script
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.intervals import Intervals
from kandle.ksqldb.progress import Progress, QueryBarrier
from kandle.ksqldb.provision import StatementLog, aggregated, provide
from kandle.ksqldb.settings import KsqlSettings
from kandle.ksqldb.watch import OnFailure, QueryWatch, WatchedProgram
from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.plan.query_topics import QueryTopics, aggregated_topics, heartbeat_names
from kandle.plan.topics import intervals_topic
from kandle.query.nodes import aggregates, describe
from kandle.query.query import QueryModel
from kandle.runtime.barrier import Barrier
from kandle.runtime.counters import Counters, Health, QueryHealth, QueryState
from kandle.runtime.preparing import create_topics, ensure_topic
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.runtime.runtime import Runtime
from kandle.runtime.schedule import ScheduleProvider
from kandle.time.clock import Clock
from kandle.time.timeframe import DAY, SECOND

logger = logging.getLogger("kandle")


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Where ksqlDB is, with what its queries are made, how long their windows are kept, and how often they are looked at.

    Durations in microseconds.
    """

    server: KsqlSettings
    properties: Mapping[str, object]
    retention: int = 7 * DAY
    every: int = 5 * SECOND
    on_failure: OnFailure = "recreate"


class KsqlQuery:
    """One query: its program, its schedule as ksqlDB joins it, and the watch over its persistent queries."""

    def __init__(self, log: Log, clock: Clock, plan: Plan, program: Program, spec: EngineSpec) -> None:
        self.plan, self.program = plan, program
        self._log = log
        self._clock = clock
        self._schedule: ScheduleProvider | None = None
        self._intervals: Intervals | None = None
        if self.program.schedule is not None:
            self._schedule = ScheduleProvider(log, plan.query, clock)
            self._intervals = Intervals(log, plan.query, self.program.schedule)
        self.watch = QueryWatch(WatchedProgram(self.program, spec.properties, spec.on_failure), StatementLog(log), clock)

    def is_scheduled(self, *, refuses: bool) -> bool:
        """Have ksqlDB's sessions up to date; False if there are none yet, without which it would drop all events.

        `refuses` has a topic of them that is kept otherwise than declared be an error.
        """
        if self._schedule is None:
            return True
        self._schedule.refresh()
        if self._schedule.calendar is None:
            return False
        assert self.program.schedule is not None and self._intervals is not None
        table, replication = self.program.schedule, self.plan.query.source.replication
        ensure_topic(self._log, intervals_topic(table.topic, table.partitions, replication), refuses=refuses)
        self._intervals.write(self._schedule.calendar)
        return True


def _programs(plans: Sequence[Plan], engine: EngineSpec) -> list[Program]:
    """The programs of all queries; an error by name for what ksqlDB, or a reader of its topics, cannot do."""
    queries = [plan.query for plan in plans]
    for query in queries:
        _check_sets(query)
    store = WindowStore.of(engine.retention)
    programs = script([], queries, ScriptRole.LIVE, store).programs
    return [programs[query.target.name] for query in queries]


def _check_sets(query: QueryModel) -> None:
    roots = [item.expression for item in query.projection] + ([query.having] if query.having is not None else [])
    found = next((node for root in roots for node in aggregates(root) if node.function == "count_distinct"), None)
    if found is not None:
        raise PlanError(
            f"{query.target.name}: {describe(found)} needs all the values of a bucket, which kandle cannot read from a topic of "
            "ksqlDB; leave it out, or choose [engine] kind = 'embedded'"
        )


class KsqlRuntime:
    """What `Runtime` is for queries that kandle aggregates itself."""

    def __init__(
        self, log: Log, clock: Clock, plans: Sequence[Plan], spec: RuntimeSpec, engine: EngineSpec, progress: Progress
    ) -> None:
        self._log, self._clock, self._spec, self._engine, self._progress = log, clock, spec, engine, progress
        self._queries = [
            KsqlQuery(log, clock, plan, found, engine) for plan, found in zip(plans, _programs(plans, engine), strict=True)
        ]
        self._names = heartbeat_names(plans, spec.heartbeats)
        self._inner: Runtime | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kandle-ksqldb", daemon=True)
        self._problem: BaseException | None = None

    def start(self) -> None:
        """Have ksqlDB do its part, and all queries run; without schedule rows that is tried again until there are some."""
        self._begin()
        self._thread.start()

    def _begin(self) -> None:
        waiting = [query.plan.query for query in self._queries if not query.is_scheduled(refuses=self._spec.refuses_differences)]
        if waiting:
            return
        topics = asyncio.run(self._provided())
        barriers: dict[str, Barrier] = {}
        for query, found in zip(self._queries, topics, strict=True):
            create_topics(self._log, found, refuses=self._spec.refuses_differences)
            barriers[found.events] = QueryBarrier(self._progress, query.watch.hops, self._clock)
        inner = Runtime(self._log, self._clock, topics, self._spec, barriers)
        inner.start()
        self._inner = inner

    async def _provided(self) -> list[QueryTopics]:
        """The topics of all queries, once ksqlDB has its streams, tables and queries."""
        found = []
        async with KsqlClient(self._engine.server, self._clock) as client:
            info = await client.info()
            logger.info("ksqlDB %s, service %s", info.version, info.service_id)
            if info.doubt is not None:
                logger.warning("%s", info.doubt)
            await provide(client, StatementLog(self._log), [query.program for query in self._queries], self._engine.properties)
            for query, name in zip(self._queries, self._names, strict=True):
                table = query.program.live
                assert table is not None
                read = aggregated(query.plan.query, table, await client.describe(table.name))
                # Its settings are ksqlDB's.
                self._log.ensure(read.topic)
                found.append(aggregated_topics(query.plan, read, name, self._spec.retentions))
                await query.watch.look(client, is_leader=False)
                if query.watch.problem is not None:
                    raise KsqlError(
                        f"{query.watch.problem}; see what is wrong, then have it created again: `kandle script --drop`"
                    )
        return found

    def _run(self) -> None:
        """Begin as soon as it can; then look after what is there."""
        while not self._stop.wait((SECOND if self._inner is None else self._engine.every) / SECOND):
            try:
                if self._inner is None:
                    self._begin()
                else:
                    asyncio.run(self._look(self._inner.queries))
            except KandleError as error:
                self._said(error)

    def _said(self, error: KandleError) -> None:
        if str(error) != str(self._problem):
            logger.error("ksqlDB: %s", error)
        if self._inner is None:
            self._problem = error
            return
        for running in self._inner.queries:
            running.outside = str(error)

    async def _look(self, runtimes: Sequence[QueryRuntime]) -> None:
        async with KsqlClient(self._engine.server, self._clock) as client:
            for query, running in zip(self._queries, runtimes, strict=True):
                is_leader = running.leadership.is_leader
                if is_leader:
                    query.is_scheduled(refuses=self._spec.refuses_differences)
                await query.watch.look(client, is_leader=is_leader)
                running.outside, running.counters.recreated = query.watch.problem, query.watch.recreated
                if query.watch.failure is not None:
                    running.fail(query.watch.failure)

    def settle(self) -> None:
        """Work until nothing is left to be done: for those who drive it by hand."""
        if self._inner is not None:
            self._inner.settle()

    def stop(self) -> None:
        """Hand over at once; ksqlDB goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._inner is not None:
            self._inner.stop()

    @property
    def problem(self) -> BaseException | None:
        """What has stopped a worker, if anything."""
        return self._problem if self._inner is None else self._inner.problem

    def health(self) -> Health:
        """How it is doing; before it can begin, that it waits."""
        if self._inner is not None:
            return self._inner.health()
        return Health(self._spec.instance, tuple(self._waiting(query.plan) for query in self._queries))

    def _waiting(self, plan: Plan) -> QueryHealth:
        name, problem = plan.query.target, self._problem
        return QueryHealth(
            query=name.name,
            group=f"{self._spec.group}-{name.topic}",
            state=QueryState.WAITING_FOR_SCHEDULE if problem is None else QueryState.FAILED,
            is_leader=False,
            partitions=(),
            lag=0,
            keys=0,
            silent_keys=0,
            open_buckets=0,
            schedule_sessions=None,
            problem=None if problem is None else str(problem),
            counters=Counters(),
        )
