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
from kandle.sets.host import Host, portable

T = TypeVar("T")
Properties = Mapping[str, object]


class Ksql:
    """Statements and queries of the server; connections are made when they are needed.

    Rows come as objects of an entity, or as dicts where None is given for one. Errors of the server are KsqlErrors.
    """

    def __init__(self, host: Host, make: Callable[[], KsqlClient]) -> None:
        self._host = host
        self._make = make
        self._client: KsqlClient | None = None

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

    @portable
    async def pull(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> list[Any]:
        """The rows that there are now."""
        async with (await self.client()).pull(entity, sql, properties) as rows:
            return [row async for row in rows]

    def push(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> PushedRows[Any]:
        """Rows as they come to be: `async for`, and in a blocking context `for`; the query ends with the loop."""
        return PushedRows(self._host, self, lambda client: client.push(entity, sql, properties))

    @portable
    async def execute(self, statements: str, properties: Properties | None = None) -> Sequence[Result]:
        """Have statements carried out, and wait until they are."""
        return await (await self.client()).execute(statements, properties)

    @portable
    async def insert(self, target: str, rows: RowSource) -> int:
        """Write rows (objects, or mappings by column) into a stream or table; gives their number once all are acknowledged."""
        return await (await self.client()).insert(target, rows)

    @portable
    async def info(self) -> ServerInfo:
        """Version and names of the server."""
        return await (await self.client()).info()

    @portable
    async def health(self) -> Health:
        """Whether the server and its parts are well."""
        return await (await self.client()).health()

    @portable
    async def streams(self) -> Sequence[Source]:
        """All streams."""
        return await (await self.client()).streams()

    @portable
    async def tables(self) -> Sequence[Source]:
        """All tables."""
        return await (await self.client()).tables()

    @portable
    async def queries(self) -> Sequence[Query]:
        """All queries that run."""
        return await (await self.client()).queries()

    @portable
    async def describe(self, name: str) -> Description:
        """A stream or table in detail."""
        return await (await self.client()).describe(name)

    @portable
    async def explain(self, query: str) -> Explanation:
        """A query in detail, by its id or its text."""
        return await (await self.client()).explain(query)

    @portable
    async def terminate(self, query: str) -> None:
        """End a persistent query."""
        await (await self.client()).terminate(query)

    @portable
    async def drop(self, names: Iterable[str], topics: Topics = Topics.KEEP) -> Dropping:
        """Drop streams and tables after all that is made from them; nothing is done if something else depends on one."""
        return await drop(await self.client(), names, topics)


class PushedRows(Generic[T]):
    """Rows of a push query, which begins with the loop and ends with it."""

    def __init__(self, host: Host, ksql: Ksql, begin: Callable[[KsqlClient], Rows[T]]) -> None:
        self._host, self._ksql, self._begin = host, ksql, begin
        self._rows: Rows[T] | None = None

    async def __aiter__(self) -> AsyncIterator[T]:
        async with self._begin(await self._ksql.client()) as rows:
            async for row in rows:
                yield row

    def __iter__(self) -> Iterator[T]:
        try:
            while (found := self._next()) is not None:
                yield found[0]  # type: ignore[index]
        finally:
            self._close()  # type: ignore[unused-coroutine]

    @portable
    async def _next(self) -> tuple[T] | None:
        """The next row in a tuple of its own; None at the end."""
        if self._rows is None:
            self._rows = self._begin(await self._ksql.client())
        async for row in self._rows:
            return (row,)
        return None

    @portable
    async def _close(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            with CancelScope(shield=True):
                await rows.aclose()
