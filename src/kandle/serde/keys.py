"""Logical keys: their one encoding, and the partition that they belong to.

A key belongs to the partition that Java's default partitioner gives it (murmur2 of its bytes), whatever the format in which it is
stored, so that topics of the same number of partitions hold the same keys in the same partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kandle.time.timeframe import IntArray

SEPARATOR = "\0"
SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
SHIFT = 24
MASK = 0xFFFFFFFF


def key_text(parts: Sequence[object]) -> str:
    """The parts of a key as one text: joined by NUL, an absent one empty."""
    return SEPARATOR.join("" if part is None else str(part) for part in parts)


def partition_numbers(keys: pl.DataFrame, partitions: int) -> IntArray:
    """The partition of each row's key, whose parts are the columns in their order.

    One text is hashed as its UTF-8 and one integer as 8 bytes, as Java's serializers write them; other keys as `key_text`.
    """
    if partitions == 1 or keys.is_empty():
        return np.zeros(keys.height, np.int64)
    names = keys.columns
    distinct = keys.unique(maintain_order=True)
    hashes = _hashes(_key_bytes(distinct))
    numbers = (hashes & 0x7FFFFFFF) % partitions
    known = distinct.with_columns(pl.Series("__partition", numbers.astype(np.int64)))
    found = keys.join(known, on=names, how="left", maintain_order="left", nulls_equal=True)["__partition"]
    return found.to_numpy()


def _key_bytes(keys: pl.DataFrame) -> list[bytes]:
    """The bytes of each key."""
    if keys.width == 1 and keys.dtypes[0] == pl.Int64:
        return [b"" if value is None else value.to_bytes(8, "big", signed=True) for value in keys.to_series()]
    texts = [_texts(column) for column in keys]
    joined = texts[0] if len(texts) == 1 else pl.select(pl.concat_str([pl.lit(text) for text in texts], separator=SEPARATOR)).to_series()
    return [text.encode() for text in joined.to_list()]


def _texts(column: pl.Series) -> pl.Series:
    """A part of a key as text."""
    kind = column.dtype
    if kind == pl.Binary:
        column = column.bin.encode("hex")
    elif isinstance(kind, pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    elif kind == pl.Float64:
        column = pl.Series([None if value is None else repr(value) for value in column], dtype=pl.String)
    return column.cast(pl.String).fill_null("")


def _hashes(keys: Sequence[bytes]) -> IntArray:
    """murmur2 of many keys at once, by words of four bytes."""
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    width = (int(lengths.max()) + 4) // 4 * 4
    padded = np.frombuffer(b"".join(key.ljust(width, b"\0") for key in keys), np.uint8).reshape(len(keys), width)
    words = padded.view("<u4").astype(np.uint64)
    hashes = (SEED ^ lengths.astype(np.uint64)) & np.uint64(MASK)
    for position in range(words.shape[1]):
        word = words[:, position]
        whole = lengths >= 4 * (position + 1)
        rest = (lengths > 4 * position) & ~whole
        hashes = np.where(whole, _mixed(hashes, word), hashes)
        hashes = np.where(rest, _times(hashes ^ word), hashes)
    hashes ^= hashes >> np.uint64(13)
    hashes = _times(hashes)
    hashes ^= hashes >> np.uint64(15)
    return hashes.astype(np.int64)


def _times(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = (values * np.uint64(MULTIPLIER)) & np.uint64(MASK)
    return found


def _mixed(hashes: np.ndarray, words: np.ndarray) -> np.ndarray:
    """One round of murmur2 with a word of four bytes."""
    words = _times(words)
    words = _times(words ^ (words >> np.uint64(SHIFT)))
    found: np.ndarray = _times(hashes) ^ words
    return found
