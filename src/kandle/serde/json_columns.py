"""Values of one field in many JSON records as a physical column.

Polars converts what is ordinary: numbers, texts, numbers since the epoch, ISO 8601. A value of any other form is converted by the
rules for single values (`json_values`). The column is NULL where a value cannot be taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl

from kandle.model.parsing import decimal_from_text, timestamp_from_text
from kandle.model.types import (
    DAY_BOUNDS,
    INSTANT_BOUNDS,
    INTEGER_BOUNDS,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.json_values import NANOSECONDS, NUMBER, column_of, decimal_of, epoch_digits, epoch_unit, is_pattern, json_value
from kandle.serde.port import BoolArray, RecordField

ISO_DAY = r"^\d{4}-\d{2}-\d{2}$"
ISO_INSTANT = r"^\d{4}-\d{2}-\d{2}T[0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
CANONICAL_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def struct_type(field: RecordField) -> Any:
    """Return the type by which msgspec reads the field's values."""
    kind = field.type.row.json
    if kind is int:
        kind = Annotated[int, msgspec.Meta(ge=INTEGER_BOUNDS[0], le=INTEGER_BOUNDS[1])]
    elif isinstance(field.type, StringType) and field.type.max_length is not None:
        kind = Annotated[str, msgspec.Meta(max_length=field.type.max_length)]
    return kind | None if field.nullable else kind


def physical_column(field: RecordField, values: list[Any]) -> tuple[pl.Series, BoolArray | None]:
    """Return values as a physical column.

    Args:
        field: The field of the column.
        values: What msgspec returned for the type `struct_type` of the field; bytes are the text of a number.

    Returns:
        The column, and which of its rows must be read one by one, where it is NULL; None if there are none.
    """
    convert = _CONVERTERS.get(type(field.type), _plain)
    column = convert(field, values).alias(field.name)
    nulls = column.null_count()
    if not nulls or (field.nullable and nulls == values.count(None)):
        return column, None
    wrong: BoolArray = column.is_null().to_numpy()
    if field.nullable:
        wrong = wrong & np.fromiter((value is not None for value in values), np.bool_, len(values))
    return column, wrong


def _plain(field: RecordField, values: list[Any]) -> pl.Series:
    return pl.Series(values, dtype=field.type.physical)


def _one_by_one(field: RecordField, values: list[Any]) -> pl.Series:
    """Return a column of values of any kind, NULL where one cannot be taken."""
    return column_of(field, [_single(field, value) for value in values])


def _single(field: RecordField, value: Any) -> Any:
    try:
        return None if value is None else json_value(field, decimal_of(value.decode()) if type(value) is bytes else value)
    except ValueError:
        return None


def _decimals(field: RecordField, values: list[Any]) -> pl.Series:
    assert isinstance(field.type, DecimalType)
    if not {bytes, type(None)}.issuperset(map(type, values)):
        values = [value if type(value) is bytes else _number_text(value) for value in values]
    numbers = decimal_from_text(pl.Series(values, dtype=pl.Binary).cast(pl.String), field.type.scale)
    return _within(numbers, *field.type.bounds).cast(field.type.physical)


def _number_text(value: Any) -> bytes | None:
    if type(value) is int:
        return b"%d" % value
    is_number = type(value) is str and re.fullmatch(NUMBER, value, re.ASCII) is not None
    return value.encode() if is_number else None


def _within(numbers: pl.Series, first: int, last: int) -> pl.Series:
    """Return the numbers, NULL where they are not within bounds."""
    low: Any = numbers.min()
    high: Any = numbers.max()
    if low is None or (first <= low and high <= last):
        return numbers
    fits = pl.col("v").is_between(pl.lit(first, dtype=numbers.dtype), pl.lit(last, dtype=numbers.dtype))
    return numbers.to_frame("v").select(pl.when(fits).then(pl.col("v"))).to_series()


def _whole_numbers(values: list[Any]) -> pl.Series | None:
    """Return a column of integers of 64 bits; None if the values are not such, or NULL."""
    if not {int, type(None)}.issuperset(map(type, values)):
        return None
    try:
        return pl.Series(values, dtype=pl.Int64)
    except (OverflowError, TypeError):
        return None


def _texts(values: list[Any], form: str) -> pl.Series | None:
    """Return a column of texts of a form; None if not all are such, or NULL."""
    if not {str, type(None)}.issuperset(map(type, values)):
        return None
    column = pl.Series(values, dtype=pl.String)
    return column if column.str.contains(form).all() else None


def _dates(field: RecordField, values: list[Any]) -> pl.Series:
    days = _whole_numbers(values)
    if days is None:
        texts = _texts(values, ISO_DAY)
        if texts is None:
            return _one_by_one(field, values)
        days = texts.str.to_date("%Y-%m-%d", strict=False).to_physical()
    return _within(days, *DAY_BOUNDS).cast(pl.Int32).cast(field.type.physical)


def _timestamps(field: RecordField, values: list[Any]) -> pl.Series:
    numbers = _whole_numbers(values)
    if numbers is not None and field.datetime_format == NANOSECONDS:
        numbers = numbers.set((numbers % 1_000 != 0).fill_null(False), None) // 1_000
    elif numbers is not None:
        unit = epoch_unit(field)
        numbers = _within(numbers, -(-INSTANT_BOUNDS[0] // unit), INSTANT_BOUNDS[1] // unit) * unit
    elif field.datetime_format != NANOSECONDS and {bytes, int, type(None)}.issuperset(map(type, values)):
        numbers = _within(_fractions(values, epoch_digits(field)), *INSTANT_BOUNDS).cast(pl.Int64)
    else:
        pattern = field.datetime_format if is_pattern(field.datetime_format) else None
        texts = _texts(values, "" if pattern else ISO_INSTANT)
        if texts is None:
            return _one_by_one(field, values)
        numbers = timestamp_from_text(texts, pattern).to_physical()
    # A pattern may say a year that Python does not know; the rules for single values leave those to the reader of the text.
    return _within(numbers, *INSTANT_BOUNDS).cast(field.type.physical)


def _fractions(values: list[Any], digits: int) -> pl.Series:
    """Return numbers, whole or as texts with a point, as multiples of a power of ten; NULL where there are more digits."""
    numerals = [b"%d" % value if type(value) is int else value for value in values]
    texts = pl.Series(numerals, dtype=pl.Binary).cast(pl.String)
    # As kandle writes them; that is three times as fast as any number.
    usual = texts.str.contains(rf"^-?\d{{1,16}}(\.\d{{{digits}}})?$").all() if digits else False
    if not usual:
        return decimal_from_text(texts, digits)
    whole = texts.str.contains(".", literal=True)
    joined = texts.str.replace(".", "", literal=True).cast(pl.Int64)
    return joined if whole.all() else joined.zip_with(whole, joined * 10**digits)


def _uuids(field: RecordField, values: list[Any]) -> pl.Series:
    texts = pl.Series(values, dtype=pl.String).str.to_lowercase()
    return texts if texts.str.contains(CANONICAL_UUID).all() else _one_by_one(field, values)


def _maps(field: RecordField, values: list[Any]) -> pl.Series:
    entries = [None if value is None else [{"key": key, "value": text} for key, text in value.items()] for value in values]
    return pl.Series(entries, dtype=field.type.physical)


_CONVERTERS: dict[type[DataType], Callable[[RecordField, list[Any]], pl.Series]] = {
    DecimalType: _decimals,
    UuidType: _uuids,
    BytesType: _one_by_one,
    DateType: _dates,
    TimestampType: _timestamps,
    StringMapType: _maps,
}
