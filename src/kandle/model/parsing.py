"""Columns of text and of doubles as physical columns, exactly or not at all.

A value that does not fit becomes NULL; the caller says what that means.
"""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

import polars as pl

from kandle.model.types import MAX_PRECISION

EXACT_DOUBLE = 2**53
"""Integers below this are doubles without loss."""

ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
PLAIN_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")


def decimal_from_text(column: pl.Series, scale: int) -> pl.Series:
    """Return texts as multiples of 10**-scale in 128 bits.

    Args:
        column: Text; NULL stays NULL.
        scale: Digits behind the point.

    Returns:
        Integers; NULL where the text is no decimal or has more digits than `scale` behind the point.
    """
    scaled = column.cast(pl.Decimal(38, scale), strict=False).to_physical()
    # The cast rounds further digits away without an error, so texts that have more of them are parsed one by one.
    behind = column.str.len_bytes().cast(pl.Int64) - column.str.find(".", literal=True).cast(pl.Int64) - 1
    has_exponent = column.str.contains("[eE]")
    suspicious = ((behind > scale) | has_exponent).fill_null(has_exponent)
    if not suspicious.any():
        return scaled
    rows = suspicious.arg_true()
    exact = [_exact_decimal(text, scale) for text in column.gather(rows).to_list()]
    return scaled.scatter(rows, pl.Series(exact, dtype=pl.Int128))


def _exact_decimal(text: str | None, scale: int) -> int | None:
    try:
        whole = scaled(Decimal(text or ""), scale)
    except (ArithmeticError, ValueError):
        return None
    return whole if abs(whole) < 10**MAX_PRECISION else None


def scaled(value: Decimal | int, scale: int) -> int:
    """Return a decimal as a multiple of 10**-scale.

    Args:
        value: The decimal.
        scale: Digits behind the point.

    Raises:
        ValueError: The decimal has more digits behind the point, is no number or is very large.
    """
    try:
        return int(_EXACT.quantize(_EXACT.scaleb(Decimal(value), scale), _ONE))
    except (ArithmeticError, ValueError):
        problem = f"is too large, has more than {scale} digits behind the point or is not a number"
        raise ValueError(f"{str(value)[:LONGEST_SHOWN]} {problem}") from None


# Exact or an error; as it keeps numbers in their short form, exponents of millions cost nothing.
_EXACT = Context(prec=4 * MAX_PRECISION, traps=[InvalidOperation, Inexact, Overflow])
_ONE = Decimal(1)
LONGEST_SHOWN = 60


def exact_double(column: pl.Series, scale: int) -> pl.Series:
    """Return doubles as multiples of 10**-scale, where the double is the nearest one to such a decimal.

    Both the integer (below 2**53) and 10**scale (up to 10**22) are doubles without loss, so their quotient is rounded once, as
    the text of the decimal would be. Polars multiplies by the reciprocal of a constant divisor, so NumPy divides.

    Args:
        column: Doubles; NULL stays NULL.
        scale: Digits behind the point.

    Returns:
        Integers of 128 bits; NULL where the double is not such a decimal.
    """
    value = column.cast(pl.Float64)
    unit = 10.0**scale
    rounded = (value * unit).round()
    nearest = pl.Series(rounded.to_numpy() / unit) == value
    good = (rounded.abs() < EXACT_DOUBLE) & nearest & (scale <= 22)
    return rounded.set((~good).fill_null(False), None).cast(pl.Int128, strict=False)


def timestamp_from_text(column: pl.Series, pattern: str | None) -> pl.Series:
    """Return texts as instants in microseconds.

    Args:
        column: Text; NULL stays NULL.
        pattern: A strftime pattern; None reads ISO 8601. A text without a zone is in UTC.

    Returns:
        Instants in UTC; NULL where the text is not one.
    """
    if pattern is not None:
        return _parsed(column, pattern, zoned="%z" in pattern or "%#z" in pattern)
    result = _parsed(column, ZONED_FORMATS[0], zoned=True)
    for other in (*PLAIN_FORMATS, *ZONED_FORMATS[1:], "%Y-%m-%d"):
        if result.null_count() == column.null_count():
            break
        left = result.is_null()
        parsed = _parsed(column.set(~left, None), other, zoned="z" in other)
        result = pl.select(pl.coalesce(result, parsed)).to_series()
    return result


def _parsed(column: pl.Series, pattern: str, *, zoned: bool) -> pl.Series:
    if pattern == "%Y-%m-%d":
        return column.str.to_date(pattern, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if zoned:
        return column.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    return column.str.to_datetime(pattern, time_unit="us", strict=False).dt.replace_time_zone("UTC")
