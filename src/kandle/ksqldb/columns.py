"""Types and columns as the server writes them, in text and in JSON."""

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
    """A column of a source or of an answer."""

    name: str
    type: KsqlType
    is_key: bool = False


def type_of(text: str) -> KsqlType:
    """The type that a text such as ``ARRAY<STRUCT<`a` DECIMAL(18, 6)>>`` names."""
    return _Reader(text).only_type()


def columns_of(text: str) -> tuple[ResultColumn, ...]:
    """The columns of a text such as `` `a` STRING KEY, `b` BIGINT``."""
    return _Reader(text).only_columns()


def type_in(schema: Mapping[str, Any]) -> KsqlType:
    """The type of a schema as DESCRIBE gives it."""
    name = SYNONYMS.get(schema["type"], str(schema["type"]))
    if name == "DECIMAL":
        return types.decimal(int(schema["parameters"]["precision"]), int(schema["parameters"]["scale"]))
    if name == "STRUCT":
        return types.struct({str(each["name"]): type_in(each["schema"]) for each in schema["fields"]})
    if name == "ARRAY":
        return types.array(type_in(schema["memberSchema"]))
    if name == "MAP":
        return types.mapping(types.VARCHAR, type_in(schema["memberSchema"]))
    return type_of(name)


class _Reader:
    """A reader of types by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = TOKENS.findall(text)
        self._at = 0
        if TOKENS.sub("", text).strip():
            raise self._bad()

    def only_type(self) -> KsqlType:
        found = self._type()
        if self._at < len(self._tokens):
            raise self._bad()
        return found

    def only_columns(self) -> tuple[ResultColumn, ...]:
        found: list[ResultColumn] = []
        while self._at < len(self._tokens):
            if found:
                self._take(",")
            found.append(ResultColumn(self._name(), self._type(), self._taken("KEY")))
        return tuple(found)

    def _type(self) -> KsqlType:
        word = self._take().upper()
        name = SYNONYMS.get(word, word)
        if name == "DECIMAL":
            return types.decimal(*self._some("(", ")", self._number, 2))
        if name == "ARRAY":
            return types.array(*self._some("<", ">", self._type, 1))
        if name == "MAP":
            return types.mapping(*self._some("<", ">", self._type, 2))
        if name == "STRUCT":
            return types.struct(dict(self._list("<", ">", self._field)))
        if name not in SIMPLE:
            raise self._bad()
        # The server forgets the limit of a text's length, so it may be there and says nothing.
        self._list("(", ")", self._number)
        return KsqlType(name)

    def _field(self) -> tuple[str, KsqlType]:
        return self._name(), self._type()

    def _number(self) -> int:
        token = self._take()
        if not token.isdecimal():
            raise self._bad()
        return int(token)

    def _some(self, opening: str, closing: str, member: Callable[[], T], count: int) -> list[T]:
        found = self._list(opening, closing, member)
        if len(found) != count:
            raise self._bad()
        return found

    def _list(self, opening: str, closing: str, member: Callable[[], T]) -> list[T]:
        found: list[T] = []
        if self._taken(opening):
            while not self._taken(closing):
                if found:
                    self._take(",")
                found.append(member())
        return found

    def _name(self) -> str:
        token = self._take()
        return token[1:-1].replace("``", "`") if token.startswith("`") else token

    def _taken(self, token: str) -> bool:
        is_there = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += is_there
        return is_there

    def _take(self, token: str | None = None) -> str:
        if self._at >= len(self._tokens) or (token is not None and self._tokens[self._at] != token):
            raise self._bad()
        self._at += 1
        return str(self._tokens[self._at - 1])

    def _bad(self) -> KsqlError:
        return KsqlError(f"ksqlDB names a type that kandle does not know: {self._text!r}; known are {', '.join(KNOWN)}")


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
