"""Supervision of the persistent queries of a program: their state, and a new start for those that have failed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kandle.errors import KsqlError
from kandle.ksql.program import Program
from kandle.ksql.statements import CreateAs
from kandle.ksqldb.dropping import StatementServer, drop
from kandle.ksqldb.progress import Hop
from kandle.ksqldb.provision import StatementLog, create_statements, provide
from kandle.ksqldb.results import TESTED_RELEASE, QueryDescription, RunningQuery
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

RUNNING, FAILED = "RUNNING", "ERROR"
FIRST_PAUSE, LONGEST_PAUSE = MINUTE, 30 * MINUTE
"""Time between creating a query again and the next attempt; it doubles with each attempt."""

OnFailure = Literal["recreate", "stop"]


class QueryServer(StatementServer, Protocol):
    """A server that also describes single queries."""

    async def explain(self, query: str) -> QueryDescription:
        """Describe a query."""


@dataclass(frozen=True, slots=True)
class WatchedProgram:
    """A program, the properties of its queries, and the reaction to a failed query."""

    program: Program
    properties: Mapping[str, object]
    on_failure: OnFailure = "recreate"

    @property
    def sinks(self) -> list[str]:
        """The names of what queries write, in the order in which one reads the other."""
        return [item.creates.name for item in create_statements([self.program]) if isinstance(item, CreateAs)]


class QueryWatch:
    """Supervisor of the queries of one program.

    The definition of a windowed table cannot be changed. So if its query has failed, the table is dropped and created again
    from the oldest events that are kept. Rows of buckets that are final already are late and change nothing. Only the leader
    of the query does so:

        RUNNING --> ERROR --> the leader drops the table and its dependents, and creates them --> RUNNING
                          --> with on_failure = "stop": `failure` is set, and the tasks stop
        RUNNING --> any other state (paused, unresponsive): reported as `problem`, nothing is done

    Attributes:
        problem: What is wrong with the queries; None if all run.
        failure: The error that stops the tasks; None if there is none.
        recreated: How often queries were created again.
    """

    def __init__(self, watched: WatchedProgram, statement_log: StatementLog, clock: Clock) -> None:
        self._watched = watched
        self._statement_log = statement_log
        self._clock = clock
        self._ids: tuple[str, ...] = ()
        self._not_before = 0
        self._pause = FIRST_PAUSE
        self._hops: tuple[Hop, ...] | None = None
        self.problem: str | None = None
        self.failure: KsqlError | None = None
        self.recreated = 0

    def hops(self) -> Sequence[Hop] | None:
        """Return the queries of the last check in the order in which one reads the other; None while they are recreated."""
        return self._hops

    async def check(self, server: QueryServer, *, is_leader: bool) -> None:
        """Check the states of the queries; if this is the leader, create failed queries again."""
        queries = {sink: query for query in await server.queries() if query.kind == "PERSISTENT" for sink in query.sinks}
        sinks = self._watched.sinks
        unhealthy = [name for name in sinks if name not in queries or queries[name].state != RUNNING]
        if unhealthy:
            await self._handle(server, unhealthy, queries, is_leader=is_leader)
            return
        self.problem = None
        ids = tuple(queries[name].id for name in sinks)
        if ids != self._ids or self._hops is None:
            self._hops, self._ids = tuple([await _hop(server, query) for query in ids]), ids

    async def _handle(
        self, server: QueryServer, unhealthy: Sequence[str], queries: Mapping[str, RunningQuery], *, is_leader: bool
    ) -> None:
        problem = "; ".join([await _problem(server, name, queries.get(name)) for name in unhealthy])
        if problem != self.problem:
            logger.error("ksqlDB: %s", problem)
        self.problem = problem
        # A paused query, or one whose server does not answer, continues without help.
        failed = [name for name in unhealthy if name not in queries or queries[name].state == FAILED]
        if failed and self._watched.on_failure == "stop":
            self.failure = KsqlError(f'{problem}; it is not created again, since ksqldb.on_failure = "stop"')
        elif failed and is_leader and self._clock.steady() >= self._not_before:
            await self._recreate(server, failed)

    async def _recreate(self, server: QueryServer, failed: Sequence[str]) -> None:
        """Drop what has failed with everything that is created from it, and create it again."""
        sinks = self._watched.sinks
        dropped = sinks[min(sinks.index(name) for name in failed) :]
        self._not_before, self._pause = self._clock.steady() + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._hops = None
        logger.warning("ksqlDB: dropping %s and creating them again, from the oldest events that are kept", ", ".join(dropped))
        await drop(server, reversed(dropped))
        await provide(server, self._statement_log, [self._watched.program], self._watched.properties)
        self.recreated += 1


async def _problem(server: QueryServer, name: str, query: RunningQuery | None) -> str:
    """Return a sentence about a query that does not run, with the errors that the server reports."""
    if query is None:
        return f"no query writes {name}"
    explanation = await server.explain(query.id)
    reasons = "; ".join(explanation.problems) or "the server gives no reason"
    return f"query {query.id}, which writes {name}, is in state {query.state}: {reasons}"


async def _hop(server: QueryServer, query: str) -> Hop:
    explanation = await server.explain(query)
    if explanation.group is None:
        raise KsqlError(
            f"ksqlDB does not report the consumer group of query {query}, so its position is unknown; use a release that "
            f"kandle is tested with ({'.'.join(map(str, TESTED_RELEASE))})"
        )
    topics = [(await server.describe(source)).topic for source in explanation.sources]
    return Hop(explanation.group, tuple(topics))
