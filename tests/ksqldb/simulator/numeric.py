"""Functions of numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

from tests.ksqldb.simulator.values import EXACT, saturated, scaled


def _rounded_towards(value: Any, whole: Callable[[float], int], rounding: str) -> Any:
    """CEIL and FLOOR: the type stays; a double keeps the sign of its zero."""
    if isinstance(value, Decimal):
        return value.quantize(Decimal(1), rounding=rounding, context=EXACT).quantize(value, context=EXACT)
    if isinstance(value, float):
        return math.copysign(whole(value), value) if math.isfinite(value) else value
    return value


def _half_up(value: Decimal, digits: int) -> Decimal:
    """Halves go up, towards positive infinity."""
    rounding = ROUND_HALF_UP if value > 0 else ROUND_HALF_DOWN
    return value.quantize(Decimal(1).scaleb(-digits), rounding=rounding, context=EXACT)


def _cut(value: Decimal, digits: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_DOWN, context=EXACT)


def _scale(value: Decimal) -> int:
    return -int(value.as_tuple().exponent)


def _round(value: Any, digits: int | None = None) -> Any:
    if isinstance(value, Decimal):
        return _half_up(value, 0) if digits is None else scaled(_half_up(value, digits), _scale(value))
    if not isinstance(value, float):
        return value
    if digits is None:
        return saturated(math.floor(Decimal(value) + Decimal("0.5")) if math.isfinite(value) else value, 64)
    return float(_half_up(Decimal(repr(value)), digits))


def _truncated(value: Any, digits: int | None = None) -> Any:
    if isinstance(value, Decimal):
        return _cut(value, 0) if digits is None else scaled(_cut(value, digits), _scale(value))
    if not isinstance(value, float):
        return value
    if digits is None:
        return saturated(value, 64)
    return float(_cut(Decimal(repr(value)), digits))


def _guarded(compute: Callable[..., float], overflow: float = math.inf) -> Callable[..., float]:
    """A function of doubles that gives NaN where it is not defined, as Java's do."""

    def run(*values: float) -> float:
        try:
            return compute(*map(float, values))
        except ValueError:
            return math.nan
        except OverflowError:
            return overflow
        except ZeroDivisionError:
            return math.inf

    return run


def _logarithm(value: float) -> float:
    return -math.inf if value == 0 else math.log(value)


def _logarithm_to(base: float, *value: float) -> float:
    """LOG(x) is the natural one, LOG(base, x) to the base."""
    if not value:
        return _logarithm(base)
    return math.nan if base <= 0 or base == 1 else _logarithm(value[0]) / math.log(base)


def _sign(value: Any) -> int:
    return int(value > 0) - int(value < 0)


DOUBLE_FUNCTIONS: dict[str, Callable[..., float]] = {
    "ACOS": math.acos,
    "ASIN": math.asin,
    "ATAN": math.atan,
    "ATAN2": math.atan2,
    "CBRT": math.cbrt,
    "COS": math.cos,
    "COSH": math.cosh,
    "COT": lambda value: 1 / math.tan(value),
    "DEGREES": math.degrees,
    "EXP": math.exp,
    "LN": _logarithm,
    "LOG": _logarithm_to,
    "POWER": math.pow,
    "RADIANS": math.radians,
    "SIN": math.sin,
    "SINH": math.sinh,
    "SQRT": math.sqrt,
    "TAN": math.tan,
    "TANH": math.tanh,
}

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ABS": lambda value: value.copy_abs() if isinstance(value, Decimal) else abs(value),
    "CEIL": lambda value: _rounded_towards(value, math.ceil, ROUND_CEILING),
    "FLOOR": lambda value: _rounded_towards(value, math.floor, ROUND_FLOOR),
    "ROUND": _round,
    "TRUNC": _truncated,
    "SIGN": _sign,
    "PI": lambda: math.pi,
    "RANDOM": random.random,
    **{name: _guarded(compute) for name, compute in DOUBLE_FUNCTIONS.items()},
}
