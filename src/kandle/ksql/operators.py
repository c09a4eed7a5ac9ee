"""Literals, arithmetic, comparisons, casts and calls as terms, with the types that ksqlDB gives them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from kandle.ksql.functions import result_type
from kandle.ksql.terms import (
    FALSE,
    TRUE,
    Condition,
    Precedence,
    RefusedError,
    ScalarBuilder,
    Term,
    Truth,
    boolean_term,
    null_safe,
    operand,
    strict_term,
)
from kandle.ksql.types import (
    BIGINT,
    BYTES,
    DATE,
    DOUBLE,
    INTEGER,
    TIMESTAMP,
    VARCHAR,
    KsqlType,
    column_type,
    decimal,
    text_literal,
)
from kandle.model.types import (
    INTEGER_BOUNDS,
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.query.nodes import Constant

PRECEDENCES = {
    "+": Precedence.SUM,
    "-": Precedence.SUM,
    "*": Precedence.PRODUCT,
    "/": Precedence.PRODUCT,
    "%": Precedence.PRODUCT,
}
AS_DECIMALS = {"INTEGER": decimal(10, 0), "BIGINT": decimal(19, 0)}
"""The decimal types that ksqlDB calculates with in the place of integers."""
LEAST_SCALE = 6
"""Least number of digits after the decimal point of a quotient of decimals."""

CASTS = {
    "INTEGER": ("BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "BIGINT": ("INTEGER", "DOUBLE", "DECIMAL", "VARCHAR"),
    "DOUBLE": ("INTEGER", "BIGINT", "DECIMAL", "VARCHAR"),
    "DECIMAL": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "VARCHAR"),
    "VARCHAR": ("INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "BOOLEAN", "TIMESTAMP"),
    "TIMESTAMP": ("VARCHAR", "DATE"),
    "DATE": ("TIMESTAMP",),
}
"""The types that ksqlDB casts a type to."""


def as_decimal(kind: KsqlType) -> KsqlType:
    """Return the decimal type that ksqlDB calculates with for an exact number."""
    return AS_DECIMALS.get(kind.name, kind)


def arithmetic(operator: str, left: Term, right: Term) -> Term:
    """Return `left operator right`: NULL or an error where an operand is NULL, or an exact divisor is 0."""
    precedence = PRECEDENCES[operator]
    kind = arithmetic_type(operator, left.type, right.type)
    # Operators of one precedence are evaluated from left to right.
    text = f"{operand(left, precedence)} {operator} {operand(right, Precedence(precedence + 1))}"
    return strict_term(text, kind, (left, right), precedence)


def arithmetic_type(operator: str, left: KsqlType, right: KsqlType) -> KsqlType:
    """Return the type that ksqlDB gives a sum, difference, product, quotient or remainder.

    Raises:
        RefusedError: If one of the types is not a number.
    """
    if not (left.is_number and right.is_number):
        raise RefusedError(f"ksqlDB has no operator {operator} for {left} and {right}; cast both to numbers with f.cast")
    if DOUBLE in (left, right):
        return DOUBLE
    if not (left.is_decimal or right.is_decimal):
        return BIGINT if BIGINT in (left, right) else INTEGER
    return _DECIMAL_TYPES[operator](as_decimal(left), as_decimal(right))


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
    """Return the number with the opposite sign."""
    return strict_term(f"-{operand(term, Precedence.ATOM)}", term.type, (term,), Precedence.SUM)


def concatenation(left: Term, right: Term) -> Term:
    """Return two texts, one after the other; ksqlDB would turn a NULL operand into the text `null`."""
    text = f"{operand(left, Precedence.SUM)} + {operand(right, Precedence.PRODUCT)}"
    return strict_term(text, VARCHAR, (left, right), Precedence.SUM)


def comparison(operator: str, left: Term, right: Term) -> Condition:
    """Return `left operator right`, FALSE where one is NULL.

    The operands must be null-safe, or known to have a value.

    Raises:
        RefusedError: If ksqlDB cannot compare the two types.
    """
    numbers = left.type.is_number and right.type.is_number
    instants = {left.type, right.type} <= {TIMESTAMP, VARCHAR}
    if not (numbers or instants or left.type.name == right.type.name):
        raise RefusedError(f"ksqlDB cannot compare {left.type} with {right.type}; cast one of them with f.cast")
    return Condition(f"{_side(left)} {operator} {_side(right)}")


def _side(term: Term) -> str:
    return term.text if term.type.is_number else operand(term, Precedence.ATOM)


def cast(term: Term, kind: KsqlType) -> Term:
    """Return the value as another type; NULL stays NULL.

    Raises:
        RefusedError: If ksqlDB has no such cast.
    """
    if term.type == kind:
        return term
    if kind.name not in CASTS.get(term.type.name, ()):
        possible = ", ".join(CASTS.get(term.type.name, ())) or "nothing"
        raise RefusedError(f"ksqlDB cannot cast {term.type} to {kind}; it casts {term.type} to {possible}")
    if term.original is not None and keeps_scale(term.original.type, kind):
        return cast(term.original, kind)
    result = strict_term(f"CAST({term.text} AS {kind})", kind, (term,))
    original = term if kind.is_decimal and as_decimal(term.type).scale == kind.scale else None
    return replace(result, is_null_safe=term.is_null_safe, original=original)


def keeps_scale(source: KsqlType, target: KsqlType) -> bool:
    """Return whether a decimal type has all digits after the decimal point of another exact type."""
    return target.is_decimal and as_decimal(source).scale <= target.scale


def null(kind: KsqlType) -> Term:
    """Return NULL with a type."""
    return Term(f"CAST(NULL AS {kind})", kind, nullable=True)


def call(name: str, *arguments: Term) -> Term:
    """Return a call of a function that is NULL, or raises an error, where an argument is NULL.

    Raises:
        RefusedError: If ksqlDB has no such signature.
    """
    kind = result_type(name, [argument.type for argument in arguments])
    return strict_term(f"{name}({', '.join(argument.text for argument in arguments)})", kind, arguments)


def null_safe_call(name: str, *arguments: Term) -> Term:
    """Return a call of a function that is defined for NULL, such as COALESCE.

    It may be NULL where all arguments may be NULL.

    Raises:
        RefusedError: If ksqlDB has no such signature.
    """
    safe = [null_safe(argument) for argument in arguments]
    kind = result_type(name, [argument.type for argument in safe])
    text = f"{name}({', '.join(argument.text for argument in safe)})"
    return Term(text, kind, all(argument.nullable for argument in safe))


def builder_of_call(name: str) -> ScalarBuilder:
    """Return a builder that passes the arguments to ksqlDB's function `name` as they are."""
    return lambda node, terms: call(name, *terms)


LARGEST_LITERAL = 18
"""The largest number of digits of a number that ksqlDB reads exactly; longer ones are cast from text."""


def constant(node: Constant) -> Term:
    """Return the value of a constant; a number is written as its shortest literal, whose type ksqlDB chooses.

    Raises:
        RefusedError: If ksqlDB has no such value: NaN and infinity, or an instant with microseconds.
    """
    if node.value is None:
        return null(column_type(node.type))
    return _LITERALS[type(node.type)](node.value)


def number(value: int | Decimal) -> Term:
    """Return an exact number: an INTEGER or BIGINT without a decimal point, a DECIMAL with one."""
    shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
    precedence = Precedence.SUM if value < 0 else Precedence.ATOM
    count = sum(character.isdigit() for character in shown)
    kind = _number_type(value, shown)
    if count > LARGEST_LITERAL:
        return Term(f"CAST({text_literal(shown)} AS {kind})", kind, nullable=False)
    return Term(shown, kind, nullable=False, precedence=precedence)


def _number_type(value: int | Decimal, shown: str) -> KsqlType:
    if "." in shown:
        scale = len(shown.partition(".")[2])
        digits = len(shown.replace("-", "").replace(".", "").lstrip("0"))
        return decimal(max(digits, scale + 1), scale)
    if -(2**31) < value < 2**31:
        return INTEGER
    return BIGINT if INTEGER_BOUNDS[0] <= value <= INTEGER_BOUNDS[1] else decimal(len(shown.lstrip("-")), 0)


def power_of_ten(exponent: int) -> Term:
    """Return 10 ** exponent as an exact number."""
    return number(10**exponent if exponent >= 0 else Decimal(1).scaleb(exponent))


def _float(value: float) -> Term:
    if not math.isfinite(value):
        raise RefusedError(f"ksqlDB has no literal for {value}; use a finite number")
    shown = repr(value)
    precedence = Precedence.SUM if shown.startswith("-") else Precedence.ATOM
    text = shown.replace("e", "E") if "e" in shown else FloatType.row.literal.format(shown)
    return Term(text, DOUBLE, nullable=False, precedence=precedence)


def _timestamp(value: datetime) -> Term:
    instant = value.astimezone(UTC)
    if instant.microsecond % 1000:
        raise RefusedError(
            f"a TIMESTAMP of ksqlDB has milliseconds, but {value.isoformat()} has microseconds; round it to milliseconds"
        )
    shown = instant.replace(tzinfo=None).isoformat(timespec="milliseconds")
    literal = text_literal(shown.removesuffix(".000"))
    return Term(TimestampType.row.literal.format(literal), TIMESTAMP, nullable=False, literal=literal)


def _date(value: date) -> Term:
    literal = text_literal(value.isoformat())
    return Term(DateType.row.literal.format(literal), DATE, nullable=False, literal=literal)


def _bytes(value: bytes) -> Term:
    literal = text_literal(base64.b64encode(value).decode())
    return Term(BytesType.row.literal.format(literal), BYTES, nullable=False, literal=literal)


def _boolean(value: bool) -> Term:
    return boolean_term(Truth(TRUE, FALSE) if value else Truth(FALSE, TRUE), nullable=False)


_LITERALS: dict[type[DataType], Callable[[Any], Term]] = {
    BooleanType: _boolean,
    IntegerType: number,
    DecimalType: number,
    FloatType: _float,
    StringType: lambda value: Term(text_literal(value), VARCHAR, nullable=False),
    UuidType: lambda value: Term(text_literal(str(value)), VARCHAR, nullable=False),
    BytesType: _bytes,
    DateType: _date,
    TimestampType: _timestamp,
}
