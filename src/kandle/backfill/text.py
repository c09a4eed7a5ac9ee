"""CSV: frames of text columns, by a fast path for well-formed chunks and a careful one that names the row at fault."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from kandle.backfill.chunks import ByteFile, first_record_end, record_chunks
from kandle.errors import InputError
from kandle.model.columns import source_columns
from kandle.model.entity import EntityModel

COMMA, QUOTE = ord(","), ord('"')
COLUMN = "column_{}"
"""What the parser calls the columns of text without a header, counted from 1."""


def csv_frames(path: Path, entity: EntityModel) -> Iterator[tuple[pl.DataFrame, int]]:
    """Frames of the columns that the entity needs, as text, each with the bytes of the file read so far."""
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
    """The names of the columns, as the first record of the file says them."""
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
        """Whole records as a frame of text; InputError names the first row that is malformed."""
        frame = self._fast(body)
        if frame is None:
            frame = self._careful(body)
        self._rows += frame.height
        return frame.select(pl.col(position).alias(name) for position, name in self._renamed.items())

    def _fast(self, body: bytes) -> pl.DataFrame | None:
        """The frame, if every row has as many fields as the header; the parser itself fills short rows up silently."""
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
            # Which row it was, the careful way says.
            return None
        return frame if separators(body) == frame.height * (self._width - 1) else None

    def _careful(self, body: bytes) -> pl.DataFrame:
        """The same row by row; blank lines are passed over."""
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
            place = f"{self._source}, row {self._rows + before + 1}"
            raise InputError(f"{place}: {len(row)} fields, but the first line names {self._width} columns")


def separators(body: bytes) -> int:
    """Commas outside of quotes."""
    octets = np.frombuffer(body, np.uint8)
    commas = octets == COMMA
    if b'"' in body:
        is_inside = np.bitwise_xor.accumulate(octets == QUOTE)
        commas &= ~is_inside
    return int(np.count_nonzero(commas))
