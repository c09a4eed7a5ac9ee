"""A place in the tokens of a text, and the small things that are read everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.tokens import RESERVED, Token, syntax_error, tokens_of
from tests.ksqldb.simulator.types import BASE_TYPES, Type, array, decimal, map_of, struct

T = TypeVar("T")

UNITS = {"MILLISECOND": 1, "SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
MILLISECONDS = UNITS | {f"{name}S": length for name, length in UNITS.items()}


class Cursor:
    """Reads tokens one after the other; remembers names without backticks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.position = 0
        self.unquoted: list[str] = []
        self.variables: list[str] = []

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def ahead(self, count: int) -> Token:
        return self.tokens[min(self.position + count, len(self.tokens) - 1)]

    def fail(self) -> NoReturn:
        raise syntax_error(self.text, self.token.start, self.token.text)

    def at(self, *values: str) -> bool:
        """Whether the next tokens are these words or signs."""
        return all(_is(self.ahead(offset), value) for offset, value in enumerate(values))

    def take(self, *values: str) -> bool:
        """Go past these words or signs if they are next."""
        matches = self.at(*values)
        self.position += len(values) if matches else 0
        return matches

    def expect(self, *values: str) -> None:
        for value in values:
            if not self.take(value):
                self.fail()

    def take_any(self, *values: str) -> str | None:
        return next((value for value in values if self.take(value)), None)

    def advance(self, kind: str) -> Token:
        """The next token, which must be of this kind."""
        if self.token.kind != kind:
            self.fail()
        self.position += 1
        return self.tokens[self.position - 1]

    @property
    def at_identifier(self) -> bool:
        return self.token.kind == "quoted" or (self.token.kind == "word" and self.token.value not in RESERVED)

    def identifier(self) -> str:
        """A name: in backticks as it stands, else in upper case."""
        if not self.at_identifier:
            self.fail()
        token = self.advance(self.token.kind)
        if token.kind == "word" and token.value not in self.variables:
            self.unquoted.append(token.text)
        return token.value

    def keyword(self) -> str:
        """A name that needs no backticks: of a function, a property, a query."""
        if not self.at_identifier:
            self.fail()
        return self.advance(self.token.kind).value

    def separated(self, read: Callable[[], T]) -> tuple[T, ...]:
        items = [read()]
        while self.take(","):
            items.append(read())
        return tuple(items)

    def enclosed(self, read: Callable[[], T], close: str = ")") -> tuple[T, ...]:
        """Things between commas up to the closing sign; maybe none."""
        if self.take(close):
            return ()
        items = self.separated(read)
        self.expect(close)
        return items

    def whole(self) -> int:
        return int(self.advance("integer").value)

    def duration(self) -> int:
        """A count and a unit in milliseconds."""
        if self.token.kind in ("decimal", "float"):
            raise RefusedError(f'For input string: "{self.token.text}"')
        count = self.whole()
        if self.token.value not in MILLISECONDS or self.token.kind != "word":
            self.fail()
        return count * MILLISECONDS[self.advance("word").value]


def _is(token: Token, value: str) -> bool:
    return token.kind in ("word", "sign") and token.value == value


def read_type(cursor: Cursor) -> Type:
    kind = _simple_type(cursor)
    while cursor.take("ARRAY"):
        kind = array(kind)
    return kind


def _simple_type(cursor: Cursor) -> Type:
    if cursor.take("DECIMAL"):
        cursor.expect("(")
        precision = cursor.whole()
        cursor.expect(",")
        scale = cursor.whole()
        cursor.expect(")")
        return decimal(precision, scale)
    name = cursor.keyword()
    if name in CONTAINERS and cursor.take("<"):
        return CONTAINERS[name](cursor)
    if cursor.take("("):
        cursor.enclosed(cursor.whole)
    if name not in BASE_TYPES:
        raise RefusedError(f"Cannot resolve unknown type: {name}")
    return BASE_TYPES[name]


def _array_type(cursor: Cursor) -> Type:
    element = read_type(cursor)
    cursor.expect(">")
    return array(element)


def _map_type(cursor: Cursor) -> Type:
    key = read_type(cursor)
    cursor.expect(",")
    value = read_type(cursor)
    cursor.expect(">")
    return map_of(key, value)


def _struct_type(cursor: Cursor) -> Type:
    return struct(dict(cursor.enclosed(lambda: (cursor.identifier(), read_type(cursor)), ">")))


CONTAINERS = {"ARRAY": _array_type, "MAP": _map_type, "STRUCT": _struct_type}
