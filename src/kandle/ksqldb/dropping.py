"""Streams and tables are dropped after those that are made from them, and after the queries that use them have ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from graphlib import TopologicalSorter
from typing import Protocol

from kandle.errors import KsqlError
from kandle.ksql.types import source_name
from kandle.ksqldb.results import Description, Query, Result, Source


class Ksql(Protocol):
    """A server that carries out statements."""

    async def execute(self, statements: str, properties: Mapping[str, object] | None = None) -> Sequence[Result]:
        """What each statement came to, once all are carried out."""

    async def streams(self) -> Sequence[Source]: ...

    async def tables(self) -> Sequence[Source]: ...

    async def queries(self) -> Sequence[Query]: ...

    async def describe(self, name: str) -> Description: ...

    async def terminate(self, query: str) -> None: ...


class Topics(Enum):
    """What becomes of the topics."""

    KEEP = "keep"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Dropping:
    """Queries to end, and then statements to send, in this order."""

    queries: tuple[str, ...]
    statements: tuple[str, ...]


async def drop(server: Ksql, names: Iterable[str], topics: Topics = Topics.KEEP) -> Dropping:
    """Drop what there is of these streams and tables; KsqlError, and nothing done, if another one depends on them."""
    plan = await dropping(server, names, topics)
    for query in plan.queries:
        await server.terminate(query)
    for statement in plan.statements:
        await server.execute(statement)
    return plan


async def dropping(server: Ksql, names: Iterable[str], topics: Topics = Topics.KEEP) -> Dropping:
    """What dropping them takes."""
    every = {source.name: source for source in (*await server.streams(), *await server.tables())}
    found = {name: await server.describe(name) for name in dict.fromkeys(names) if name in every}
    order = _order(found)
    ended = dict.fromkeys(query.id for each in found.values() for query in (*each.readers, *each.writers) if _is_insert(query))
    deleting = _deleting(order, every) if topics is Topics.DELETE else frozenset()
    return Dropping(tuple(ended), tuple(_statement(every[name], name in deleting) for name in order))


def _is_insert(query: Query) -> bool:
    """Whether it is to be ended by itself; the query that a stream or table was made with ends with it."""
    return query.kind == "PERSISTENT" and query.text.lstrip()[:6].upper() == "INSERT"


def _order(found: Mapping[str, Description]) -> list[str]:
    after = {name: _dependents(each) for name, each in found.items()}
    for name, others in after.items():
        if foreign := sorted(others - found.keys()):
            shown = ", ".join(foreign)
            raise KsqlError(f"{name} cannot be dropped, since {shown} is made from it; drop that too: name it, or do it before")
    return list(TopologicalSorter(after).static_order())


def _dependents(each: Description) -> set[str]:
    made = {sink for query in each.readers if query.kind == "PERSISTENT" and not _is_insert(query) for sink in query.sinks}
    return (made | set(each.constraints)) - {each.name}


def _deleting(order: Sequence[str], every: Mapping[str, Source]) -> frozenset[str]:
    """Those that are dropped with their topic: of several with the same one the last."""
    last = {every[name].topic: name for name in order}
    for source in every.values():
        if source.topic in last and source.name not in order:
            message = f"topic {source.topic} of {last[source.topic]} cannot be deleted, since {source.name} uses it as well"
            raise KsqlError(f"{message}; drop that too, or keep topics")
    return frozenset(last.values())


def _statement(source: Source, is_deleting: bool) -> str:
    return f"DROP {source.kind} {source_name(source.name)}{' DELETE TOPIC' if is_deleting else ''};"
