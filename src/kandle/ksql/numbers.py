"""Functions and operators of numbers; decimals are divided and rounded exactly as in kandle's engine."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.ksql.conditions import safe_comparison
from kandle.ksql.operators import arithmetic, as_decimal, builder_of_call, call, cast, comparison, negative, number, power_of_ten
from kandle.ksql.terms import (
    Condition,
    Guard,
    Precedence,
    ScalarBuilder,
    Term,
    all_of,
    any_of,
    null_safe,
    strict_term,
    with_guard,
)
from kandle.ksql.types import BIGINT, DOUBLE, INTEGER, column_type, decimal
from kandle.model.types import DecimalType, FloatType, IntegerType
from kandle.query.nodes import Call, Constant

ZERO = number(0)


def rounded_quotient(left: Term, right: Term, kind: DecimalType) -> Term:
    """Return left / right, rounded half away from zero to the scale of `kind`.

    ksqlDB divides decimals only where the quotient is exact. The remainder of the division to one digit more
    is therefore subtracted first; the cast then rounds by that digit.
    """
    step = arithmetic("*", right, power_of_ten(-kind.scale - 1))
    remainder = arithmetic("%", left, _fit_for_remainder(as_decimal(left.type).whole, step, right))
    return cast(arithmetic("/", arithmetic("-", left, remainder), right), column_type(kind))


def _fit_for_remainder(whole: int, step: Term, divisor: Term) -> Term:
    """Return the step with enough digits: ksqlDB divides with as many digits as the remainder has."""
    scale = step.type.scale
    least = as_decimal(divisor.type).scale + scale + whole
    if min(whole, step.type.whole) + scale >= least:
        return step
    return cast(step, decimal(max(least, step.type.precision), scale))


def null_at_zero(quotient: Term, divisor: Term) -> Term:
    """Return a quotient that is NULL where the divisor is 0."""
    return with_guard(quotient, Guard(comparison("<>", divisor, ZERO), comparison("=", divisor, ZERO)))


def double_quotient(left: Term, right: Term) -> Term:
    """Return left / right as a DOUBLE."""
    return arithmetic("/", left if DOUBLE in (left.type, right.type) else cast(left, DOUBLE), right)


def _divides_by_constant(node: Call) -> bool:
    """Return whether the divisor is a constant other than 0."""
    divisor = node.arguments[1]
    return isinstance(divisor, Constant) and bool(divisor.value)


def _divide(node: Call, terms: Sequence[Term]) -> Term:
    left, right = terms
    if isinstance(node.type, DecimalType):
        quotient = rounded_quotient(left, right, node.type)
        return quotient if _divides_by_constant(node) else null_at_zero(quotient, right)
    return _of_floats(node, double_quotient(left, right), right)


def _of_floats(node: Call, quotient: Term, divisor: Term) -> Term:
    return quotient if _divides_by_constant(node) else null_safe(null_at_zero(quotient, divisor))


def _arithmetic(operator: str) -> ScalarBuilder:
    return lambda node, terms: arithmetic(operator, *_wide(terms))


def _wide(terms: Sequence[Term]) -> tuple[Term, Term]:
    """Return two numbers not both of which are INTEGER, since the result would have 32 bits only."""
    left, right = terms
    return (cast(left, BIGINT) if left.type == right.type == INTEGER else left), right


def _floor_divide(node: Call, terms: Sequence[Term]) -> Term:
    left, right = _wide(terms)
    if isinstance(node.type, FloatType):
        return _of_floats(node, call("FLOOR", double_quotient(left, right)), right)
    below = _has_opposite_remainder(node, left, right)
    correction = f"CASE WHEN {below.text} THEN 1 ELSE 0 END"
    text = f"{arithmetic('/', left, right).text} - {correction}"
    quotient = strict_term(text, BIGINT, (left, right), Precedence.SUM)
    return quotient if _divides_by_constant(node) else null_at_zero(quotient, right)


def _has_opposite_remainder(node: Call, left: Term, right: Term) -> Condition:
    """Return the condition that remainder and divisor have opposite signs.

    There ksqlDB's quotient, which is cut towards zero, is one more than the floor.
    """
    remainder = arithmetic("%", left, right)
    below, above = comparison("<", remainder, ZERO), comparison(">", remainder, ZERO)
    if _divides_by_constant(node):
        return below if not right.text.startswith("-") else above
    return any_of(all_of(below, comparison(">", right, ZERO)), all_of(above, comparison("<", right, ZERO)))


def _modulo(node: Call, terms: Sequence[Term]) -> Term:
    left, right = _wide(terms)
    if isinstance(node.type, FloatType):
        floor = call("FLOOR", double_quotient(left, right))
        return _of_floats(node, arithmetic("-", left, arithmetic("*", right, floor)), right)
    remainder = arithmetic("%", left, right)
    if _divides_by_constant(node):
        return arithmetic("%", arithmetic("+", remainder, right), right)
    opposite = _has_opposite_remainder(node, left, right)
    correction = f"CASE WHEN {opposite.text} THEN {cast(right, BIGINT).text} ELSE CAST(0 AS BIGINT) END"
    text = f"{remainder.text} + {correction}"
    return null_at_zero(strict_term(text, BIGINT, (left, right), Precedence.SUM), right)


def _negate(node: Call, terms: Sequence[Term]) -> Term:
    return negative(terms[0])


def _round(node: Call, terms: Sequence[Term]) -> Term:
    kind = node.arguments[0].type
    digits = _digits(node)
    if isinstance(kind, IntegerType):
        return terms[0]
    if isinstance(kind, FloatType):
        return call("ROUND", cast(terms[0], DOUBLE), number(digits))
    assert isinstance(kind, DecimalType)
    assert isinstance(node.type, DecimalType)
    value, scale = terms[0], min(digits, kind.scale, node.type.scale)
    if scale >= as_decimal(value.type).scale or scale == node.type.scale:
        return cast(value, column_type(node.type))
    return cast(value, decimal(value.type.whole + scale + 1, scale))


def _digits(node: Call) -> int:
    """Return the number of digits after the decimal point to round to."""
    digits = node.arguments[1] if len(node.arguments) > 1 else Constant(0, IntegerType())
    assert isinstance(digits, Constant)
    return int(digits.value)


def _to_whole(name: str) -> ScalarBuilder:
    """Return the builder of floor or ceil, which leaves integers as they are."""

    def build(node: Call, terms: Sequence[Term]) -> Term:
        return terms[0] if isinstance(node.arguments[0].type, IntegerType) else call(name, terms[0])

    return build


def _domain(value: Term, operator: str) -> Guard:
    """Return the guard `value operator 0`: elsewhere the function is NaN in ksqlDB, but NULL in kandle."""
    return Guard(safe_comparison(operator, value, ZERO), safe_comparison("<" if operator == ">=" else "<=", value, ZERO))


def _within_domain(name: str, operator: str) -> ScalarBuilder:
    return lambda node, terms: null_safe(with_guard(call(name, terms[0]), _domain(terms[0], operator)))


def _log10(node: Call, terms: Sequence[Term]) -> Term:
    value = terms[0]
    quotient = arithmetic("/", call("LN", value), call("LN", number(10)))
    return null_safe(with_guard(quotient, _domain(value, ">")))


def _power(node: Call, terms: Sequence[Term]) -> Term:
    return call("POWER", *(cast(term, DOUBLE) for term in terms))


NUMBERS: dict[str, ScalarBuilder] = {
    "add": _arithmetic("+"),
    "subtract": _arithmetic("-"),
    "multiply": _arithmetic("*"),
    "divide": _divide,
    "floor_divide": _floor_divide,
    "modulo": _modulo,
    "negate": _negate,
    "abs": builder_of_call("ABS"),
    "round": _round,
    "floor": _to_whole("FLOOR"),
    "ceil": _to_whole("CEIL"),
    "sign": builder_of_call("SIGN"),
    "sqrt": _within_domain("SQRT", ">="),
    "exp": builder_of_call("EXP"),
    "ln": _within_domain("LN", ">"),
    "log10": _log10,
    "power": _power,
}
"""Builders by the function's name in the query language."""
