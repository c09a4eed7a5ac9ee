"""Queries whose base bars ksqlDB aggregates: their persistent queries are created and supervised, and tasks read the tables."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kandle.errors import KandleError, KsqlError, PlanError
from kandle.ksql.program import LiveTable, Program, ScriptRole, WindowStore
from kandle.ksql.script import script
from kandle.ksql.types import KsqlType, column_type
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.intervals import IntervalWriter
from kandle.ksqldb.progress import Progress, QueryBarrier
from kandle.ksqldb.provision import StatementLog, provide
from kandle.ksqldb.results import SourceDescription
from kandle.ksqldb.settings import KsqlSettings
from kandle.ksqldb.watch import OnFailure, QueryWatch, WatchedProgram
from kandle.log.port import Log
from kandle.model.types import INTEGER, MAX_PRECISION, SIMPLE_TYPES, UUID, DataType, DecimalType
from kandle.plan.plan import Plan
from kandle.plan.query_topics import (
    DEFAULT_SETTINGS,
    AggregatedTable,
    QueryTopics,
    QueryTopicSettings,
    aggregated_topics,
    query_group,
    with_fitting_heartbeats,
)
from kandle.plan.topics import TopicColumn, TopicSpec, intervals_topic
from kandle.query.nodes import aggregates, describe
from kandle.query.query import QueryModel
from kandle.runtime.barrier import Barrier
from kandle.runtime.counters import Counters, Health, QueryHealth, QueryState
from kandle.runtime.generations import check_declarations
from kandle.runtime.preparing import create_topics, ensure_topic, topic_partitions, warn_of_other_heartbeats
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.runtime.runtime import Runtime
from kandle.runtime.schedule import ScheduleProvider
from kandle.time.clock import Clock
from kandle.time.timeframe import DAY, SECOND

logger = logging.getLogger("kandle")

EXACTLY_ONCE = {"processing.guarantee": "exactly_once_v2"}
"""Properties of all queries: without them, ksqlDB counts events twice after a crash, if it had not committed them."""

# A UUID is a VARCHAR in ksqlDB, so only the declaration of a field makes a column a UUID.
_TYPES: dict[str, DataType] = {kind.ksql: kind for kind in SIMPLE_TYPES if kind != UUID} | {"INTEGER": INTEGER}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Settings of the engine.

    Attributes:
        server: Address of the server.
        properties: Properties of ksqlDB for the queries.
        retention: How long windows are kept, in microseconds.
        watch_interval: Time between two checks of the queries, in microseconds.
        on_failure: Whether a failed query is created again, or stops its tasks.
        topics: How topics are created.
    """

    server: KsqlSettings
    properties: Mapping[str, object]
    retention: int = 7 * DAY
    watch_interval: int = 5 * SECOND
    on_failure: OnFailure = "recreate"
    topics: QueryTopicSettings = DEFAULT_SETTINGS


class KsqlQuery:
    """One query: its program, the table of its schedule, and the watch over its persistent queries."""

    def __init__(self, log: Log, clock: Clock, plan: Plan, program: Program, spec: EngineSpec) -> None:
        self.plan, self.program = plan, program
        self._log, self._topics = log, spec.topics
        self._schedule: ScheduleProvider | None = None
        self._intervals: IntervalWriter | None = None
        if self.program.schedule is not None:
            self._schedule = ScheduleProvider(log, plan, clock)
            self._intervals = IntervalWriter(log, plan.query, self.program.schedule)
        watched = WatchedProgram(self.program, spec.properties, spec.on_failure)
        self.watch = QueryWatch(watched, StatementLog(log, creates=spec.topics.creates), clock)

    @property
    def schedule_problem(self) -> str | None:
        """What is wrong with the rows of the schedule, in words."""
        return None if self._schedule is None else self._schedule.problem

    def update_schedule(self, *, refuses: bool) -> bool:
        """Write changed sessions to the table that ksqlDB joins.

        Args:
            refuses: Whether a topic of that table whose settings differ from the declared ones is an error.

        Returns:
            False if there are no sessions yet: without them, ksqlDB would drop all events.
        """
        if self._schedule is None:
            return True
        self._schedule.refresh()
        if self._schedule.calendar is None:
            return False
        assert self.program.schedule is not None and self._intervals is not None
        table, replication = self.program.schedule, self.plan.query.source.replication
        topic = self._topics.applied(intervals_topic(table.topic, table.partitions, replication))
        ensure_topic(self._log, topic, refuses=refuses)
        self._intervals.write(self._schedule.calendar)
        return True


def _programs(plans: Sequence[Plan], engine: EngineSpec) -> list[Program]:
    """Return the programs of all queries; raise PlanError for what ksqlDB, or a reader of its tables, cannot do."""
    queries = [plan.query for plan in plans]
    for query in queries:
        _check_aggregates(query)
    store = WindowStore.of(engine.retention)
    programs = script([], queries, ScriptRole.LIVE, store).programs
    return [programs[query.target.name] for query in queries]


def _check_aggregates(query: QueryModel) -> None:
    roots = [item.expression for item in query.projection] + ([query.having] if query.having is not None else [])
    counts = (node for root in roots for node in aggregates(root) if node.function == "count_distinct")
    node = next(counts, None)
    if node is not None:
        raise PlanError(
            f"{query.target.name}: {describe(node)} needs all values of a bucket, which kandle cannot read from a table of "
            "ksqlDB; leave it out, or choose [engine] kind = 'embedded'"
        )


def aggregated_table(query: QueryModel, table: LiveTable, existing: SourceDescription) -> AggregatedTable:
    """Return what tasks read of a table of ksqlDB.

    Args:
        query: The query.
        table: The table as the program of the query creates it.
        existing: The table on the server.

    Returns:
        The topic of the table, with its columns.

    Raises:
        KsqlError: A column is missing, or has another type than the field.
    """
    types = {column.name: column.type for column in existing.columns}
    fields = {field.name: field.type for field in query.target.fields}
    keys = (*table.keys, table.start)
    values = dict.fromkeys(name for name in (*fields, *table.partials.values()) if name not in keys)
    columns = [_column(table, name, types, fields.get(name), is_key=True) for name in keys]
    columns += [_column(table, name, types, fields.get(name), is_key=False) for name in values]
    partitions, replication = existing.partitions, existing.replication
    spec = TopicSpec(existing.topic, tuple(columns), keys, partitions, replication, compacted=True, time=table.start)
    return AggregatedTable(spec, table.partials)


def _column(table: LiveTable, name: str, types: Mapping[str, KsqlType], field: DataType | None, *, is_key: bool) -> TopicColumn:
    if name not in types:
        raise KsqlError(f"table {table.name} of ksqlDB has no column {name}; it has {', '.join(types)}")
    if field is not None and types[name] != column_type(field):
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {types[name]}, but the field is {field}")
    kind = _type_of(table, name, types[name]) if field is None else field
    # All columns of ksqlDB but the keys may be NULL.
    return TopicColumn(name, str(kind), kind.physical, nullable=not is_key)


def _type_of(table: LiveTable, name: str, kind: KsqlType) -> DataType:
    if kind.is_decimal and kind.precision <= MAX_PRECISION:
        return DecimalType(kind.precision, kind.scale)
    if kind.name not in _TYPES:
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {kind}, which kandle cannot read from a topic")
    return _TYPES[kind.name]


class KsqlRuntime:
    """Runtime of queries that ksqlDB aggregates, with the methods of `Runtime`.

    A thread of its own begins as soon as there are rows of the schedules, and then checks the persistent queries regularly:

        start() --> schedules written? --> topics, streams, tables and queries created --> inner `Runtime` started
                      |        ^                                                             |          ^
                      +-- no --+ each second                                                 +- checks -+ each interval
    """

    def __init__(
        self, log: Log, clock: Clock, plans: Sequence[Plan], spec: RuntimeSpec, engine: EngineSpec, progress: Progress
    ) -> None:
        self._log, self._clock, self._spec, self._engine, self._progress = log, clock, spec, engine, progress
        programs = _programs(plans, engine)
        self._queries = [KsqlQuery(log, clock, plan, program, engine) for plan, program in zip(plans, programs, strict=True)]
        self._inner: Runtime | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kandle-ksqldb", daemon=True)
        self._problem: BaseException | None = None

    def start(self) -> None:
        """Create what is missing on the server and start all queries; without rows of a schedule, try again until there are."""
        self._begin()
        self._thread.start()

    def _begin(self) -> None:
        refuses = self._spec.refuses_differences
        # All schedules are updated, even if the first has no rows yet.
        is_scheduled = [query.update_schedule(refuses=refuses) for query in self._queries]
        if not all(is_scheduled):
            return
        declared = [(query.plan, self._spec.declaration(query.plan, "ksqldb")) for query in self._queries]
        check_declarations(self._log, declared, self._spec.member, self._spec.replaces.keys(), creates=self._spec.topics.creates)
        topics = asyncio.run(self._provide())
        barriers: dict[str, Barrier] = {}
        for query, query_topics in zip(self._queries, topics, strict=True):
            create_topics(self._log, query_topics, refuses=refuses)
            barriers[query_topics.events] = QueryBarrier(self._progress, query.watch.hops, self._clock)
        inner = Runtime(self._log, self._clock, topics, self._spec, barriers)
        inner.start()
        self._inner = inner

    async def _provide(self) -> list[QueryTopics]:
        """Create streams, tables and queries of ksqlDB, and return the topics of all queries."""
        topics, creates = list[QueryTopics](), self._engine.topics.creates
        async with KsqlClient(self._engine.server, self._clock) as client:
            info = await client.info()
            logger.info("ksqlDB %s, service %s", info.version, info.service_id)
            if info.doubt is not None:
                logger.warning("%s", info.doubt)
            programs = [query.program for query in self._queries]
            await provide(client, StatementLog(self._log, creates=creates), programs, self._engine.properties)
            partitions = topic_partitions(self._log)
            for query in self._queries:
                table = query.program.live
                assert table is not None
                aggregated = aggregated_table(query.plan.query, table, await client.describe(table.name))
                # The topic exists with the settings of ksqlDB, so they are not compared.
                self._log.ensure(aggregated.topic)
                declared = aggregated_topics(query.plan, aggregated, self._spec.topics)
                topics.append(with_fitting_heartbeats(declared, partitions))
                warn_of_other_heartbeats(topics[-1], declared.heartbeats, partitions)
                await query.watch.check(client, is_leader=False)
                if query.watch.problem is not None:
                    advice = "correct the cause, then drop and create the query again: `kandle script --drop`"
                    raise KsqlError(f"{query.watch.problem}; {advice}")
        return topics

    def _run(self) -> None:
        """Begin as soon as possible, then check the queries regularly; an error that ends this ends the queries."""
        try:
            self._watch()
        except BaseException as error:
            logger.exception("the watch over ksqlDB has failed")
            self._problem = error
            for running in () if self._inner is None else self._inner.queries:
                running.fail(error)

    def _watch(self) -> None:
        while not self._stop.wait((SECOND if self._inner is None else self._engine.watch_interval) / SECOND):
            try:
                if self._inner is None:
                    self._begin()
                else:
                    asyncio.run(self._check(self._inner.queries))
            except KandleError as error:
                self._report(error)

    def _report(self, error: KandleError) -> None:
        if str(error) != str(self._problem):
            logger.error("ksqlDB: %s", error)
        if self._inner is None:
            self._problem = error
            return
        for running in self._inner.queries:
            running.outside = str(error)

    async def _check(self, runtimes: Sequence[QueryRuntime]) -> None:
        async with KsqlClient(self._engine.server, self._clock) as client:
            for query, running in zip(self._queries, runtimes, strict=True):
                is_leader = running.leadership.is_leader
                if is_leader:
                    query.update_schedule(refuses=self._spec.refuses_differences)
                await query.watch.check(client, is_leader=is_leader)
                running.outside, running.counters.recreated = query.watch.problem, query.watch.recreated
                if query.watch.failure is not None:
                    running.fail(query.watch.failure)

    def settle(self) -> None:
        """Process everything that is there, for callers that drive the runtime by hand."""
        if self._inner is not None:
            self._inner.settle()

    def stop(self) -> None:
        """Hand over the partitions and stop; the queries of ksqlDB continue."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._inner is not None:
            self._inner.stop()

    @property
    def problems(self) -> Mapping[str, BaseException]:
        """The errors that have stopped queries, or that keep all from beginning, by the name of what each makes."""
        if self._inner is not None:
            return self._inner.problems
        return {} if self._problem is None else {query.plan.query.target.name: self._problem for query in self._queries}

    def health(self) -> Health:
        """Return the health of all queries; before they begin, that they wait."""
        if self._inner is not None:
            return self._inner.health()
        return Health(self._spec.instance, tuple(self._waiting(query) for query in self._queries))

    def _waiting(self, query: KsqlQuery) -> QueryHealth:
        plan, problem = query.plan, self._problem
        return QueryHealth(
            query=plan.query.target.name,
            group=query_group(plan),
            state=QueryState.WAITING_FOR_SCHEDULE if problem is None else QueryState.FAILED,
            is_leader=False,
            partitions=(),
            lag=0,
            keys=0,
            silent_keys=0,
            open_buckets=0,
            schedule_sessions=None,
            problem=query.schedule_problem if problem is None else str(problem),
            counters=Counters(),
        )
