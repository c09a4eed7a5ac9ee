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
    """One ksqlDB, while it is open by `async with`.

    Everything that goes wrong at the server is a KsqlError, and a KsqlUnavailableError if it may go well later.
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
        """Version and names of the server."""
        return await self._get("/info", "information about the server", answers.server_info)

    async def cluster(self) -> tuple[ServerHost, ...]:
        """The servers of the cluster."""
        return await self._get("/clusterStatus", "status of the cluster", answers.hosts)

    async def health(self) -> ServerHealth:
        """Whether the server and its parts are well; no error if they are not."""
        path, what = "/healthcheck", "health"

        async def once() -> ServerHealth:
            answer = await self._http.ask("GET", path, None, what)
            content = self._http.failures.content(answer.body)
            # A server that is not well says so under another status.
            if answer.status == OK or (isinstance(content, dict) and "isHealthy" in content):
                return self._read(what, answers.health, content)
            raise self._http.failures.refusal(what, answer.status, answer.body)

        return await self._http.repeated(once, Repeat.ALWAYS)

    async def execute(self, statements: str, properties: Properties | None = None) -> tuple[Result, ...]:
        """Have statements carried out, and wait until they are; what each came to, INSERT VALUES and SET nothing.

        The server checks all of them first: if one is bad, none is carried out. They are not sent again when it is unsure whether
        they have arrived.
        """
        what = f"statement {_shown(statements)}"
        try:
            found = await self._statements(statements, properties, Repeat.UNSENT, what)
        except KsqlUnavailableError as error:
            if was_never_sent(error):
                raise
            message = f"{error.message}; it may be carried out or not, and is not sent again: look before you do"
            raise KsqlUnavailableError(message, error.code, error.statement or statements) from error
        return tuple([await self._finished(each) if isinstance(each, Command) else each for each in found])

    async def _statements(self, statements: str, properties: Properties | None, repeat: Repeat, what: str) -> tuple[Result, ...]:
        content = {"ksql": statements, "streamsProperties": self._properties(properties)}
        found = await self._http.json("POST", STATEMENTS, content, what, repeat)
        return self._read(what, lambda entities: tuple(map(answers.result, entities)), found)

    async def _finished(self, command: Command) -> Command:
        """The command once it is carried out; KsqlError if that fails or takes too long."""
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
        """The status of a command, such as ``stream/`ticks`/create``."""
        return await self._status(Command("", command, "", ""))

    async def _status(self, command: Command) -> Command:
        path = f"/status/{quote(command.id, safe='/')}"
        return await self._get(path, f"status of {command.id}", lambda found: answers.command_status(command, found))

    async def streams(self) -> tuple[ListedSource, ...]:
        """All streams."""
        return (await self._only("SHOW STREAMS;", SourceList)).sources

    async def tables(self) -> tuple[ListedSource, ...]:
        """All tables."""
        return (await self._only("SHOW TABLES;", SourceList)).sources

    async def queries(self) -> tuple[RunningQuery, ...]:
        """All queries that run."""
        return (await self._only("SHOW QUERIES;", QueryList)).queries

    async def describe(self, name: str) -> SourceDescription:
        """A stream or table in detail."""
        return await self._only(f"DESCRIBE {source_name(name)} EXTENDED;", SourceDescription)

    async def explain(self, query: str) -> QueryDescription:
        """A query in detail, by its id or its text."""
        return await self._only(f"EXPLAIN {query.rstrip().removesuffix(';')};", QueryDescription)

    async def terminate(self, query: str) -> None:
        """End a persistent query."""
        if not re.fullmatch(r"[\w-]+", query):
            raise KsqlError(f"{query!r} is no id of a query; ids are those that queries() gives")
        await self.execute(f"TERMINATE {query};")

    @overload
    def pull(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def pull(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def pull(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """The rows that there are, as objects of an entity or as dicts."""
        return self._query(entity, sql, properties, is_push=False)

    @overload
    def push(self, entity: type[T], sql: str, properties: Properties | None = None) -> Rows[T]: ...

    @overload
    def push(self, entity: None, sql: str, properties: Properties | None = None) -> Rows[dict[str, Any]]: ...

    def push(self, entity: type | None, sql: str, properties: Properties | None = None) -> Rows[Any]:
        """Rows as they come to be, until the iterator is closed, which `async with client.push(...) as rows` does at its end."""
        return self._query(entity, sql, properties, is_push=True)

    def _query(self, entity: type | None, sql: str, properties: Properties | None, *, is_push: bool) -> Rows[Any]:
        body = json.dumps({"sql": sql, "properties": self._properties(properties)}, ensure_ascii=False).encode()
        request = QueryRequest(QUERIES, body, f"query {_shown(sql)}", entity, is_push)
        made: Rows[Any] = Rows(self._http, request, self._rows.discard)
        self._rows.add(made)
        return made

    async def insert(self, target: str, rows: RowSource) -> int:
        """Write rows (objects of entities, or mappings by column) into a stream or table, and wait until all are acknowledged.

        The first that is refused ends it with a KsqlError that says which; those before it are there.
        """
        return await insert(self._http, target, rows)

    def _properties(self, properties: Properties | None) -> dict[str, object]:
        return {**self._settings.properties, **(properties or {})}

    async def _get(self, path: str, what: str, read: Callable[[Any], T]) -> T:
        return self._read(what, read, await self._http.json("GET", path, None, what, Repeat.ALWAYS))

    async def _only(self, statement: str, kind: type[T]) -> T:
        """The result of one statement that changes nothing."""
        what = f"statement {_shown(statement)}"
        found = await self._statements(statement, None, Repeat.ALWAYS, what)
        if len(found) != 1 or not isinstance(found[0], kind):
            raise self._http.failures.nonsense(what, "the result of this statement", str(found).encode())
        return found[0]

    def _read(self, what: str, read: Callable[[Any], T], content: Any) -> T:
        try:
            return read(content)
        except answers.LACKING as error:
            raise self._http.failures.nonsense(
                what, "what ksqlDB says there", json.dumps(content, default=str).encode()
            ) from error


def _shown(text: str) -> str:
    text = " ".join(text.split()).removesuffix(";")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
