"""Rows into a stream or table, each of them acknowledged."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from anyio import CancelScope

from kandle.errors import DataError, KsqlError, KsqlUnavailableError
from kandle.ksql.types import quoted, source_name
from kandle.ksqldb.columns import json_of
from kandle.ksqldb.failures import was_never_sent
from kandle.ksqldb.http import Http, Lines, Repeat, Stream
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping

PATH = "/inserts-stream"
REQUEST_BYTES = 32_000
"""Below what HTTP/2 lets a client send unasked: a request that must wait for the server would not see its error."""

RowSource = Iterable[Any] | AsyncIterable[Any]


@dataclass(slots=True)
class Request:
    """Rows that are sent together, and the number of the first."""

    first: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)

    @property
    def end(self) -> int:
        return self.first + len(self.lines)


async def insert(http: Http, target: str, rows: RowSource) -> int:
    """Write objects of entities, or mappings by column, and give their number once all are acknowledged.

    Rows are gathered into requests, so those of a slow source wait for one another. The first error ends it and says which row,
    counted from 0; rows before it are there. Nothing is sent twice.
    """
    what = f"insert into {target}"
    head = json.dumps({"target": source_name(target)}, ensure_ascii=False).encode() + b"\n"
    count = 0
    stream = http.stream(what)
    try:
        async with aclosing(_requests(rows)) as requests:
            async for request in requests:
                await _Insertion(http, stream, what, request).run(head)
                count = request.end
    finally:
        with CancelScope(shield=True):
            await stream.aclose()
    return count


async def _requests(rows: RowSource) -> AsyncGenerator[Request, None]:
    request = Request(0)
    async with aclosing(_each(rows)) as each:
        async for row in each:
            line = _line(row, request.end)
            if request.lines and request.size + len(line) > REQUEST_BYTES:
                yield request
                request = Request(request.end)
            request.add(line)
    if request.lines:
        yield request


async def _each(rows: RowSource) -> AsyncGenerator[Any, None]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row


def _line(row: Any, number: int) -> bytes:
    """The row as it is sent: names in backticks, for the server would raise them to upper case."""
    try:
        values = {quoted(name): json_of(value) for name, value in _values(row).items()}
    except DataError as error:
        raise DataError(f"row {number}: {error}") from error
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _values(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    entity = entity_model(type(row))
    values = mapping(entity).values(row)
    for found in entity.headers:
        if values.pop(found.name) is not None:
            raise DataError(f"{entity.name}.{found.name} is a header, which ksqlDB does not write; add the row to the topic")
    return values


class _Insertion:
    """One request with its acknowledgements."""

    def __init__(self, http: Http, stream: Stream, what: str, request: Request) -> None:
        self._http, self._stream, self._what, self._request = http, stream, what, request
        self._acknowledged: set[int] = set()

    async def run(self, head: bytes) -> None:
        body = head + b"".join(self._request.lines)
        try:
            await self._http.repeated(lambda: self._stream.open(PATH, body), Repeat.UNSENT)
            await self._read()
        except KsqlUnavailableError as error:
            if was_never_sent(error):
                raise
            raise self._unsure(error.message, error.code) from error

    async def _read(self) -> None:
        lines = Lines()
        while (part := await self._stream.part()) is not None:
            self._take(lines, part)
        if len(self._acknowledged) < len(self._request.lines):
            raise self._http.failures.cut(self._what, len(self._acknowledged), "the answer ends too early")

    def _take(self, lines: Lines, part: bytes) -> None:
        try:
            for said in lines.feed(part):
                if said["status"] != "ok":
                    raise self._refused(said)
                self._acknowledged.add(int(said["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._http.failures.nonsense(self._what, "an acknowledgement", part) from error

    def _refused(self, said: Mapping[str, Any]) -> KsqlError:
        row = self._request.first + int(said["seq"])
        return self._http.failures.error_row(f"{self._what}, row {row}", dict(said))

    def _unsure(self, message: str, code: int | None) -> KsqlUnavailableError:
        first, end = self._request.first, self._request.end
        known = [number for number in range(end - first) if number not in self._acknowledged]
        begin = first + (known[0] if known else 0)
        return KsqlUnavailableError(f"{message}; rows {begin} to {end - 1} may be there or not, and are not sent again", code)
