"""Writes the rows of a physical frame as Avro messages of the fields' own schema.

No library writes columns as many messages; fastavro takes ten times as long for one record after the other. Many rows are
written column by column (`avro_cells`), a few one by one, since columns cost about 250 microseconds however few rows there are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

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
from kandle.serde.avro_cells import (
    BooleanCells,
    Cells,
    DecimalCells,
    DoubleCells,
    MessageBuffer,
    NumberCells,
    OptionalCells,
    PieceCells,
    RecordCells,
    text,
)
from kandle.serde.port import FEW, RecordField, check_decimals, checked_column, refuse
from kandle.serde.schema import decimal_bytes, null_branch
from kandle.time.arrays import IntArray


class AvroEncoder:
    """Writes the records of a subject.

    Args:
        fields: The fields of its records, in their order.
        subject: The subject, for messages.
    """

    def __init__(self, fields: Sequence[RecordField], subject: str) -> None:
        self._fields = tuple(fields)
        self._subject = subject
        self._writers = [_value_writer(field) for field in self._fields]

    def write(self, frame: pl.DataFrame, header: bytes) -> list[bytes | None]:
        """Return a message for each row of a physical frame.

        Args:
            frame: The rows.
            header: What stands in front of each record, at most 8 bytes.

        Raises:
            DataError: A value cannot be written; names subject, field and value.
        """
        columns = [checked_column(field, frame, self._subject) for field in self._fields]
        if frame.height <= FEW and (messages := self._write_rows(columns, header, frame.height)) is not None:
            return messages
        cells = [self._cells(field, column) for field, column in zip(self._fields, columns, strict=True)]
        row = RecordCells(cells, frame.height)
        buffer = MessageBuffer(row.lengths, header)
        row.put(buffer, buffer.first)
        return buffer.messages()

    def _write_rows(self, columns: Sequence[pl.Series], header: bytes, count: int) -> list[bytes | None] | None:
        """Return messages that are written one by one; None if a value cannot be written."""
        # `Series.to_physical` takes 20 microseconds, and only these types need it.
        values = [(column.cast(pl.Int64) if column.dtype.is_temporal() else column).to_list() for column in columns]
        try:
            pieces = [list(map(write, column)) for write, column in zip(self._writers, values, strict=True)]
        except _UnwritableError:
            return None
        return [b"".join([header, *record]) for record in zip(*pieces, strict=True)] if pieces else [header] * count

    def _cells(self, field: RecordField, column: pl.Series) -> Cells:
        make = _CELLS[type(field.type)]
        if not field.nullable:
            return make(field, column, self._subject)
        present = column.is_not_null().to_numpy()
        inner = column.drop_nulls() if column.null_count() else column
        return OptionalCells(make(field, inner, self._subject), present, null_branch(field))


def _instants(field: RecordField, column: pl.Series, subject: str) -> IntArray:
    """Return microseconds or milliseconds, as the field is written; DataError for an instant between two milliseconds.

    An instant that is cut never moves into the future, where it might belong to the next bucket.
    """
    values: IntArray = column.to_physical().to_numpy()
    if field.is_fine:
        return values
    whole = values // 1_000
    lost = whole * 1_000 != values
    if lost.any() and not field.is_cut:
        advice = (
            'timestamp-millis would lose its microseconds; have them cut by the option fields.finer = "cut", or use another '
            'topic for timestamp-micros, with DatetimeFormat("epoch_us") or fields.instants = "micros"'
        )
        refuse(field, subject, column, pl.Series(lost), advice)
    return whole


def _decimals(field: RecordField, column: pl.Series, subject: str) -> Cells:
    check_decimals(field, column, subject)
    if column.dtype != pl.Int64:
        narrow = column.cast(pl.Int64, strict=False)
        if narrow.null_count():
            return text(pl.Series([decimal_bytes(value) for value in column.to_list()], dtype=pl.Binary))
        column = narrow
    return DecimalCells(column.to_numpy())


def _maps(field: RecordField, column: pl.Series, subject: str) -> Cells:
    entry = pl.element()
    missing = entry.struct.field("key").is_null() | entry.struct.field("value").is_null()
    refuse(field, subject, column, column.list.eval(missing).list.any().fill_null(value=False), "an entry has no key or no value")
    return PieceCells(pl.Series([_map(entries) for entries in column.to_list()], dtype=pl.Binary))


def _map(entries: Sequence[dict[str, str]]) -> bytes:
    if not entries:
        return b"\0"
    parts = [_number(len(entries))]
    for entry in entries:
        for part in (entry["key"].encode(), entry["value"].encode()):
            parts += (_number(len(part)), part)
    return b"".join([*parts, b"\0"])


_CELLS: dict[type[DataType], Callable[[RecordField, pl.Series, str], Cells]] = {
    BooleanType: lambda field, column, subject: BooleanCells(column.to_numpy()),
    IntegerType: lambda field, column, subject: NumberCells(column.to_numpy()),
    FloatType: lambda field, column, subject: DoubleCells(column.to_numpy()),
    DecimalType: _decimals,
    StringType: lambda field, column, subject: text(column),
    UuidType: lambda field, column, subject: text(column),
    BytesType: lambda field, column, subject: text(column),
    DateType: lambda field, column, subject: NumberCells(column.to_physical().to_numpy().astype(np.int64)),
    TimestampType: lambda field, column, subject: NumberCells(_instants(field, column, subject)),
    StringMapType: _maps,
}


class _UnwritableError(ValueError):
    """A value that cannot be written; writing its column says which it is, and why."""


WriteValue = Callable[[Any], bytes]


def _value_writer(field: RecordField) -> WriteValue:
    """Return how one physical value of the field is written; instants and dates are given as numbers."""
    write = _WRITERS[type(field.type)](field)
    if not field.nullable:
        return write
    null, present = _number(null_branch(field)), _number(1 - null_branch(field))
    return lambda value: null if value is None else present + write(value)


def _write_decimal(field: RecordField) -> WriteValue:
    assert isinstance(field.type, DecimalType)
    least, greatest = field.type.bounds

    def write(value: int) -> bytes:
        if not least <= value <= greatest:
            raise _UnwritableError
        data = decimal_bytes(value)
        return _number(len(data)) + data

    return write


def _write_timestamp(field: RecordField) -> WriteValue:
    if field.is_fine:
        return _signed_number

    def write(value: int) -> bytes:
        whole, lost = divmod(value, 1_000)
        if lost and not field.is_cut:
            raise _UnwritableError
        return _signed_number(whole)

    return write


def _write_bytes(value: bytes) -> bytes:
    return _number(len(value)) + value


def _write_text(value: str) -> bytes:
    return _write_bytes(value.encode())


def _write_map(entries: list[dict[str, str]]) -> bytes:
    if any(part is None for entry in entries for part in entry.values()):
        raise _UnwritableError
    return _map(entries)


def _signed_number(value: int) -> bytes:
    return _digits((value << 1) ^ (value >> 63))


def _digits(value: int) -> bytes:
    """Return seven bits a byte, with the mark that says that more follow."""
    if value < 0x80:
        return _SHORT_NUMBERS[value]
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


_SHORT_NUMBERS = [bytes([value]) for value in range(0x80)]


def _number(value: int) -> bytes:
    """Return a number that is not negative as Avro writes it."""
    return _digits(value << 1)


_WRITERS: dict[type[DataType], Callable[[RecordField], WriteValue]] = {
    BooleanType: lambda field: lambda value: b"\x01" if value else b"\x00",
    IntegerType: lambda field: _signed_number,
    FloatType: lambda field: struct.Struct("<d").pack,
    DecimalType: _write_decimal,
    StringType: lambda field: _write_text,
    UuidType: lambda field: _write_text,
    BytesType: lambda field: _write_bytes,
    DateType: lambda field: _signed_number,
    TimestampType: _write_timestamp,
    StringMapType: lambda field: _write_map,
}
