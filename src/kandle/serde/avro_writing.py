"""Rows of a physical frame as Avro messages of the fields' own schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
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
from kandle.serde.avro_cursor import FloatArray, WordArray
from kandle.serde.port import BoolArray, RecordField, shown
from kandle.serde.schema import decimal_bytes, null_branch
from kandle.time.timeframe import IntArray

WORD = 8
SHORT = 32
"""Longer pieces are copied one by one."""

_CONTINUED = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
_SPREADS = (
    (np.uint64(0x000000000FFFFFFF), np.uint64(0x00FFFFFFF0000000), np.uint64(4)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(0x0FFFC0000FFFC000), np.uint64(2)),
    (np.uint64(0x007F007F007F007F), np.uint64(0x3F803F803F803F80), np.uint64(1)),
)
_EIGHT_GROUPS = np.uint64(1 << 56)


class Buffer:
    """Room for messages of these lengths, one after the other, each with the same header."""

    def __init__(self, lengths: IntArray, header: bytes) -> None:
        lengths = lengths + len(header)
        slots = np.cumsum(lengths + WORD)
        self.starts: IntArray = slots - lengths - WORD
        self.ends: IntArray = slots - WORD
        self.data: npt.NDArray[np.uint8] = np.zeros(int(slots[-1]) if len(slots) else 0, np.uint8)
        self._words: WordArray = np.ndarray((max(len(self.data) - WORD + 1, 0),), "<u8", self.data.data, 0, (1,))
        self.put(self.starts, np.uint64(int.from_bytes(header, "little")))
        self.first: IntArray = self.starts + len(header)

    def put(self, places: IntArray, words: WordArray | np.uint64) -> None:
        """A word at each place."""
        self._words[places] = words

    def put_byte(self, places: IntArray, values: IntArray | int) -> None:
        """A byte at each place."""
        self.data[places] = values

    def messages(self) -> list[bytes | None]:
        """The messages."""
        whole = self.data.tobytes()
        return [whole[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


class Cells(Protocol):
    """A column that is ready to be written."""

    @property
    def lengths(self) -> IntArray:
        """How many bytes each value takes."""

    def put(self, buffer: Buffer, places: IntArray) -> None:
        """Write each value at its place."""


class Numbers:
    """Whole numbers as int or long: seven bits a byte, the sign in the lowest bit."""

    def __init__(self, values: IntArray) -> None:
        self._values: WordArray = ((values << 1) ^ (values >> 63)).view(np.uint64)
        self.lengths: IntArray = _sizes(self._values, 7, 7)

    def put(self, buffer: Buffer, places: IntArray) -> None:
        if len(places):
            values = self._values
            buffer.put(places, _spread(values, self.lengths))
            if values.max() >= _EIGHT_GROUPS:
                long = np.flatnonzero(self.lengths > WORD)
                rest = values[long] >> np.uint64(56)
                tail = (rest & np.uint64(0x7F)) | np.where(rest > 0x7F, np.uint64(0x80), np.uint64(0))
                buffer.put(places[long] + WORD, tail | (rest >> np.uint64(7)) << np.uint64(8))


def _sizes(values: WordArray, first: int, step: int) -> IntArray:
    """How many bytes each value takes, of which the first holds `first` bits and each other one `step` bits more."""
    sizes = np.ones(len(values), np.int64)
    greatest = int(values.max()) if len(values) else 0
    for power in range(first, 64, step):
        if greatest < 1 << power:
            break
        sizes += values >= np.uint64(1 << power)
    return sizes


def _spread(values: WordArray, lengths: IntArray) -> WordArray:
    """The first eight groups of seven bits, a byte each, with the mark that says that more follow."""
    if values.max() < 0x80:
        return values
    for low, high, shift in _SPREADS:
        values = (values & low) | ((values & high) << shift)
    marked = (np.minimum(lengths, WORD + 1) - 1).astype(np.uint64) << np.uint64(3)
    # A shift by all 64 bits is not defined, so the last one is made apart.
    below = np.where(lengths > WORD, ~np.uint64(0), (_ONE << np.minimum(marked, np.uint64(63))) - _ONE)
    return values | (_CONTINUED & below)


class Doubles:
    """IEEE doubles."""

    def __init__(self, values: FloatArray) -> None:
        self._words = values.view(np.uint64)
        self.lengths: IntArray = np.full(len(values), WORD)

    def put(self, buffer: Buffer, places: IntArray) -> None:
        buffer.put(places, self._words)


class Booleans:
    """A byte each."""

    def __init__(self, values: BoolArray) -> None:
        self._values = values.astype(np.int64)
        self.lengths: IntArray = np.ones(len(values), np.int64)

    def put(self, buffer: Buffer, places: IntArray) -> None:
        buffer.put_byte(places, self._values)


class Decimals:
    """Scaled integers of 64 bits as their shortest two's complement, big endian, behind its length."""

    def __init__(self, values: IntArray) -> None:
        self._values = values
        # The first byte also holds the sign.
        self._sizes = _sizes((values ^ (values >> 63)).view(np.uint64), 7, 8)
        self.lengths: IntArray = self._sizes + 1

    def put(self, buffer: Buffer, places: IntArray) -> None:
        buffer.put_byte(places, self._sizes << 1)
        words = (self._values << (64 - 8 * self._sizes)).view(np.uint64)
        buffer.put(places + 1, words.byteswap())


class Pieces:
    """Bytes as they are, without their length."""

    def __init__(self, column: pl.Series) -> None:
        if column.dtype == pl.String:
            self.lengths: IntArray = column.str.len_bytes().cast(pl.Int64).to_numpy()
            joined = (column.str.join("").item() or "").encode()
        else:
            self.lengths = column.bin.size().cast(pl.Int64).to_numpy()
            joined = b"".join(column.to_list())
        self._source = joined + bytes(WORD)
        self._starts: IntArray = np.cumsum(self.lengths) - self.lengths

    def put(self, buffer: Buffer, places: IntArray) -> None:
        words: WordArray = np.ndarray((len(self._source) - WORD + 1,), "<u8", self._source, 0, (1,))
        longest = int(self.lengths.max()) if len(places) else 0
        starts, targets, lengths = self._starts, places, self.lengths
        for at in range(0, min(longest, SHORT), WORD):
            if at:
                chosen = np.flatnonzero(lengths > at)
                starts, targets, lengths = starts[chosen], targets[chosen], lengths[chosen]
            buffer.put(targets + at, words[starts + at])
        if longest > SHORT:
            self._put_long(buffer, places)

    def _put_long(self, buffer: Buffer, places: IntArray) -> None:
        source = np.frombuffer(self._source, np.uint8)
        for row in np.flatnonzero(self.lengths > SHORT).tolist():
            start, place, length = int(self._starts[row]), int(places[row]), int(self.lengths[row])
            buffer.data[place : place + length] = source[start : start + length]


class Row:
    """Cells one behind the other, row by row."""

    def __init__(self, parts: Sequence[Cells], count: int) -> None:
        self._parts = parts
        self.lengths: IntArray = sum((part.lengths for part in parts), np.zeros(count, np.int64))

    def put(self, buffer: Buffer, places: IntArray) -> None:
        for part in self._parts:
            part.put(buffer, places)
            places = places + part.lengths


def text(column: pl.Series) -> Cells:
    """Text or bytes behind their length."""
    pieces = Pieces(column)
    return Row([Numbers(pieces.lengths), pieces], len(column))


class Optional:
    """A union with null: the number of the branch, then the value where there is one."""

    def __init__(self, inner: Cells, present: BoolArray, null_branch: int) -> None:
        self._inner = inner
        self._rows = np.flatnonzero(present)
        # Branch numbers are numbers like all: twice as large, as they are not negative.
        self._branches = np.where(present, 1 - null_branch, null_branch) << 1
        self.lengths: IntArray = np.ones(len(present), np.int64)
        self.lengths[self._rows] += inner.lengths

    def put(self, buffer: Buffer, places: IntArray) -> None:
        buffer.put_byte(places, self._branches)
        self._inner.put(buffer, places[self._rows] + 1)


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
