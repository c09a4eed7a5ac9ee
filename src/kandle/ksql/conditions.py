"""Comparisons, connectives and tests for NULL, three-valued as in our engine, made of ksqlDB's two-valued ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kandle.ksql.operators import call, compared
from kandle.ksql.terms import FALSE, Condition, Term, Truth, all_of, any_of, boolean, known, negated, truth_of, unknown
from kandle.ksql.types import BOOLEAN, BYTES, VARCHAR
from kandle.query.nodes import Call, Constant

Builder = Callable[[Call, Sequence[Term]], Term]
OPPOSITES = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
NUMBERS_AND_TEXTS = ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "VARCHAR")
"""Types whose values ksqlDB was seen to take in BETWEEN and IN."""


def holds(operator: str, left: Term, right: Term) -> Condition:
    """left operator right, and FALSE where one is NULL."""
    if BOOLEAN in (left.type, right.type):
        return _of_booleans(operator, truth_of(left), truth_of(right))
    first, second = _comparable(operator, left, right)
    return all_of(known(*_fragile(left, right)), compared(operator, first, second))


def _nullable(terms: Sequence[Term]) -> bool:
    return any(term.nullable for term in terms)


def _fragile(*terms: Term) -> list[Term]:
    """The terms that may only be evaluated where they have a value."""
    return [term for term in terms if not term.plain]


def _comparable(operator: str, left: Term, right: Term) -> tuple[Term, Term]:
    """Both as ksqlDB compares them: bytes as text, an instant with the text of a constant one."""
    if left.type == BYTES:
        # Hexadecimal digits have the order of the bytes; other texts of bytes are only equal where these are.
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
    """False is less than true."""
    below = all_of(left.false, right.true)
    above = all_of(left.true, right.false)
    same = any_of(all_of(left.true, right.true), all_of(left.false, right.false))
    parts = {"=": (same,), "<>": (below, above), "<": (below,), "<=": (below, same), ">": (above,), ">=": (above, same)}
    return any_of(*parts[operator])


def _comparison(operator: str) -> Builder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        left, right = terms
        truth = Truth(holds(operator, left, right), holds(OPPOSITES[operator], left, right))
        return boolean(truth, nullable=_nullable(terms))

    return build


def _and(node: Call, terms: Sequence[Term]) -> Term:
    left, right = (truth_of(term) for term in terms)
    return boolean(Truth(all_of(left.true, right.true), any_of(left.false, right.false)), nullable=_nullable(terms))


def _or(node: Call, terms: Sequence[Term]) -> Term:
    left, right = (truth_of(term) for term in terms)
    return boolean(Truth(any_of(left.true, right.true), all_of(left.false, right.false)), nullable=_nullable(terms))


def _not(node: Call, terms: Sequence[Term]) -> Term:
    truth = truth_of(terms[0])
    false = truth.false if terms[0].nullable else negated(truth.true)
    return boolean(Truth(false, truth.true), nullable=_nullable(terms))


def _is_null(node: Call, terms: Sequence[Term]) -> Term:
    return boolean(Truth(unknown(terms[0]), known(terms[0])), nullable=False)


def _is_not_null(node: Call, terms: Sequence[Term]) -> Term:
    return boolean(Truth(known(terms[0]), unknown(terms[0])), nullable=False)


def _between(node: Call, terms: Sequence[Term]) -> Term:
    value, low, high = terms
    true = all_of(holds(">=", value, low), holds("<=", value, high))
    if all(term.type.name in NUMBERS_AND_TEXTS for term in terms):
        true = all_of(known(*_fragile(*terms)), Condition(f"{value.text} BETWEEN {low.text} AND {high.text}"))
    return boolean(Truth(true, any_of(holds("<", value, low), holds(">", value, high))), nullable=_nullable(terms))


def _is_in(node: Call, terms: Sequence[Term]) -> Term:
    value, *choices = terms
    constants = all(isinstance(argument, Constant) for argument in node.arguments[1:])
    listed = [term.text for term in choices if not term.nullable]
    if not (constants and len(listed) > 1 and _listable(value, choices)):
        true = any_of(*(holds("=", value, choice) for choice in choices))
        return boolean(Truth(true, all_of(*(holds("<>", value, choice) for choice in choices))), nullable=_nullable(terms))
    among = f"IN ({', '.join(listed)})"
    true = all_of(known(*_fragile(value)), Condition(f"{value.text} {among}"))
    # A NULL in the list may be any value, so nothing is known not to be in it.
    whole = len(listed) == len(choices)
    false = all_of(known(value), Condition(f"{value.text} NOT {among}")) if whole else FALSE
    return boolean(Truth(true, false), nullable=_nullable(terms))


def _listable(value: Term, choices: Sequence[Term]) -> bool:
    """Whether ksqlDB was seen to take such literals in a list: of the value's own type, or small ints beside a number."""
    kinds = {choice.type.name for choice in choices if not choice.nullable}
    own = {value.type.name} & set(NUMBERS_AND_TEXTS)
    return kinds == own or (value.type.is_number and kinds == {"INTEGER"})


CONDITIONS: dict[str, Builder] = {
    "equal": _comparison("="),
    "not_equal": _comparison("<>"),
    "less": _comparison("<"),
    "less_equal": _comparison("<="),
    "greater": _comparison(">"),
    "greater_equal": _comparison(">="),
    "and": _and,
    "or": _or,
    "not": _not,
    "is_null": _is_null,
    "is_not_null": _is_not_null,
    "between": _between,
    "is_in": _is_in,
}
