"""Reads the same field of many Avro messages at once, by a position in each of them.

    messages     | 0a 6e 6f .. 03 | 0a 73 6f .. 05 | 0c 65 ..       |      joined bytes
    positions      ^ 0              ^ 14             ^ 28                  read the first field of all three: they move on
                               ^ 6              ^ 20           ^ 35        read the second field

A message that does not hold what is asked of it is marked with the reason and its position moves to its own end, so that it
never reaches into the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.serde.port import BoolArray
from kandle.time.arrays import IntArray

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


class MessageBlock:
    """The bytes of many messages, one after the other, and what is wrong with some of them.

    Args:
        messages: The messages, headers included.
    """

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
        """A column of the messages."""
        return pl.Series("message", self._messages, dtype=pl.Binary)

    def mark(self, rows: IntArray, reason: str) -> None:
        """Mark messages as unreadable; the first reason of each counts."""
        for row in rows.tolist():
            self.reasons.setdefault(row, reason)


class ColumnCursor:
    """A position in each of some messages of a block.

    Args:
        block: The messages.
        rows: Numbers of the messages that are read.
        positions: Where each is read next, in the bytes of the block.
        ends: Where each ends.

    Attributes:
        label: What is being read, for the reasons of messages that cannot be read.
    """

    def __init__(self, block: MessageBlock, rows: IntArray, positions: IntArray, ends: IntArray) -> None:
        self.block = block
        self.rows = rows
        self.positions = positions
        self.ends = ends
        self.label = "the record"

    @classmethod
    def over(cls, block: MessageBlock, skipped: int) -> ColumnCursor:
        """Return a cursor over all messages of a block, behind a header of `skipped` bytes, which each of them must have."""
        return cls(block, np.arange(len(block.starts)), block.starts + skipped, block.ends)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: IntArray) -> ColumnCursor:
        """Return a cursor over some of the messages."""
        part = ColumnCursor(self.block, self.rows[chosen], self.positions[chosen], self.ends[chosen])
        part.label = self.label
        return part

    def join(self, part: ColumnCursor, chosen: IntArray) -> None:
        """Move on to where a part of the messages has ended."""
        self.positions[chosen] = part.positions

    def require(self, good: BoolArray, reason: str) -> None:
        """Mark the messages for which `good` is false."""
        if good.all():
            return
        bad = np.flatnonzero(~good)
        self.block.mark(self.rows[bad], f"{self.label}: {reason}")
        self.positions[bad] = self.ends[bad]

    def finish(self) -> None:
        """Mark the messages that have not ended."""
        self.label = "the record"
        self.require(self.positions == self.ends, "there are bytes behind its last field")

    def _advance(self, lengths: IntArray) -> None:
        fits = lengths <= self.ends - self.positions
        if fits.all():
            self.positions = self.positions + lengths
            return
        self.positions = np.where(fits, self.positions + lengths, self.positions)
        self.require(fits, "the message ends in the middle of it")

    def varints(self) -> IntArray:
        """Read whole numbers as Avro writes int and long; 0 where a message is marked."""
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
        """Complete numbers of nine or ten bytes; the tenth can only be 1."""
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
        """Read lengths of what follows, which the messages do have; 0 where a message is marked."""
        numbers = self.varints()
        good = (numbers >= 0) & (numbers <= self.ends - self.positions)
        if good.all():
            return numbers
        self.require(good, "the message ends in the middle of it, or its length is damaged")
        return np.where(good, numbers, 0)

    def spans(self) -> tuple[IntArray, IntArray]:
        """Read positions and lengths of bytes or text."""
        lengths = self.lengths()
        starts = self.positions
        self.positions = starts + lengths
        return starts, lengths

    def fixed(self, size: int) -> tuple[IntArray, IntArray]:
        """Read positions and lengths of values of `size` bytes; the length is 0 where a message is marked."""
        starts = self.positions
        self._advance(np.full(len(self), size))
        return starts, self.positions - starts

    def doubles(self) -> FloatArray:
        """Read IEEE doubles."""
        starts, _ = self.fixed(8)
        return self.block.words[starts].view(np.float64)

    def floats(self) -> FloatArray:
        """Read IEEE singles, as doubles."""
        starts, _ = self.fixed(4)
        return self.block.singles[starts].astype(np.float64)

    def booleans(self) -> BoolArray:
        """Read booleans: one byte each, 0 or 1."""
        starts, _ = self.fixed(1)
        values = self.block.data[starts]
        self.require(values <= 1, "a boolean is neither 0 nor 1")
        result: BoolArray = values == 1
        return result

    def choices(self, count: int, of: str) -> IntArray:
        """Read numbers below `count`; 0 where a message is marked."""
        numbers = self.varints()
        good = (numbers >= 0) & (numbers < count)
        if good.all():
            return numbers
        self.require(good, f"there is no {of} of that number")
        return np.where(good, numbers, 0)

    def pieces(self, starts: IntArray, lengths: IntArray) -> pl.Series:
        """Return the bytes of spans as a column."""
        whole = self.block.column if len(self) == len(self.block.starts) else self.block.column.gather(self.rows)
        frame = pl.DataFrame({"whole": whole, "start": starts - self.block.starts[self.rows], "length": lengths})
        return frame.select(pl.col("whole").bin.slice(pl.col("start"), pl.col("length"))).to_series()

    def signed(self, starts: IntArray, lengths: IntArray) -> IntArray:
        """Return the numbers in spans of 1 to 8 bytes: two's complement, big endian."""
        words = self.block.words[starts].byteswap().view(np.int64)
        return words >> (64 - 8 * lengths)
