"""Functions of texts.

Positions and lengths count UTF-16 units in ksqlDB, which are characters except for rare ones such as emoji.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from kandle.ksql.operators import arithmetic, builder_of_call, call, cast, comparison, concatenation, number
from kandle.ksql.terms import (
    Condition,
    Precedence,
    RefusedError,
    ScalarBuilder,
    Term,
    Truth,
    all_known,
    all_of,
    any_of,
    boolean_term,
    guarded_term,
    negation,
    operand,
)
from kandle.ksql.types import INTEGER, VARCHAR, text_literal
from kandle.query.nodes import Call, Constant

WILDCARDS = frozenset("%_\\")
"""Characters with a meaning in the pattern of LIKE."""


def _constant(node: Call, position: int) -> Any:
    """Return the value of an argument, None if it is not a constant."""
    argument = node.arguments[position]
    return argument.value if isinstance(argument, Constant) else None


def _integer(term: Term) -> Term:
    """Return a number as ksqlDB's functions of texts expect it."""
    return cast(term, INTEGER)


def _substring(node: Call, terms: Sequence[Term]) -> Term:
    value, *bounds = terms
    return call("SUBSTRING", value, *map(_integer, bounds))


def _concat(node: Call, terms: Sequence[Term]) -> Term:
    return guarded_term(reduce(concatenation, terms).text, VARCHAR, terms, Precedence.SUM)


def _replace(node: Call, terms: Sequence[Term]) -> Term:
    if not _constant(node, 1):
        raise RefusedError("ksqlDB cannot replace an empty text; write the text to be replaced, as a constant")
    return call("REPLACE", *terms)


def _like(pattern: str, value: Term, node: Call) -> Condition | None:
    """Return `value LIKE 'part%'`; None if the part is not a constant or has a wildcard of LIKE in it."""
    part = _constant(node, 1)
    if part is None or WILDCARDS & set(part):
        return None
    return Condition(f"{operand(value, Precedence.ATOM)} LIKE {text_literal(pattern.format(part))}")


def _length(part: Term, node: Call) -> Term:
    """Return the number of UTF-16 units of a part, which is a constant if the part is one."""
    constant = _constant(node, 1)
    return call("LEN", part) if constant is None else number(len(constant.encode("utf-16-le")) // 2)


def _starts_with(value: Term, part: Term, node: Call) -> Condition:
    return comparison("=", call("SUBSTRING", value, number(1), _length(part, node)), part)


def _ends_with(value: Term, part: Term, node: Call) -> Condition:
    length, length_of_part = call("LEN", value), _length(part, node)
    start = arithmetic("+", arithmetic("-", length, length_of_part), number(1))
    return all_of(comparison(">=", length, length_of_part), comparison("=", call("SUBSTRING", value, start), part))


def _contains(value: Term, part: Term, node: Call) -> Condition:
    contains = comparison(">", call("INSTR", value, part), number(0))
    if _constant(node, 1):
        return contains
    # INSTR does not find an empty text in any text.
    is_empty = comparison("=", part, Term("''", VARCHAR, nullable=False))
    return any_of(contains, is_empty)


def _matching(pattern: str, general: Callable[[Term, Term, Call], Condition]) -> ScalarBuilder:
    """Return the builder of a test for a part of a text.

    ksqlDB's own results for NULL differ by function, so the test is only evaluated where both texts have a
    value.

    Args:
        pattern: LIKE pattern for a constant part, such as `{}%`.
        general: Makes the condition where LIKE cannot be used.
    """

    def build(node: Call, terms: Sequence[Term]) -> Term:
        value, part = terms
        matches = _like(pattern, value, node) or general(value, part, node)
        is_known = all_known(*terms)
        truth = Truth(all_of(is_known, matches), all_of(is_known, negation(matches)))
        return boolean_term(truth, nullable=any(term.nullable for term in terms))

    return build


def _index_of(node: Call, terms: Sequence[Term]) -> Term:
    if _constant(node, 1) == "":
        raise RefusedError("an empty text has no position in a text; write the text to look for")
    position = call("INSTR", *terms)
    return guarded_term(position.text, position.type, terms)


def _pad(name: str) -> ScalarBuilder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        value, length, fill = terms
        return call(name, value, _integer(length), fill)

    return build


TEXTS: dict[str, ScalarBuilder] = {
    "upper": builder_of_call("UCASE"),
    "lower": builder_of_call("LCASE"),
    "trim": builder_of_call("TRIM"),
    "length": builder_of_call("LEN"),
    "substring": _substring,
    "concat": _concat,
    "replace": _replace,
    "starts_with": _matching("{}%", _starts_with),
    "ends_with": _matching("%{}", _ends_with),
    "contains": _matching("%{}%", _contains),
    "index_of": _index_of,
    "left_pad": _pad("LPAD"),
    "right_pad": _pad("RPAD"),
}
"""Builders by the function's name in the query language."""
