"""Files of tables, one class for each format, which grow by frames in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import polars as pl

from kandle.errors import DataError
from kandle.model.columns import logical_schema
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import BytesType, DateType, FloatType, StringMapType, StringType, TimestampType, UuidType
from kandle.serde.json import map_objects, quoted

# Formats of datetimes.
MILLISECONDS, MICROSECONDS = "%Y-%m-%dT%H:%M:%S%.3fZ", "%Y-%m-%dT%H:%M:%S%.6fZ"


def csv_values(entity: EntityModel, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with datetimes, bytes and maps as text, which Polars would write otherwise."""
    return frame.select(_TEXTS.get(type(field.type), _itself)(pl.col(field.name)) for field in entity.fields)


def ndjson_lines(entity: EntityModel, frame: pl.DataFrame) -> pl.Series:
    """Return one JSON object per row, with its members in the order of the fields."""
    for field in entity.fields:
        if isinstance(field.type, FloatType) and not frame[field.name].is_finite().all():
            raise DataError(
                f"{entity.name}.{field.name} is infinite or not a number, which JSON cannot hold; use format csv or parquet"
            )
    parts: list[pl.Expr] = []
    for position, field in enumerate(entity.fields):
        start = "{" if position == 0 else ","
        parts += [pl.lit(f"{start}{json.dumps(field.name)}:"), _json_value(field).fill_null("null")]
    return frame.select(line=pl.concat_str([*parts, pl.lit("}")])).to_series()


def _json_value(field: FieldModel) -> pl.Expr:
    column = pl.col(field.name)
    text = _TEXTS.get(type(field.type), _itself)(column)
    if isinstance(field.type, StringType | UuidType):
        return quoted(text)
    if isinstance(field.type, TimestampType | DateType | BytesType):
        return pl.concat_str(pl.lit('"'), text.cast(pl.String), pl.lit('"'))
    return text.cast(pl.String)


def _instant(column: pl.Expr) -> pl.Expr:
    """Format datetimes with milliseconds where they are enough, else with microseconds."""
    is_coarse = column.dt.timestamp("us") % 1000 == 0
    return pl.when(is_coarse).then(column.dt.strftime(MILLISECONDS)).otherwise(column.dt.strftime(MICROSECONDS))


def _base64(column: pl.Expr) -> pl.Expr:
    return column.bin.encode("base64")


def _itself(column: pl.Expr) -> pl.Expr:
    return column


_TEXTS: dict[type, Callable[[pl.Expr], pl.Expr]] = {
    TimestampType: _instant,
    BytesType: _base64,
    StringMapType: map_objects,
}


PART_ROWS = 250_000
"""Rows that are collected before a part of a Parquet file is written."""


class TableFile(Protocol):
    """One file that grows by frames of the entity's logical columns."""

    def write(self, frame: pl.DataFrame) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class CsvFile:
    """A CSV file: a line of names, then rows; NULL is an empty field."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._entity = entity
        self._file: BinaryIO = path.open("wb")
        self.write(pl.DataFrame(schema=logical_schema(entity)), include_header=True)

    def write(self, frame: pl.DataFrame, *, include_header: bool = False) -> None:
        csv_values(self._entity, frame).write_csv(self._file, include_header=include_header)

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class NdjsonFile:
    """An NDJSON file: one object a line, decimals as numbers with all their digits."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._entity = entity
        self._file: BinaryIO = path.open("wb")

    def write(self, frame: pl.DataFrame) -> None:
        if frame.height:
            lines = ndjson_lines(self._entity, frame)
            self._file.write(lines.str.join("\n").item().encode())
            self._file.write(b"\n")

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class ParquetFile:
    """A Parquet file, which cannot grow: it is written in parts that are joined at the end."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._path = path
        self._parts: list[Path] = []
        self._waiting = [pl.DataFrame(schema=logical_schema(entity))]
        self._rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        self._waiting.append(frame)
        self._rows += frame.height
        if self._rows >= PART_ROWS:
            self._write_part()

    def _write_part(self) -> None:
        part = self._path.with_name(f"{self._path.name}.{len(self._parts)}")
        pl.concat(self._waiting).write_parquet(part, compression="lz4", statistics=False)
        self._parts.append(part)
        self._waiting = [self._waiting[0].clear()]
        self._rows = 0

    def finish(self) -> None:
        if not self._parts:
            pl.concat(self._waiting).write_parquet(self._path)
            return
        self._write_part()
        pl.scan_parquet(self._parts, glob=False).sink_parquet(self._path, maintain_order=True)
        for part in self._parts:
            part.unlink()

    def close(self) -> None:
        self._waiting.clear()


FORMATS: dict[str, type[CsvFile] | type[NdjsonFile] | type[ParquetFile]] = {
    "parquet": ParquetFile,
    "csv": CsvFile,
    "ndjson": NdjsonFile,
}
