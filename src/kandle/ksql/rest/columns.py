"""Types and columns as the server writes them, in text and in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kandle.errors import KsqlError
from kandle.ksql import types
from kandle.ksql.types import KsqlType

T = TypeVar("T")

SYNONYMS = {"STRING": "VARCHAR", "INT": "INTEGER"}
SIMPLE = ("BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "BYTES", "DATE", "TIME", "TIMESTAMP")
KNOWN = (*SIMPLE, "DECIMAL", "ARRAY", "MAP", "STRUCT")
TOKENS = re.compile(r"\s*(`(?:[^`]|``)*`|\w+|[<>(),])")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source or of an answer."""

    name: str
    type: KsqlType
    is_key: bool = False


def type_of(text: str) -> KsqlType:
    """The type that a text such as ``ARRAY<STRUCT<`a` DECIMAL(18, 6)>>`` names."""
    return _Reader(text).only_type()


def columns_of(text: str) -> tuple[Column, ...]:
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

    def only_columns(self) -> tuple[Column, ...]:
        found: list[Column] = []
        while self._at < len(self._tokens):
            if found:
                self._take(",")
            found.append(Column(self._name(), self._type(), self._taken("KEY")))
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
