"""Inserts of rows into a stream or table, each of which the server acknowledges."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from anyio import CancelScope

from kandle.errors import DataError, KsqlError, KsqlUnavailableError
from kandle.ksql.types import quoted, source_name
from kandle.ksqldb.columns import json_of
from kandle.ksqldb.failures import was_never_sent
from kandle.ksqldb.http import Http, Lines, Repeat, Stream
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping

PATH = "/inserts-stream"
REQUEST_BYTES = 32_000
"""Maximum size of a request.

It is less than the initial flow-control window of HTTP/2 (65,535 bytes): a larger request would wait for the server to open
the window, and would not see an error that the server sends instead.
"""

RowSource = Iterable[Any] | AsyncIterable[Any]

EntityOf = Callable[[type], EntityModel]
"""Returns the metadata of a class as a context has it."""


@dataclass(slots=True)
class InsertRequest:
    """Rows that are sent together; `first` is the number of the first."""

    first: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes) -> None:
        """Add the line of a row."""
        self.lines.append(line)
        self.size += len(line)

    @property
    def end(self) -> int:
        """The number of the row after the last."""
        return self.first + len(self.lines)


async def insert(http: Http, target: str, rows: RowSource, entity_of: EntityOf) -> int:
    """Insert rows, and return when the server has acknowledged all.

    Rows are collected into requests of at most `REQUEST_BYTES`, so rows of a slow source wait until a request is full. The
    first error ends the insert; nothing is sent twice.

    Args:
        http: The connections to the server.
        target: The name of the stream or table.
        rows: Objects of entities, or mappings by column.
        entity_of: Returns the metadata of a class.

    Returns:
        The number of rows.

    Raises:
        DataError: A row cannot be inserted; those of earlier requests are inserted.
        KsqlError: The server refuses a row, whose number the message gives, counted from 0; those before it are inserted.
        KsqlUnavailableError: The server cannot be reached, or the connection broke; the message says which rows are
            inserted for certain.
    """
    subject = f"insert into {target}"
    head = json.dumps({"target": source_name(target)}, ensure_ascii=False).encode() + b"\n"
    count = 0
    stream = http.stream(subject)
    try:
        async with aclosing(_requests(rows, entity_of)) as requests:
            async for request in requests:
                await _Insertion(http, stream, subject, request).run(head)
                count = request.end
    finally:
        with CancelScope(shield=True):
            await stream.aclose()
    return count


async def _requests(rows: RowSource, entity_of: EntityOf) -> AsyncGenerator[InsertRequest, None]:
    request = InsertRequest(0)
    async with aclosing(_iterate(rows)) as iterator:
        async for row in iterator:
            line = _line(row, request.end, entity_of)
            if request.lines and request.size + len(line) > REQUEST_BYTES:
                yield request
                request = InsertRequest(request.end)
            request.add(line)
    if request.lines:
        yield request


async def _iterate(rows: RowSource) -> AsyncGenerator[Any, None]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row


def _line(row: Any, number: int, entity_of: EntityOf) -> bytes:
    """Return the line of a row; names are quoted, since the server converts others to upper case."""
    try:
        values = {quoted(name): json_of(value) for name, value in _values(row, entity_of).items()}
    except DataError as error:
        raise DataError(f"row {number}: {error}") from error
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _values(row: Any, entity_of: EntityOf) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    entity = entity_of(type(row))
    values = mapping(entity).values(row)
    for header in entity.headers:
        if values.pop(header.name) is not None:
            label = f"{entity.name}.{header.name}"
            raise DataError(f"{label} is a header, which ksqlDB cannot insert; add the row to the topic instead")
    return values


class _Insertion:
    """One request and its acknowledgements."""

    def __init__(self, http: Http, stream: Stream, subject: str, request: InsertRequest) -> None:
        self._http, self._stream, self._subject, self._request = http, stream, subject, request
        self._acknowledged: set[int] = set()

    async def run(self, head: bytes) -> None:
        body = head + b"".join(self._request.lines)
        try:
            await self._http.repeated(lambda: self._stream.open(PATH, body), Repeat.UNSENT)
            await self._read()
        except KsqlUnavailableError as error:
            if was_never_sent(error):
                raise
            raise self._uncertain(error.message, error.code) from error

    async def _read(self) -> None:
        lines = Lines()
        while (part := await self._stream.part()) is not None:
            self._take(lines, part)
        if len(self._acknowledged) < len(self._request.lines):
            raise self._http.failures.cut(self._subject, len(self._acknowledged), "acknowledgements are missing")

    def _take(self, lines: Lines, part: bytes) -> None:
        try:
            for content in lines.feed(part):
                if content["status"] != "ok":
                    raise self._refused(content)
                self._acknowledged.add(int(content["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._http.failures.nonsense(self._subject, "an acknowledgement", part) from error

    def _refused(self, content: Mapping[str, Any]) -> KsqlError:
        row = self._request.first + int(content["seq"])
        return self._http.failures.error_row(f"{self._subject}, row {row}", dict(content))

    def _uncertain(self, message: str, code: int | None) -> KsqlUnavailableError:
        """Return the error for a connection that broke before all rows were acknowledged."""
        first, end = self._request.first, self._request.end
        pending = [number for number in range(end - first) if number not in self._acknowledged]
        begin = first + (pending[0] if pending else 0)
        rows = f"rows {begin} to {end - 1} may have been inserted or not"
        return KsqlUnavailableError(f"{message}; {rows}, and are not sent again", code)
