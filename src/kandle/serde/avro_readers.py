"""Which Avro types can be read as which field types, and how whole columns of them are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import DataError
from kandle.model.types import (
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
from kandle.serde.avro_cursor import Cursor, Reader
from kandle.serde.port import BoolArray, RecordField
from kandle.serde.schema import AvroType
from kandle.time.timeframe import IntArray

Read = Callable[[Cursor], pl.Series]
"""Reads a column; NULL where there is no value or where the message is marked."""


def string_map(found: RecordField, writer: AvroType) -> Read | None:
    """How maps of text are read; None if they are something else."""
    is_map = writer.kind == "map" and _is_text(writer.parts[0])
    # How Kafka Connect and ksqlDB write maps whose keys may be missing.
    entries = writer.parts[0].fields if writer.kind == "array" else ()
    is_list = [each.name for each in entries] == ["key", "value"] and all(_is_text(each.type) for each in entries)
    if not (is_map or is_list):
        return None
    kind = found.type.physical
    return lambda cursor: pl.Series([_entries(each) for each in single_values(cursor, writer, _check_map)], dtype=kind)


def _is_text(kind: AvroType) -> bool:
    if kind.kind == "union":
        return {part.kind for part in kind.parts} == {"null", "string"}
    return kind.kind == "string"


def _check_map(entries: list[dict[str, Any]]) -> None:
    if any(part is None for entry in entries for part in entry.values()):
        raise DataError("a key or value of a map is null")


def _entries(entries: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Each key once: the last counts."""
    if entries is None:
        return None
    last = {entry["key"]: entry["value"] for entry in entries}
    return [{"key": key, "value": value} for key, value in last.items()]


def single_values(cursor: Cursor, writer: AvroType, check: Callable[[Any], None] | None = None) -> list[Any]:
    """Values of any type, one message after the other; None where a message is marked."""
    found: list[Any] = []
    positions = cursor.positions.copy()
    block = cursor.block
    for at, (row, start, end) in enumerate(zip(cursor.rows.tolist(), positions.tolist(), cursor.ends.tolist(), strict=True)):
        reader = Reader(block.bytes, start, end)
        try:
            value = reader.value(writer)
            if check is not None:
                check(value)
        except DataError as error:
            block.reasons.setdefault(row, f"{cursor.what}: {error}")
            reader.position, value = end, None
        positions[at] = reader.position
        found.append(value)
    cursor.positions = positions
    return found


def skip(cursor: Cursor, writer: AvroType) -> None:
    """Go over a field that nobody asks for."""
    if writer.kind in ("int", "long", "enum"):
        cursor.varints()
    elif writer.kind in ("string", "bytes"):
        cursor.spans()
    elif writer.kind in _SIZES or writer.kind == "fixed":
        cursor.fixed(_SIZES.get(writer.kind, writer.size))
    elif writer.kind == "union":
        _skip_union(cursor, writer)
    elif writer.kind == "record":
        for each in writer.fields:
            skip(cursor, each.type)
    elif writer.kind != "null":
        single_values(cursor, writer)


_SIZES = {"boolean": 1, "float": 4, "double": 8}


def _skip_union(cursor: Cursor, writer: AvroType) -> None:
    picks = cursor.choices(len(writer.parts), "branch of a union")
    for number in np.unique(picks).tolist():
        chosen = np.flatnonzero(picks == number)
        part = cursor.part(chosen)
        skip(part, writer.parts[number])
        cursor.join(part, chosen)


FIRST_DAY, LAST_DAY = -719_162, 2_932_896
"""The years 1 to 9999, which Python knows."""
DAY_OF = {1_000_000: 86_400, 1_000: 86_400_000, 1: 86_400_000_000}
EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
INT_BOUND = 2**31


def reader_of(found: RecordField, writer: AvroType) -> Read | None:
    """How values of a writer's type are read as the field's; None if they cannot be."""
    if writer.kind == "union":
        return _union(found, writer.parts)
    if writer.kind == "null":
        return _nulls(found) if found.nullable else None
    return _READERS[type(found.type)](found, writer)


def _nulls(found: RecordField) -> Read:
    return lambda cursor: pl.Series([None], dtype=found.type.physical).extend_constant(None, len(cursor) - 1).head(len(cursor))


def _union(found: RecordField, parts: Sequence[AvroType]) -> Read | None:
    readers = [_nulls(found) if part.kind == "null" else reader_of(found, part) for part in parts]
    if all(part.kind == "null" or read is None for part, read in zip(parts, readers, strict=True)):
        return None

    def read(cursor: Cursor) -> pl.Series:
        picks = cursor.choices(len(parts), "branch of a union")
        present = np.flatnonzero(np.bincount(picks, minlength=len(parts)))
        columns, order = [], np.empty(len(cursor), np.int64)
        at = 0
        for number in present.tolist():
            chosen = np.flatnonzero(picks == number) if len(present) > 1 else np.arange(len(cursor))
            column = _branch(cursor, chosen, readers[number], f"{parts[number]} is not {found.words}", found)
            if len(present) == 1:
                return column
            columns.append(column)
            order[chosen] = np.arange(at, at + len(chosen))
            at += len(chosen)
        return pl.concat(columns).gather(order) if columns else pl.Series(dtype=found.type.physical)

    return read


def _branch(cursor: Cursor, chosen: IntArray, read: Read | None, misfit: str, found: RecordField) -> pl.Series:
    if read is None:
        good = np.ones(len(cursor), np.bool_)
        good[chosen] = False
        cursor.require(good, misfit)
        return _nulls(found)(cursor.part(chosen))
    if len(chosen) == len(cursor):
        return read(cursor)
    part = cursor.part(chosen)
    column = read(part)
    cursor.join(part, chosen)
    return column


def _boolean(found: RecordField, writer: AvroType) -> Read | None:
    return (lambda cursor: pl.Series(cursor.booleans())) if writer.kind == "boolean" else None


def _whole(cursor: Cursor, writer: AvroType) -> IntArray:
    values = cursor.varints()
    if writer.kind == "int":
        cursor.require((values >= -INT_BOUND) & (values < INT_BOUND), "an int has more than 32 bits")
    return values


def _integer(found: RecordField, writer: AvroType) -> Read | None:
    if writer.kind not in ("int", "long") or writer.logical is not None:
        return None
    return lambda cursor: pl.Series(_whole(cursor, writer))


def _float(found: RecordField, writer: AvroType) -> Read | None:
    if writer.logical is not None:
        return None
    reads: dict[str, Read] = {
        "double": lambda cursor: pl.Series(cursor.doubles()),
        "float": lambda cursor: pl.Series(cursor.floats()),
        "int": lambda cursor: pl.Series(_whole(cursor, writer).astype(np.float64)),
        "long": lambda cursor: pl.Series(_whole(cursor, writer).astype(np.float64)),
    }
    return reads.get(writer.kind)


def _date(found: RecordField, writer: AvroType) -> Read | None:
    if writer.logical != "date":
        return None

    def read(cursor: Cursor) -> pl.Series:
        days = _within(cursor, cursor.varints(), FIRST_DAY, LAST_DAY + 1)
        return pl.Series(days.astype(np.int32)).cast(pl.Date)

    return read


def _within(cursor: Cursor, values: IntArray, first: int, end: int) -> IntArray:
    good = (values >= first) & (values < end)
    if good.all():
        return values
    cursor.require(good, "it is not within the years 1 to 9999")
    return np.where(good, values, 0)


def _timestamp(found: RecordField, writer: AvroType) -> Read | None:
    units = {"timestamp-millis": 1_000, "timestamp-micros": 1}
    unit = units.get(writer.logical or "")
    if writer.kind in ("int", "long") and writer.logical is None:
        # Only the entity can know what a plain number means.
        unit = EPOCH_UNITS.get(found.datetime_format or "")
    if unit is None and writer.logical != "timestamp-nanos":
        return None

    def read(cursor: Cursor) -> pl.Series:
        values = cursor.varints()
        if unit is None:
            cursor.require(values % 1_000 == 0, "it is finer than a microsecond")
            instants = values // 1_000
        else:
            day = DAY_OF[unit]
            instants = _within(cursor, values, FIRST_DAY * day, (LAST_DAY + 1) * day) * unit
        return pl.Series(instants).cast(found.type.physical)

    return read


def _span_reader(writer: AvroType) -> Callable[[Cursor], tuple[IntArray, IntArray]]:
    return (lambda cursor: cursor.fixed(writer.size)) if writer.kind == "fixed" else Cursor.spans


def _decimal(found: RecordField, writer: AvroType) -> Read | None:
    kind = found.type
    assert isinstance(kind, DecimalType)
    if writer.logical != "decimal" or (writer.precision, writer.scale) != (kind.precision, kind.scale):
        return None
    spans = _span_reader(writer)

    def read(cursor: Cursor) -> pl.Series:
        starts, lengths = spans(cursor)
        cursor.require(lengths > 0, "a decimal has no bytes")
        if (lengths <= 8).all():
            values = cursor.signed(starts, np.maximum(lengths, 1))
            return pl.Series(_fitting(cursor, values, kind)).cast(kind.physical)
        return _wide_decimals(cursor, starts, lengths, kind)

    return read


def _fitting(cursor: Cursor, values: IntArray, kind: DecimalType) -> IntArray:
    bound = 10**kind.precision
    if bound > 2**63 or not len(values) or (-bound < values.min() and values.max() < bound):
        return values
    cursor.require((values > -bound) & (values < bound), f"a number does not fit {kind}")
    return values


def _wide_decimals(cursor: Cursor, starts: IntArray, lengths: IntArray, kind: DecimalType) -> pl.Series:
    """With numbers of more than 8 bytes, of which some may only be longer than they need to be."""
    bound = 10**kind.precision
    data = cursor.block.bytes
    every = zip(starts.tolist(), lengths.tolist(), strict=True)
    values = [int.from_bytes(data[start : start + length], "big", signed=True) for start, length in every]
    good = np.fromiter((-bound < value < bound for value in values), np.bool_, len(values))
    cursor.require(good, f"a number does not fit {kind}")
    return pl.Series([value if fits else None for value, fits in zip(values, good.tolist(), strict=True)], dtype=kind.physical)


def _string(found: RecordField, writer: AvroType) -> Read | None:
    if writer.kind == "enum":
        return _symbols(writer)
    if writer.kind not in ("string", "bytes") or writer.logical == "decimal":
        return None
    longest = found.type.max_length if isinstance(found.type, StringType) else None

    def read(cursor: Cursor) -> pl.Series:
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
    """Bytes as text, NULL where they are none."""
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


def _symbols(writer: AvroType) -> Read:
    symbols = pl.Series(writer.symbols, dtype=pl.String)
    return lambda cursor: symbols.gather(cursor.choices(len(writer.symbols), "symbol of an enum"))


UUID_TEXT = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def _uuid(found: RecordField, writer: AvroType) -> Read | None:
    text = _string(found, writer) if writer.kind == "string" else None
    if text is None:
        return None

    def read(cursor: Cursor) -> pl.Series:
        values = text(cursor).str.to_lowercase()
        good: BoolArray = values.str.contains(UUID_TEXT).fill_null(False).to_numpy()
        cursor.require(good, "it is not a UUID")
        return values

    return read


def _bytes(found: RecordField, writer: AvroType) -> Read | None:
    if writer.kind not in ("bytes", "string", "fixed") or writer.logical == "decimal":
        return None
    spans = _span_reader(writer)
    return lambda cursor: cursor.pieces(*spans(cursor))


_READERS: dict[type[DataType], Callable[[RecordField, AvroType], Read | None]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _string,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
    StringMapType: string_map,
}
