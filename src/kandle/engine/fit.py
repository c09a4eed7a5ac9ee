"""The last check of a bar: every value fits the field that it is written to."""

from __future__ import annotations

from typing import NoReturn

import polars as pl

from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import DecimalType, StringType


def check_fit(entity: EntityModel, bars: pl.DataFrame) -> None:
    """Raise DataError for the first value that is too large, too long or missing; names entity, field, value and bar."""
    if bars.is_empty():
        return
    for found in entity.fields:
        if not found.nullable and bars[found.name].null_count():
            _refuse(entity, found, "is NULL, but the field is not Optional", bars.filter(pl.col(found.name).is_null()))
        if isinstance(found.type, DecimalType):
            _check_digits(entity, found, bars)
        if isinstance(found.type, StringType) and found.type.max_length is not None:
            too_long = bars[found.name].str.len_chars() > found.type.max_length
            if too_long.any():
                _refuse(entity, found, f"is longer than {found.type.max_length} characters", bars.filter(too_long))


def _check_digits(entity: EntityModel, found: FieldModel, bars: pl.DataFrame) -> None:
    assert isinstance(found.type, DecimalType)
    values = bars[found.name]
    # Two extremes are found faster than each value is compared, and almost always that is all.
    low, high = values.min(), values.max()
    bound = 10**found.type.precision
    if low is None or (-bound < low and high < bound):
        return
    limit = pl.lit(bound, dtype=pl.Int128)
    _refuse(entity, found, f"does not fit {found.type}", bars.filter(pl.col(found.name).cast(pl.Int128).abs() >= limit))


def _refuse(entity: EntityModel, found: FieldModel, why: str, bad: pl.DataFrame) -> NoReturn:
    raise DataError(_message(entity, found, why, bad.head(1)))


def _message(entity: EntityModel, found: FieldModel, why: str, bar: pl.DataFrame) -> str:
    value = bar[found.name][0]
    if isinstance(found.type, DecimalType) and value is not None:
        value = f"{value} * 10**-{found.type.scale}"
    keys = {key.name: bar[key.name][0] for key in entity.keys}
    where = ", ".join(f"{name}={key}" for name, key in keys.items())
    return f"{entity.name}.{found.name} = {value} {why}" + (f" (bar {where})" if where else "")
