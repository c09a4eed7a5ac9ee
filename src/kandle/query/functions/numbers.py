"""Functions of numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar
from typing import cast as typed

from kandle.query.functions.recorded import check_constants, record_call

Number = TypeVar("Number", int, float, Decimal)


def abs(x: Number) -> Number:
    """Return the absolute value of a number.

    Args:
        x: A number.

    Returns:
        The number without its sign.
    """
    return typed(Number, record_call("abs", x))


def round(x: Number, digits: int = 0) -> Number:
    """Round a number to a fixed number of decimal places.

    Args:
        x: A number.
        digits: Number of decimal places, a constant, 0 or more.

    Returns:
        The rounded number. Decimals are rounded half away from zero; ints stay as they are.

    Example:
        `f.round(t.price, 2)`
    """
    check_constants("round", digits=digits)
    return typed(Number, record_call("round", x, digits))


def floor(x: Number) -> Number:
    """Round down to the nearest integer.

    Args:
        x: A number.

    Returns:
        The integer as a number of the same kind: a decimal with scale 0 for a decimal, a float for a float.
    """
    return typed(Number, record_call("floor", x))


def ceil(x: Number) -> Number:
    """Round up to the nearest integer.

    Args:
        x: A number.

    Returns:
        The integer as a number of the same kind: a decimal with scale 0 for a decimal, a float for a float.
    """
    return typed(Number, record_call("ceil", x))


def sign(x: int | float | Decimal) -> int:
    """Return the sign of a number.

    Args:
        x: A number.

    Returns:
        -1, 0 or 1.
    """
    return typed(int, record_call("sign", x))


def sqrt(x: float) -> float:
    """Return the square root of a number.

    Args:
        x: An int or float.

    Returns:
        The square root; NULL where `x` is negative.
    """
    return typed(float, record_call("sqrt", x))


def exp(x: float) -> float:
    """Return e raised to a power.

    Args:
        x: The power, an int or float.

    Returns:
        The result as a float.
    """
    return typed(float, record_call("exp", x))


def ln(x: float) -> float:
    """Return the natural logarithm of a number.

    Args:
        x: An int or float.

    Returns:
        The logarithm; NULL where `x` is 0 or negative.
    """
    return typed(float, record_call("ln", x))


def log10(x: float) -> float:
    """Return the logarithm of a number to base 10.

    Args:
        x: An int or float.

    Returns:
        The logarithm; NULL where `x` is 0 or negative.
    """
    return typed(float, record_call("log10", x))


def power(x: float, exponent: float) -> float:
    """Raise a number to a power; the operator `**` does the same.

    Args:
        x: An int or float.
        exponent: An int or float.

    Returns:
        The result as a float.
    """
    return typed(float, record_call("power", x, exponent))
