"""Values of JSON as physical values: exactly, or not at all."""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from kandle.model.parsing import timestamp_from_text
from kandle.model.types import (
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
from kandle.serde.fields import RecordField, physical_default, scaled
from kandle.serde.json_writing import EPOCH_UNITS, NANOS, USUAL_UNIT, is_pattern
from kandle.serde.readers import FIRST_DAY, LAST_DAY
from kandle.serde.schema import EPOCH_DAY
from kandle.time.timeframe import parse_instant, to_instant

INTEGER_END = 2**63
DAY = 86_400_000_000
FIRST_INSTANT, END_OF_INSTANTS = FIRST_DAY * DAY, (LAST_DAY + 1) * DAY


def column_of(found: RecordField, values: list[Any]) -> pl.Series:
    """A physical column of values that `json_value` gave."""
    numbers = {TimestampType: pl.Int64(), DateType: pl.Int32()}.get(type(found.type))
    if numbers is None:
        return pl.Series(found.name, values, dtype=found.type.physical)
    return pl.Series(found.name, values, dtype=numbers).cast(found.type.physical)


def default_value(found: RecordField) -> Any:
    """The default, as `json_value` would give it."""
    value = physical_default(found)
    if isinstance(found.type, TimestampType) and value is not None:
        return to_instant(value)
    return value if not isinstance(value, date) else value.toordinal() - EPOCH_DAY.toordinal()


def json_value(found: RecordField, value: Any) -> Any:
    """The physical value, that of an instant or a date as its number; ValueError says what is wrong with it.

    Numbers with a point must have been read as Decimal.
    """
    if value is None:
        if not found.nullable:
            raise ValueError("there is no value, but the field is not Optional")
        return None
    return _VALUES[type(found.type)](found, value)


def _wrong(found: RecordField, value: Any) -> ValueError:
    text = repr(value) if isinstance(value, str) else str(value)
    return ValueError(f"{text[:40]} is not {found.type}")


def _boolean(found: RecordField, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(found, value)
    return value


def _number(found: RecordField, value: Any) -> Decimal | int:
    """A number, or text that is one."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,6})?", value, re.ASCII):
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _wrong(found, value)
    return value


def _integer(found: RecordField, value: Any) -> int:
    whole = value if type(value) is int else scaled(_number(found, value), 0)
    if not -INTEGER_END <= whole < INTEGER_END:
        raise _wrong(found, value)
    return whole


def _float(found: RecordField, value: Any) -> float:
    try:
        number = float(_number(found, value))
    except OverflowError:
        raise _wrong(found, value) from None
    if not math.isfinite(number):
        raise _wrong(found, value)
    return number


def _decimal(found: RecordField, value: Any) -> int:
    assert isinstance(found.type, DecimalType)
    whole = scaled(_number(found, value), found.type.scale)
    if abs(whole) >= 10**found.type.precision:
        raise _wrong(found, value)
    return whole


def _text(found: RecordField, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(found, value)
    if not value.isascii() and re.search("[\ud800-\udfff]", value):
        raise ValueError("it is text with half a character")
    longest = found.type.max_length if isinstance(found.type, StringType) else None
    if longest is not None and len(value) > longest:
        raise ValueError(f"it has more than {longest} characters")
    return value


def _uuid(found: RecordField, value: Any) -> str:
    try:
        return str(uuid.UUID(_text(found, value)))
    except ValueError:
        raise _wrong(found, value) from None


def _bytes(found: RecordField, value: Any) -> bytes:
    return base64.b64decode(_text(found, value), validate=True)


def _date(found: RecordField, value: Any) -> int:
    """Days since the epoch, or ISO 8601."""
    if isinstance(value, str) and "-" in value[1:]:
        return date.fromisoformat(value).toordinal() - EPOCH_DAY.toordinal()
    days = _integer(found, value)
    if not FIRST_DAY <= days <= LAST_DAY:
        raise _wrong(found, value)
    return days


def _timestamp(found: RecordField, value: Any) -> int:
    """Text in the form of the field, a number since the epoch in its unit, or ISO 8601; in microseconds."""
    if isinstance(value, str) and is_pattern(found.datetime_format):
        instant = timestamp_from_text(pl.Series([value]), found.datetime_format).to_physical()[0]
        if instant is not None:
            return int(instant)
    if isinstance(value, str) and "-" in value[1:]:
        if re.search(r"[.,]\d{6}\d*[1-9]", value):
            raise ValueError(f"{value[:40]} is finer than a microsecond")
        return parse_instant(value)
    number = value if type(value) is int else scaled(_number(found, value), 0)
    if found.datetime_format == NANOS:
        micros, rest = divmod(number, 1_000)
        if rest:
            raise ValueError(f"{number} is finer than a microsecond")
    else:
        micros = number * EPOCH_UNITS.get(found.datetime_format or "", USUAL_UNIT)
    if not FIRST_INSTANT <= micros < END_OF_INSTANTS:
        raise ValueError(f"{number} is not within the years 1 to 9999")
    return micros


def _string_map(found: RecordField, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _wrong(found, value)
    return [{"key": _text(found, key), "value": _text(found, text)} for key, text in value.items()]


_VALUES: dict[type[DataType], Callable[[RecordField, Any], Any]] = {
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
