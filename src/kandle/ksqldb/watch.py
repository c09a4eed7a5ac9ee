"""The queries of a program while they run: their state, and how one that has failed is created again."""

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
from kandle.ksqldb.provision import StatementLog, creating, provide
from kandle.ksqldb.results import QueryDescription, RunningQuery
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

RUNNING, FAILED = "RUNNING", "ERROR"
FIRST_PAUSE, LONGEST_PAUSE = MINUTE, 30 * MINUTE
"""Pause between two attempts to create a failed query again, in microseconds; it doubles with each attempt."""

OnFailure = Literal["recreate", "stop"]


class QueryServer(StatementServer, Protocol):
    """A server that also describes single queries."""

    async def explain(self, query: str) -> QueryDescription: ...


@dataclass(frozen=True, slots=True)
class WatchedProgram:
    """A program whose queries are watched.

    Args:
        program: The program.
        properties: The properties that its queries are created with.
        on_failure: Whether a failed query is created again, or stops the watch.
    """

    program: Program
    properties: Mapping[str, object]
    on_failure: OnFailure = "recreate"

    @property
    def filled(self) -> list[str]:
        """The streams and tables that queries fill, in the order in which one feeds the other."""
        return [statement.creates.name for statement in creating([self.program]) if isinstance(statement, CreateAs)]


class QueryWatch:
    """Watches the queries of one program; only the leader creates failed ones again.

    A windowed table cannot be changed, so one whose query has failed is dropped, with all that is made from it, and created again
    from the oldest events that are kept. Rows of buckets that are final already are late then, and change nothing.
    """

    def __init__(self, watched: WatchedProgram, statement_log: StatementLog, clock: Clock) -> None:
        self._watched = watched
        self._statements = statement_log
        self._clock = clock
        self._ids: tuple[str, ...] = ()
        self._not_before = 0
        self._pause = FIRST_PAUSE
        self._hops: tuple[Hop, ...] | None = None
        self.problem: str | None = None
        self.failure: KsqlError | None = None
        self.recreated = 0

    def hops(self) -> Sequence[Hop] | None:
        """Return the queries as they were seen last, in the order of the data; None while they are created again."""
        return self._hops

    async def look(self, server: QueryServer, *, is_leader: bool) -> None:
        """Look at the state of all queries, and handle those that do not run.

        Args:
            server: The server.
            is_leader: Whether this process may create queries again.
        """
        queries = {sink: query for query in await server.queries() if query.kind == "PERSISTENT" for sink in query.sinks}
        stopped = [name for name in self._watched.filled if name not in queries or queries[name].state != RUNNING]
        if stopped:
            await self._handle_stopped(server, stopped, queries, is_leader=is_leader)
            return
        self.problem = None
        ids = tuple(queries[name].id for name in self._watched.filled)
        if ids != self._ids or self._hops is None:
            self._hops, self._ids = tuple([await _hop(server, query) for query in ids]), ids

    async def _handle_stopped(
        self, server: QueryServer, stopped: Sequence[str], queries: Mapping[str, RunningQuery], *, is_leader: bool
    ) -> None:
        problem = "; ".join([await _problem(server, name, queries.get(name)) for name in stopped])
        if problem != self.problem:
            logger.error("ksqlDB: %s", problem)
        self.problem = problem
        # A query that is paused, or whose server does not answer, continues when that is over.
        failed = [name for name in stopped if name not in queries or queries[name].state == FAILED]
        if failed and self._watched.on_failure == "stop":
            self.failure = KsqlError(f'{problem}; no query is created again, since ksqldb.on_failure = "stop"')
        elif failed and is_leader and self._clock.steady() >= self._not_before:
            await self._recreate(server, failed)

    async def _recreate(self, server: QueryServer, failed: Sequence[str]) -> None:
        """Drop what has failed with all that is made from it, and create it again."""
        filled = self._watched.filled
        dropped = filled[min(filled.index(name) for name in failed) :]
        self._not_before, self._pause = self._clock.steady() + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._hops = None
        logger.warning("ksqlDB: %s are dropped and created again, from the oldest events that are kept", ", ".join(dropped))
        await drop(server, reversed(dropped))
        await provide(server, self._statements, [self._watched.program], self._watched.properties)
        self.recreated += 1


async def _problem(server: QueryServer, name: str, query: RunningQuery | None) -> str:
    """Return what is wrong with the query that fills a stream or table."""
    if query is None:
        return f"no query fills {name}"
    problems = (await server.explain(query.id)).problems
    return f"query {query.id}, which fills {name}, is in state {query.state}: {'; '.join(problems) or 'no reason is given'}"


async def _hop(server: QueryServer, query: str) -> Hop:
    description = await server.explain(query)
    if description.group is None:
        raise KsqlError(f"ksqlDB does not report the consumer group of query {query}, so its progress cannot be known")
    topics = [(await server.describe(source)).topic for source in description.sources]
    return Hop(description.group, tuple(topics))
