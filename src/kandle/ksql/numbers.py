"""Functions and operators of numbers, exact where ours are: above all quotients and rounding of decimals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kandle.ksql.conditions import holds
from kandle.ksql.constants import number, power_of_ten
from kandle.ksql.operators import arithmetic, call, cast, compared, digits, negative
from kandle.ksql.terms import Check, Condition, Level, Term, all_of, any_of, only_where, plain, strict
from kandle.ksql.types import BIGINT, DOUBLE, INTEGER, column_type, decimal
from kandle.model.types import DataType, DecimalType, FloatType, IntegerType
from kandle.query.nodes import Call, Constant

Builder = Callable[[Call, Sequence[Term]], Term]
ZERO = number(0)


def rounded_quotient(left: Term, right: Term, kind: DecimalType) -> Term:
    """left / right, rounded half away from zero to the digits of `kind`.

    ksqlDB divides decimals only where the quotient is exact, so the remainder of the division to one digit more is taken away
    first; the cast then rounds by that digit.
    """
    step = arithmetic("*", right, power_of_ten(-kind.scale - 1))
    remainder = arithmetic("%", left, _fit_for_remainder(digits(left.type).whole, step, right))
    return cast(arithmetic("/", arithmetic("-", left, remainder), right), column_type(kind))


def _fit_for_remainder(whole: int, step: Term, divisor: Term) -> Term:
    """The step with as many digits as the whole quotient can have: ksqlDB computes that with the digits of the remainder."""
    scale = step.type.scale
    least = digits(divisor.type).scale + scale + whole
    return step if min(whole, step.type.whole) + scale >= least else cast(step, decimal(max(least, step.type.precision), scale))


def without_zero(quotient: Term, divisor: Term) -> Term:
    """A quotient that is NULL where the divisor is 0."""
    return only_where(Check(compared("<>", divisor, ZERO), compared("=", divisor, ZERO)), quotient)


def double_quotient(left: Term, right: Term) -> Term:
    """left / right as a DOUBLE."""
    return arithmetic("/", left if DOUBLE in (left.type, right.type) else cast(left, DOUBLE), right)


def _nonzero(node: Call) -> bool:
    divisor = node.arguments[1]
    return isinstance(divisor, Constant) and bool(divisor.value)


def _divide(node: Call, terms: Sequence[Term]) -> Term:
    left, right = terms
    if isinstance(node.type, DecimalType):
        quotient = rounded_quotient(left, right, node.type)
        return quotient if _nonzero(node) else without_zero(quotient, right)
    quotient = double_quotient(left, right)
    return quotient if _nonzero(node) else plain(without_zero(quotient, right))


def _arithmetic(operator: str) -> Builder:
    return lambda node, terms: arithmetic(operator, *_wide(terms))


def _wide(terms: Sequence[Term]) -> tuple[Term, Term]:
    """Two numbers of which not both are INTEGER, whose results have only 32 bits."""
    left, right = terms
    return (cast(left, BIGINT) if left.type == right.type == INTEGER else left), right


def _floor_divide(node: Call, terms: Sequence[Term]) -> Term:
    left, right = _wide(terms)
    if isinstance(node.type, FloatType):
        quotient = call("FLOOR", double_quotient(left, right))
        return quotient if _nonzero(node) else plain(without_zero(quotient, right))
    less = _one_or_none(_has_rest_across_zero(node, left, right))
    quotient = strict(f"{arithmetic('/', left, right).text} - {less}", BIGINT, (left, right), Level.SUM)
    return quotient if _nonzero(node) else without_zero(quotient, right)


def _one_or_none(condition: Condition) -> str:
    return f"CASE WHEN {condition.text} THEN 1 ELSE 0 END"


def _has_rest_across_zero(node: Call, left: Term, right: Term) -> Condition:
    """Where ksqlDB's quotient, cut towards zero, is not the floor: the remainder is not of the divisor's sign."""
    rest = arithmetic("%", left, right)
    below, above = compared("<", rest, ZERO), compared(">", rest, ZERO)
    if _nonzero(node):
        return below if not right.text.startswith("-") else above
    return any_of(all_of(below, compared(">", right, ZERO)), all_of(above, compared("<", right, ZERO)))


def _modulo(node: Call, terms: Sequence[Term]) -> Term:
    left, right = _wide(terms)
    if isinstance(node.type, FloatType):
        whole = call("FLOOR", double_quotient(left, right))
        rest = arithmetic("-", left, arithmetic("*", right, whole))
        return rest if _nonzero(node) else plain(without_zero(rest, right))
    rest = arithmetic("%", left, right)
    if _nonzero(node):
        return arithmetic("%", arithmetic("+", rest, right), right)
    across = _has_rest_across_zero(node, left, right)
    added = f"CASE WHEN {across.text} THEN {cast(right, BIGINT).text} ELSE CAST(0 AS BIGINT) END"
    return without_zero(strict(f"{rest.text} + {added}", BIGINT, (left, right), Level.SUM), right)


def _negate(node: Call, terms: Sequence[Term]) -> Term:
    return negative(terms[0])


def _round(node: Call, terms: Sequence[Term]) -> Term:
    kind = node.arguments[0].type
    places = _places(node)
    if isinstance(kind, IntegerType):
        return terms[0]
    if isinstance(kind, FloatType):
        return call("ROUND", cast(terms[0], DOUBLE), number(places))
    assert isinstance(kind, DecimalType)
    assert isinstance(node.type, DecimalType)
    value, scale = terms[0], min(places, kind.scale, node.type.scale)
    if scale >= digits(value.type).scale or scale == node.type.scale:
        return cast(value, column_type(node.type))
    return cast(value, decimal(value.type.whole + scale + 1, scale))


def _places(node: Call) -> int:
    places = node.arguments[1] if len(node.arguments) > 1 else Constant(0, IntegerType())
    assert isinstance(places, Constant)
    return int(places.value)


def _whole(name: str) -> Builder:
    """floor and ceil."""

    def build(node: Call, terms: Sequence[Term]) -> Term:
        whole: tuple[type[DataType], ...] = (IntegerType,)
        return terms[0] if isinstance(node.arguments[0].type, whole) else call(name, terms[0])

    return build


def _function(name: str) -> Builder:
    return lambda node, terms: call(name, *terms)


def _within_domain(name: str, operator: str) -> Builder:
    """A function that is NULL outside of its domain, where ksqlDB's gives NaN."""

    def build(node: Call, terms: Sequence[Term]) -> Term:
        value = terms[0]
        inside = Check(holds(operator, value, ZERO), holds("<" if operator == ">=" else "<=", value, ZERO))
        return plain(only_where(inside, call(name, value)))

    return build


def _log10(node: Call, terms: Sequence[Term]) -> Term:
    value = terms[0]
    inside = Check(holds(">", value, ZERO), holds("<=", value, ZERO))
    return plain(only_where(inside, arithmetic("/", call("LN", value), call("LN", number(10)))))


def _power(node: Call, terms: Sequence[Term]) -> Term:
    return call("POWER", *(cast(term, DOUBLE) for term in terms))


NUMBERS: dict[str, Builder] = {
    "add": _arithmetic("+"),
    "subtract": _arithmetic("-"),
    "multiply": _arithmetic("*"),
    "divide": _divide,
    "floor_divide": _floor_divide,
    "modulo": _modulo,
    "negate": _negate,
    "abs": _function("ABS"),
    "round": _round,
    "floor": _whole("FLOOR"),
    "ceil": _whole("CEIL"),
    "sign": _function("SIGN"),
    "sqrt": _within_domain("SQRT", ">="),
    "exp": _function("EXP"),
    "ln": _within_domain("LN", ">"),
    "log10": _log10,
    "power": _power,
}
