"""Reads the same field of many Avro messages at once: a position in each, moved on by whole columns.

A message that does not hold what is asked of it is marked with the reason and stands still at its own end, so that it never
reaches into the next one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.errors import DataError
from kandle.serde.port import BoolArray
from kandle.serde.schema import AvroType
from kandle.time.timeframe import IntArray

WordArray = npt.NDArray[np.uint64]
FloatArray = npt.NDArray[np.float64]

SPARE = 16
"""Bytes behind the last message, so that whole words can be loaded at every position."""

_ONE = np.uint64(1)
_LAST_BYTE = np.uint64(0x8080808080808080)
_GROUPS = (
    (np.uint64(0x007F007F007F007F), np.uint64(0x7F007F007F007F00), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(0x3FFF00003FFF0000), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(0x0FFFFFFF00000000), np.uint64(4)),
)


class Block:
    """The bytes of many messages, one after the other, and what is wrong with some of them."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages = messages
        self.bytes = b"".join([*messages, bytes(SPARE)])
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self.bytes, np.uint8)
        # A word at every position: they overlap.
        self.words: WordArray = np.ndarray((len(self.data) - 7,), "<u8", self.bytes, 0, (1,))
        self.singles: npt.NDArray[np.float32] = np.ndarray((len(self.data) - 3,), "<f4", self.bytes, 0, (1,))
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        self.ends: IntArray = np.cumsum(lengths)
        self.starts: IntArray = self.ends - lengths
        self.reasons: dict[int, str] = {}

    @cached_property
    def column(self) -> pl.Series:
        """The messages as a column."""
        return pl.Series("message", self._messages, dtype=pl.Binary)

    def mark(self, rows: IntArray, reason: str) -> None:
        """These messages cannot be read; the first reason of each counts."""
        for row in rows.tolist():
            self.reasons.setdefault(row, reason)


class Cursor:
    """A position in each of some messages of a block; `rows` are their numbers."""

    def __init__(self, block: Block, rows: IntArray, positions: IntArray, ends: IntArray) -> None:
        self.block = block
        self.rows = rows
        self.positions = positions
        self.ends = ends
        self.what = "the record"

    @classmethod
    def over(cls, block: Block, skipped: int) -> Cursor:
        """All messages of a block, behind a header of so many bytes, which each must have."""
        return cls(block, np.arange(len(block.starts)), block.starts + skipped, block.ends)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: IntArray) -> Cursor:
        """Some of the messages."""
        found = Cursor(self.block, self.rows[chosen], self.positions[chosen], self.ends[chosen])
        found.what = self.what
        return found

    def join(self, part: Cursor, chosen: IntArray) -> None:
        """Go on where a part has ended."""
        self.positions[chosen] = part.positions

    def require(self, good: BoolArray, reason: str) -> None:
        """Mark the messages where it is not so."""
        if good.all():
            return
        bad = np.flatnonzero(~good)
        self.block.mark(self.rows[bad], f"{self.what}: {reason}")
        self.positions[bad] = self.ends[bad]

    def finish(self) -> None:
        """Every message must have ended."""
        self.what = "the record"
        self.require(self.positions == self.ends, "there are bytes behind its last field")

    def _advance(self, lengths: IntArray) -> None:
        fits = lengths <= self.ends - self.positions
        if fits.all():
            self.positions = self.positions + lengths
            return
        self.positions = np.where(fits, self.positions + lengths, self.positions)
        self.require(fits, "the message ends in the middle of it")

    def varints(self) -> IntArray:
        """Whole numbers as Avro writes int and long; 0 where a message is marked."""
        first = self.block.data[self.positions]
        if (first < 0x80).all():
            values = first.astype(np.uint64)
            lengths = np.ones(len(first), np.int64)
        else:
            values, lengths = self._long_varints()
        self._advance(lengths)
        return ((values >> _ONE) ^ (~(values & _ONE) + _ONE)).view(np.int64)

    def _long_varints(self) -> tuple[WordArray, IntArray]:
        words = self.block.words[self.positions]
        stops = ~words & _LAST_BYTE
        lowest = stops & (~stops + _ONE)
        below = lowest - _ONE
        lengths = ((np.bitwise_count(below).astype(np.int64) + 1) >> 3).astype(np.int64)
        values = words & below & ~_LAST_BYTE
        for low, high, shift in _GROUPS:
            values = (values & low) | ((values & high) >> shift)
        if not stops.all():
            self._longest_varints(np.flatnonzero(stops == 0), values, lengths)
        return values, lengths

    def _longest_varints(self, chosen: IntArray, values: WordArray, lengths: IntArray) -> None:
        """Nine or ten bytes; the tenth can only be 1."""
        ninth = self.block.data[self.positions[chosen] + 8].astype(np.uint64)
        tenth = self.block.data[self.positions[chosen] + 9].astype(np.uint64)
        is_ten = ninth >= 0x80
        high = (ninth & np.uint64(0x7F)) << np.uint64(56)
        values[chosen] |= high | np.where(is_ten, (tenth & _ONE) << np.uint64(63), np.uint64(0))
        lengths[chosen] = np.where(is_ten, 10, 9)
        good = np.ones(len(self), np.bool_)
        good[chosen[is_ten & (tenth > 1)]] = False
        if not good.all():
            lengths[~good] = 0
            self.require(good, "a number has more than 64 bits")

    def lengths(self) -> IntArray:
        """Lengths of what follows, which is there; 0 where a message is marked."""
        found = self.varints()
        good = (found >= 0) & (found <= self.ends - self.positions)
        if good.all():
            return found
        self.require(good, "the message ends in the middle of it, or its length is damaged")
        return np.where(good, found, 0)

    def spans(self) -> tuple[IntArray, IntArray]:
        """Positions and lengths of bytes or text."""
        lengths = self.lengths()
        starts = self.positions
        self.positions = starts + lengths
        return starts, lengths

    def fixed(self, size: int) -> tuple[IntArray, IntArray]:
        """Positions and lengths of so many bytes; 0 long where a message is marked."""
        starts = self.positions
        self._advance(np.full(len(self), size))
        return starts, self.positions - starts

    def doubles(self) -> FloatArray:
        """IEEE doubles."""
        starts, _ = self.fixed(8)
        return self.block.words[starts].view(np.float64)

    def floats(self) -> FloatArray:
        """IEEE singles, as doubles."""
        starts, _ = self.fixed(4)
        return self.block.singles[starts].astype(np.float64)

    def booleans(self) -> BoolArray:
        """One byte each, 0 or 1."""
        starts, _ = self.fixed(1)
        found = self.block.data[starts]
        self.require(found <= 1, "a boolean is neither 0 nor 1")
        result: BoolArray = found == 1
        return result

    def choices(self, count: int, of: str) -> IntArray:
        """Numbers below `count`; 0 where a message is marked."""
        found = self.varints()
        good = (found >= 0) & (found < count)
        if good.all():
            return found
        self.require(good, f"there is no {of} of that number")
        return np.where(good, found, 0)

    def pieces(self, starts: IntArray, lengths: IntArray) -> pl.Series:
        """The bytes of spans."""
        whole = self.block.column if len(self) == len(self.block.starts) else self.block.column.gather(self.rows)
        frame = pl.DataFrame({"whole": whole, "start": starts - self.block.starts[self.rows], "length": lengths})
        return frame.select(pl.col("whole").bin.slice(pl.col("start"), pl.col("length"))).to_series()

    def signed(self, starts: IntArray, lengths: IntArray) -> IntArray:
        """Two's complement, big endian, of spans of 1 to 8 bytes."""
        words = self.block.words[starts].byteswap().view(np.int64)
        return words >> (64 - 8 * lengths)


class Reader:
    """A position in one message, which ends at `end`; DataError if it does not hold what is asked of it."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data = data
        self.position = position
        self._end = end

    def take(self, length: int) -> bytes:
        """The next bytes."""
        if not 0 <= length <= self._end - self.position:
            raise DataError("the message ends in the middle of it, or its length is damaged")
        start = self.position
        self.position += length
        return self._data[start : self.position]

    def number(self) -> int:
        """An int or long."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        if value >> 64:
            raise DataError("a number has more than 64 bits")
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: AvroType) -> Any:
        """A value of any type; a record is a dictionary, logical types are not looked at."""
        return _VALUES[kind.kind](self, kind)

    def _choice(self, count: int, of: str) -> int:
        number = self.number()
        if not 0 <= number < count:
            raise DataError(f"there is no {of} of that number")
        return number

    def _boolean(self, kind: AvroType) -> bool:
        byte = self.take(1)[0]
        if byte > 1:
            raise DataError("a boolean is neither 0 nor 1")
        return byte == 1

    def _text(self, kind: AvroType) -> str:
        try:
            return self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise DataError("it is not text in UTF-8") from None

    def _union(self, kind: AvroType) -> Any:
        return self.value(kind.parts[self._choice(len(kind.parts), "branch of a union")])

    def _items(self, one: Callable[[], Any]) -> list[Any]:
        """Blocks of items, until one is empty; a negative count is followed by the block's size."""
        found: list[Any] = []
        while count := self.number():
            if count < 0:
                count = -count
                self.number()
            # Items of no bytes, which damage could claim by the billion, are not worth reading.
            if count > self._end - self.position:
                raise DataError("the message ends in the middle of it, or its length is damaged")
            found += [one() for _ in range(count)]
        return found

    def _array(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: self.value(kind.parts[0]))

    def _map(self, kind: AvroType) -> list[Any]:
        return self._items(lambda: {"key": self._text(kind), "value": self.value(kind.parts[0])})

    def _record(self, kind: AvroType) -> dict[str, Any]:
        return {each.name: self.value(each.type) for each in kind.fields}

    def _symbol(self, kind: AvroType) -> str:
        return kind.symbols[self._choice(len(kind.symbols), "symbol of an enum")]


_VALUES: dict[str, Callable[[Reader, AvroType], Any]] = {
    "null": lambda reader, kind: None,
    "boolean": Reader._boolean,
    "int": lambda reader, kind: reader.number(),
    "long": lambda reader, kind: reader.number(),
    "float": lambda reader, kind: struct.unpack("<f", reader.take(4))[0],
    "double": lambda reader, kind: struct.unpack("<d", reader.take(8))[0],
    "bytes": lambda reader, kind: reader.take(reader.number()),
    "string": Reader._text,
    "fixed": lambda reader, kind: reader.take(kind.size),
    "enum": Reader._symbol,
    "union": Reader._union,
    "array": Reader._array,
    "map": Reader._map,
    "record": Reader._record,
}
