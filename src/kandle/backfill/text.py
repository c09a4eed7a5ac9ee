"""Files of text: chunks of whole records, CSV rows and NDJSON lines, packed or not.

A CSV chunk that is well-formed takes a fast path; any other takes a careful one that names the row at fault.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

import numpy as np
import polars as pl

from kandle.errors import InputError
from kandle.model.columns import Target, source_columns
from kandle.model.entity import EntityModel
from kandle.serde.json_reading import JsonProblem, JsonReader
from kandle.serde.port import entity_field

CHUNK_BYTES = 16 * 1024 * 1024
"""Bytes of text that are parsed at once: large enough to keep all cores busy, small beside any memory."""

LONGEST_RECORD = 4
"""Chunks that one record may span before an unclosed quote is assumed."""


class ByteFile:
    """The bytes of a file, unpacked if its name ends with .gz; an InputError names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._is_packed = path.suffix.lower() == ".gz"
        self._stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=self._file) if self._is_packed else self._file

    @property
    def position(self) -> int:
        """Bytes of the file itself that have been read."""
        return self._file.tell()

    def read(self, size: int) -> bytes:
        """Return the next `size` unpacked bytes, or what is left."""
        try:
            return self._stream.read(size)
        except EOFError as error:
            raise InputError(f"{self._path}: the gzip data end too early; the file is truncated") from error
        except gzip.BadGzipFile as error:
            raise InputError(f"{self._path}: is not gzip data, though its name ends with .gz") from error
        except zlib.error as error:
            raise InputError(f"{self._path}: the gzip data are damaged ({error})") from error
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()
        self._file.close()


def record_chunks(file: ByteFile, source: str, *, has_quotes: bool, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the file's bytes, cut where a record ends: with `has_quotes` never inside of quotes."""
    rest = b""
    while data := file.read(size):
        buffer = rest + data
        end = last_record_end(buffer) if has_quotes else buffer.rfind(b"\n") + 1
        if not end and len(buffer) > LONGEST_RECORD * size:
            raise InputError(f"{source}: a record of more than {len(buffer):,} bytes; is a quote or a line not closed?")
        if end:
            yield buffer[:end]
        rest = buffer[end:]
    if rest:
        yield rest


def last_record_end(buffer: bytes) -> int:
    """Return where the last whole record ends, outside of quotes, in bytes from the start; 0 if none ends."""
    end = buffer.rfind(b"\n") + 1
    is_inside = buffer.count(b'"', 0, end) % 2 == 1
    while is_inside and end:
        previous = buffer.rfind(b"\n", 0, end - 1) + 1
        is_inside ^= buffer.count(b'"', previous, end) % 2 == 1
        end = previous
    return end


def first_record_end(buffer: bytes) -> int:
    """Return where the first record ends, with its line break; the whole length if nothing follows it."""
    end = buffer.find(b"\n") + 1
    while end and buffer.count(b'"', 0, end) % 2 == 1:
        end = buffer.find(b"\n", end) + 1
    return end or len(buffer)


COMMA, QUOTE = ord(","), ord('"')
COLUMN = "column_{}"
"""What the parser calls the columns of text without a header, counted from 1."""


def csv_frames(path: Path, entity: EntityModel) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield frames of the columns that the entity needs, as text, each with the bytes read so far."""
    source = str(path)
    with ByteFile(path) as file:
        table: CsvTable | None = None
        for chunk in record_chunks(file, source, has_quotes=True):
            end = 0
            if table is None:
                end = first_record_end(chunk)
                table = CsvTable(source, entity, header(source, chunk[:end]))
            yield table.parse(chunk[end:]), file.position
        if table is None:
            raise InputError(f"{source}: the file is empty; a CSV file begins with a line that names its columns")


def header(source: str, line: bytes) -> list[str]:
    """Return the names of the columns from the first record of the file."""
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: the first line is not UTF-8 text (byte {error.start})") from error
    names = next(csv.reader(io.StringIO(text, newline="")), [])
    if not any(name.strip() for name in names):
        raise InputError(f"{source}: the first line is empty; it must name the columns")
    return [name.strip() for name in names]


class CsvTable:
    """The columns of one CSV file and the rows of it that have been parsed."""

    def __init__(self, source: str, entity: EntityModel, names: list[str]) -> None:
        self._source = source
        self._width = len(names)
        self._rows = 0
        needed = list(source_columns(entity, names, source).values())
        doubled = [name for name in needed if names.count(name) > 1]
        if doubled:
            raise InputError(f"{source}: the first line names column {doubled[0]!r} {names.count(doubled[0])} times")
        self._schema = {COLUMN.format(position): pl.String() for position in range(1, self._width + 1)}
        self._renamed = {COLUMN.format(names.index(name) + 1): name for name in needed}

    def parse(self, body: bytes) -> pl.DataFrame:
        """Return whole records as a frame of text; InputError names the first row that is malformed."""
        frame = self._fast(body)
        if frame is None:
            frame = self._careful(body)
        self._rows += frame.height
        return frame.select(pl.col(position).alias(name) for position, name in self._renamed.items())

    def _fast(self, body: bytes) -> pl.DataFrame | None:
        """Return the frame if every row has as many fields as the header, else None.

        The parser itself fills short rows up without an error.
        """
        if not body:
            return pl.DataFrame(schema=self._schema)
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                schema=self._schema,
                columns=list(self._renamed),
                infer_schema=False,
                empty_string_is_null=False,
            )
        except pl.exceptions.PolarsError:
            # The careful way finds the row.
            return None
        return frame if separators(body) == frame.height * (self._width - 1) else None

    def _careful(self, body: bytes) -> pl.DataFrame:
        """Parse row by row; blank lines are skipped."""
        rows: list[list[str]] = []
        try:
            for row in csv.reader(io.StringIO(self._decoded(body), newline=""), strict=True):
                if row:
                    self._check_width(row, len(rows))
                    rows.append(row)
        except csv.Error as error:
            raise InputError(f"{self._source}, row {self._rows + len(rows) + 1}: {error}") from error
        return pl.DataFrame(rows, schema=self._schema, orient="row")

    def _decoded(self, body: bytes) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            row = self._rows + body.count(b"\n", 0, error.start) + 1
            raise InputError(f"{self._source}, row {row}: not UTF-8 text (byte {body[error.start]:#04x})") from error

    def _check_width(self, row: list[str], before: int) -> None:
        if len(row) != self._width:
            number = self._rows + before + 1
            raise InputError(f"{self._source}, row {number}: {len(row)} fields, but the first line names {self._width} columns")


def separators(body: bytes) -> int:
    """Count the commas outside of quotes."""
    octets = np.frombuffer(body, np.uint8)
    commas = octets == COMMA
    if b'"' in body:
        is_inside = np.bitwise_xor.accumulate(octets == QUOTE)
        commas &= ~is_inside
    return int(np.count_nonzero(commas))


def ndjson_frames(path: Path, entity: EntityModel) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield physical frames of the entity's fields, each with the bytes read so far."""
    source = str(path)
    with ByteFile(path) as file:
        table = JsonLines(source, entity)
        for chunk in record_chunks(file, source, has_quotes=False):
            yield table.parse(chunk), file.position
        if not file.position:
            raise InputError(f"{source}: the file is empty; an NDJSON file has one object a line")


class JsonLines:
    """The lines of one NDJSON file that have been parsed; values are read as those of JSON topics are.

    Args:
        source: The name of the file, for messages.
        entity: Whose fields the objects hold.
    """

    def __init__(self, source: str, entity: EntityModel) -> None:
        self._source = source
        self._entity = entity
        self._reader = JsonReader([entity_field(field) for field in entity.fields])
        self._lines = 0
        self._rows = 0

    def parse(self, body: bytes) -> pl.DataFrame:
        """Return a physical frame of whole lines.

        Raises:
            InputError: A line is not a JSON object.
            DataError: A value does not fit its field, or is missing.
        """
        if not self._lines:
            body = body.removeprefix(codecs.BOM_UTF8)
        lines = body.split(b"\n")
        records = [line for line in lines if line and not line.isspace()]
        frame, problems = self._reader.read(records)
        if problems:
            first = min(problems)
            self._refuse(records[first], problems[first], first, lines)
        self._lines += body.count(b"\n")
        self._rows += frame.height
        return frame

    def _refuse(self, record: bytes, problem: JsonProblem, position: int, lines: Sequence[bytes]) -> NoReturn:
        """Raise the error of the record at this position among those that are not blank."""
        if problem.field is not None:
            field = self._entity.field(problem.field.name)
            raise Target(self._entity, field, self._source, self._rows + 1).error(problem.reason, position)
        filled = [number for number, line in enumerate(lines, self._lines + 1) if line and not line.isspace()]
        where = f"{self._source}, line {filled[position]}"
        if problem.missing is not None:
            optional = [field.name for field in self._entity.fields if field.name != problem.missing]
            source_columns(self._entity, [*json.loads(record), *optional], where)
        raise InputError(f"{where}: {problem.reason}")
