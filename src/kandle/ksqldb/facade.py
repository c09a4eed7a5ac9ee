"""The ksqlDB of an open context, as its users see it: `await market.ksql.pull(Bar, "...")`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from anyio import CancelScope

from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.dropping import Dropping, Topics, drop
from kandle.ksqldb.inserts import RowSource
from kandle.ksqldb.results import Description, Explanation, Health, Query, Result, ServerInfo, Source
from kandle.ksqldb.rows import Rows
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost

T = TypeVar("T")
Properties = Mapping[str, object]


class Ksql:
    """Statements and queries of the server; connections are made when they are needed.

    Rows come as objects of an entity, or as dicts where None is given for one. Errors of the server are KsqlErrors.
    """

    def __init__(self, host: ContextHost, make: Callable[[], KsqlClient]) -> None:
        self._host = host
        self._make = make
        self._client: KsqlClient | None = None

    @property
    def _label(self) -> str:
        return f"{self._host.label}.ksql"

    async def client(self) -> KsqlClient:
        """The client that is behind this, open as long as the context is."""
        if self._client is None:
            self._client = await self._make().__aenter__()
        return self._client

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    @awaited
    async def pull_async(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> list[Any]:
        """The rows that there are now."""
        async with (await self.client()).pull(entity, sql, properties) as rows:
            return [row async for row in rows]

    pull = blocking(pull_async)

    def push(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> PushedRows[Any]:
        """Rows as they come to be: `async for`, and in a blocking context `for`; the query ends with the loop."""
        return PushedRows(self._host, self, lambda client: client.push(entity, sql, properties))

    @awaited
    async def execute_async(self, statements: str, properties: Properties | None = None) -> Sequence[Result]:
        """Have statements carried out, and wait until they are."""
        return await (await self.client()).execute(statements, properties)

    execute = blocking(execute_async)

    @awaited
    async def insert_async(self, target: str, rows: RowSource) -> int:
        """Write rows (objects, or mappings by column) into a stream or table; gives their number once all are acknowledged."""
        return await (await self.client()).insert(target, rows)

    insert = blocking(insert_async)

    @awaited
    async def info_async(self) -> ServerInfo:
        """Version and names of the server."""
        return await (await self.client()).info()

    info = blocking(info_async)

    @awaited
    async def health_async(self) -> Health:
        """Whether the server and its parts are well."""
        return await (await self.client()).health()

    health = blocking(health_async)

    @awaited
    async def streams_async(self) -> Sequence[Source]:
        """All streams."""
        return await (await self.client()).streams()

    streams = blocking(streams_async)

    @awaited
    async def tables_async(self) -> Sequence[Source]:
        """All tables."""
        return await (await self.client()).tables()

    tables = blocking(tables_async)

    @awaited
    async def queries_async(self) -> Sequence[Query]:
        """All queries that run."""
        return await (await self.client()).queries()

    queries = blocking(queries_async)

    @awaited
    async def describe_async(self, name: str) -> Description:
        """A stream or table in detail."""
        return await (await self.client()).describe(name)

    describe = blocking(describe_async)

    @awaited
    async def explain_async(self, query: str) -> Explanation:
        """A query in detail, by its id or its text."""
        return await (await self.client()).explain(query)

    explain = blocking(explain_async)

    @awaited
    async def terminate_async(self, query: str) -> None:
        """End a persistent query."""
        await (await self.client()).terminate(query)

    terminate = blocking(terminate_async)

    @awaited
    async def drop_async(self, names: Iterable[str], topics: Topics = Topics.KEEP) -> Dropping:
        """Drop streams and tables after all that is made from them; nothing is done if something else depends on one."""
        return await drop(await self.client(), names, topics)

    drop = blocking(drop_async)


class PushedRows(Generic[T]):
    """Rows of a push query, which begins with the loop and ends with it: for `async for`, and for `for`."""

    def __init__(self, host: ContextHost, ksql: Ksql, begin: Callable[[KsqlClient], Rows[T]]) -> None:
        self._host, self._ksql, self._begin = host, ksql, begin
        self._rows: Rows[T] | None = None

    @property
    def _label(self) -> str:
        return f"{self._host.label}.ksql.push(...)"

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            while (row := await self._next_async()) is not None:
                yield row[0]
        finally:
            with CancelScope(shield=True):
                await self._close_async()

    def __iter__(self) -> Iterator[T]:
        self._host.loop.check_blocking("for", "async for")
        return self._iterate_blocking()

    def _iterate_blocking(self) -> Iterator[T]:
        try:
            while (row := self._next()) is not None:
                yield row[0]
        finally:
            # A loop that was left unfinished when its context was closed has nothing to close any more.
            if self._host.is_open:
                self._close()

    @awaited
    async def _next_async(self) -> tuple[T] | None:
        """Return the next row in a tuple of its own; None at the end."""
        if self._rows is None:
            self._rows = self._begin(await self._ksql.client())
        async for row in self._rows:
            return (row,)
        return None

    _next = blocking(_next_async)

    @awaited
    async def _close_async(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            with CancelScope(shield=True):
                await rows.aclose()

    _close = blocking(_close_async)
