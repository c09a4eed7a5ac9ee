"""What a JSON value may be for each data type: the rules, applied to one value at a time.

`json_columns` applies the same rules to whole columns and comes here for every value that is out of the ordinary, and for the
reason why a value cannot be taken.
"""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from kandle.model.markers import EPOCH_FORMATS
from kandle.model.parsing import scaled, timestamp_from_text
from kandle.model.types import (
    DAY_BOUNDS,
    EPOCH_ORDINAL,
    INSTANT_BOUNDS,
    INTEGER_BOUNDS,
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.port import RecordField, physical_default
from kandle.time.timeframe import parse_instant, to_instant

NANOSECONDS = "epoch_ns"
MILLISECOND = 1_000
LONGEST_SHOWN = 40
NUMBER = r"-?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,6})?"
"""Text that is taken for a number."""
SURROGATES = "[\ud800-\udfff]"

BEYOND_DECIMAL = Decimal("Infinity"), Decimal("1e-999999")
"""Stand for numbers whose exponent `Decimal` cannot hold: too large for any type, and too small for any but a float's 0."""


def is_pattern(datetime_format: str | None) -> bool:
    """Return whether instants are text of a form of their own."""
    return datetime_format is not None and "%" in datetime_format


def epoch_unit(field: RecordField) -> int:
    """Return the microseconds of one unit of an instant that is a number; not for nanoseconds."""
    return EPOCH_FORMATS.get(field.datetime_format or "") or MILLISECOND


def epoch_digits(field: RecordField) -> int:
    """Return how many digits behind the point such a number may have: those of microseconds."""
    return len(str(epoch_unit(field))) - 1


def decimal_of(text: str) -> Decimal:
    """Return a number with a point or an exponent, exactly unless its exponent is beyond all bounds."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return BEYOND_DECIMAL["e-" in text.lower()]


def column_of(field: RecordField, values: list[Any]) -> pl.Series:
    """Return a physical column of values that `json_value` returned."""
    numbers = {TimestampType: pl.Int64(), DateType: pl.Int32()}.get(type(field.type))
    if numbers is None:
        return pl.Series(field.name, values, dtype=field.type.physical)
    return pl.Series(field.name, values, dtype=numbers).cast(field.type.physical)


def default_value(field: RecordField) -> Any:
    """Return the default of a field, as `json_value` would return it."""
    value = physical_default(field)
    if isinstance(field.type, TimestampType) and value is not None:
        return to_instant(value)
    return value.toordinal() - EPOCH_ORDINAL if isinstance(value, date) else value


def json_value(field: RecordField, value: Any) -> Any:
    """Return the physical value of a JSON value; of an instant or a date its number.

    Args:
        field: The field that holds the value.
        value: What a JSON parser returns; numbers with a point or an exponent must be `Decimal`.

    Raises:
        ValueError: The value is not one of the field's type; the message says why.
    """
    if value is None:
        if not field.nullable:
            raise ValueError("there is no value, but the field is not Optional")
        return None
    return _READERS[type(field.type)](field, value)


def _wrong(field: RecordField, value: Any) -> ValueError:
    text = repr(value) if isinstance(value, str) else str(value)
    return ValueError(f"{text[:LONGEST_SHOWN]} is not {field.type}")


def _boolean(field: RecordField, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(field, value)
    return value


def _number(field: RecordField, value: Any) -> Decimal | int:
    """Return a number, or that of a text."""
    if isinstance(value, str) and re.fullmatch(NUMBER, value, re.ASCII):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _wrong(field, value)
    return value


def _integer(field: RecordField, value: Any) -> int:
    whole = value if type(value) is int else scaled(_number(field, value), 0)
    if not INTEGER_BOUNDS[0] <= whole <= INTEGER_BOUNDS[1]:
        raise _wrong(field, value)
    return whole


def _float(field: RecordField, value: Any) -> float:
    try:
        number = float(_number(field, value))
    except OverflowError:
        raise _wrong(field, value) from None
    if not math.isfinite(number):
        raise _wrong(field, value)
    return number


def _decimal(field: RecordField, value: Any) -> int:
    assert isinstance(field.type, DecimalType)
    whole = scaled(_number(field, value), field.type.scale)
    low, high = field.type.bounds
    if not low <= whole <= high:
        raise _wrong(field, value)
    return whole


def _text(field: RecordField, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(field, value)
    if not value.isascii() and re.search(SURROGATES, value):
        raise ValueError("it is text with half a character")
    longest = field.type.max_length if isinstance(field.type, StringType) else None
    if longest is not None and len(value) > longest:
        raise ValueError(f"it has more than {longest} characters")
    return value


def _uuid(field: RecordField, value: Any) -> str:
    try:
        return str(uuid.UUID(_text(field, value)))
    except ValueError:
        raise _wrong(field, value) from None


def _bytes(field: RecordField, value: Any) -> bytes:
    return base64.b64decode(_text(field, value), validate=True)


def _date(field: RecordField, value: Any) -> int:
    """Return days since the epoch, of such a number or of ISO 8601."""
    if isinstance(value, str) and "-" in value[1:]:
        return date.fromisoformat(value).toordinal() - EPOCH_ORDINAL
    days = _integer(field, value)
    if not DAY_BOUNDS[0] <= days <= DAY_BOUNDS[1]:
        raise _wrong(field, value)
    return days


def _timestamp(field: RecordField, value: Any) -> int:
    """Return microseconds, of text in the form of the field, of a number since the epoch in its unit, or of ISO 8601."""
    if isinstance(value, str) and is_pattern(field.datetime_format):
        instant = timestamp_from_text(pl.Series([value]), field.datetime_format).to_physical()[0]
        if instant is not None:
            return int(instant)
    if isinstance(value, str) and "-" in value[1:]:
        if re.search(r"[.,]\d{6}\d*[1-9]", value):
            raise ValueError(f"{value[:LONGEST_SHOWN]} is finer than a microsecond")
        return parse_instant(value)
    if field.datetime_format == NANOSECONDS:
        microseconds, rest = divmod(value if type(value) is int else scaled(_number(field, value), 0), 1_000)
        if rest:
            raise ValueError(f"{value} is finer than a microsecond")
    elif type(value) is int:
        microseconds = value * epoch_unit(field)
    else:
        microseconds = scaled(_number(field, value), epoch_digits(field))
    if not INSTANT_BOUNDS[0] <= microseconds <= INSTANT_BOUNDS[1]:
        raise ValueError(f"{value} is not within the years 1 to 9999")
    return microseconds


def _string_map(field: RecordField, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _wrong(field, value)
    return [{"key": _text(field, key), "value": _text(field, text)} for key, text in value.items()]


_READERS: dict[type[DataType], Callable[[RecordField, Any], Any]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _text,
    UuidType: _uuid,
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
    StringMapType: _string_map,
}
