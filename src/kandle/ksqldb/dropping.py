"""Dropping of streams and tables: queries that insert into them end first, and dependents are dropped before them.

events ---> prices ---> bars          drop(["prices", "bars"]):  TERMINATE the query of INSERT INTO prices
^                                                  DROP TABLE bars
INSERT INTO prices ...                                           DROP STREAM prices
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
    """A server that executes statements."""

    async def execute(self, statements: str, properties: Mapping[str, object] | None = None) -> Sequence[Result]:
        """Execute statements and return their results."""

    async def streams(self) -> Sequence[ListedSource]:
        """List the streams."""

    async def tables(self) -> Sequence[ListedSource]:
        """List the tables."""

    async def queries(self) -> Sequence[RunningQuery]:
        """List the running queries."""

    async def describe(self, name: str) -> SourceDescription:
        """Describe a stream or table."""

    async def terminate(self, query: str) -> None:
        """Terminate a persistent query."""


class TopicHandling(Enum):
    """Whether the topics of dropped streams and tables are kept or deleted."""

    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class DropPlan:
    """Ids of the queries to terminate, then the statements to execute, in this order."""

    queries: tuple[str, ...]
    statements: tuple[str, ...]


async def drop(server: StatementServer, names: Iterable[str], topics: TopicHandling = TopicHandling.KEEP) -> DropPlan:
    """Drop streams and tables.

    Args:
        server: The server.
        names: Names of streams and tables; those that do not exist are ignored.
        topics: Whether their topics are deleted too.

    Returns:
        What was done.

    Raises:
        KsqlError: Another stream or table depends on one of them, or uses its topic; nothing was dropped.
    """
    plan = await drop_plan(server, names, topics)
    for query in plan.queries:
        await server.terminate(query)
    for statement in plan.statements:
        await server.execute(statement)
    return plan


async def drop_plan(server: StatementServer, names: Iterable[str], topics: TopicHandling = TopicHandling.KEEP) -> DropPlan:
    """Return what `drop` would do."""
    existing = {source.name: source for source in (*await server.streams(), *await server.tables())}
    dropped = {name: await server.describe(name) for name in dict.fromkeys(names) if name in existing}
    order = _order(dropped)
    inserts = dict.fromkeys(
        query.id for source in dropped.values() for query in (*source.readers, *source.writers) if _is_insert(query)
    )
    with_topic = _with_topic(order, existing) if topics is TopicHandling.DELETE else frozenset()
    return DropPlan(tuple(inserts), tuple(_statement(existing[name], name in with_topic) for name in order))


def _is_insert(query: RunningQuery) -> bool:
    """Return whether a query has to be terminated first; the query of a CREATE ... AS SELECT ends with its sink."""
    return query.kind == "PERSISTENT" and query.text.lstrip()[:6].upper() == "INSERT"


def _order(dropped: Mapping[str, SourceDescription]) -> list[str]:
    """Return the names with dependents before what they depend on."""
    dependents = {name: _dependents(source) for name, source in dropped.items()}
    for name, others in dependents.items():
        if foreign := sorted(others - dropped.keys()):
            shown = ", ".join(foreign)
            raise KsqlError(f"{name} cannot be dropped, since {shown} depends on it; drop {shown} too, or first")
    return list(TopologicalSorter(dependents).static_order())


def _dependents(source: SourceDescription) -> set[str]:
    creating = [query for query in source.readers if query.kind == "PERSISTENT" and not _is_insert(query)]
    sinks = {sink for query in creating for sink in query.sinks}
    return (sinks | set(source.constraints)) - {source.name}


def _with_topic(order: Sequence[str], existing: Mapping[str, ListedSource]) -> frozenset[str]:
    """Return the names that are dropped with their topic: the last of those that share it."""
    last = {existing[name].topic: name for name in order}
    for source in existing.values():
        if source.topic in last and source.name not in order:
            message = f"topic {source.topic} of {last[source.topic]} cannot be deleted, since {source.name} uses it too"
            raise KsqlError(f"{message}; drop {source.name} too, or keep the topics")
    return frozenset(last.values())


def _statement(source: ListedSource, deletes_topic: bool) -> str:
    return f"DROP {source.kind} {source_name(source.name)}{' DELETE TOPIC' if deletes_topic else ''};"
