"""Rows as plain values: how they are kept by a store, and from which objects are built.

| type            | stored                                                         |
|-----------------|----------------------------------------------------------------|
| `Decimal(p, s)` | the scaled integer; as text where it may need more than 64 bits |
| `datetime`      | microseconds since the epoch                                   |
| `date`          | days since the epoch                                           |
| others          | the value as it is in a physical frame                         |
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import polars as pl

from kandle.model.types import (
    EPOCH_ORDINAL,
    EXACT,
    NARROW_PRECISION,
    DataType,
    DateType,
    DecimalType,
    StringMapType,
    TimestampType,
    UuidType,
)
from kandle.time.timeframe import from_instant


def stored_columns(frame: pl.DataFrame) -> list[list[Any]]:
    """Return the columns of a physical or logical frame as lists of plain values."""
    return [_stored(series) for series in frame]


def _stored(series: pl.Series) -> list[Any]:
    dtype = series.dtype
    if isinstance(dtype, pl.Decimal | pl.Datetime | pl.Date):
        series = series.to_physical()
    if isinstance(dtype, pl.Decimal) and dtype.precision <= NARROW_PRECISION:
        series = series.cast(pl.Int64)
    if series.dtype == pl.Int128:
        series = series.cast(pl.String)
    values: list[Any] = series.to_list()
    return values


class _Converted(dict[Any, Any]):
    """Values by what they were made from; each is made once, since columns repeat them."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__({None: None})
        self._make = make

    def __missing__(self, stored: Any) -> Any:
        value = self[stored] = self._make(stored)
        return value


def python_values(kind: DataType, stored: Sequence[Any]) -> Sequence[Any]:
    """Return stored values of a type as users see them in objects; None stays None."""
    if isinstance(kind, DecimalType):
        scale, scaled = -kind.scale, EXACT.scaleb
        # Wide ones are texts.
        return [None if value is None else scaled(int(value), scale) for value in stored]
    if isinstance(kind, StringMapType):
        return [kind.to_python(value) for value in stored]
    make = _MAKERS.get(type(kind))
    return stored if make is None else list(map(_Converted(make).__getitem__, stored))


_MAKERS: dict[type[DataType], Callable[[Any], Any]] = {
    TimestampType: from_instant,
    DateType: lambda stored: date.fromordinal(EPOCH_ORDINAL + stored),
    UuidType: uuid.UUID,
}
"""What makes the value of Python from a stored one, where it is not the same."""
