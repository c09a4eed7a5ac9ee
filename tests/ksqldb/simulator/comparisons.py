"""Comparisons, BETWEEN, IN, LIKE and IS NULL: two-valued, NULL compares as false."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from typing import Any

from tests.ksqldb.simulator.code import RULES, Code, Row, Scope, code_of, guarded, present
from tests.ksqldb.simulator.errors import RefusedError, RowFailedError
from tests.ksqldb.simulator.nodes import Between, Comparison, In, IsNull, Like
from tests.ksqldb.simulator.types import BITS, BOOLEAN, VARCHAR, Type, comparable, wider
from tests.ksqldb.simulator.values import cast, parse_date, parse_time, parse_timestamp


def comparison(node: Comparison, scope: Scope) -> Code:
    left, right = code_of(node.left, scope), code_of(node.right, scope)
    compare = compared(node.operator, left, right)
    if node.operator == "IS DISTINCT FROM":
        return Code(BOOLEAN, lambda row: _distinct(left.run(row), right.run(row), compare), boxed=False)
    return Code(BOOLEAN, lambda row: _unless_null(left.run(row), right.run(row), compare), boxed=False)


def compared(sign: str, left: Code, right: Code) -> Callable[[Any, Any], bool]:
    """How two values, neither of them NULL, compare."""
    if left.type is None or right.type is None:
        raise RefusedError(
            f"Comparison with NULL not supported: {left.type} {sign} {right.type}. Use 'IS NULL' or 'IS NOT NULL' instead."
        )
    if not comparable(left.type, right.type, sign in ("=", "<>", "IS DISTINCT FROM")):
        raise RefusedError(f"Cannot compare {left.type} to {right.type} with {sign}.")
    first, second = _comparand(left.type, right.type), _comparand(right.type, left.type)
    test = COMPARE[sign]
    return lambda one, other: test(first(one), second(other))


def _comparand(kind: Type, other: Type) -> Callable[[Any], Any]:
    """What a value is compared as: text as the time beside it, doubles beside decimals as the decimal they print."""
    if kind.name == "VARCHAR":
        return PARSERS.get(other.name, lambda value: value.encode("utf-16-be"))
    if kind.name == "DATE" and other.name == "TIMESTAMP":
        return lambda value: parse_timestamp(value.isoformat())
    if kind.name == "DOUBLE" and other.name == "DECIMAL":
        return _printed
    if other.name == "DOUBLE" and kind.name in BITS:
        return float
    return lambda value: value


def _printed(value: float) -> Decimal:
    if not math.isfinite(value):
        raise RowFailedError("Infinite or NaN")
    return Decimal(repr(value))


PARSERS: dict[str, Callable[[str], Any]] = {"TIMESTAMP": parse_timestamp, "DATE": parse_date, "TIME": parse_time}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": lambda left, right: left < right or left > right if isinstance(left, float) else left != right,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COMPARE["IS DISTINCT FROM"] = COMPARE["<>"]


def _unless_null(left: Any, right: Any, compare: Callable[[Any, Any], bool]) -> bool:
    return left is not None and right is not None and compare(left, right)


def _distinct(left: Any, right: Any, compare: Callable[[Any, Any], bool]) -> bool:
    return (left is None) != (right is None) if left is None or right is None else compare(left, right)


def between(node: Between, scope: Scope) -> Code:
    low = comparison(Comparison(">=", node.value, node.low), scope)
    high = comparison(Comparison("<=", node.value, node.high), scope)
    return Code(BOOLEAN, lambda row: low.run(row) and high.run(row), boxed=False)


def inside(node: In, scope: Scope) -> Code:
    """All are cast to their common type first; then they must be the same, decimals with their scale too."""
    value, *items = (code_of(part, scope) for part in (node.value, *node.items))
    kind = reduce(wider, [item.type for item in items if item.type is not None], value.known)
    codes = [guarded(Code(kind, _caster(item, kind))) if item.type != kind else item for item in (value, *items)]
    return Code(BOOLEAN, lambda row: _is_inside(*[code.run(row) for code in codes]), boxed=False)


def _caster(code: Code, kind: Type) -> Callable[[Row], Any]:
    return lambda row: cast(code.run(row), code.type, kind)


def _is_inside(value: Any, *items: Any) -> bool:
    if isinstance(value, Decimal):
        return any(item is not None and item.compare_total(value) == 0 for item in items)
    return value is not None and value in items


def like(node: Like, scope: Scope) -> Code:
    value, pattern = code_of(node.value, scope), code_of(node.pattern, scope)
    if value.type != VARCHAR or pattern.type != VARCHAR or len(node.escape or "!") != 1:
        raise RefusedError(f"Like condition must be between strings: {value.type} LIKE {pattern.type} ESCAPE {node.escape}")
    return Code(BOOLEAN, lambda row: _is_like(present(value.run(row)), present(pattern.run(row)), node.escape), boxed=False)


def _is_like(text: str, pattern: str, escape: str | None) -> bool:
    parts, signs = [], iter(pattern)
    for sign in signs:
        literally = next(signs, "") if sign == escape else None
        parts.append(re.escape(literally) if literally is not None else {"%": ".*", "_": "."}.get(sign, re.escape(sign)))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def is_null(node: IsNull, scope: Scope) -> Code:
    value = code_of(node.value, scope)
    if not value.boxed:
        raise RefusedError(
            f"Unexpected error generating code: {value.type} of an operation or literal is never NULL, IS NULL cannot ask"
        )
    return Code(BOOLEAN, lambda row: (value.run(row) is None) != node.negated, boxed=False)


RULES |= {
    Comparison: comparison,
    Between: between,
    In: inside,
    Like: like,
    IsNull: is_null,
}
