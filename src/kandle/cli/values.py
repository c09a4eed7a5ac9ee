"""Rows as text: cells of tables, and JSON objects whose decimals keep every digit."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import polars as pl

from kandle.log.port import TopicSpec
from kandle.model.columns import logical_decimal
from kandle.model.types import DecimalType
from kandle.time.timeframe import from_instant


def iso(moment: datetime) -> str:
    """An instant in UTC: milliseconds, or microseconds where there are some."""
    digits = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    return moment.astimezone(UTC).isoformat(timespec=digits).replace("+00:00", "Z")


def iso_instant(instant: int) -> str:
    """Microseconds since the epoch as text."""
    return iso(from_instant(instant))


def cell(value: object) -> str:
    """A value in a table; NULL is nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes | list | dict):
        return json.dumps(json_value(value), ensure_ascii=False)
    return printable(str(value))


def printable(text: str) -> str:
    """Text without control characters, which could move the cursor or change colours."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def json_value(value: Any) -> Any:
    """What JSON can say of a value: decimals and times as text, bytes in base64."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [json_value(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): json_value(each) for name, each in value.items()}
    return value


def json_line(values: Mapping[str, Any]) -> str:
    """One JSON object on one line."""
    return json.dumps(json_value(values), ensure_ascii=False)


def logical(spec: TopicSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of a topic with its decimals, which it holds as scaled integers, as decimals."""
    return frame.with_columns(
        logical_decimal(frame[column.name], kind)
        for column in spec.columns
        if column.name in frame.columns and (kind := decimal_of(column.kind)) is not None
    )


def decimal_of(kind: str) -> DecimalType | None:
    """The decimal type that the words `Decimal(18, 6)` stand for, None for other types."""
    name, _, rest = kind.strip().lower().partition("(")
    if name != "decimal":
        return None
    precision, _, scale = rest.rstrip(")").partition(",")
    return DecimalType(int(precision), int(scale))
