"""Expressions of KSQL text as nodes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from tests.ksqldb.simulator.cursor import MILLISECONDS, Cursor, read_type
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.nodes import (
    Arithmetic,
    ArrayOf,
    Between,
    Call,
    Case,
    Cast,
    Comparison,
    Concatenation,
    Field,
    In,
    Index,
    IsNull,
    Lambda,
    Like,
    Literal,
    Logical,
    MapOf,
    Name,
    Negative,
    Node,
    Not,
    SimpleCase,
    Star,
    StructOf,
    Unit,
)
from tests.ksqldb.simulator.tokens import RESERVED

Key = TypeVar("Key")

COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
LEVELS = (("||",), ("+", "-"), ("*", "/", "%"))  # weakest first
PSEUDO_COLUMNS = frozenset(("ROWTIME", "ROWPARTITION", "ROWOFFSET", "WINDOWSTART", "WINDOWEND"))


def read_expression(cursor: Cursor) -> Node:
    """OR binds least, then AND, NOT, one comparison or predicate, then arithmetic."""
    node = _and(cursor)
    while cursor.take("OR"):
        node = Logical("OR", node, _and(cursor))
    return node


def parse_expression(text: str) -> Node:
    """The whole text as one expression."""
    cursor = Cursor(text)
    node = read_expression(cursor)
    cursor.advance("end")
    return node


def _and(cursor: Cursor) -> Node:
    node = _not(cursor)
    while cursor.take("AND"):
        node = Logical("AND", node, _not(cursor))
    return node


def _not(cursor: Cursor) -> Node:
    return Not(_not(cursor)) if cursor.take("NOT") else _predicate(cursor, read_value(cursor))


def _predicate(cursor: Cursor, value: Node) -> Node:
    if cursor.token.kind == "sign" and cursor.token.value in COMPARISONS:
        return Comparison(COMPARISONS[cursor.advance("sign").value], value, read_value(cursor))
    if cursor.take("IS"):
        return _is(cursor, value)
    negated = cursor.take("NOT")
    word = cursor.take_any(*PREDICATES)
    if word is not None:
        node = PREDICATES[word](cursor, value)
        return Not(node) if negated else node
    if negated:
        cursor.fail()
    return value


def _is(cursor: Cursor, value: Node) -> Node:
    negated = cursor.take("NOT")
    if cursor.take("DISTINCT"):
        cursor.expect("FROM")
        node = Comparison("IS DISTINCT FROM", value, read_value(cursor))
        return Not(node) if negated else node
    cursor.expect("NULL")
    return IsNull(value, negated)


def _between(cursor: Cursor, value: Node) -> Node:
    low = read_value(cursor)
    cursor.expect("AND")
    return Between(value, low, read_value(cursor))


def _in(cursor: Cursor, value: Node) -> Node:
    cursor.expect("(")
    items = cursor.separated(lambda: read_expression(cursor))
    cursor.expect(")")
    return In(value, items)


def _like(cursor: Cursor, value: Node) -> Node:
    pattern = read_value(cursor)
    return Like(value, pattern, cursor.advance("string").value if cursor.take("ESCAPE") else None)


PREDICATES = {"BETWEEN": _between, "IN": _in, "LIKE": _like}


def read_value(cursor: Cursor, level: int = 0) -> Node:
    """Arithmetic, without comparisons."""
    if level == len(LEVELS):
        return _signed(cursor)
    left = read_value(cursor, level + 1)
    while (operator := cursor.take_any(*LEVELS[level])) is not None:
        right = read_value(cursor, level + 1)
        left = Concatenation(left, right) if operator == "||" else Arithmetic(operator, left, right)
    return left


def _signed(cursor: Cursor) -> Node:
    if cursor.token.value == "-" and cursor.ahead(1).kind in NUMBERS:
        cursor.expect("-")
        return _suffixes(cursor, NUMBERS[cursor.token.kind](f"-{cursor.advance(cursor.token.kind).value}"))
    sign = cursor.take_any("-", "+")
    return Negative(sign, _signed(cursor)) if sign else _suffixes(cursor, _primary(cursor))


def _suffixes(cursor: Cursor, base: Node) -> Node:
    """Indexes and fields behind a value."""
    while True:
        if cursor.take("["):
            base = Index(base, read_value(cursor))
            cursor.expect("]")
        elif cursor.take("->"):
            base = Field(base, cursor.identifier())
        else:
            return base


def _integer(text: str) -> Literal:
    if not -(2**63) <= int(text) < 2**63:
        raise RefusedError(f"Invalid numeric literal: {text}")
    return Literal(int(text))


NUMBERS: dict[str, Callable[[str], Literal]] = {
    "integer": _integer,
    "decimal": lambda text: Literal(Decimal(text)),
    "float": lambda text: Literal(float(text)),
}


def _primary(cursor: Cursor) -> Node:
    token = cursor.token
    if token.kind in NUMBERS:
        return NUMBERS[token.kind](cursor.advance(token.kind).value)
    if token.kind == "string":
        return Literal(cursor.advance("string").value)
    if cursor.take("("):
        node = read_expression(cursor)
        cursor.expect(")")
        return node
    if token.kind == "word" and token.value in WORDS:
        cursor.position += 1
        return WORDS[token.value](cursor)
    return _constructed(cursor) or _named(cursor)


def _constructed(cursor: Cursor) -> Node | None:
    for (word, sign), read in CONSTRUCTORS.items():
        if cursor.take(word, sign):
            return read(cursor)
    return None


def _named(cursor: Cursor) -> Node:
    """A call or a column."""
    if cursor.ahead(1).value == "(" and cursor.ahead(1).kind == "sign":
        return _call(cursor, cursor.keyword())
    if cursor.token.kind == "word" and cursor.token.value in PSEUDO_COLUMNS:
        return Name(cursor.keyword())
    name = cursor.identifier()
    if not cursor.take("."):
        return Name(name)
    if cursor.token.kind == "word" and cursor.token.value in PSEUDO_COLUMNS:
        return Name(cursor.keyword(), name)
    return Name(cursor.identifier(), name)


def _call(cursor: Cursor, name: str) -> Call:
    cursor.expect("(")
    if cursor.take("*", ")"):
        return Call(name.upper(), (Star(),))
    arguments = cursor.enclosed(lambda: _argument(cursor))
    kinds = [isinstance(argument, Lambda) for argument in arguments]
    if kinds != sorted(kinds) or (kinds and kinds[0]):
        cursor.fail()  # lambdas come last, and never alone
    return Call(name.upper(), arguments)


def _argument(cursor: Cursor) -> Node:
    if cursor.token.kind == "word" and cursor.token.value in MILLISECONDS and cursor.token.value in RESERVED:
        return Unit(cursor.advance("word").value)
    count = _parameters_ahead(cursor)
    if not count:
        return read_expression(cursor)
    return _lambda(cursor, count)


def _parameters_ahead(cursor: Cursor) -> int:
    """How many parameters the lambda has that starts here; 0 if none does."""
    if cursor.ahead(1).value == "=>":
        return 1
    offset = 1
    while cursor.at("(") and cursor.ahead(offset).kind in ("word", "quoted"):
        if cursor.ahead(offset + 1).value == ")" and cursor.ahead(offset + 2).value == "=>":
            return (offset + 1) // 2
        if cursor.ahead(offset + 1).value != ",":
            return 0
        offset += 2
    return 0


def _lambda(cursor: Cursor, count: int) -> Lambda:
    enclosed = cursor.take("(")
    names = cursor.separated(cursor.keyword)
    if enclosed:
        cursor.expect(")")
    cursor.expect("=>")
    assert len(names) == count
    cursor.variables.extend(names)
    body = read_expression(cursor)
    del cursor.variables[-count:]
    return Lambda(names, body)


def _case(cursor: Cursor) -> Node:
    subject = None if cursor.at("WHEN") else read_value(cursor)
    whens = []
    while cursor.take("WHEN"):
        condition = read_expression(cursor)
        cursor.expect("THEN")
        whens.append((condition, read_expression(cursor)))
    if not whens:
        cursor.fail()
    default = read_expression(cursor) if cursor.take("ELSE") else None
    cursor.expect("END")
    return Case(tuple(whens), default) if subject is None else SimpleCase(subject)


def _cast(cursor: Cursor) -> Node:
    cursor.expect("(")
    value = read_expression(cursor)
    cursor.expect("AS")
    kind = read_type(cursor)
    cursor.expect(")")
    return Cast(value, kind)


def _assigned(cursor: Cursor, key: Callable[[], Key]) -> tuple[Key, Node]:
    name = key()
    cursor.expect(":=")
    return name, read_expression(cursor)


WORDS: dict[str, Callable[[Cursor], Node]] = {
    "NULL": lambda cursor: Literal(None),
    "TRUE": lambda cursor: Literal(True),
    "FALSE": lambda cursor: Literal(False),
    "CASE": _case,
    "CAST": _cast,
}
CONSTRUCTORS: dict[tuple[str, str], Callable[[Cursor], Node]] = {
    ("ARRAY", "["): lambda cursor: ArrayOf(cursor.enclosed(lambda: read_expression(cursor), "]")),
    ("MAP", "("): lambda cursor: MapOf(cursor.enclosed(lambda: _assigned(cursor, lambda: read_expression(cursor)))),
    ("STRUCT", "("): lambda cursor: StructOf(cursor.enclosed(lambda: _assigned(cursor, cursor.identifier))),
}
