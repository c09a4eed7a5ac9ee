"""A client of ksqlDB's REST interface."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

from kandle.errors import KsqlError, KsqlUnavailableError, StateError
from kandle.ksql.types import source_name
from kandle.ksqldb import results as answers
from kandle.ksqldb.failures import was_never_sent
from kandle.ksqldb.http import OK, Http, Repeat
from kandle.ksqldb.inserts import RowSource, insert
from kandle.ksqldb.results import (
    ERROR,
    FINISHED,
    Command,
    ListedSource,
    QueryDescription,
    QueryList,
    Result,
    RunningQuery,
    ServerHealth,
    ServerHost,
    ServerInfo,
    SourceDescription,
    SourceList,
)
from kandle.ksqldb.rows import QueryRequest, Rows
from kandle.ksqldb.settings import KsqlSettings
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, parse_duration

T = TypeVar("T")
Properties = Mapping[str, object]

STATEMENTS, QUERIES = "/ksql", "/query-stream"
FIRST_LOOK, LONGEST_LOOK = 100 * MILLISECOND, SECOND
SHOWN = 200
"""Characters of a statement that messages show."""


class KsqlClient:
    """A client of one ksqlDB, to be opened by `async with`.

    Errors of the server are `KsqlError`, and `KsqlUnavailableError` if the same request may succeed later.

    Args:
        settings: Where the server is, and how it is reached.
        clock: For pauses and time limits; the system's clock by default.
    """

    def __init__(self, settings: KsqlSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = SystemClock() if clock is None else clock
        self._opened: Http | None = None
        self._rows: set[Rows[Any]] = set()

    async def __aenter__(self) -> Self:
        self._opened = Http(self._settings, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._http.aclose)
            for rows in self._rows:
                closing.push_async_callback(rows.aclose)
        self._opened = None

    @property
    def _http(self) -> Http:
        if self._opened is None:
            raise StateError("the client of ksqlDB is not open; write `async with KsqlClient(settings) as client:`")
        return self._opened

    async def info(self) -> ServerInfo:
        """Return version and names of the server."""
        return await self._get("/info", "information about the server", answers.server_info)

    async def cluster(self) -> tuple[ServerHost, ...]:
        """Return the servers of the cluster."""
        return await self._get("/clusterStatus", "status of the cluster", answers.hosts)

    async def health(self) -> ServerHealth:
        """Return whether the server and its parts are healthy; it is no error if they are not."""
        path, label = "/healthcheck", "health"

        async def once() -> ServerHealth:
            answer = await self._http.ask("GET", path, None, label)
            content = self._http.failures.content(answer.body)
            # A server that is not healthy answers with another status.
            if answer.status == OK or (isinstance(content, dict) and "isHealthy" in content):
                return self._read(label, answers.health, content)
            raise self._http.failures.refusal(label, answer.status, answer.body)

        return await self._http.repeated(once, Repeat.ALWAYS)

    async def execute(self, statements: str, properties: Properties | None = None) -> tuple[Result, ...]:
        """Execute statements, and wait until they are complete.

        The server checks all of them first: if one is wrong, none is executed. They are not sent again when it is uncertain
        whether they have arrived.

        Args:
            statements: One or more statements, each with its semicolon.
            properties: Properties of the queries that they start.

        Returns:
            The result of each statement; INSERT VALUES and SET have none.

        Raises:
            KsqlError: The server refuses a statement.
        """
        label = f"statement {_shown(statements)}"
        try:
            results = await self._statements(statements, properties, Repeat.UNSENT, label)
        except KsqlUnavailableError as error:
            if was_never_sent(error):
                raise
            message = f"{error.message}; it may have been executed, so it is not sent again: check that before you send it"
            raise KsqlUnavailableError(message, error.code, error.statement or statements) from error
        return tuple([await self._finished(result) if isinstance(result, Command) else result for result in results])

    async def _statements(self, statements: str, properties: Properties | None, repeat: Repeat, label: str) -> tuple[Result, ...]:
        content = {"ksql": statements, "streamsProperties": self._properties(properties)}
        answer = await self._http.json("POST", STATEMENTS, content, label, repeat)
        return self._read(label, lambda entities: tuple(map(answers.result, entities)), answer)

    async def _finished(self, command: Command) -> Command:
        """Return a command once it is complete; KsqlError if it fails or takes too long."""
        deadline = self._clock.steady() + parse_duration(self._settings.patience)
        pause = FIRST_LOOK
        while command.status not in FINISHED:
            if self._clock.steady() >= deadline:
                message = f"{command.id} is still {command.status} after {self._settings.patience}: the server goes on with it"
                raise KsqlUnavailableError(f"{self._settings.place}: {message}; look at /status", None, command.statement)
            await self._clock.sleep_until(self._clock.now() + pause)
            pause = min(2 * pause, LONGEST_LOOK)
            command = await self._status(command)
        if command.status == ERROR:
            message = self._http.failures.safe(command.message)
            raise KsqlError(f"{self._settings.place}: {command.id} failed: {message}", None, command.statement)
        return command

    async def status(self, command: str) -> Command:
        """Return the status of a command, such as ``stream/`ticks`/create``."""
        return await self._status(Command("", command, "", ""))

    async def _status(self, command: Command) -> Command:
        path = f"/status/{quote(command.id, safe='/')}"
        return await self._get(path, f"status of {command.id}", lambda status: answers.command_status(command, status))

    async def streams(self) -> tuple[ListedSource, ...]:
        """Return all streams."""
        return (await self._only("SHOW STREAMS;", SourceList)).sources

    async def tables(self) -> tuple[ListedSource, ...]:
        """Return all tables."""
        return (await self._only("SHOW TABLES;", SourceList)).sources

    async def queries(self) -> tuple[RunningQuery, ...]:
        """Return all queries that run."""
        return (await self._only("SHOW QUERIES;", QueryList)).queries

    async def describe(self, name: str) -> SourceDescription:
        """Return a stream or table in detail."""
        return await self._only(f"DESCRIBE {source_name(name)} EXTENDED;", SourceDescription)

    async def explain(self, query: str) -> QueryDescription:
        """Return a query in detail, by its id or its text."""
        return await self._only(f"EXPLAIN {query.rstrip().removesuffix(';')};", QueryDescription)

    async def terminate(self, query: str) -> None:
        """Terminate a persistent query."""
        if not re.fullmatch(r"[\w-]+", query):
            raise KsqlError(f"{query!r} is no id of a query; queries() returns the queries with their ids")
        await self.execute(f"TERMINATE {query};")

    @overload
    def pull(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def pull(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def pull(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """Return the current rows, as objects of an entity or as dictionaries."""
        return self._query(entity, sql, properties, is_push=False)

    @overload
    def push(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def push(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def push(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """Return rows as they are produced, until the iterator is closed, which `async with client.push(...) as rows` does."""
        return self._query(entity, sql, properties, is_push=True)

    def _query(self, entity: type | None, sql: str, properties: Properties | None, *, is_push: bool) -> Rows[Any]:
        body = json.dumps({"sql": sql, "properties": self._properties(properties)}, ensure_ascii=False).encode()
        request = QueryRequest(QUERIES, body, f"query {_shown(sql)}", entity, is_push)
        rows: Rows[Any] = Rows(self._http, request, self._rows.discard)
        self._rows.add(rows)
        return rows

    async def insert(self, target: str, rows: RowSource) -> int:
        """Insert rows into a stream or table, and wait until all are acknowledged.

        Args:
            target: Name of the stream or table.
            rows: Objects of entities, or mappings by column.

        Returns:
            The number of rows.

        Raises:
            KsqlError: The server refuses a row, which the message names; the rows before it are inserted.
        """
        return await insert(self._http, target, rows)

    def _properties(self, properties: Properties | None) -> dict[str, object]:
        return {**self._settings.properties, **(properties or {})}

    async def _get(self, path: str, label: str, read: Callable[[Any], T]) -> T:
        return self._read(label, read, await self._http.json("GET", path, None, label, Repeat.ALWAYS))

    async def _only(self, statement: str, kind: type[T]) -> T:
        """Return the result of one statement that changes nothing."""
        label = f"statement {_shown(statement)}"
        results = await self._statements(statement, None, Repeat.ALWAYS, label)
        if len(results) != 1 or not isinstance(results[0], kind):
            raise self._http.failures.nonsense(label, "the result of this statement", str(results).encode())
        return results[0]

    def _read(self, label: str, read: Callable[[Any], T], content: Any) -> T:
        try:
            return read(content)
        except answers.LACKING as error:
            raise self._http.failures.nonsense(
                label, "what ksqlDB says there", json.dumps(content, default=str).encode()
            ) from error


def _shown(text: str) -> str:
    text = " ".join(text.split()).removesuffix(";")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
