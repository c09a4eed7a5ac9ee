"""The ksqlDB server of an open context, for users: `market.ksql.pull(Bar, "SELECT ...")`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from anyio import CancelScope

from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.dropping import DropPlan, TopicHandling, drop
from kandle.ksqldb.inserts import RowSource
from kandle.ksqldb.results import (
    ListedSource,
    QueryDescription,
    Result,
    RunningQuery,
    ServerHealth,
    ServerInfo,
    SourceDescription,
)
from kandle.ksqldb.rows import Rows
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost

T = TypeVar("T")
Properties = Mapping[str, object]


class Ksql:
    """The ksqlDB server of a context: statements, queries and inserts. Connections are opened when they are needed.

    Rows are objects of an entity, or dicts if None is given instead of one. Errors of the server are `KsqlError`; those that
    may pass, such as a server that cannot be reached, are `KsqlUnavailableError`.
    """

    def __init__(self, host: ContextHost, make: Callable[[], KsqlClient]) -> None:
        self._host = host
        self._make = make
        self._client: KsqlClient | None = None

    @property
    def _label(self) -> str:
        return f"{self._host.label}.ksql"

    async def client(self) -> KsqlClient:
        """Return the client, which is open as long as the context.

        Returns:
            The client.
        """
        if self._client is None:
            self._client = await self._make().__aenter__()
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    @awaited
    async def pull_async(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> list[Any]:
        """Run a pull query, and return the rows that exist now.

        Args:
            entity: The class of the rows' objects; None returns dicts by column.
            sql: The query, such as "SELECT * FROM `readings` WHERE `meter` = 'a';".
            properties: Properties of ksqlDB for this request, such as `{"auto.offset.reset": "earliest"}`.

        Returns:
            The rows.

        Raises:
            KsqlError: The server refuses the query.
            DataError: A row does not fit the entity.
        """
        async with (await self.client()).pull(entity, sql, properties) as rows:
            return [row async for row in rows]

    pull = blocking(pull_async)

    def push(self, entity: type[T] | None, sql: str, properties: Properties | None = None) -> PushedRows[Any]:
        """Return the rows of a push query as they change; the query starts and ends with the loop over them.

        Args:
            entity: The class of the rows' objects; None returns dicts by column.
            sql: The query, such as "SELECT * FROM `readings` EMIT CHANGES;".
            properties: Properties of ksqlDB for this request, such as `{"auto.offset.reset": "earliest"}`.

        Returns:
            The rows, for `for` or `async for`.
        """
        return PushedRows(self._host, self, lambda client: client.push(entity, sql, properties))

    @awaited
    async def execute_async(self, statements: str, properties: Properties | None = None) -> Sequence[Result]:
        """Run statements, and return when the server has executed them.

        Args:
            statements: One or more statements, each with a semicolon.
            properties: Properties of ksqlDB for this request, such as `{"auto.offset.reset": "earliest"}`.

        Returns:
            The result of each statement.

        Raises:
            KsqlError: The server refuses a statement, and executes none; or it fails to execute one after others.
        """
        return await (await self.client()).execute(statements, properties)

    execute = blocking(execute_async)

    @awaited
    async def insert_async(self, target: str, rows: RowSource) -> int:
        """Insert rows into a stream or table, and return when the server has acknowledged all.

        Args:
            target: The name of the stream or table.
            rows: Objects of an entity, or mappings by column.

        Returns:
            The number of rows.

        Raises:
            DataError: A row cannot be inserted.
            KsqlError: The server refuses a row; those before it are inserted.
        """
        return await (await self.client()).insert(target, rows)

    insert = blocking(insert_async)

    @awaited
    async def info_async(self) -> ServerInfo:
        """Return version and names of the server.

        Returns:
            The version and the names.
        """
        return await (await self.client()).info()

    info = blocking(info_async)

    @awaited
    async def health_async(self) -> ServerHealth:
        """Return whether the server and its parts are healthy; an unhealthy server is not an error.

        Returns:
            The health of the server.
        """
        return await (await self.client()).health()

    health = blocking(health_async)

    @awaited
    async def streams_async(self) -> Sequence[ListedSource]:
        """List the streams.

        Returns:
            All streams.
        """
        return await (await self.client()).streams()

    streams = blocking(streams_async)

    @awaited
    async def tables_async(self) -> Sequence[ListedSource]:
        """List the tables.

        Returns:
            All tables.
        """
        return await (await self.client()).tables()

    tables = blocking(tables_async)

    @awaited
    async def queries_async(self) -> Sequence[RunningQuery]:
        """List the running queries.

        Returns:
            All queries.
        """
        return await (await self.client()).queries()

    queries = blocking(queries_async)

    @awaited
    async def describe_async(self, name: str) -> SourceDescription:
        """Describe a stream or table in detail.

        Args:
            name: The name of the stream or table.

        Returns:
            Its columns, topic, formats and queries.

        Raises:
            KsqlError: It does not exist.
        """
        return await (await self.client()).describe(name)

    describe = blocking(describe_async)

    @awaited
    async def explain_async(self, query: str) -> QueryDescription:
        """Describe a query in detail.

        Args:
            query: The id of a running query, or the text of a query.

        Returns:
            Its statement, sources, sinks and execution plan.

        Raises:
            KsqlError: The query does not exist, or the text is not valid.
        """
        return await (await self.client()).explain(query)

    explain = blocking(explain_async)

    @awaited
    async def terminate_async(self, query: str) -> None:
        """Terminate a persistent query.

        Args:
            query: The id of the query, see `queries`.

        Raises:
            KsqlError: The query does not exist.
        """
        await (await self.client()).terminate(query)

    terminate = blocking(terminate_async)

    @awaited
    async def drop_async(self, names: Iterable[str], topics: TopicHandling = TopicHandling.KEEP) -> DropPlan:
        """Drop streams and tables, dependents first, and terminate the queries that insert into them.

        Args:
            names: The names of the streams and tables; those that do not exist are ignored.
            topics: Whether their topics are deleted too.

        Returns:
            What was dropped.

        Raises:
            KsqlError: Another stream or table depends on one of them, or uses its topic; nothing was dropped.
        """
        return await drop(await self.client(), names, topics)

    drop = blocking(drop_async)


class PushedRows(Generic[T]):
    """Rows of a push query, for `for` or `async for`; the query starts and ends with the loop."""

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
            # If the context was closed before the loop ended, it has closed the rows already.
            if self._host.is_open:
                self._close()

    @awaited
    async def _next_async(self) -> tuple[T] | None:
        """Return the next row in a tuple, so that it differs from the end, which is None."""
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
