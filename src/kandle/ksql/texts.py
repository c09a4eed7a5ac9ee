"""Functions of texts; their positions and lengths count UTF-16 units there, which are characters but for rare signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from kandle.ksql.constants import number
from kandle.ksql.operators import arithmetic, call, cast, compared, joined
from kandle.ksql.terms import Condition, Level, Term, Truth, all_of, any_of, boolean, guarded, known, negated, within
from kandle.ksql.types import INTEGER, VARCHAR, RefusedError, text
from kandle.query.nodes import Call, Constant

Builder = Callable[[Call, Sequence[Term]], Term]
WILDCARDS = frozenset("%_\\")


def _constant(node: Call, position: int) -> Any:
    argument = node.arguments[position]
    return argument.value if isinstance(argument, Constant) else None


def _function(name: str) -> Builder:
    return lambda node, terms: call(name, *terms)


def _integer(term: Term) -> Term:
    """A number as ksqlDB's functions of texts take it."""
    return cast(term, INTEGER)


def _substring(node: Call, terms: Sequence[Term]) -> Term:
    value, *bounds = terms
    return call("SUBSTRING", value, *map(_integer, bounds))


def _concat(node: Call, terms: Sequence[Term]) -> Term:
    whole = reduce(joined, terms)
    return guarded(whole.text, VARCHAR, terms, Level.SUM)


def _replace(node: Call, terms: Sequence[Term]) -> Term:
    if not _constant(node, 1):
        raise RefusedError("ksqlDB replaces no empty text; write the text that is to be replaced")
    return call("REPLACE", *terms)


def _like(pattern: str) -> Callable[[Term, Call], Condition | None]:
    """`x LIKE 'part%'`, where the part is a constant without a sign that LIKE reads as another."""

    def build(value: Term, node: Call) -> Condition | None:
        part = _constant(node, 1)
        if part is None or WILDCARDS & set(part):
            return None
        return Condition(f"{within(value, Level.ATOM)} LIKE {text(pattern.format(part))}")

    return build


def _length(part: Term, node: Call) -> Term:
    """The number of UTF-16 units of a part; of a constant one it is a constant."""
    constant = _constant(node, 1)
    return call("LEN", part) if constant is None else number(len(constant.encode("utf-16-le")) // 2)


def _begins(value: Term, part: Term, node: Call) -> Condition:
    return compared("=", call("SUBSTRING", value, number(1), _length(part, node)), part)


def _ends(value: Term, part: Term, node: Call) -> Condition:
    length, of_part = call("LEN", value), _length(part, node)
    start = arithmetic("+", arithmetic("-", length, of_part), number(1))
    return all_of(compared(">=", length, of_part), compared("=", call("SUBSTRING", value, start), part))


def _holds_part(value: Term, part: Term, node: Call) -> Condition:
    found = compared(">", call("INSTR", value, part), number(0))
    if _constant(node, 1):
        return found
    # INSTR finds no empty text anywhere.
    empty = compared("=", part, Term("''", VARCHAR, nullable=False))
    return any_of(found, empty)


def _matching(pattern: str, general: Callable[[Term, Term, Call], Condition]) -> Builder:
    """Whether a text has a part at a place; ksqlDB's own answer for NULL differs by function, so that it is not asked."""
    like = _like(pattern)

    def build(node: Call, terms: Sequence[Term]) -> Term:
        value, part = terms
        found = like(value, node) or general(value, part, node)
        there = known(*terms)
        return boolean(Truth(all_of(there, found), all_of(there, negated(found))), nullable=any(term.nullable for term in terms))

    return build


def _index_of(node: Call, terms: Sequence[Term]) -> Term:
    if _constant(node, 1) == "":
        raise RefusedError("an empty text has no place in a text; write the text that is looked for")
    found = call("INSTR", *terms)
    return guarded(found.text, found.type, terms)


def _pad(name: str) -> Builder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        value, length, fill = terms
        return call(name, value, _integer(length), fill)

    return build


TEXTS: dict[str, Builder] = {
    "upper": _function("UCASE"),
    "lower": _function("LCASE"),
    "trim": _function("TRIM"),
    "length": _function("LEN"),
    "substring": _substring,
    "concat": _concat,
    "replace": _replace,
    "starts_with": _matching("{}%", _begins),
    "ends_with": _matching("%{}", _ends),
    "contains": _matching("%{}%", _holds_part),
    "index_of": _index_of,
    "left_pad": _pad("LPAD"),
    "right_pad": _pad("RPAD"),
}
