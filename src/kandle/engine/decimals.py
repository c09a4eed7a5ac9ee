"""Exact arithmetic on decimals, which are columns of scaled integers: the value times 10**scale.

Types bound the values, so most operations are known to be safe before any value is seen; the others look at
the largest value of the batch and take the slow path, Python integers, only when they must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import polars as pl

from kandle.errors import DataError
from kandle.model.types import EXACT, MAX_PRECISION, DataType, DecimalType, IntegerType

WIDE = pl.Int128()
LARGEST = 2**127 - 1
HALVES = 10**18
"""Wide sums are kept as two columns, value // HALVES and value % HALVES, so that neither can overflow."""


def wide(value: int) -> pl.Expr:
    """Return a 128-bit constant."""
    return pl.lit(value, dtype=WIDE)


def decimal_type(kind: DataType) -> DecimalType:
    """Return the decimal type that holds every value of an exact numeric type."""
    return kind if isinstance(kind, DecimalType) else DecimalType(19, 0)


def rescale(column: pl.Expr, kind: DataType, scale: int) -> pl.Expr:
    """Return the column as 128-bit multiples of 10**-scale; `scale` is not below the column's own."""
    shift = scale - decimal_type(kind).scale
    return column.cast(WIDE) if shift == 0 else column.cast(WIDE) * wide(10**shift)


def fits_wide(kind: DataType, scale: int) -> bool:
    """Return whether every value of the type fits 38 digits after rescaling."""
    exact = decimal_type(kind)
    return exact.precision + scale - exact.scale <= MAX_PRECISION


def narrow(column: pl.Expr, kind: DataType) -> pl.Expr:
    """Return a 128-bit column in the physical type of `kind`; a value that does not fit is an error."""
    return column.cast(kind.physical, strict=True)


def compute_exactly(columns: Sequence[pl.Expr], compute: Callable[..., int], label: str) -> pl.Expr:
    """Compute on Python integers, row by row: the slow path.

    The result is NULL where an argument is NULL, and checked to fit 38 digits.
    """

    def rows(frame: pl.Series) -> pl.Series:
        names = frame.struct.fields
        lists = [frame.struct.field(name).to_list() for name in names]
        values = [None if None in row else compute(*row) for row in zip(*lists, strict=True)]
        return pl.Series(frame.name, [_in_range(value, label) for value in values], dtype=WIDE)

    named = [column.cast(WIDE).alias(str(position)) for position, column in enumerate(columns)]
    return pl.struct(named).map_batches(rows, return_dtype=WIDE)


def _in_range(value: int | None, label: str) -> int | None:
    if value is not None and abs(value) >= 10**MAX_PRECISION:
        raise DataError(f"{label} has more than {MAX_PRECISION} digits; round a part of it first, for example by f.round(x, 2)")
    return value


def check_digits(column: pl.Expr, kind: DecimalType, label: str) -> pl.Expr:
    """Return the column after a check that each value has at most `precision` digits."""
    bound = 10**kind.precision

    def check(values: pl.Series) -> pl.Series:
        for value in (values.max(), values.min()):
            if isinstance(value, int) and abs(value) >= bound:
                raise DataError(f"{label} = {Decimal(value).scaleb(-kind.scale, EXACT):f} does not fit {kind}")
        return values

    return column.map_batches(check, return_dtype=WIDE)


def half_up(numerator: int, denominator: int) -> int:
    """Return the quotient, rounded half away from zero."""
    sign = -1 if (numerator < 0) != (denominator < 0) else 1
    numerator, denominator = abs(numerator), abs(denominator)
    return sign * ((2 * numerator + denominator) // (2 * denominator))


def divide(numerator: pl.Expr, denominator: pl.Expr, shift: int, label: str) -> pl.Expr:
    """Return numerator * 10**shift / denominator, rounded half away from zero; NULL if divided by 0."""
    up, down = 10 ** max(shift, 0), 10 ** max(-shift, 0)

    def quotient(frame: pl.Series) -> pl.Series:
        table = frame.struct.unnest()
        if _largest(table["n"]) * up * 2 + _largest(table["d"]) * down < LARGEST:
            return table.select(_rounded_quotient(wide(up), wide(down))).to_series()
        pairs = zip(table["n"].to_list(), table["d"].to_list(), strict=True)
        values = [None if n is None or not d else _in_range(half_up(n * up, d * down), label) for n, d in pairs]
        return pl.Series(values, dtype=WIDE)

    columns = pl.struct(numerator.cast(WIDE).alias("n"), denominator.cast(WIDE).alias("d"))
    return columns.map_batches(quotient, return_dtype=WIDE)


def _largest(values: pl.Series) -> int:
    bounds = [value for value in (values.max(), values.min()) if isinstance(value, int)]
    return max((abs(value) for value in bounds), default=0)


def _rounded_quotient(up: pl.Expr, down: pl.Expr) -> pl.Expr:
    numerator = pl.col("n").abs() * up
    denominator = pl.when(pl.col("d") != 0).then(pl.col("d").abs() * down)
    sign = pl.when((pl.col("n") < 0) != (pl.col("d") < 0)).then(wide(-1)).otherwise(wide(1))
    return sign * ((numerator * wide(2) + denominator) // (denominator * wide(2)))


def join_halves(high: pl.Expr, low: pl.Expr, label: str) -> pl.Expr:
    """Return high * HALVES + low, exact and checked to fit 38 digits."""

    def join(frame: pl.Series) -> pl.Series:
        table = frame.struct.unnest()
        if (_largest(table["high"]) + 1) * HALVES + _largest(table["low"]) < 10**MAX_PRECISION:
            return table.select(pl.col("high") * wide(HALVES) + pl.col("low")).to_series()
        pairs = zip(table["high"].to_list(), table["low"].to_list(), strict=True)
        return pl.Series([None if h is None else _in_range(h * HALVES + low, label) for h, low in pairs], dtype=WIDE)

    return pl.struct(high.alias("high"), low.alias("low")).map_batches(join, return_dtype=WIDE)


def is_exact(kind: DataType) -> bool:
    """Return whether values of the type are integers or decimals."""
    return isinstance(kind, IntegerType | DecimalType)
