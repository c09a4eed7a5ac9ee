"""Rows of a query, one by one while they arrive, as objects of an entity or as dicts."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from anyio import CancelScope

from kandle.errors import DataError, KsqlError, KsqlUnavailableError
from kandle.ksql.types import BIGINT, INTEGER, KsqlType, column_type
from kandle.ksqldb.columns import ResultColumn, columns_of, type_of, value_of
from kandle.ksqldb.http import OK, Documents, Http, Repeat, Stream, documents
from kandle.ksqldb.results import LACKING
from kandle.model.entity import MISSING, EntityModel, FieldModel
from kandle.model.mapping import mapping
from kandle.model.types import UuidType

RowReader = Callable[[Sequence[Any]], Any]

WINDOW_BOUNDS = ("WINDOWSTART", "WINDOWEND")
"""Columns that `SELECT *` adds to those of a windowed table; declared columns cannot have these names."""


def row_reader(entity: EntityModel | None, columns: Sequence[ResultColumn]) -> RowReader:
    """Return a function that converts rows.

    Args:
        entity: The metadata of the objects' class; None returns dicts by column.
        columns: The columns of the result.

    Returns:
        A function from the values of a row to an object.

    Raises:
        DataError: Columns and fields do not fit; the message names them.
    """
    if entity is None:
        names = [column.name for column in columns]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"the query returns more than one column {', '.join(doubles)}; rename them with AS")
        return lambda row: dict(zip(names, _values(columns, row), strict=True))
    return _object_reader(entity, columns)


def _object_reader(entity: EntityModel, columns: Sequence[ResultColumn]) -> RowReader:
    fields = _fields(entity, columns)
    plan = mapping(entity)

    def read(row: Sequence[Any]) -> Any:
        values = {
            field.name: _restored(field, value)
            for field, value in zip(fields, _values(columns, row), strict=True)
            if field is not None
        }
        result = plan.populate(values)
        # Reading the values back checks them against the types of the fields.
        plan.values(result)
        return result

    return read


def _values(columns: Sequence[ResultColumn], row: Sequence[Any]) -> list[Any]:
    if len(row) != len(columns):
        raise DataError(f"the row has {len(row)} values, but the result has {len(columns)} columns")
    return [_value(column, value) for column, value in zip(columns, row, strict=True)]


def _value(column: ResultColumn, value: Any) -> Any:
    try:
        return value_of(column.type, value)
    except (ValueError, OverflowError) as error:
        raise DataError(f"column {column.name} = {value!r} is not a valid {column.type}") from error


def _restored(field: FieldModel, value: Any) -> Any:
    if value is None or not isinstance(field.type, UuidType):
        return value
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise DataError(f"{field.name} = {value!r} is not a valid UUID") from error


def _fields(entity: EntityModel, columns: Sequence[ResultColumn]) -> list[FieldModel | None]:
    """Return the field of each column; None for window bounds that the entity has no fields for."""
    fields = [_field(entity, column, columns) for column in columns]
    names = [field.name for field in fields if field is not None]
    missing = [field.name for field in entity.fields if field.name not in names and field.default is MISSING]
    if missing:
        given = ", ".join(column.name for column in columns)
        fix = "add them to SELECT, or rename columns with AS"
        raise DataError(f"the query returns no columns for {_qualified(entity, missing)}; it returns {given}: {fix}")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise DataError(f"the query returns more than one column for {_qualified(entity, doubles)}; rename them with AS")
    return fields


def _field(entity: EntityModel, column: ResultColumn, columns: Sequence[ResultColumn]) -> FieldModel | None:
    field = _field_named(entity, column.name, {other.name for other in columns})
    if field is None:
        if column.name in WINDOW_BOUNDS:
            return None
        valid = ", ".join(field.name for field in entity.fields)
        fix = "leave it out, or rename it with AS"
        raise DataError(f"column {column.name} of the query has no field in {entity.name}, which has {valid}; {fix}")
    wanted = column_type(field.type)
    if not _fits(column.type, wanted):
        message = f"column {column.name} is {column.type}, which does not fit {entity.name}.{field.name} ({field.type})"
        raise DataError(f"{message}; CAST it to {wanted}")
    return field


def _fits(given: KsqlType, wanted: KsqlType) -> bool:
    """Return whether a field accepts a column; decimals of any precision fit, since each value is checked."""
    return given == wanted or (given.is_decimal and wanted.is_decimal) or (given, wanted) == (INTEGER, BIGINT)


def _field_named(entity: EntityModel, name: str, columns: set[str]) -> FieldModel | None:
    """Return the field of a name; otherwise the only one with this name in other case that no column names exactly."""
    fields = {alias: field for field in entity.fields for alias in (field.name, *field.aliases)}
    if name in fields:
        return fields[name]
    close = {field.name: field for alias, field in fields.items() if alias.lower() == name.lower() and alias not in columns}
    if len(close) > 1:
        candidates = _qualified(entity, sorted(close))
        raise DataError(f"column {name} of the query may be any of {candidates}; rename it with AS")
    return next(iter(close.values()), None)


def _qualified(entity: EntityModel, names: Sequence[str]) -> str:
    return ", ".join(f"{entity.name}.{name}" for name in names)


T = TypeVar("T")

CLOSE = "/close-query"
UNKNOWN_QUERY = "No query with id"
MARKS = ("finalMessage", "continuationToken", "consistencyToken")
"""Members of objects between rows that carry no data."""


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A query and the entity of its rows' objects; a push query runs until it is closed.

    `subject` is the name of the query in messages.
    """

    path: str
    body: bytes
    subject: str
    entity: EntityModel | None = None
    is_push: bool = False


@dataclass(frozen=True, slots=True)
class RowsHeader:
    """The id and the columns of a query, which precede its rows."""

    query_id: str | None
    columns: tuple[ResultColumn, ...]


class Rows(AsyncIterator[T], Generic[T]):
    """Rows of a query, for one task.

    Nothing is sent before the first row is requested or `begin` is called. Rows that are not read to their end are closed
    by `aclose`, or by `async with`.
    """

    def __init__(self, http: Http, request: QueryRequest, on_close: Callable[[Rows[Any]], None]) -> None:
        self._http, self._request, self._on_close = http, request, on_close
        self._stream: Stream | None = None
        self._documents: Documents | None = None
        self._header: RowsHeader | None = None
        self._read: RowReader | None = None
        self._waiting: deque[list[Any]] = deque()
        self._count = 0
        self._is_over = self._is_closed = self._is_reading = False

    @property
    def header(self) -> RowsHeader | None:
        """The id and the columns of the query; None before it has begun."""
        return self._header

    async def begin(self) -> RowsHeader:
        """Send the query and wait for its columns; raise DataError if the entity has no fields for them."""
        if self._header is None:
            repeat = Repeat.UNSENT if self._request.is_push else Repeat.ALWAYS
            try:
                self._header = await self._http.repeated(self._open, repeat)
                self._read = row_reader(self._request.entity, self._header.columns)
            except BaseException:
                await self.aclose()
                raise
        return self._header

    async def _open(self) -> RowsHeader:
        """Send the query once, without what is left of an earlier attempt."""
        await self._close_stream()
        self._documents, self._is_over = None, False
        self._waiting.clear()
        self._stream = self._http.stream(self._request.subject)
        await self._stream.open(self._request.path, self._request.body)
        while not (values := await self._more()) and not self._is_over:
            pass
        if not values or not isinstance(values[0], dict):
            raise self._no_header(str(values[:1]) if values else "")
        self._raise_error(values[0])
        self._take(values[1:])
        return self._parse_header(values[0])

    def _parse_header(self, content: Mapping[str, Any]) -> RowsHeader:
        try:
            if "header" in content:
                return RowsHeader(content["header"].get("queryId"), columns_of(content["header"]["schema"]))
            pairs = zip(content["columnNames"], content["columnTypes"], strict=True)
            columns = tuple(ResultColumn(str(name), type_of(kind)) for name, kind in pairs)
            return RowsHeader(content.get("queryId"), columns)
        except LACKING as error:
            raise self._no_header(str(content)) from error

    def _no_header(self, text: str) -> KsqlError:
        return self._http.failures.nonsense(self._request.subject, "a line with the columns", text.encode())

    async def _more(self) -> list[Any]:
        """Wait for the next part of the response and return the values that it completes."""
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
            count = self._count + len(self._waiting)
            raise self._http.failures.cut(self._request.subject, count, f"invalid JSON: {error}") from error

    def _take(self, values: list[Any]) -> None:
        for value in values:
            row = value["row"]["columns"] if isinstance(value, dict) and "row" in value else value
            if isinstance(row, list):
                self._waiting.append(row)
            elif not isinstance(row, dict) or not any(mark in row for mark in MARKS):
                self._raise_error(row)
                raise self._http.failures.nonsense(self._request.subject, "a row", str(row).encode())

    def _raise_error(self, value: Any) -> None:
        """Raise KsqlError if a value is an error of the server."""
        content = value.get("errorMessage", value) if isinstance(value, dict) else value
        if isinstance(content, dict) and ("error_code" in content or str(content.get("@type", "")).endswith("error")):
            raise self._http.failures.error_row(self._request.subject, content)

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
                # `aclose` was called by another task while this one was waiting.
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
            result: T = self._read(self._waiting.popleft())
        except DataError as error:
            await self.aclose()
            raise DataError(f"{self._request.subject}, row {self._count}: {error}") from error
        self._count += 1
        return result

    async def aclose(self) -> None:
        """Close the connection, and end a push query at the server."""
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
        """Request the end of the query by HTTP/2.

        With HTTP/1.1 the connection is busy with the rows; the query ends when the connection is closed.
        """
        assert self._stream is not None and self._header is not None
        if not self._stream.is_http2:
            return
        subject = f"end of query {self._header.query_id}"
        # If the connection is broken, the server has ended the query already.
        with suppress(KsqlUnavailableError):
            answer = await self._stream.ask(CLOSE, {"queryId": self._header.query_id}, subject)
            if answer.status != OK and UNKNOWN_QUERY.encode() not in answer.body:
                raise self._http.failures.refusal(subject, answer.status, answer.body)

    async def _abandon(self) -> None:
        self._is_closed = True
        self._waiting.clear()
        self._on_close(self)
        with CancelScope(shield=True):
            await self._close_stream()

    async def _close_stream(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
