"""Comparisons, AND, OR, NOT and tests for NULL.

They are three-valued, as in kandle's engine, and made from ksqlDB's two-valued ones: each boolean knows the
condition under which it is true and the one under which it is false; where neither holds it is NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kandle.ksql.operators import call, comparison
from kandle.ksql.terms import (
    FALSE,
    Condition,
    ScalarBuilder,
    Term,
    Truth,
    all_known,
    all_of,
    any_of,
    any_unknown,
    boolean_term,
    negation,
    truth_of,
)
from kandle.ksql.types import BOOLEAN, BYTES, VARCHAR
from kandle.query.nodes import Call, Constant

OPPOSITES = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
NUMBERS_AND_TEXTS = ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
"""Types whose values ksqlDB was seen to accept in BETWEEN and IN."""


def safe_comparison(operator: str, left: Term, right: Term) -> Condition:
    """Return `left operator right`, FALSE where one is NULL, whether the operands are null-safe or not."""
    if BOOLEAN in (left.type, right.type):
        return _of_booleans(operator, truth_of(left), truth_of(right))
    first, second = _comparable(operator, left, right)
    return all_of(all_known(*_unsafe(left, right)), comparison(operator, first, second))


def _nullable(terms: Sequence[Term]) -> bool:
    return any(term.nullable for term in terms)


def _unsafe(*terms: Term) -> list[Term]:
    """Return the terms that may only be evaluated where they have a value."""
    return [term for term in terms if not term.is_null_safe]


def _comparable(operator: str, left: Term, right: Term) -> tuple[Term, Term]:
    """Return both sides as ksqlDB compares them: bytes as text, an instant with a constant's text."""
    if left.type == BYTES:
        # Hexadecimal digits sort like the bytes; base64 text is only equal where the bytes are.
        encode = _base64 if operator in ("=", "<>") else _hexadecimal
        return encode(left), encode(right)
    if right.literal and not left.literal:
        return left, replace(right, text=right.literal)
    if left.literal and not right.literal:
        return replace(left, text=left.literal), right
    return left, right


def _base64(term: Term) -> Term:
    if term.literal:
        return Term(term.literal, VARCHAR, nullable=False)
    return call("FROM_BYTES", term, Term("'base64'", VARCHAR, nullable=False))


def _hexadecimal(term: Term) -> Term:
    return call("FROM_BYTES", term, Term("'hex'", VARCHAR, nullable=False))


def _of_booleans(operator: str, left: Truth, right: Truth) -> Condition:
    """Return the comparison of two booleans; false is less than true."""
    below = all_of(left.false, right.true)
    above = all_of(left.true, right.false)
    same = any_of(all_of(left.true, right.true), all_of(left.false, right.false))
    parts = {"=": (same,), "<>": (below, above), "<": (below,), "<=": (below, same), ">": (above,), ">=": (above, same)}
    return any_of(*parts[operator])


def _comparing(operator: str) -> ScalarBuilder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        left, right = terms
        truth = Truth(safe_comparison(operator, left, right), safe_comparison(OPPOSITES[operator], left, right))
        return boolean_term(truth, nullable=_nullable(terms))

    return build


def _and(node: Call, terms: Sequence[Term]) -> Term:
    left, right = (truth_of(term) for term in terms)
    return boolean_term(Truth(all_of(left.true, right.true), any_of(left.false, right.false)), nullable=_nullable(terms))


def _or(node: Call, terms: Sequence[Term]) -> Term:
    left, right = (truth_of(term) for term in terms)
    return boolean_term(Truth(any_of(left.true, right.true), all_of(left.false, right.false)), nullable=_nullable(terms))


def _not(node: Call, terms: Sequence[Term]) -> Term:
    truth = truth_of(terms[0])
    false = truth.false if terms[0].nullable else negation(truth.true)
    return boolean_term(Truth(false, truth.true), nullable=_nullable(terms))


def _is_null(node: Call, terms: Sequence[Term]) -> Term:
    return boolean_term(Truth(any_unknown(terms[0]), all_known(terms[0])), nullable=False)


def _is_not_null(node: Call, terms: Sequence[Term]) -> Term:
    return boolean_term(Truth(all_known(terms[0]), any_unknown(terms[0])), nullable=False)


def _between(node: Call, terms: Sequence[Term]) -> Term:
    value, low, high = terms
    true = all_of(safe_comparison(">=", value, low), safe_comparison("<=", value, high))
    if all(term.type.name in NUMBERS_AND_TEXTS for term in terms):
        true = all_of(all_known(*_unsafe(*terms)), Condition(f"{value.text} BETWEEN {low.text} AND {high.text}"))
    return boolean_term(
        Truth(true, any_of(safe_comparison("<", value, low), safe_comparison(">", value, high))), nullable=_nullable(terms)
    )


def _is_in(node: Call, terms: Sequence[Term]) -> Term:
    value, *choices = terms
    constants = all(isinstance(argument, Constant) for argument in node.arguments[1:])
    listed = [term.text for term in choices if not term.nullable]
    if not (constants and len(listed) > 1 and _listable(value, choices)):
        true = any_of(*(safe_comparison("=", value, choice) for choice in choices))
        return boolean_term(
            Truth(true, all_of(*(safe_comparison("<>", value, choice) for choice in choices))), nullable=_nullable(terms)
        )
    in_list = f"IN ({', '.join(listed)})"
    true = all_of(all_known(*_unsafe(value)), Condition(f"{value.text} {in_list}"))
    # A NULL in the list stands for any value, so it is never known that a value is not in the list.
    no_nulls = len(listed) == len(choices)
    false = all_of(all_known(value), Condition(f"{value.text} NOT {in_list}")) if no_nulls else FALSE
    return boolean_term(Truth(true, false), nullable=_nullable(terms))


def _listable(value: Term, choices: Sequence[Term]) -> bool:
    """Return whether ksqlDB accepts these literals in a list.

    They must be of the value's own type, or small integers beside a number.
    """
    kinds = {choice.type.name for choice in choices if not choice.nullable}
    own = {value.type.name} & set(NUMBERS_AND_TEXTS)
    return kinds == own or (value.type.is_number and kinds == {"INTEGER"})


CONDITIONS: dict[str, ScalarBuilder] = {
    "equal": _comparing("="),
    "not_equal": _comparing("<>"),
    "less": _comparing("<"),
    "less_equal": _comparing("<="),
    "greater": _comparing(">"),
    "greater_equal": _comparing(">="),
    "and": _and,
    "or": _or,
    "not": _not,
    "is_null": _is_null,
    "is_not_null": _is_not_null,
    "between": _between,
    "is_in": _is_in,
}
"""Builders by the function's name in the query language."""
