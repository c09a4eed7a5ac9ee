"""Operators, casts and calls of ksqlDB on terms, with the types that it gives them."""

from __future__ import annotations

from dataclasses import replace

from kandle.ksql.functions import accepted
from kandle.ksql.logic import Condition
from kandle.ksql.refusal import RefusedError
from kandle.ksql.terms import Level, Term, plain, strict, within
from kandle.ksql.types import BIGINT, DOUBLE, INTEGER, TIMESTAMP, VARCHAR, KsqlType, decimal

LEVELS = {"+": Level.SUM, "-": Level.SUM, "*": Level.PRODUCT, "/": Level.PRODUCT, "%": Level.PRODUCT}
DIGITS = {"INTEGER": decimal(10, 0), "BIGINT": decimal(19, 0)}
LEAST_SCALE = 6
"""Digits behind the point that a quotient of decimals has at least."""

CASTS = {
    "INTEGER": ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "BIGINT": ("INTEGER", "DOUBLE", "DECIMAL", "VARCHAR"),
    "DOUBLE": ("INTEGER", "BIGINT", "DECIMAL", "VARCHAR"),
    "DECIMAL": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "VARCHAR": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "BOOLEAN", "TIMESTAMP"),
    "TIMESTAMP": ("VARCHAR", "DATE"),
    "DATE": ("TIMESTAMP",),
}


def digits(kind: KsqlType) -> KsqlType:
    """The decimal type of an exact number."""
    return DIGITS.get(kind.name, kind)


def arithmetic(operator: str, left: Term, right: Term) -> Term:
    """left operator right; NULL or an error where an operand is NULL or a divisor of exact numbers 0."""
    level = LEVELS[operator]
    kind = arithmetic_type(operator, left.type, right.type)
    # Operators of one level are read from left to right.
    text = f"{within(left, level)} {operator} {within(right, Level(level + 1))}"
    return strict(text, kind, (left, right), level)


def arithmetic_type(operator: str, left: KsqlType, right: KsqlType) -> KsqlType:
    """The type that ksqlDB gives a sum, product, quotient or remainder."""
    if not (left.is_number and right.is_number):
        raise RefusedError(f"ksqlDB has no {left} {operator} {right}")
    if DOUBLE in (left, right):
        return DOUBLE
    if not (left.is_decimal or right.is_decimal):
        return BIGINT if BIGINT in (left, right) else INTEGER
    return _DECIMAL_TYPES[operator](digits(left), digits(right))


def _sum_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(left.scale, right.scale)
    return decimal(max(left.whole, right.whole) + scale + 1, scale)


def _product_type(left: KsqlType, right: KsqlType) -> KsqlType:
    return decimal(left.precision + right.precision + 1, left.scale + right.scale)


def _quotient_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(LEAST_SCALE, left.scale + right.precision + 1)
    return decimal(left.whole + right.scale + scale, scale)


def _remainder_type(left: KsqlType, right: KsqlType) -> KsqlType:
    scale = max(left.scale, right.scale)
    return decimal(min(left.whole, right.whole) + scale, scale)


_DECIMAL_TYPES = {"+": _sum_type, "-": _sum_type, "*": _product_type, "/": _quotient_type, "%": _remainder_type}


def negative(term: Term) -> Term:
    """The number with the other sign."""
    return strict(f"-{within(term, Level.ATOM)}", term.type, (term,), Level.SUM)


def joined(left: Term, right: Term) -> Term:
    """Two texts, one after the other; a NULL operand would become the text `null`."""
    text = f"{within(left, Level.SUM)} + {within(right, Level.PRODUCT)}"
    return strict(text, VARCHAR, (left, right), Level.SUM)


def cast(term: Term, kind: KsqlType) -> Term:
    """The value as another type, where it is not of that type already; NULL of NULL."""
    if term.type == kind:
        return term
    if kind.name not in CASTS.get(term.type.name, ()):
        raise RefusedError(f"ksqlDB cannot cast {term.type} to {kind}")
    if term.original is not None and keeps_all(term.original.type, kind):
        return cast(term.original, kind)
    result = strict(f"CAST({term.text} AS {kind})", kind, (term,))
    original = term if kind.is_decimal and digits(term.type).scale == kind.scale else None
    return replace(result, plain=term.plain, original=original)


def keeps_all(source: KsqlType, target: KsqlType) -> bool:
    """Whether a decimal type has all digits behind the point of another exact one."""
    return target.is_decimal and digits(source).scale <= target.scale


def null(kind: KsqlType) -> Term:
    """NULL of a type."""
    return Term(f"CAST(NULL AS {kind})", kind, nullable=True)


def call(name: str, *arguments: Term) -> Term:
    """A call that gives NULL, or an error, where an argument is NULL; refused if ksqlDB has no such signature."""
    kind = accepted(name, [argument.type for argument in arguments])
    return strict(f"{name}({', '.join(argument.text for argument in arguments)})", kind, arguments)


def call_of_plain(name: str, *arguments: Term) -> Term:
    """A call that is itself defined for NULL, such as COALESCE; it may be NULL where all arguments may."""
    safe = [plain(argument) for argument in arguments]
    kind = accepted(name, [argument.type for argument in safe])
    text = f"{name}({', '.join(argument.text for argument in safe)})"
    return Term(text, kind, all(argument.nullable for argument in safe))


def compared(operator: str, left: Term, right: Term) -> Condition:
    """left operator right, FALSE where one is NULL; the operands are plain or known."""
    numbers = left.type.is_number and right.type.is_number
    instants = {left.type, right.type} <= {TIMESTAMP, VARCHAR}
    if not (numbers or instants or left.type.name == right.type.name):
        raise RefusedError(f"ksqlDB cannot compare {left.type} with {right.type}")
    return Condition(f"{_side(left)} {operator} {_side(right)}")


def _side(term: Term) -> str:
    return term.text if term.type.is_number else within(term, Level.ATOM)
