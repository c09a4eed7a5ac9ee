"""Keys of rows as bytes whose order is that of the rows: what a store keeps rows by, so that a prefix is a range.

Each part of a key ends with NUL, so that the first whole parts of a key are a prefix of its bytes, and half a part is not:

    ("north", 7)      n o r t h NUL | 80 00 00 00 00 00 00 07 | NUL
    prefix ("north")  n o r t h NUL
    prefix ("nor")    n o r NUL

Text and bytes stand as they are (text as UTF-8), with NUL written as 01 01, and 01 as 01 02, which keeps their order. Numbers,
dates and instants are whole numbers of a fixed size, big endian, with the sign inverted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from kandle.time.timeframe import to_instant

END = b"\0"
ESCAPE = b"\1"
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

SIZES: dict[pl.DataType, int] = {pl.Int64(): 8, pl.Int128(): 16, pl.Date(): 4, pl.Datetime("us", "UTC"): 8, pl.Boolean(): 1}
"""Bytes of the values of each type that has a fixed size."""


def ordered_keys(keys: pl.DataFrame) -> list[bytes]:
    """Return the key of each row as bytes.

    Args:
        keys: The parts of the keys as physical columns, in their order.
    """
    columns = [_part_columns(series) for series in keys]
    if len(columns) == 1:
        return [part + END for part in columns[0]]
    return [END.join(parts) + END for parts in zip(*columns, strict=True)]


def _part_columns(series: pl.Series) -> list[bytes]:
    if series.dtype in (pl.String, pl.Binary):
        parts: list[bytes] = series.cast(pl.Binary).to_list()
        return [_escaped(part) if END in part or ESCAPE in part else part for part in parts]
    if series.dtype in (pl.Int64, pl.Datetime):
        numbers = series.to_physical().to_numpy().astype(np.uint64) ^ np.uint64(1 << 63)
        content = numbers.astype(">u8").tobytes()
        return [content[begin : begin + 8] for begin in range(0, len(content), 8)]
    size = SIZES[series.dtype]
    return [_whole(number, size) for number in series.to_physical().to_list()]


def ordered_prefix(values: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> bytes:
    """Return the first parts of a key as the beginning of its bytes.

    Args:
        values: Physical values of the parts by name, in their order.
        schema: The types of the columns.
    """
    return b"".join(_part(value, schema[name]) + END for name, value in values.items())


def ordered_key(values: Sequence[Any], types: Sequence[pl.DataType]) -> bytes:
    """Return a whole key as bytes.

    Args:
        values: Physical values of its parts.
        types: The types of their columns.
    """
    return b"".join(_part(value, kind) + END for value, kind in zip(values, types, strict=True))


def _part(value: Any, kind: pl.DataType) -> bytes:
    if isinstance(value, str):
        return _escaped(value.encode())
    if isinstance(value, bytes):
        return _escaped(value)
    if isinstance(value, datetime):
        value = to_instant(value)
    elif isinstance(value, date):
        value = value.toordinal() - EPOCH_ORDINAL
    return _whole(value, SIZES[kind])


def _whole(number: int, size: int) -> bytes:
    return (int(number) + (1 << 8 * size - 1)).to_bytes(size, "big")


def _escaped(part: bytes) -> bytes:
    return part.replace(ESCAPE, b"\1\2").replace(END, b"\1\1")


def following(prefix: bytes) -> bytes:
    """Return the smallest bytes that lie behind all that begin with a prefix; empty where there are none."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else b""


def stored_parts(key: bytes, types: Sequence[pl.DataType]) -> list[Any]:
    """Return the parts of a whole key as stored values (`kandle.model.stored`).

    Args:
        key: The bytes of the key.
        types: The types of the columns of its parts.
    """
    parts: list[Any] = []
    at = 0
    for kind in types:
        size = SIZES.get(kind)
        end = key.index(END, at) if size is None else at + size
        parts.append(_text_part(key[at:end], kind) if size is None else _number(key[at:end], kind))
        at = end + 1
    return parts


def _text_part(part: bytes, kind: pl.DataType) -> str | bytes:
    plain = part.replace(b"\1\1", END).replace(b"\1\2", ESCAPE)
    return plain.decode() if kind == pl.String else plain


def _number(part: bytes, kind: pl.DataType) -> int | bool:
    number = int.from_bytes(part, "big") - (1 << 8 * len(part) - 1)
    return bool(number) if kind == pl.Boolean else number


MANY_ROWS = 10_000
"""So many rows are put in order by one number each, which takes a third of the time."""

LARGEST_NUMBER = 2**62


def in_order(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return rows in the order of columns without NULL; that of equal ones is not defined.

    Args:
        frame: The rows.
        names: The columns, the first one first.
    """
    if frame.height < MANY_ROWS:
        return frame.sort(names)
    numbers, count = pl.zeros(frame.height, pl.Int64, eager=True), 1
    for name in names:
        ranks, size = _ranks(frame[name])
        if count * size > LARGEST_NUMBER:
            return frame.sort(names)
        numbers, count = numbers * size + ranks, count * size
    return frame[numbers.arg_sort()]


def _ranks(series: pl.Series) -> tuple[pl.Series, int]:
    """Return numbers from 0 on that have the order of the values, and the number behind the greatest."""
    if series.dtype in (pl.Int64, pl.Datetime, pl.Date, pl.Boolean):
        numbers = series.to_physical().cast(pl.Int64)
        low, high = numbers.min(), numbers.max()
        assert isinstance(low, int) and isinstance(high, int)
        size = high - low + 1
        return (numbers - low, size) if size <= LARGEST_NUMBER else (numbers, size)
    different = series.unique().sort()
    if series.dtype == pl.String:
        return series.cast(pl.Enum(different)).to_physical().cast(pl.Int64), len(different)
    table = pl.DataFrame({"value": different, "rank": pl.arange(len(different), eager=True)})
    ranks = series.alias("value").to_frame().join(table, on="value", how="left", maintain_order="left")["rank"]
    return ranks.cast(pl.Int64), len(different)
