"""Logical keys as text and as bytes, and the partition that their hash gives: the one that a Java producer of Kafka chooses.

A logical key is one value or several parts. Its text is that of its parts, joined by NUL. Its bytes are those of the text in
UTF-8 (so one string is what Java's StringSerializer writes), except that a single Int64 is 8 bytes, big endian, as Java's
LongSerializer writes it.

The hash is written here for whole columns of keys; confluent_kafka has it for one key at a time, and only inside its producer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.errors import ModelError
from kandle.time.arrays import IntArray

WordArray = npt.NDArray[np.uint32]

SEPARATOR = "\0"
ROW = "kandle row"

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
SHIFT = 24
LOW_32 = 0xFFFFFFFF
LOW_31 = 0x7FFFFFFF
# Products of numpy's 32-bit words wrap around as Java's do.
_MULTIPLIER = np.uint32(MULTIPLIER)
_SHIFT = np.uint32(SHIFT)


def _instant_text(value: datetime) -> str:
    if value.tzinfo is None:
        raise ModelError(f"a key cannot have the part {value!r}: a datetime needs a zone, such as datetime(..., tzinfo=UTC)")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


_TEXTS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "",
    str: str.__str__,
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    # -0.0 and 0.0 are one group, so they are one key.
    float: lambda value: float.__repr__(value + 0.0),
    datetime: _instant_text,
    date: date.isoformat,
    bytes: bytes.hex,
}


def key_text(parts: Sequence[object]) -> str:
    """Return the text of a logical key.

    None is empty text, an integer its decimal digits (a decimal is given as its scaled integer), a boolean `true` or `false`, a
    float its shortest exact form, a date ISO 8601, an instant ISO 8601 in UTC with `Z` and with microseconds only where they are
    not 0, bytes are hexadecimal digits.

    Args:
        parts: The parts of the key, in their order.

    Returns:
        The texts of the parts, joined by NUL.

    Raises:
        ModelError: A part is of another type, or a datetime without a zone.
    """
    return SEPARATOR.join([_TEXTS.get(type(part), _other_text)(part) for part in parts])


def _other_text(part: object) -> str:
    """Return the text of an instance of a subclass."""
    for base in type(part).__mro__:
        if base in _TEXTS:
            return _TEXTS[base](part)
    known = ", ".join(sorted(kind.__name__ for kind in _TEXTS))
    raise ModelError(f"a key cannot have the part {part!r} of type {type(part).__name__}; parts are of {known}")


def murmur2(data: bytes) -> int:
    """Return the hash of Java Kafka's `Utils.murmur2`, a signed 32-bit integer."""
    hashed = SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * MULTIPLIER & LOW_32
        word = (word ^ word >> SHIFT) * MULTIPLIER & LOW_32
        hashed = hashed * MULTIPLIER & LOW_32 ^ word
    if whole < len(data):
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * MULTIPLIER & LOW_32
    hashed = (hashed ^ hashed >> 13) * MULTIPLIER & LOW_32
    hashed ^= hashed >> 15
    return hashed - (1 << 32) if hashed > LOW_31 else hashed


def partition_numbers(keys: pl.DataFrame, partitions: int) -> IntArray:
    """Return the partition of each row's logical key: `toPositive(murmur2(bytes)) % partitions`, as in Java's Kafka.

    Args:
        keys: The parts of the keys as physical columns, in their order.
        partitions: How many partitions there are.

    Returns:
        A number from 0 to `partitions - 1` for each row.
    """
    if partitions == 1 or keys.is_empty():
        return np.zeros(keys.height, np.int64)
    distinct, key_numbers = _distinct(keys)
    numbers = (_hashes(_key_bytes(distinct)) & LOW_31).astype(np.int64) % partitions
    return numbers[key_numbers]


def _distinct(keys: pl.DataFrame) -> tuple[pl.DataFrame, IntArray]:
    """Return the distinct keys, and for each row the number of its key among them."""
    groups = keys.with_row_index(ROW).group_by(keys.columns).agg(ROW)
    rows = groups[ROW].explode().to_numpy()
    key_numbers = np.empty(keys.height, np.int64)
    key_numbers[rows] = np.repeat(np.arange(groups.height), groups[ROW].list.len().to_numpy())
    return groups.drop(ROW), key_numbers


def _key_bytes(distinct: pl.DataFrame) -> list[bytes]:
    if distinct.dtypes == [pl.Int64]:
        return [b"" if value is None else value.to_bytes(8, "big", signed=True) for value in distinct.to_series()]
    return [key_text(row).encode() for row in distinct.iter_rows()]


def _hashes(keys: Sequence[bytes]) -> WordArray:
    """Return the unsigned hash of each key."""
    lengths = np.array([len(key) for key in keys], np.int64)
    order = np.argsort(-lengths, kind="stable")
    hashed = np.empty(len(keys), np.uint32)
    hashed[order] = _hashes_of_falling_lengths([keys[at] for at in order], lengths[order])
    return hashed


def _hashes_of_falling_lengths(keys: Sequence[bytes], lengths: IntArray) -> WordArray:
    """Return the unsigned hash of each key, longest first: one pass per word over the keys that have it, which come first."""
    words, starts = _words(keys, lengths)
    whole = lengths // 4
    hashed: WordArray = (lengths ^ SEED).astype(np.uint32)
    for number in range(int(whole[0])):
        having = np.count_nonzero(whole > number)
        word = words[starts[:having] + number] * _MULTIPLIER
        hashed[:having] = hashed[:having] * _MULTIPLIER ^ (word ^ word >> _SHIFT) * _MULTIPLIER
    ragged = lengths % 4 != 0
    hashed[ragged] = (hashed[ragged] ^ words[starts[ragged] + whole[ragged]]) * _MULTIPLIER
    hashed = (hashed ^ hashed >> np.uint32(13)) * _MULTIPLIER
    return hashed ^ hashed >> np.uint32(15)


def _words(keys: Sequence[bytes], lengths: IntArray) -> tuple[WordArray, IntArray]:
    """Return all keys as 32-bit words, each filled up with zeros to whole words, and the position of each key's first word."""
    counts = (lengths + 3) // 4
    filled = b"".join([key.ljust(int(count) * 4, b"\0") for key, count in zip(keys, counts, strict=True)])
    return np.frombuffer(filled, "<u4"), np.cumsum(counts) - counts
