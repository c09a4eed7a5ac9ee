"""Dropping streams and tables of a ksqlDB: after those that are made from them, and after the queries that use them.

events ---> prices ---> bars          drop(["prices", "bars"]):  TERMINATE the INSERT queries of both
              ^                                                  DROP bars
INSERT INTO prices ...                                           DROP prices
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from graphlib import TopologicalSorter
from typing import Protocol

from kandle.errors import KsqlError
from kandle.ksql.types import source_name
from kandle.ksqldb.results import ListedSource, Result, RunningQuery, SourceDescription


class StatementServer(Protocol):
    """A server that executes statements; `KsqlClient` is one."""

    async def execute(self, statements: str, properties: Mapping[str, object] | None = None) -> Sequence[Result]:
        """Execute statements, and return the result of each once all are complete."""

    async def streams(self) -> Sequence[ListedSource]: ...

    async def tables(self) -> Sequence[ListedSource]: ...

    async def queries(self) -> Sequence[RunningQuery]: ...

    async def describe(self, name: str) -> SourceDescription: ...

    async def terminate(self, query: str) -> None: ...


class TopicHandling(Enum):
    """Whether the topics of dropped streams and tables are deleted."""

    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class DropPlan:
    """Queries to terminate, and then statements to execute, in this order."""

    queries: tuple[str, ...]
    statements: tuple[str, ...]


async def drop(server: StatementServer, names: Iterable[str], topics: TopicHandling = TopicHandling.KEEP) -> DropPlan:
    """Drop streams and tables; names that do not exist are left out.

    Args:
        server: The server.
        names: Names of streams and tables, in any order.
        topics: Whether their topics are deleted.

    Returns:
        What was done.

    Raises:
        KsqlError: Another stream or table depends on them; nothing is done then.
    """
    plan = await plan_drop(server, names, topics)
    for query in plan.queries:
        await server.terminate(query)
    for statement in plan.statements:
        await server.execute(statement)
    return plan


async def plan_drop(server: StatementServer, names: Iterable[str], topics: TopicHandling) -> DropPlan:
    """Return what dropping streams and tables takes."""
    listed = {source.name: source for source in (*await server.streams(), *await server.tables())}
    descriptions = {name: await server.describe(name) for name in dict.fromkeys(names) if name in listed}
    order = _order(descriptions)
    queries = (query for source in descriptions.values() for query in (*source.readers, *source.writers))
    inserts = dict.fromkeys(query.id for query in queries if _is_insert(query))
    deleting = _deleting_topics(order, listed) if topics is TopicHandling.DELETE else frozenset()
    return DropPlan(tuple(inserts), tuple(_statement(listed[name], name in deleting) for name in order))


def _is_insert(query: RunningQuery) -> bool:
    """Return whether a query must be terminated; the query of CREATE .. AS SELECT ends with its stream or table."""
    return query.kind == "PERSISTENT" and query.text.lstrip()[:6].upper() == "INSERT"


def _order(descriptions: Mapping[str, SourceDescription]) -> list[str]:
    """Return the names so that each follows all that depend on it."""
    dependents = {name: _dependents(source) for name, source in descriptions.items()}
    for name, others in dependents.items():
        if foreign := sorted(others - descriptions.keys()):
            raise KsqlError(f"{name} cannot be dropped, since {', '.join(foreign)} is made from it; drop that too, or first")
    return list(TopologicalSorter(dependents).static_order())


def _dependents(source: SourceDescription) -> set[str]:
    readers = (query for query in source.readers if query.kind == "PERSISTENT" and not _is_insert(query))
    return ({sink for query in readers for sink in query.sinks} | set(source.constraints)) - {source.name}


def _deleting_topics(order: Sequence[str], listed: Mapping[str, ListedSource]) -> frozenset[str]:
    """Return the names that are dropped with their topic: of several with the same topic the last."""
    last = {listed[name].topic: name for name in order}
    for source in listed.values():
        if source.topic in last and source.name not in order:
            message = f"topic {source.topic} of {last[source.topic]} cannot be deleted, since {source.name} uses it as well"
            raise KsqlError(f"{message}; drop that too, or keep topics")
    return frozenset(last.values())


def _statement(source: ListedSource, is_deleting: bool) -> str:
    return f"DROP {source.kind} {source_name(source.name)}{' DELETE TOPIC' if is_deleting else ''};"
