"""Rows of a physical frame as Avro messages of the fields' own schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from kandle.serde.cells import Booleans, Buffer, Cells, Decimals, Doubles, Numbers, Optional, Pieces, Row, text
from kandle.serde.fields import RecordField
from kandle.serde.port import shown
from kandle.serde.schema import decimal_bytes, null_branch
from kandle.time.timeframe import IntArray


class Encoder:
    """Writes the fields of a subject's records, each behind a header of at most 8 bytes."""

    def __init__(self, fields: Sequence[RecordField], subject: str) -> None:
        self._fields = tuple(fields)
        self._subject = subject

    def write(self, frame: pl.DataFrame, header: bytes) -> list[bytes | None]:
        """A message per row; DataError names subject, field and the first value that does not fit."""
        row = Row([self._cells(each, frame) for each in self._fields], frame.height)
        buffer = Buffer(row.lengths, header)
        row.put(buffer, buffer.first)
        return buffer.messages()

    def _cells(self, found: RecordField, frame: pl.DataFrame) -> Cells:
        column = checked_column(found, frame, self._subject)
        make = _CELLS[type(found.type)]
        if not found.nullable:
            return make(found, column, self._subject)
        present = column.is_not_null().to_numpy()
        inner = column.drop_nulls() if column.null_count() else column
        return Optional(make(found, inner, self._subject), present, null_branch(found))


def checked_column(found: RecordField, frame: pl.DataFrame, subject: str) -> pl.Series:
    """The field's column of a frame; DataError if it is not there, of another type or without values that it must have.

    Columns of NULL alone may be left out.
    """
    if found.name not in frame.columns and found.nullable:
        return pl.Series(found.name, [None], dtype=found.type.physical).new_from_index(0, frame.height)
    if found.name not in frame.columns:
        raise DataError(f"subject {subject}: the column {found.name} is missing (there are: {', '.join(frame.columns)})")
    column = frame[found.name]
    if column.dtype != found.type.physical:
        raise DataError(f"subject {subject}, field {found.name}: a column of {column.dtype} is not one of {found.type.physical}")
    if column.null_count() and not found.nullable:
        row = column.is_null().arg_max()
        raise DataError(f"subject {subject}, field {found.name}: there is no value in row {row}, but the field is not Optional")
    return column


def _refuse(found: RecordField, subject: str, column: pl.Series, bad: pl.Series, why: str) -> None:
    if bad.any():
        row = bad.arg_max()
        assert row is not None
        value = column[row].to_list() if isinstance(column[row], pl.Series) else column[row]
        # A field that may be NULL is looked at without those, so this is not the row of the frame.
        where = "" if found.nullable else f" in row {row}"
        raise DataError(f"subject {subject}, field {found.name} = {shown(value)}{where}: {why}")


def check_decimals(found: RecordField, column: pl.Series, subject: str) -> None:
    """DataError for a number of too many digits."""
    assert isinstance(found.type, DecimalType)
    bound = 10**found.type.precision
    low, high = column.min(), column.max()
    if low is None or (-bound < low and high < bound):
        return
    wide = column.cast(pl.Int128)
    _refuse(found, subject, column, (wide >= bound) | (wide <= -bound), f"it does not fit {found.type} (the number is scaled)")


def instants(found: RecordField, column: pl.Series, subject: str) -> IntArray:
    """Microseconds or milliseconds, as the field is written; DataError for an instant between two milliseconds."""
    values: IntArray = column.to_physical().to_numpy()
    if found.is_fine:
        return values
    whole = values // 1_000
    lost = whole * 1_000 != values
    if lost.any():
        advice = 'timestamp-millis would lose its microseconds; declare DatetimeFormat("epoch_us") for timestamp-micros'
        _refuse(found, subject, column, pl.Series(lost), advice)
    return whole


def _decimals(found: RecordField, column: pl.Series, subject: str) -> Cells:
    check_decimals(found, column, subject)
    if column.dtype != pl.Int64:
        narrow = column.cast(pl.Int64, strict=False)
        if narrow.null_count():
            return text(pl.Series([decimal_bytes(value) for value in column.to_list()], dtype=pl.Binary))
        column = narrow
    return Decimals(column.to_numpy())


def _maps(found: RecordField, column: pl.Series, subject: str) -> Cells:
    entry = pl.element()
    missing = entry.struct.field("key").is_null() | entry.struct.field("value").is_null()
    _refuse(
        found, subject, column, column.list.eval(missing).list.any().fill_null(value=False), "an entry has no key or no value"
    )
    return Pieces(pl.Series([_map(entries) for entries in column.to_list()], dtype=pl.Binary))


def _map(entries: Sequence[dict[str, str]]) -> bytes:
    if not entries:
        return b"\0"
    parts = [_number(len(entries))]
    for entry in entries:
        for part in (entry["key"].encode(), entry["value"].encode()):
            parts += (_number(len(part)), part)
    return b"".join([*parts, b"\0"])


def _number(value: int) -> bytes:
    """A number that is not negative."""
    value <<= 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


_CELLS: dict[type[DataType], Callable[[RecordField, pl.Series, str], Cells]] = {
    BooleanType: lambda found, column, subject: Booleans(column.to_numpy()),
    IntegerType: lambda found, column, subject: Numbers(column.to_numpy()),
    FloatType: lambda found, column, subject: Doubles(column.to_numpy()),
    DecimalType: _decimals,
    StringType: lambda found, column, subject: text(column),
    UuidType: lambda found, column, subject: text(column),
    BytesType: lambda found, column, subject: text(column),
    DateType: lambda found, column, subject: Numbers(column.to_physical().to_numpy().astype(np.int64)),
    TimestampType: lambda found, column, subject: Numbers(instants(found, column, subject)),
    StringMapType: _maps,
}
