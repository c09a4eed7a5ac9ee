"""Physical values as text: one value for messages, and rows as JSON objects that people can read and kandle can read back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

import polars as pl

from kandle.errors import DataError
from kandle.model.parsing import scaled
from kandle.model.types import (
    DAY_BOUNDS,
    EPOCH_ORDINAL,
    EXACT,
    INSTANT_BOUNDS,
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    TimestampType,
)
from kandle.time.timeframe import SECOND, from_instant


class TypedField(Protocol):
    """A field with a name and a type."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> DataType: ...


def named_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows as physical values by name: an instant beyond the years of datetimes is a number here, too."""
    return frame.select(pl.all().to_physical()).rows(named=True)


def value_text(value: Any, kind: DataType) -> str | None:
    """Return a physical value as text for messages; None for NULL."""
    if value is None:
        return None
    if isinstance(kind, DecimalType):
        return f"{Decimal(value).scaleb(-kind.scale, EXACT):f}"
    if isinstance(kind, TimestampType):
        return instant_text(value)
    if isinstance(kind, DateType):
        is_date = DAY_BOUNDS[0] <= value <= DAY_BOUNDS[1]
        return str(date.fromordinal(EPOCH_ORDINAL + value)) if is_date else f"{value} days since 1970"
    return str(value)


def instant_text(instant: int) -> str:
    """Return an instant in microseconds as text for messages, also one that no datetime can hold."""
    is_datetime = INSTANT_BOUNDS[0] <= instant <= INSTANT_BOUNDS[1]
    return str(from_instant(instant)) if is_datetime else f"{instant / SECOND:.0f} seconds since 1970"


def json_row(fields: Iterable[TypedField], row: Mapping[str, Any]) -> bytes:
    """Return a row as a JSON object: instants and decimals as text, bytes in base64.

    Args:
        fields: The fields to write, in their order.
        row: Physical values by name, as `named_rows` returns them.
    """
    values = {field.name: _json_value(row[field.name], field.type) for field in fields}
    return json.dumps(values, ensure_ascii=False, default=str).encode()


def _json_value(value: Any, kind: DataType) -> Any:
    if value is None or isinstance(kind, BooleanType | IntegerType | FloatType):
        return value
    if isinstance(kind, BytesType):
        return base64.b64encode(value).decode()
    if isinstance(kind, StringMapType):
        return {entry["key"]: entry["value"] for entry in value}
    return value_text(value, kind)


def row_of_json(fields: Iterable[TypedField], text: bytes) -> dict[str, Any]:
    """Return the row of which `json_row` has made a text, as values that fill physical frames.

    Args:
        fields: The fields to read; those that the text lacks are NULL.
        text: The JSON object.

    Raises:
        DataError: The text is no such object, or holds a value that is none of its field.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DataError(f"{text[:60]!r} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{text[:60]!r} is no JSON object")
    row: dict[str, Any] = {}
    for field in fields:
        value = values.get(field.name)
        try:
            row[field.name] = _physical_value(value, field.type)
        except (ValueError, ArithmeticError, TypeError, AttributeError) as error:
            raise DataError(f"field {field.name} = {value!r} is not {field.type.words}") from error
    return row


def _physical_value(value: Any, kind: DataType) -> Any:
    if value is None or isinstance(kind, BooleanType | IntegerType | FloatType):
        return value
    if isinstance(kind, BytesType):
        return base64.b64decode(value, validate=True)
    if isinstance(kind, StringMapType):
        return kind.to_physical(value)
    if isinstance(kind, DecimalType):
        return scaled(Decimal(value), kind.scale)
    return kind.to_physical(kind.parse(value))
