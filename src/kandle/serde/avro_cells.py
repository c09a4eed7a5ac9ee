"""Columns as the bytes of many Avro messages.

Each column is made ready first (`Cells`), which gives the length of every value; then all columns are written into one buffer,
whose slices are the messages:

    | header | venue | code | at | level | size | 8 spare bytes | header | venue | ...
      put()    cells[0].put() of all rows, then cells[1].put() of all rows, ..

The spare bytes let each value be written as whole words; what reaches beyond the value is written over by the next column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.serde.avro_cursor import FloatArray, WordArray
from kandle.serde.port import BoolArray
from kandle.time.arrays import IntArray

WORD = 8
SHORT = 32
"""Bytes up to which pieces are copied word by word, all at once; longer ones are copied one by one."""

_CONTINUED = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
_SPREADS = (
    (np.uint64(0x000000000FFFFFFF), np.uint64(0x00FFFFFFF0000000), np.uint64(4)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(0x0FFFC0000FFFC000), np.uint64(2)),
    (np.uint64(0x007F007F007F007F), np.uint64(0x3F803F803F803F80), np.uint64(1)),
)
_EIGHT_GROUPS = np.uint64(1 << 56)


class MessageBuffer:
    """Room for messages, one after the other, each with the same header.

    Args:
        lengths: The length of each message, without the header.
        header: Up to 8 bytes.
    """

    def __init__(self, lengths: IntArray, header: bytes) -> None:
        lengths = lengths + len(header)
        slots = np.cumsum(lengths + WORD)
        self.starts: IntArray = slots - lengths - WORD
        self.ends: IntArray = slots - WORD
        self.data: npt.NDArray[np.uint8] = np.zeros(int(slots[-1]) if len(slots) else 0, np.uint8)
        self._words: WordArray = np.ndarray((max(len(self.data) - WORD + 1, 0),), "<u8", self.data.data, 0, (1,))
        self.put(self.starts, np.uint64(int.from_bytes(header, "little")))
        self.first: IntArray = self.starts + len(header)

    def put(self, positions: IntArray, words: WordArray | np.uint64) -> None:
        """Write a word at each position."""
        self._words[positions] = words

    def put_byte(self, positions: IntArray, values: IntArray | int) -> None:
        """Write a byte at each position."""
        self.data[positions] = values

    def messages(self) -> list[bytes | None]:
        """Return the messages."""
        whole = self.data.tobytes()
        return [whole[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


class Cells(Protocol):
    """A column that is ready to be written."""

    @property
    def lengths(self) -> IntArray:
        """How many bytes each value takes."""

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        """Write each value at its position."""


class NumberCells:
    """Whole numbers as int or long: seven bits a byte, the sign in the lowest bit."""

    def __init__(self, values: IntArray) -> None:
        self._values: WordArray = ((values << 1) ^ (values >> 63)).view(np.uint64)
        self.lengths: IntArray = _sizes(self._values, 7, 7)

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        if len(positions):
            values = self._values
            buffer.put(positions, _spread(values, self.lengths))
            if values.max() >= _EIGHT_GROUPS:
                long = np.flatnonzero(self.lengths > WORD)
                rest = values[long] >> np.uint64(56)
                tail = (rest & np.uint64(0x7F)) | np.where(rest > 0x7F, np.uint64(0x80), np.uint64(0))
                buffer.put(positions[long] + WORD, tail | (rest >> np.uint64(7)) << np.uint64(8))


def _sizes(values: WordArray, first: int, step: int) -> IntArray:
    """Return how many bytes each value takes, of which the first holds `first` bits and each other one `step` bits more."""
    sizes = np.ones(len(values), np.int64)
    greatest = int(values.max()) if len(values) else 0
    for power in range(first, 64, step):
        if greatest < 1 << power:
            break
        sizes += values >= np.uint64(1 << power)
    return sizes


def _spread(values: WordArray, lengths: IntArray) -> WordArray:
    """Return the first eight groups of seven bits, a byte each, with the mark that says that more follow."""
    if values.max() < 0x80:
        return values
    for low, high, shift in _SPREADS:
        values = (values & low) | ((values & high) << shift)
    marked = (np.minimum(lengths, WORD + 1) - 1).astype(np.uint64) << np.uint64(3)
    # A shift by all 64 bits is not defined, so the last one is made apart.
    below = np.where(lengths > WORD, ~np.uint64(0), (_ONE << np.minimum(marked, np.uint64(63))) - _ONE)
    return values | (_CONTINUED & below)


class DoubleCells:
    """IEEE doubles, of 8 bytes each."""

    def __init__(self, values: FloatArray) -> None:
        self._words = values.view(np.uint64)
        self.lengths: IntArray = np.full(len(values), WORD)

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        buffer.put(positions, self._words)


class BooleanCells:
    """Booleans, of one byte each."""

    def __init__(self, values: BoolArray) -> None:
        self._values = values.astype(np.int64)
        self.lengths: IntArray = np.ones(len(values), np.int64)

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        buffer.put_byte(positions, self._values)


class DecimalCells:
    """Scaled integers of 64 bits as their shortest two's complement, big endian, behind its length."""

    def __init__(self, values: IntArray) -> None:
        self._values = values
        # The first byte also holds the sign.
        self._sizes = _sizes((values ^ (values >> 63)).view(np.uint64), 7, 8)
        self.lengths: IntArray = self._sizes + 1

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        buffer.put_byte(positions, self._sizes << 1)
        words = (self._values << (64 - 8 * self._sizes)).view(np.uint64)
        buffer.put(positions + 1, words.byteswap())


class PieceCells:
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

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        words: WordArray = np.ndarray((len(self._source) - WORD + 1,), "<u8", self._source, 0, (1,))
        longest = int(self.lengths.max()) if len(positions) else 0
        starts, targets, lengths = self._starts, positions, self.lengths
        for at in range(0, min(longest, SHORT), WORD):
            if at:
                chosen = np.flatnonzero(lengths > at)
                starts, targets, lengths = starts[chosen], targets[chosen], lengths[chosen]
            buffer.put(targets + at, words[starts + at])
        if longest > SHORT:
            self._put_long(buffer, positions)

    def _put_long(self, buffer: MessageBuffer, positions: IntArray) -> None:
        source = np.frombuffer(self._source, np.uint8)
        for row in np.flatnonzero(self.lengths > SHORT).tolist():
            start, position, length = int(self._starts[row]), int(positions[row]), int(self.lengths[row])
            buffer.data[position : position + length] = source[start : start + length]


class RecordCells:
    """Cells of several columns, one behind the other in each row."""

    def __init__(self, parts: Sequence[Cells], count: int) -> None:
        self._parts = parts
        self.lengths: IntArray = sum((part.lengths for part in parts), np.zeros(count, np.int64))

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        for part in self._parts:
            part.put(buffer, positions)
            positions = positions + part.lengths


def text(column: pl.Series) -> Cells:
    """Return cells of text or bytes behind their length."""
    pieces = PieceCells(column)
    return RecordCells([NumberCells(pieces.lengths), pieces], len(column))


class OptionalCells:
    """A union with null: the number of the branch, then the value where there is one."""

    def __init__(self, inner: Cells, present: BoolArray, null_branch: int) -> None:
        self._inner = inner
        self._rows = np.flatnonzero(present)
        # Branch numbers are numbers like all: twice as large, as they are not negative.
        self._branches = np.where(present, 1 - null_branch, null_branch) << 1
        self.lengths: IntArray = np.ones(len(present), np.int64)
        self.lengths[self._rows] += inner.lengths

    def put(self, buffer: MessageBuffer, positions: IntArray) -> None:
        buffer.put_byte(positions, self._branches)
        self._inner.put(buffer, positions[self._rows] + 1)
