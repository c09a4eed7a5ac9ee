"""Rows of a query as they come."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from anyio import CancelScope

from kandle.errors import DataError, KsqlUnavailableError
from kandle.ksql.types import BIGINT, INTEGER, KsqlType, column_type
from kandle.ksqldb.columns import ResultColumn, columns_of, type_of, value_of
from kandle.ksqldb.http import OK, Documents, Http, Repeat, Stream, documents
from kandle.ksqldb.results import LACKING
from kandle.model.entity import MISSING, EntityModel, FieldModel, entity_model
from kandle.model.mapping import mapping
from kandle.model.types import UuidType

RowReader = Callable[[Sequence[Any]], Any]

WINDOW_BOUNDS = ("WINDOWSTART", "WINDOWEND")
"""Columns that `SELECT *` adds to those of a windowed table; no column that is declared can have these names."""


def row_reader(entity: type | None, columns: Sequence[ResultColumn]) -> RowReader:
    """What makes objects, or dicts where there is no entity; DataError names columns and fields that do not fit."""
    if entity is None:
        names = [column.name for column in columns]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"the query gives more than one column {', '.join(doubles)}; name them apart with AS")
        return lambda row: dict(zip(names, _values(columns, row), strict=True))
    return _object_reader(entity_model(entity), columns)


def _object_reader(entity: EntityModel, columns: Sequence[ResultColumn]) -> RowReader:
    fields = _fields(entity, columns)
    plan = mapping(entity)

    def read(row: Sequence[Any]) -> Any:
        values = {
            found.name: _restored(found, value)
            for found, value in zip(fields, _values(columns, row), strict=True)
            if found is not None
        }
        made = plan.populate(values)
        plan.values(made)
        return made

    return read


def _values(columns: Sequence[ResultColumn], row: Sequence[Any]) -> list[Any]:
    if len(row) != len(columns):
        raise DataError(f"the row has {len(row)} values, but {len(columns)} columns were announced")
    return [_value(column, found) for column, found in zip(columns, row, strict=True)]


def _value(column: ResultColumn, found: Any) -> Any:
    try:
        return value_of(column.type, found)
    except (ValueError, OverflowError) as error:
        raise DataError(f"column {column.name} = {found!r} is no {column.type} that kandle can hold") from error


def _restored(found: FieldModel, value: Any) -> Any:
    if value is None or not isinstance(found.type, UuidType):
        return value
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise DataError(f"{found.name} = {value!r} is no UUID") from error


def _fields(entity: EntityModel, columns: Sequence[ResultColumn]) -> list[FieldModel | None]:
    """The field of each column; None for bounds of windows that the entity has no fields for."""
    found = [_field(entity, column, columns) for column in columns]
    taken = [field.name for field in found if field is not None]
    missing = [field.name for field in entity.fields if field.name not in taken and field.default is MISSING]
    if missing:
        given = ", ".join(column.name for column in columns)
        raise DataError(f"the query gives no columns for {_of(entity, missing)}; it gives {given}: SELECT them, or use AS")
    doubles = sorted({name for name in taken if taken.count(name) > 1})
    if doubles:
        raise DataError(f"the query gives more than one column for {_of(entity, doubles)}; name them apart with AS")
    return found


def _field(entity: EntityModel, column: ResultColumn, columns: Sequence[ResultColumn]) -> FieldModel | None:
    field = _named(entity, column.name, {each.name for each in columns})
    if field is None:
        if column.name in WINDOW_BOUNDS:
            return None
        valid = ", ".join(each.name for each in entity.fields)
        raise DataError(
            f"column {column.name} of the query has no field in {entity.name}, which has {valid}; leave it out or use AS"
        )
    wanted = column_type(field.type)
    if not _fits(column.type, wanted):
        message = f"column {column.name} is {column.type}, which {entity.name}.{field.name} ({field.type}) does not take"
        raise DataError(f"{message}; CAST it to {wanted}")
    return field


def _fits(given: KsqlType, wanted: KsqlType) -> bool:
    """Whether a field takes the column; decimals of every precision, since each value is checked."""
    return given == wanted or (given.is_decimal and wanted.is_decimal) or (given, wanted) == (INTEGER, BIGINT)


def _named(entity: EntityModel, name: str, others: set[str]) -> FieldModel | None:
    """The field of that name, else the only one with it in other letters that no other column names exactly."""
    names = {each: field for field in entity.fields for each in (field.name, *field.aliases)}
    if name in names:
        return names[name]
    close = {field.name: field for each, field in names.items() if each.lower() == name.lower() and each not in others}
    if len(close) > 1:
        raise DataError(f"column {name} of the query may be any of {_of(entity, sorted(close))}; name one of them with AS")
    return next(iter(close.values()), None)


def _of(entity: EntityModel, names: Sequence[str]) -> str:
    return ", ".join(f"{entity.name}.{name}" for name in names)


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
class QueryHeader:
    """What comes before the rows."""

    query_id: str | None
    columns: tuple[ResultColumn, ...]


class Rows(AsyncIterator[T], Generic[T]):
    """Rows of a query; to be closed where they are not read to their end, for which `async with` is.

    For one task. Nothing is sent before the first row is asked for, or `begin` called.
    """

    def __init__(self, http: Http, request: QueryRequest, closed: Callable[[Rows[Any]], None]) -> None:
        self._http, self._request, self._closed = http, request, closed
        self._stream: Stream | None = None
        self._documents: Documents | None = None
        self._header: QueryHeader | None = None
        self._read: RowReader | None = None
        self._waiting: deque[list[Any]] = deque()
        self._count = 0
        self._is_over = self._is_closed = self._is_reading = False

    @property
    def header(self) -> QueryHeader | None:
        """Columns and number of the query, once it has begun."""
        return self._header

    async def begin(self) -> QueryHeader:
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

    async def _begun(self) -> QueryHeader:
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

    def _header_in(self, found: Mapping[str, Any]) -> QueryHeader:
        try:
            if "header" in found:
                return QueryHeader(found["header"].get("queryId"), columns_of(found["header"]["schema"]))
            pairs = zip(found["columnNames"], found["columnTypes"], strict=True)
            return QueryHeader(found.get("queryId"), tuple(ResultColumn(str(name), type_of(kind)) for name, kind in pairs))
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
