"""Values of columns: from JSON, where numbers with a point are decimals, and to JSON."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from kandle.errors import DataError
from kandle.ksql.types import KsqlType
from kandle.time.timeframe import MILLISECOND


def value_of(kind: KsqlType, found: Any) -> Any:
    """The Python value of a JSON value; ValueError if it is none of this type."""
    return None if found is None else READERS[kind.name](kind, found)


def _exactly(wanted: type) -> Callable[[KsqlType, Any], Any]:
    def read(kind: KsqlType, found: Any) -> Any:
        if type(found) is not wanted:
            raise ValueError
        return found

    return read


def _double(kind: KsqlType, found: Any) -> float:
    # The server writes NaN and the infinities as texts.
    if isinstance(found, bool) or not isinstance(found, int | float | Decimal | str):
        raise ValueError
    return float(found)


def _decimal(kind: KsqlType, found: Any) -> Decimal:
    if isinstance(found, bool) or not isinstance(found, int | Decimal | str):
        raise ValueError
    try:
        value = Decimal(found)
    except InvalidOperation as error:
        raise ValueError from error
    if not value.is_finite():
        raise ValueError
    return value


def _timestamp(kind: KsqlType, found: Any) -> datetime:
    value = datetime.fromisoformat(_text(kind, found))
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _array(kind: KsqlType, found: Any) -> list[Any]:
    (element,) = kind.elements
    return [value_of(element, each) for each in _list(kind, found)]


def _map(kind: KsqlType, found: Any) -> dict[str, Any]:
    _, element = kind.elements
    return {key: value_of(element, each) for key, each in _object(kind, found).items()}


def _struct(kind: KsqlType, found: Any) -> dict[str, Any]:
    values = _object(kind, found)
    if values.keys() - set(kind.fields):
        raise ValueError
    return {name: value_of(element, values.get(name)) for name, element in zip(kind.fields, kind.elements, strict=True)}


_text, _list, _object = _exactly(str), _exactly(list), _exactly(dict)

READERS: dict[str, Callable[[KsqlType, Any], Any]] = {
    "BOOLEAN": _exactly(bool),
    "INTEGER": _exactly(int),
    "BIGINT": _exactly(int),
    "DOUBLE": _double,
    "DECIMAL": _decimal,
    "VARCHAR": _text,
    "BYTES": lambda kind, found: b64decode(_text(kind, found), validate=True),
    "DATE": lambda kind, found: date.fromisoformat(_text(kind, found)),
    "TIME": lambda kind, found: time.fromisoformat(_text(kind, found)),
    "TIMESTAMP": _timestamp,
    "ARRAY": _array,
    "MAP": _map,
    "STRUCT": _struct,
}


def json_of(value: Any) -> Any:
    """What stands for a value in the JSON of a row that is inserted; DataError for one that ksqlDB cannot hold."""
    for kind, write in WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise DataError(f"{value!r} is of type {type(value).__name__}, which cannot be inserted into ksqlDB")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"{value} cannot be inserted into ksqlDB: it is no number of JSON")
    return value


def _plain(value: Decimal) -> str:
    # As text, since the server would read a number as a double.
    if not value.is_finite():
        raise DataError(f"{value} cannot be inserted into ksqlDB: it is no finite decimal")
    return format(value, "f")


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise DataError(f"{value!r} has no time zone; write datetime(..., tzinfo=timezone.utc)")
    if value.microsecond % MILLISECOND:
        raise DataError(
            f"{value.isoformat()} cannot be inserted into ksqlDB: its TIMESTAMP has milliseconds; round the value before"
        )
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


WRITERS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: lambda value: value,
    float: _finite,
    str: lambda value: value,
    Decimal: _plain,
    bytes: lambda value: b64encode(value).decode(),
    datetime: _instant,
    date: date.isoformat,
    time: lambda value: value.isoformat(timespec="milliseconds"),
    UUID: str,
    dict: lambda value: {str(key): json_of(each) for key, each in value.items()},
    list: lambda value: [json_of(each) for each in value],
}
"""Subclasses stand before their bases: a datetime is a date, too."""
