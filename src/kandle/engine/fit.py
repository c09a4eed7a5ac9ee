"""The last check of a bar: every value fits the field that it is written to."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import DecimalType, StringType


def check_fit(entity: EntityModel, bars: pl.DataFrame) -> None:
    """Raise DataError for the first value that is too large, too long or missing; names entity, field, value and bar."""
    checks = [(found, why, violation) for found in entity.fields for why, violation in _violations(found)]
    if not checks or bars.is_empty():
        return
    counts = bars.select(violation.any(ignore_nulls=True).alias(str(i)) for i, (_, _, violation) in enumerate(checks))
    for (found, why, violation), bad in zip(checks, counts.row(0), strict=True):
        if bad:
            raise DataError(_message(entity, found, why, bars.filter(violation).head(1)))


def _violations(found: FieldModel) -> Iterator[tuple[str, pl.Expr]]:
    column = pl.col(found.name)
    if not found.nullable:
        yield "is NULL, but the field is not Optional", column.is_null()
    if isinstance(found.type, DecimalType):
        bound = pl.lit(10**found.type.precision, dtype=pl.Int128)
        yield f"does not fit {found.type}", column.cast(pl.Int128).abs() >= bound
    if isinstance(found.type, StringType) and found.type.max_length is not None:
        yield f"is longer than {found.type.max_length} characters", column.str.len_chars() > found.type.max_length


def _message(entity: EntityModel, found: FieldModel, why: str, bar: pl.DataFrame) -> str:
    value = bar[found.name][0]
    if isinstance(found.type, DecimalType) and value is not None:
        value = f"{value} * 10**-{found.type.scale}"
    keys = {key.name: bar[key.name][0] for key in entity.keys}
    where = ", ".join(f"{name}={key}" for name, key in keys.items())
    return f"{entity.name}.{found.name} = {value} {why}" + (f" (bar {where})" if where else "")
