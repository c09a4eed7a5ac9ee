"""Rows of a query as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from anyio import CancelScope

from kandle.errors import DataError, KsqlUnavailableError
from kandle.ksql.rest.answers import LACKING
from kandle.ksql.rest.columns import Column, columns_of, type_of
from kandle.ksql.rest.documents import Documents, documents
from kandle.ksql.rest.entities import RowReader, row_reader
from kandle.ksql.rest.http import OK, Http, Repeat, Stream

T = TypeVar("T")

CLOSE = "/close-query"
UNKNOWN_QUERY = "No query with id"
MARKS = ("finalMessage", "continuationToken", "consistencyToken")
"""Objects between rows that are no rows, and say nothing that matters here."""


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What is asked, and what the rows become; a push query goes on until it is closed."""

    path: str
    body: bytes
    what: str
    entity: type | None = None
    is_push: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What comes before the rows."""

    query_id: str | None
    columns: tuple[Column, ...]


class Rows(AsyncIterator[T], Generic[T]):
    """Rows of a query; to be closed where they are not read to their end, for which `async with` is.

    For one task. Nothing is sent before the first row is asked for, or `begin` called.
    """

    def __init__(self, http: Http, request: QueryRequest, closed: Callable[[Rows[Any]], None]) -> None:
        self._http, self._request, self._closed = http, request, closed
        self._stream: Stream | None = None
        self._documents: Documents | None = None
        self._header: Header | None = None
        self._read: RowReader | None = None
        self._waiting: deque[list[Any]] = deque()
        self._count = 0
        self._is_over = self._is_closed = self._is_reading = False

    @property
    def header(self) -> Header | None:
        """Columns and number of the query, once it has begun."""
        return self._header

    async def begin(self) -> Header:
        """Send the query and wait for its columns; DataError if the entity has no fields for them."""
        if self._header is None:
            repeat = Repeat.UNSENT if self._request.is_push else Repeat.ALWAYS
            try:
                self._header = await self._http.repeated(self._begun, repeat)
                self._read = row_reader(self._request.entity, self._header.columns)
            except BaseException:
                await self.aclose()
                raise
        return self._header

    async def _begun(self) -> Header:
        """One attempt; what came of an earlier one is gone."""
        await self._let_go()
        self._documents, self._is_over = None, False
        self._waiting.clear()
        self._stream = self._http.stream(self._request.what)
        await self._stream.open(self._request.path, self._request.body)
        while not (found := await self._more()) and not self._is_over:
            pass
        if not found or not isinstance(found[0], dict):
            raise self._http.failures.nonsense(
                self._request.what, "a line with the columns", str(found[:1]).encode() if found else b""
            )
        self._raise_error(found[0])
        self._take(found[1:])
        return self._header_in(found[0])

    def _header_in(self, found: Mapping[str, Any]) -> Header:
        try:
            if "header" in found:
                return Header(found["header"].get("queryId"), columns_of(found["header"]["schema"]))
            pairs = zip(found["columnNames"], found["columnTypes"], strict=True)
            return Header(found.get("queryId"), tuple(Column(str(name), type_of(kind)) for name, kind in pairs))
        except LACKING as error:
            raise self._http.failures.nonsense(self._request.what, "a line with the columns", str(found).encode()) from error

    async def _more(self) -> list[Any]:
        """What the next part completes."""
        assert self._stream is not None
        part = await self._stream.part(is_patient=self._request.is_push and self._header is not None)
        try:
            if part is None:
                self._is_over = True
                return [] if self._documents is None else self._documents.finish()
            if self._documents is None:
                self._documents = documents(part)
            return self._documents.feed(part)
        except ValueError as error:
            raise self._http.failures.cut(self._request.what, self._count + len(self._waiting), f"no JSON: {error}") from error

    def _take(self, found: list[Any]) -> None:
        for each in found:
            row = each["row"]["columns"] if isinstance(each, dict) and "row" in each else each
            if isinstance(row, list):
                self._waiting.append(row)
            elif not isinstance(row, dict) or not any(mark in row for mark in MARKS):
                self._raise_error(row)
                raise self._http.failures.nonsense(self._request.what, "a row", str(row).encode())

    def _raise_error(self, found: Any) -> None:
        said = found.get("errorMessage", found) if isinstance(found, dict) else found
        if isinstance(said, dict) and ("error_code" in said or str(said.get("@type", "")).endswith("error")):
            raise self._http.failures.error_row(self._request.what, said)

    async def __anext__(self) -> T:
        if self._is_closed:
            raise StopAsyncIteration
        await self.begin()
        while not self._waiting and not self._is_over:
            await self._fill()
        if not self._waiting:
            await self.aclose()
            raise StopAsyncIteration
        return await self._next()

    async def _fill(self) -> None:
        try:
            self._take(await self._next_part())
        except KsqlUnavailableError:
            if self._is_closed:
                # Somebody else has closed it in the meantime.
                raise StopAsyncIteration from None
            await self._abandon()
            raise
        except BaseException:
            await self.aclose()
            raise

    async def _next_part(self) -> list[Any]:
        self._is_reading = True
        try:
            return await self._more()
        finally:
            self._is_reading = False

    async def _next(self) -> T:
        assert self._read is not None
        try:
            made: T = self._read(self._waiting.popleft())
        except DataError as error:
            await self.aclose()
            raise DataError(f"{self._request.what}, row {self._count}: {error}") from error
        self._count += 1
        return made

    async def aclose(self) -> None:
        """Let go of the query: one that would go on is ended at the server."""
        if self._is_closed:
            return
        is_running = self._request.is_push and self._header is not None and not self._is_over and not self._is_reading
        with CancelScope(shield=True):
            try:
                if is_running:
                    await self._end_query()
            finally:
                await self._abandon()

    async def _end_query(self) -> None:
        """With HTTP/2 by request; with HTTP/1.1, whose connection is busy, the end of the connection ends the query as well."""
        assert self._stream is not None and self._header is not None
        if not self._stream.is_http2:
            return
        what = f"end of query {self._header.query_id}"
        # Where the connection is gone, the server has ended the query with it.
        with suppress(KsqlUnavailableError):
            answer = await self._stream.ask(CLOSE, {"queryId": self._header.query_id}, what)
            if answer.status != OK and UNKNOWN_QUERY.encode() not in answer.body:
                raise self._http.failures.refusal(what, answer.status, answer.body)

    async def _abandon(self) -> None:
        self._is_closed = True
        self._waiting.clear()
        self._closed(self)
        with CancelScope(shield=True):
            await self._let_go()

    async def _let_go(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
