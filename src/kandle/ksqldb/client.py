"""A client of the REST interface of ksqlDB."""

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
from kandle.ksqldb import results
from kandle.ksqldb.failures import was_never_sent
from kandle.ksqldb.http import OK, Http, Repeat
from kandle.ksqldb.inserts import EntityOf, RowSource, insert
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
from kandle.model.entity import entity_model
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, parse_duration

T = TypeVar("T")
Properties = Mapping[str, object]

STATEMENTS, QUERIES = "/ksql", "/query-stream"
FIRST_PAUSE, LONGEST_PAUSE = 100 * MILLISECOND, SECOND
"""Time between two questions for the status of a command."""
SHOWN = 200
"""Number of characters of a statement that messages show."""


class KsqlClient:
    """A client of one ksqlDB server, open inside of `async with`.

    Errors of the server are `KsqlError`; those that may pass are `KsqlUnavailableError`.

    Args:
        settings: How the server is reached.
        clock: The clock of time-outs and pauses; None is that of the system.
        entity_of: Returns the metadata of a class of rows; a context gives its own, which knows the options of fields.
    """

    def __init__(self, settings: KsqlSettings, clock: Clock | None = None, entity_of: EntityOf = entity_model) -> None:
        self._settings = settings
        self._entity_of = entity_of
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
        return await self._get("/info", "information about the server", results.server_info)

    async def cluster(self) -> tuple[ServerHost, ...]:
        """Return the servers of the cluster."""
        return await self._get("/clusterStatus", "status of the cluster", results.hosts)

    async def health(self) -> ServerHealth:
        """Return whether the server and its parts are healthy; an unhealthy server is not an error."""
        path, subject = "/healthcheck", "health"

        async def once() -> ServerHealth:
            answer = await self._http.ask("GET", path, None, subject)
            content = self._http.failures.content(answer.body)
            # An unhealthy server answers with another status than 200.
            if answer.status == OK or (isinstance(content, dict) and "isHealthy" in content):
                return self._parse(subject, results.health, content)
            raise self._http.failures.refusal(subject, answer.status, answer.body)

        return await self._http.repeated(once, Repeat.ALWAYS)

    async def execute(self, statements: str, properties: Properties | None = None) -> tuple[Result, ...]:
        """Execute statements, and return when the server has executed all.

        The server checks all statements before it executes the first: if one is invalid, none is executed. Statements are
        sent again only if no connection was made.

        Args:
            statements: One or more statements, each with a semicolon.
            properties: Properties of ksqlDB for this request.

        Returns:
            The result of each statement; INSERT VALUES and SET have none.

        Raises:
            KsqlError: The server refuses a statement, or fails to execute it.
            KsqlUnavailableError: The server cannot be reached, or does not finish within `patience`.
        """
        subject = f"statement {_shortened(statements)}"
        try:
            submitted = await self._submit(statements, properties, Repeat.UNSENT, subject)
        except KsqlUnavailableError as error:
            if was_never_sent(error):
                raise
            message = f"{error.message}; it may have been executed or not, and is not sent again: check before you repeat it"
            raise KsqlUnavailableError(message, error.code, error.statement or statements) from error
        return tuple([await self._finished(item) if isinstance(item, Command) else item for item in submitted])

    async def _submit(self, statements: str, properties: Properties | None, repeat: Repeat, subject: str) -> tuple[Result, ...]:
        """Send statements and return their results, among them commands that are not finished."""
        content = {"ksql": statements, "streamsProperties": self._properties(properties)}
        entities = await self._http.json("POST", STATEMENTS, content, subject, repeat)
        return self._parse(subject, lambda items: tuple(map(results.result, items)), entities)

    async def _finished(self, command: Command) -> Command:
        """Wait until a command is executed; raise KsqlError if it fails or takes too long."""
        deadline = self._clock.steady() + parse_duration(self._settings.patience)
        pause = FIRST_PAUSE
        while command.status not in FINISHED:
            if self._clock.steady() >= deadline:
                message = f"{command.id} is still {command.status} after {self._settings.patience}"
                advice = "the server continues with it: ask again by `status`, or raise `patience`"
                raise KsqlUnavailableError(f"{self._settings.label}: {message}; {advice}", None, command.statement)
            await self._clock.sleep_until(self._clock.now() + pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            command = await self._status(command)
        if command.status == ERROR:
            message = self._http.failures.safe(command.message)
            raise KsqlError(f"{self._settings.label}: {command.id} failed: {message}", None, command.statement)
        return command

    async def status(self, command: str) -> Command:
        """Return the status of a command, such as ``stream/`ticks`/create``."""
        return await self._status(Command("", command, "", ""))

    async def _status(self, command: Command) -> Command:
        path = f"/status/{quote(command.id, safe='/')}"
        return await self._get(path, f"status of {command.id}", lambda content: results.command_status(command, content))

    async def streams(self) -> tuple[ListedSource, ...]:
        """List the streams."""
        return (await self._show("SHOW STREAMS;", SourceList)).sources

    async def tables(self) -> tuple[ListedSource, ...]:
        """List the tables."""
        return (await self._show("SHOW TABLES;", SourceList)).sources

    async def queries(self) -> tuple[RunningQuery, ...]:
        """List the running queries."""
        return (await self._show("SHOW QUERIES;", QueryList)).queries

    async def describe(self, name: str) -> SourceDescription:
        """Describe a stream or table in detail."""
        return await self._show(f"DESCRIBE {source_name(name)} EXTENDED;", SourceDescription)

    async def explain(self, query: str) -> QueryDescription:
        """Describe a query in detail, by its id or its text."""
        return await self._show(f"EXPLAIN {query.rstrip().removesuffix(';')};", QueryDescription)

    async def terminate(self, query: str) -> None:
        """Terminate a persistent query by its id."""
        if not re.fullmatch(r"[\w-]+", query):
            raise KsqlError(f"{query!r} is not the id of a query; queries() lists the ids")
        await self.execute(f"TERMINATE {query};")

    @overload
    def pull(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def pull(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def pull(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """Return the rows that exist now, as objects of an entity or, if it is None, as dicts."""
        return self._query(entity, sql, properties, is_push=False)

    @overload
    def push(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def push(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def push(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """Return rows as they change, until they are closed: write `async with client.push(...) as rows:`."""
        return self._query(entity, sql, properties, is_push=True)

    def _query(self, entity: type | None, sql: str, properties: Properties | None, *, is_push: bool) -> Rows[Any]:
        body = json.dumps({"sql": sql, "properties": self._properties(properties)}, ensure_ascii=False).encode()
        model = None if entity is None else self._entity_of(entity)
        request = QueryRequest(QUERIES, body, f"query {_shortened(sql)}", model, is_push)
        rows: Rows[Any] = Rows(self._http, request, self._rows.discard)
        self._rows.add(rows)
        return rows

    async def insert(self, target: str, rows: RowSource) -> int:
        """Insert rows into a stream or table, see `kandle.ksqldb.inserts.insert`."""
        return await insert(self._http, target, rows, self._entity_of)

    def _properties(self, properties: Properties | None) -> dict[str, object]:
        return {**self._settings.properties, **(properties or {})}

    async def _get(self, path: str, subject: str, parse: Callable[[Any], T]) -> T:
        return self._parse(subject, parse, await self._http.json("GET", path, None, subject, Repeat.ALWAYS))

    async def _show(self, statement: str, kind: type[T]) -> T:
        """Return the result of one statement that only reads."""
        subject = f"statement {_shortened(statement)}"
        result = await self._submit(statement, None, Repeat.ALWAYS, subject)
        if len(result) != 1 or not isinstance(result[0], kind):
            raise self._http.failures.nonsense(subject, "the result of this statement", str(result).encode())
        return result[0]

    def _parse(self, subject: str, parse: Callable[[Any], T], content: Any) -> T:
        try:
            return parse(content)
        except results.LACKING as error:
            body = json.dumps(content, default=str).encode()
            raise self._http.failures.nonsense(subject, "the expected JSON", body) from error


def _shortened(text: str) -> str:
    text = " ".join(text.split()).removesuffix(";")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
