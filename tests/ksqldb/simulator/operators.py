"""Arithmetic, logic, CASE and CAST."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.ksqldb.simulator.code import RULES, Code, Row, Scope, code_of, condition_of, guarded, present
from tests.ksqldb.simulator.errors import RefusedError, RowFailedError
from tests.ksqldb.simulator.nodes import (
    Arithmetic,
    Case,
    Cast,
    Concatenation,
    Literal,
    Logical,
    Negative,
    Not,
    SimpleCase,
)
from tests.ksqldb.simulator.types import (
    BIGINT,
    BITS,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    VARCHAR,
    Type,
    arithmetic,
    as_decimal,
    check_cast,
    decimal,
    is_number,
)
from tests.ksqldb.simulator.values import EXACT, cast, quotient, remainder, scaled, wrapped


def literal_type(value: Any) -> Type | None:
    if isinstance(value, Decimal):
        scale = -int(value.as_tuple().exponent)
        digits = len(value.as_tuple().digits) if value else scale + 1
        return decimal(max(digits, scale + 1), scale)
    if isinstance(value, int) and not isinstance(value, bool):
        return INTEGER if -(2**31) <= value < 2**31 else BIGINT
    return LITERALS[type(value)]


LITERALS: dict[type, Type | None] = {bool: BOOLEAN, float: DOUBLE, str: VARCHAR, type(None): None}


def literal(node: Literal, scope: Scope) -> Code:
    value = node.value
    return Code(literal_type(value), lambda row: value, boxed=isinstance(value, str | Decimal | None))


def arithmetic_code(node: Arithmetic, scope: Scope) -> Code:
    left, right = code_of(node.left, scope), code_of(node.right, scope)
    if left.type is None or right.type is None:
        raise RefusedError("Error processing expression: arithmetic with NULL")
    kind = arithmetic(node.operator, left.type, right.type)
    if kind == VARCHAR:
        return Code(kind, lambda row: _joined(left.run(row)) + _joined(right.run(row)))
    compute, widened = ARITHMETIC[kind.name], (as_decimal if kind.name == "DECIMAL" else lambda source: kind)
    first, second = _converted(left, widened(left.type)), _converted(right, widened(right.type))
    return Code(kind, lambda row: compute(node.operator, first(row), second(row), kind), boxed=kind.name == "DECIMAL")


def _joined(value: str | None) -> str:
    """Text in a sum of texts: NULL is the word."""
    return "null" if value is None else value


def _converted(code: Code, target: Type) -> Callable[[Row], Any]:
    return lambda row: present(cast(code.run(row), code.type, target))


def _whole(sign: str, left: int, right: int, kind: Type) -> int:
    if sign in "/%" and right == 0:
        raise RowFailedError("/ by zero")
    return wrapped(WHOLE[sign](left, right), BITS[kind.name])


def _cut(left: int, right: int) -> int:
    """A whole quotient, cut towards zero."""
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _double(sign: str, left: float, right: float, kind: Type) -> float:
    return float(DOUBLES[sign](left, right))


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)


def _modulo(left: float, right: float) -> float:
    return math.nan if not right or math.isinf(left) or math.isnan(left) else math.fmod(left, right)


def _decimal(sign: str, left: Decimal, right: Decimal, kind: Type) -> Decimal:
    return DECIMALS[sign](left, right, kind)


SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
WHOLE = SUMS | {"/": _cut, "%": lambda left, right: left - right * _cut(left, right)}
DOUBLES = SUMS | {"/": _divided, "%": _modulo}
DECIMALS: dict[str, Callable[[Decimal, Decimal, Type], Decimal]] = {
    "+": lambda left, right, kind: scaled(EXACT.add(left, right), kind.scale),
    "-": lambda left, right, kind: scaled(EXACT.subtract(left, right), kind.scale),
    "*": lambda left, right, kind: scaled(EXACT.multiply(left, right), kind.scale),
    "/": quotient,
    "%": remainder,
}
ARITHMETIC: dict[str, Callable[[str, Any, Any, Type], Any]] = {
    "INTEGER": _whole,
    "BIGINT": _whole,
    "DOUBLE": _double,
    "DECIMAL": _decimal,
}


def negative(node: Negative, scope: Scope) -> Code:
    value = code_of(node.value, scope)
    if not is_number(value.known):
        raise RefusedError(f"Unsupported sign {node.sign} for {value.type}")
    boxed = value.known.name == "DECIMAL"
    if node.sign == "+":
        return Code(value.type, lambda row: present(value.run(row)), boxed)
    if value.known.name in BITS:
        return Code(value.type, lambda row: wrapped(-present(value.run(row)), BITS[value.known.name]), boxed)
    if boxed:
        return Code(value.type, lambda row: EXACT.minus(present(value.run(row))), boxed)
    return Code(value.type, lambda row: -present(value.run(row)), boxed)


def logical(node: Logical, scope: Scope) -> Code:
    left, right = condition_of(node.left, scope), condition_of(node.right, scope)
    decisive = node.operator == "OR"
    return Code(BOOLEAN, lambda row: decisive if present(left.run(row)) == decisive else present(right.run(row)), boxed=False)


def negation(node: Not, scope: Scope) -> Code:
    value = condition_of(node.value, scope)
    return Code(BOOLEAN, lambda row: not present(value.run(row)), boxed=False)


def case(node: Case, scope: Scope) -> Code:
    whens = [(condition_of(condition, scope), code_of(result, scope)) for condition, result in node.whens]
    default = code_of(node.default, scope) if node.default else None
    results = [result for _, result in whens] + ([default] if default else [])
    kinds = {result.type for result in results if result.type is not None}
    if len(kinds) > 1:
        raise RefusedError(f"Invalid Case expression. All types should be the same: {', '.join(sorted(map(str, kinds)))}")
    if not kinds:
        raise RefusedError("Invalid Case expression. All case branches have a NULL type")
    return Code(kinds.pop(), lambda row: _chosen(whens, default, row))


def _chosen(whens: list[tuple[Code, Code]], default: Code | None, row: Row) -> Any:
    for condition, result in whens:
        if present(condition.run(row)):
            return result.run(row)
    return default.run(row) if default else None


def cast_code(node: Cast, scope: Scope) -> Code:
    value = code_of(node.value, scope)
    if value.type is not None:
        check_cast(value.type, node.type)
    return guarded(Code(node.type, lambda row: cast(value.run(row), value.type, node.type)))


def refused(node: SimpleCase | Concatenation, scope: Scope) -> Code:
    raise RefusedError(
        "not yet implemented: CASE x WHEN .." if isinstance(node, SimpleCase) else "Cannot get name for `concat` 0 times."
    )


RULES |= {
    Literal: literal,
    Arithmetic: arithmetic_code,
    Negative: negative,
    Logical: logical,
    Not: negation,
    Case: case,
    Cast: cast_code,
    SimpleCase: refused,
    Concatenation: refused,
}
