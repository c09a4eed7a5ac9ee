"""Which Avro types can be read as which field types, and how columns of them are read from many messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import DataError
from kandle.model.types import (
    DAY_BOUNDS,
    INSTANT_BOUNDS,
    INTEGER_BOUNDS,
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.avro_cursor import ColumnCursor
from kandle.serde.avro_single import INT_BOUND, NANOS, MessageReader, is_string_map, timestamp_unit, unique_entries
from kandle.serde.port import BoolArray, RecordField
from kandle.serde.schema import AvroType
from kandle.time.arrays import IntArray

ReadColumn = Callable[[ColumnCursor], pl.Series]
"""Reads a column; NULL where there is no value or where the message is marked."""


def _string_map(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if not is_string_map(writer):
        return None
    kind = field.type.physical
    return lambda cursor: pl.Series(_single_values(cursor, writer, unique_entries), dtype=kind)


def _single_values(cursor: ColumnCursor, writer: AvroType, convert: Callable[[Any], Any] | None = None) -> list[Any]:
    """Return values of any type, read from one message after the other; None where a message is marked."""
    values: list[Any] = []
    positions = cursor.positions.copy()
    block = cursor.block
    messages = zip(cursor.rows.tolist(), positions.tolist(), cursor.ends.tolist(), strict=True)
    for number, (row, start, end) in enumerate(messages):
        reader = MessageReader(block.bytes, start, end)
        try:
            value = reader.value(writer)
            if convert is not None:
                value = convert(value)
        except DataError as error:
            block.reasons.setdefault(row, f"{cursor.label}: {error}")
            reader.position, value = end, None
        positions[number] = reader.position
        values.append(value)
    cursor.positions = positions
    return values


def skip(cursor: ColumnCursor, writer: AvroType) -> None:
    """Move on behind a value that is not read.

    Args:
        cursor: Where the values start.
        writer: Their type.
    """
    if writer.kind in ("int", "long", "enum"):
        cursor.varints()
    elif writer.kind in ("string", "bytes"):
        cursor.spans()
    elif writer.kind in _SIZES or writer.kind == "fixed":
        cursor.fixed(_SIZES.get(writer.kind, writer.size))
    elif writer.kind == "union":
        _skip_union(cursor, writer)
    elif writer.kind == "record":
        for field in writer.fields:
            skip(cursor, field.type)
    elif writer.kind != "null":
        _single_values(cursor, writer)


_SIZES = {"boolean": 1, "float": 4, "double": 8}


def _skip_union(cursor: ColumnCursor, writer: AvroType) -> None:
    picks = cursor.choices(len(writer.parts), "branch of a union")
    for number in np.unique(picks).tolist():
        chosen = np.flatnonzero(picks == number)
        part = cursor.part(chosen)
        skip(part, writer.parts[number])
        cursor.join(part, chosen)


def column_reader(field: RecordField, writer: AvroType) -> ReadColumn | None:
    """Return how columns of a writer's type are read as the field's; None if they cannot be.

    Args:
        field: The field that the column belongs to.
        writer: The type with which its values were written.
    """
    if writer.kind == "union":
        return _union(field, writer.parts)
    if writer.kind == "null":
        return _nulls(field) if field.nullable else None
    return _READERS[type(field.type)](field, writer)


def _nulls(field: RecordField) -> ReadColumn:
    return lambda cursor: pl.Series([None], dtype=field.type.physical).extend_constant(None, len(cursor) - 1).head(len(cursor))


def _union(field: RecordField, parts: Sequence[AvroType]) -> ReadColumn | None:
    readers = [_nulls(field) if part.kind == "null" else column_reader(field, part) for part in parts]
    if all(part.kind == "null" or read is None for part, read in zip(parts, readers, strict=True)):
        return None

    def read(cursor: ColumnCursor) -> pl.Series:
        picks = cursor.choices(len(parts), "branch of a union")
        present = np.flatnonzero(np.bincount(picks, minlength=len(parts)))
        columns, order = [], np.empty(len(cursor), np.int64)
        at = 0
        for number in present.tolist():
            chosen = np.flatnonzero(picks == number) if len(present) > 1 else np.arange(len(cursor))
            column = _branch(cursor, chosen, readers[number], f"{parts[number]} is not {field.words}", field)
            if len(present) == 1:
                return column
            columns.append(column)
            order[chosen] = np.arange(at, at + len(chosen))
            at += len(chosen)
        return pl.concat(columns).gather(order) if columns else pl.Series(dtype=field.type.physical)

    return read


def _branch(cursor: ColumnCursor, chosen: IntArray, read: ReadColumn | None, misfit: str, field: RecordField) -> pl.Series:
    if read is None:
        good = np.ones(len(cursor), np.bool_)
        good[chosen] = False
        cursor.require(good, misfit)
        return _nulls(field)(cursor.part(chosen))
    if len(chosen) == len(cursor):
        return read(cursor)
    part = cursor.part(chosen)
    column = read(part)
    cursor.join(part, chosen)
    return column


def _boolean(field: RecordField, writer: AvroType) -> ReadColumn | None:
    return (lambda cursor: pl.Series(cursor.booleans())) if writer.kind == "boolean" else None


def _whole(cursor: ColumnCursor, writer: AvroType) -> IntArray:
    values = cursor.varints()
    if writer.kind == "int":
        cursor.require((values >= -INT_BOUND) & (values < INT_BOUND), "an int has more than 32 bits")
    return values


def _integer(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if writer.kind not in ("int", "long") or writer.logical is not None:
        return None
    return lambda cursor: pl.Series(_whole(cursor, writer))


def _float(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if writer.logical is not None:
        return None
    reads: dict[str, ReadColumn] = {
        "double": lambda cursor: pl.Series(cursor.doubles()),
        "float": lambda cursor: pl.Series(cursor.floats()),
        "int": lambda cursor: pl.Series(_whole(cursor, writer).astype(np.float64)),
        "long": lambda cursor: pl.Series(_whole(cursor, writer).astype(np.float64)),
    }
    return reads.get(writer.kind)


def _date(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if writer.logical != "date":
        return None

    def read(cursor: ColumnCursor) -> pl.Series:
        days = _within(cursor, cursor.varints(), DAY_BOUNDS)
        return pl.Series(days.astype(np.int32)).cast(pl.Date)

    return read


def _within(cursor: ColumnCursor, values: IntArray, bounds: tuple[int, int]) -> IntArray:
    good = (values >= bounds[0]) & (values <= bounds[1])
    if good.all():
        return values
    cursor.require(good, "it is not within the years 1 to 9999")
    return np.where(good, values, 0)


def _timestamp(field: RecordField, writer: AvroType) -> ReadColumn | None:
    unit = timestamp_unit(field, writer)
    if unit is None and writer.logical != NANOS:
        return None

    def read(cursor: ColumnCursor) -> pl.Series:
        values = cursor.varints()
        if unit is None:
            cursor.require(values % 1_000 == 0, "it is finer than a microsecond")
            instants = values // 1_000
        else:
            instants = _within(cursor, values, (-(-INSTANT_BOUNDS[0] // unit), INSTANT_BOUNDS[1] // unit)) * unit
        return pl.Series(instants).cast(field.type.physical)

    return read


def _span_reader(writer: AvroType) -> Callable[[ColumnCursor], tuple[IntArray, IntArray]]:
    return (lambda cursor: cursor.fixed(writer.size)) if writer.kind == "fixed" else ColumnCursor.spans


def _decimal(field: RecordField, writer: AvroType) -> ReadColumn | None:
    kind = field.type
    assert isinstance(kind, DecimalType)
    if writer.logical != "decimal" or (writer.precision, writer.scale) != (kind.precision, kind.scale):
        return None
    spans = _span_reader(writer)

    def read(cursor: ColumnCursor) -> pl.Series:
        starts, lengths = spans(cursor)
        cursor.require(lengths > 0, "a decimal has no bytes")
        if (lengths <= 8).all():
            values = cursor.signed(starts, np.maximum(lengths, 1))
            return pl.Series(_fitting(cursor, values, kind)).cast(kind.physical)
        return _wide_decimals(cursor, starts, lengths, kind)

    return read


def _fitting(cursor: ColumnCursor, values: IntArray, kind: DecimalType) -> IntArray:
    first, last = kind.bounds
    if last > INTEGER_BOUNDS[1] or not len(values) or (first <= values.min() and values.max() <= last):
        return values
    cursor.require((values >= first) & (values <= last), f"a number does not fit {kind}")
    return values


def _wide_decimals(cursor: ColumnCursor, starts: IntArray, lengths: IntArray, kind: DecimalType) -> pl.Series:
    """Return numbers of which some have more than 8 bytes, perhaps only since they are longer than they need to be."""
    first, last = kind.bounds
    data = cursor.block.bytes
    spans = zip(starts.tolist(), lengths.tolist(), strict=True)
    values = [int.from_bytes(data[start : start + length], "big", signed=True) for start, length in spans]
    good = np.fromiter((first <= value <= last for value in values), np.bool_, len(values))
    cursor.require(good, f"a number does not fit {kind}")
    return pl.Series([value if fits else None for value, fits in zip(values, good.tolist(), strict=True)], dtype=kind.physical)


def _string(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if writer.kind == "enum":
        return _symbols(writer)
    if writer.kind not in ("string", "bytes") or writer.logical == "decimal":
        return None
    longest = field.type.max_length if isinstance(field.type, StringType) else None

    def read(cursor: ColumnCursor) -> pl.Series:
        text = _utf_8(cursor.pieces(*cursor.spans()))
        if text.null_count():
            cursor.require(text.is_not_null().to_numpy(), "it is not text in UTF-8")
        if longest is not None and not (text.str.len_bytes() <= longest).all():
            cursor.require(
                (text.str.len_chars() <= longest).fill_null(False).to_numpy(), f"it has more than {longest} characters"
            )
        return text

    return read


def _utf_8(pieces: pl.Series) -> pl.Series:
    """Return bytes as text, NULL where they are not UTF-8."""
    try:
        return pieces.cast(pl.String)
    except pl.exceptions.ComputeError:
        # One bad value fails the whole column.
        return pl.Series([_utf_8_text(piece) for piece in pieces.to_list()], dtype=pl.String)


def _utf_8_text(piece: bytes) -> str | None:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


def _symbols(writer: AvroType) -> ReadColumn:
    symbols = pl.Series(writer.symbols, dtype=pl.String)
    return lambda cursor: symbols.gather(cursor.choices(len(writer.symbols), "symbol of an enum"))


UUID_TEXT = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def _uuid(field: RecordField, writer: AvroType) -> ReadColumn | None:
    text = _string(field, writer) if writer.kind == "string" else None
    if text is None:
        return None

    def read(cursor: ColumnCursor) -> pl.Series:
        values = text(cursor).str.to_lowercase()
        good: BoolArray = values.str.contains(UUID_TEXT).fill_null(False).to_numpy()
        cursor.require(good, "it is not a UUID")
        return values

    return read


def _bytes(field: RecordField, writer: AvroType) -> ReadColumn | None:
    if writer.kind not in ("bytes", "string", "fixed") or writer.logical == "decimal":
        return None
    spans = _span_reader(writer)
    return lambda cursor: cursor.pieces(*spans(cursor))


_READERS: dict[type[DataType], Callable[[RecordField, AvroType], ReadColumn | None]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _string,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
    StringMapType: _string_map,
}
