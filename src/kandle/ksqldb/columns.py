"""Types, columns and values in the notation of ksqlDB: parsed from its texts, read from its JSON and written as JSON."""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from uuid import UUID

from kandle.errors import DataError, KsqlError
from kandle.ksql import types
from kandle.ksql.types import KsqlType
from kandle.time.timeframe import MILLISECOND

T = TypeVar("T")

SYNONYMS = {"STRING": "VARCHAR", "INT": "INTEGER"}
SIMPLE = ("BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "BYTES", "DATE", "TIME", "TIMESTAMP")
KNOWN = (*SIMPLE, "DECIMAL", "ARRAY", "MAP", "STRUCT")
TOKENS = re.compile(r"\s*(`(?:[^`]|``)*`|\w+|[<>(),])")


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a stream or table, or of the result of a query."""

    name: str
    type: KsqlType
    is_key: bool = False


def type_of(text: str) -> KsqlType:
    """Parse the text of a type, such as ``ARRAY<STRUCT<`a` DECIMAL(18, 6)>>``."""
    return _TypeParser(text).parse_type()


def columns_of(text: str) -> tuple[ResultColumn, ...]:
    """Parse the text of columns, such as `` `a` STRING KEY, `b` BIGINT``."""
    return _TypeParser(text).parse_columns()


def type_in(schema: Mapping[str, Any]) -> KsqlType:
    """Return the type of a schema in the JSON of DESCRIBE."""
    name = SYNONYMS.get(schema["type"], str(schema["type"]))
    if name == "DECIMAL":
        return types.decimal(int(schema["parameters"]["precision"]), int(schema["parameters"]["scale"]))
    if name == "STRUCT":
        return types.struct({str(field["name"]): type_in(field["schema"]) for field in schema["fields"]})
    if name == "ARRAY":
        return types.array(type_in(schema["memberSchema"]))
    if name == "MAP":
        return types.mapping(types.VARCHAR, type_in(schema["memberSchema"]))
    return type_of(name)


class _TypeParser:
    """Parser of types and columns by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = TOKENS.findall(text)
        self._at = 0
        if TOKENS.sub("", text).strip():
            raise self._error()

    def parse_type(self) -> KsqlType:
        kind = self._type()
        if self._at < len(self._tokens):
            raise self._error()
        return kind

    def parse_columns(self) -> tuple[ResultColumn, ...]:
        columns: list[ResultColumn] = []
        while self._at < len(self._tokens):
            if columns:
                self._take(",")
            columns.append(ResultColumn(self._name(), self._type(), self._skip("KEY")))
        return tuple(columns)

    def _type(self) -> KsqlType:
        word = self._take().upper()
        name = SYNONYMS.get(word, word)
        if name == "DECIMAL":
            return types.decimal(*self._exact_list("(", ")", self._number, 2))
        if name == "ARRAY":
            return types.array(*self._exact_list("<", ">", self._type, 1))
        if name == "MAP":
            return types.mapping(*self._exact_list("<", ">", self._type, 2))
        if name == "STRUCT":
            return types.struct(dict(self._list("<", ">", self._field)))
        if name not in SIMPLE:
            raise self._error()
        # The server ignores the maximum length of a text, so it is skipped.
        self._list("(", ")", self._number)
        return KsqlType(name)

    def _field(self) -> tuple[str, KsqlType]:
        return self._name(), self._type()

    def _number(self) -> int:
        token = self._take()
        if not token.isdecimal():
            raise self._error()
        return int(token)

    def _exact_list(self, opening: str, closing: str, member: Callable[[], T], count: int) -> list[T]:
        members = self._list(opening, closing, member)
        if len(members) != count:
            raise self._error()
        return members

    def _list(self, opening: str, closing: str, member: Callable[[], T]) -> list[T]:
        members: list[T] = []
        if self._skip(opening):
            while not self._skip(closing):
                if members:
                    self._take(",")
                members.append(member())
        return members

    def _name(self) -> str:
        token = self._take()
        return token[1:-1].replace("``", "`") if token.startswith("`") else token

    def _skip(self, token: str) -> bool:
        """Skip the next token if it is this one; return whether it was."""
        is_next = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += is_next
        return is_next

    def _take(self, token: str | None = None) -> str:
        if self._at >= len(self._tokens) or (token is not None and self._tokens[self._at] != token):
            raise self._error()
        self._at += 1
        return str(self._tokens[self._at - 1])

    def _error(self) -> KsqlError:
        return KsqlError(f"ksqlDB uses an unsupported type in {self._text!r}; supported are {', '.join(KNOWN)}")


def value_of(kind: KsqlType, value: Any) -> Any:
    """Return the Python value of a JSON value; raise ValueError if it does not fit the type."""
    return None if value is None else READERS[kind.name](kind, value)


def _reader_of(wanted: type) -> Callable[[KsqlType, Any], Any]:
    def read(kind: KsqlType, value: Any) -> Any:
        if type(value) is not wanted:
            raise ValueError
        return value

    return read


def _double(kind: KsqlType, value: Any) -> float:
    # The server writes NaN and the infinities as strings.
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError
    return float(value)


def _decimal(kind: KsqlType, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError
    try:
        decimal = Decimal(value)
    except InvalidOperation as error:
        raise ValueError from error
    if not decimal.is_finite():
        raise ValueError
    return decimal


def _timestamp(kind: KsqlType, value: Any) -> datetime:
    instant = datetime.fromisoformat(_text(kind, value))
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _array(kind: KsqlType, value: Any) -> list[Any]:
    (element,) = kind.elements
    return [value_of(element, member) for member in _list(kind, value)]


def _map(kind: KsqlType, value: Any) -> dict[str, Any]:
    _, element = kind.elements
    return {key: value_of(element, member) for key, member in _object(kind, value).items()}


def _struct(kind: KsqlType, value: Any) -> dict[str, Any]:
    values = _object(kind, value)
    if values.keys() - set(kind.fields):
        raise ValueError
    return {name: value_of(element, values.get(name)) for name, element in zip(kind.fields, kind.elements, strict=True)}


_text, _list, _object = _reader_of(str), _reader_of(list), _reader_of(dict)

READERS: dict[str, Callable[[KsqlType, Any], Any]] = {
    "BOOLEAN": _reader_of(bool),
    "INTEGER": _reader_of(int),
    "BIGINT": _reader_of(int),
    "DOUBLE": _double,
    "DECIMAL": _decimal,
    "VARCHAR": _text,
    "BYTES": lambda kind, value: b64decode(_text(kind, value), validate=True),
    "DATE": lambda kind, value: date.fromisoformat(_text(kind, value)),
    "TIME": lambda kind, value: time.fromisoformat(_text(kind, value)),
    "TIMESTAMP": _timestamp,
    "ARRAY": _array,
    "MAP": _map,
    "STRUCT": _struct,
}


def json_of(value: Any) -> Any:
    """Return the JSON value for a Python value of an inserted row; raise DataError for one that ksqlDB cannot store."""
    for kind, write in WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    raise DataError(f"{value!r} is of type {type(value).__name__}, which cannot be inserted into ksqlDB")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"{value} cannot be inserted into ksqlDB: JSON has no such number")
    return value


def _plain(value: Decimal) -> str:
    # Written as a string, since the server would read a number as a double.
    if not value.is_finite():
        raise DataError(f"{value} cannot be inserted into ksqlDB: it is not a finite decimal")
    return format(value, "f")


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise DataError(f"{value!r} has no time zone; write datetime(..., tzinfo=timezone.utc)")
    if value.microsecond % MILLISECOND:
        raise DataError(
            f"{value.isoformat()} cannot be inserted into ksqlDB: its TIMESTAMP has milliseconds; round the value first"
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
    dict: lambda value: {str(key): json_of(member) for key, member in value.items()},
    list: lambda value: [json_of(member) for member in value],
}
"""Writers by Python type, subclasses before their bases: a datetime is also a date, a bool is also an int."""
