"""The queries of a program while they run: which they are, how they are, and what becomes of one that has failed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kandle.errors import KsqlError
from kandle.ksql.program import Program
from kandle.ksql.statements import CreateAs
from kandle.ksqldb.dropping import Ksql, drop
from kandle.ksqldb.progress import Hop
from kandle.ksqldb.provision import StatementLog, creating, provide
from kandle.ksqldb.results import Explanation, Query
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

RUNNING, FAILED = "RUNNING", "ERROR"
FIRST_PAUSE, LONGEST_PAUSE = MINUTE, 30 * MINUTE
"""How long it waits before it makes a query anew that it has made anew before."""

OnFailure = Literal["recreate", "stop"]


class Server(Ksql, Protocol):
    """A server that also tells of single queries."""

    async def explain(self, query: str) -> Explanation: ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched: a program, the properties that its queries are made with, and what becomes of one that has failed."""

    program: Program
    properties: Mapping[str, object]
    on_failure: OnFailure = "recreate"

    @property
    def filled(self) -> list[str]:
        """What queries fill, in the order in which one feeds the other."""
        return [each.creates.name for each in creating([self.program]) if isinstance(each, CreateAs)]


class Watch:
    """Looks at the queries of one program; only the leader makes any anew.

    A windowed table cannot be changed, so one that has failed is dropped and made anew from the oldest events that are kept: rows
    of buckets that are final already are late, and change nothing.
    """

    def __init__(self, watched: Watched, statement_log: StatementLog, clock: Clock) -> None:
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
        """The queries as they were seen last, in the order in which one feeds the other; None while they are made anew."""
        return self._hops

    async def look(self, server: Server, *, is_leader: bool) -> None:
        """See how the queries are, and do something about those that are not well."""
        queries = {sink: query for query in await server.queries() if query.kind == "PERSISTENT" for sink in query.sinks}
        ill = [name for name in self._watched.filled if name not in queries or queries[name].state != RUNNING]
        if ill:
            await self._tend(server, ill, queries, is_leader=is_leader)
            return
        self.problem = None
        ids = tuple(queries[name].id for name in self._watched.filled)
        if ids != self._ids or self._hops is None:
            self._hops, self._ids = tuple([await _hop(server, query) for query in ids]), ids

    async def _tend(self, server: Server, ill: Sequence[str], queries: Mapping[str, Query], *, is_leader: bool) -> None:
        problem = "; ".join([await _said(server, name, queries.get(name)) for name in ill])
        if problem != self.problem:
            logger.error("ksqlDB: %s", problem)
        self.problem = problem
        # One that is paused, or whose server does not answer, goes on by itself or by whoever has paused it.
        failed = [name for name in ill if name not in queries or queries[name].state == FAILED]
        if failed and self._watched.on_failure == "stop":
            self.failure = KsqlError(f'{problem}; nothing is made anew, since ksqldb.on_failure = "stop"')
        elif failed and is_leader and self._clock.steady() >= self._not_before:
            await self._make_anew(server, failed)

    async def _make_anew(self, server: Server, ill: Sequence[str]) -> None:
        """Drop what has failed with all that is made from it, and create it again."""
        filled = self._watched.filled
        gone = filled[min(filled.index(name) for name in ill) :]
        self._not_before, self._pause = self._clock.steady() + self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._hops = None
        logger.warning("ksqlDB: %s are dropped and made anew, from the oldest events that are kept", ", ".join(gone))
        await drop(server, reversed(gone))
        await provide(server, self._statements, [self._watched.program], self._watched.properties)
        self.recreated += 1


async def _said(server: Server, name: str, query: Query | None) -> str:
    """What is wrong with a query, in the server's words."""
    if query is None:
        return f"{name} is filled by no query"
    found = await server.explain(query.id)
    return f"query {query.id}, which fills {name}, is in state {query.state}: {'; '.join(found.problems) or 'no reason is given'}"


async def _hop(server: Server, query: str) -> Hop:
    found = await server.explain(query)
    if found.group is None:
        raise KsqlError(f"ksqlDB does not tell the consumer group of query {query}, so kandle cannot know how far it has come")
    topics = [(await server.describe(source)).topic for source in found.sources]
    return Hop(found.group, tuple(topics))
