"""Data types of fields and expressions, each with its columnar representation.

Two representations exist. *Physical* frames are what the engine computes on: decimals are scaled integers
(value * 10**scale), instants are microseconds since the epoch. *Logical* frames are what users see:
decimals are Polars decimals. All other types look the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation, localcontext

import polars as pl

from kandle.errors import ModelError

MAX_PRECISION = 38
"""Digits that fit a 128-bit integer, and the limit of Avro, Parquet and Arrow decimals."""

NARROW_PRECISION = 18
"""Digits that fit a 64-bit integer."""

EXACT = Context(prec=2 * MAX_PRECISION)
"""For operations on Python decimals: Python's own context rounds to 28 digits without a word."""


@dataclass(frozen=True, slots=True)
class DataType:
    """Base of all data types."""

    @property
    def physical(self) -> pl.DataType:
        """Polars type that the engine computes on."""
        return self.logical

    @property
    def logical(self) -> pl.DataType:
        """Polars type that users see."""
        raise TypeError(f"{type(self).__name__} has no columnar form")

    @property
    def is_numeric(self) -> bool:
        return isinstance(self, IntegerType | FloatType | DecimalType)


@dataclass(frozen=True, slots=True)
class BooleanType(DataType):
    """True or false."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Boolean()

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class IntegerType(DataType):
    """A signed 64-bit integer."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Int64()

    def __str__(self) -> str:
        return "int"


@dataclass(frozen=True, slots=True)
class FloatType(DataType):
    """An IEEE double."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Float64()

    def __str__(self) -> str:
        return "float"


@dataclass(frozen=True, slots=True)
class DecimalType(DataType):
    """An exact decimal of `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= MAX_PRECISION:
            raise ModelError(f"decimal precision {self.precision} is outside 1..{MAX_PRECISION}")
        if not 0 <= self.scale <= self.precision:
            raise ModelError(f"decimal scale {self.scale} is outside 0..{self.precision} (its precision)")

    @property
    def physical(self) -> pl.DataType:
        return pl.Int64() if self.precision <= NARROW_PRECISION else pl.Int128()

    @property
    def logical(self) -> pl.DataType:
        return pl.Decimal(self.precision, self.scale)

    def __str__(self) -> str:
        return f"Decimal({self.precision}, {self.scale})"


@dataclass(frozen=True, slots=True)
class StringType(DataType):
    """Text, of at most `max_length` characters where that is set."""

    max_length: int | None = None

    @property
    def logical(self) -> pl.DataType:
        return pl.String()

    def __str__(self) -> str:
        return "str"


@dataclass(frozen=True, slots=True)
class UuidType(DataType):
    """A UUID, kept as its canonical text."""

    @property
    def logical(self) -> pl.DataType:
        return pl.String()

    def __str__(self) -> str:
        return "UUID"


@dataclass(frozen=True, slots=True)
class BytesType(DataType):
    """Raw bytes."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Binary()

    def __str__(self) -> str:
        return "bytes"


@dataclass(frozen=True, slots=True)
class DateType(DataType):
    """A calendar date without a zone."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Date()

    def __str__(self) -> str:
        return "date"


@dataclass(frozen=True, slots=True)
class TimestampType(DataType):
    """An instant in UTC, in microseconds since the epoch."""

    @property
    def logical(self) -> pl.DataType:
        return pl.Datetime("us", "UTC")

    def __str__(self) -> str:
        return "datetime"


@dataclass(frozen=True, slots=True)
class StringMapType(DataType):
    """A map from text to text, as a list of (key, value) entries."""

    @property
    def logical(self) -> pl.DataType:
        return pl.List(pl.Struct({"key": pl.String(), "value": pl.String()}))

    def __str__(self) -> str:
        return "dict[str, str]"


BOOLEAN = BooleanType()
INTEGER = IntegerType()
FLOAT = FloatType()
STRING = StringType()
UUID = UuidType()
BYTES = BytesType()
DATE = DateType()
TIMESTAMP = TimestampType()
STRING_MAP = StringMapType()


EXACT_DOUBLE = 2**53
"""Integers below this are doubles without loss."""

ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
PLAIN_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")


def decimal_from_text(column: pl.Series, scale: int) -> pl.Series:
    """Text as 128-bit multiples of 10**-scale."""
    scaled = column.cast(pl.Decimal(38, scale), strict=False).to_physical()
    # The cast rounds digits behind the scale away without a word, so texts that have more of them are looked at closely.
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
        with localcontext() as context:
            context.prec = 400
            value = Decimal(text or "").scaleb(scale)
            return int(value) if value == value.to_integral_value() and abs(value) < 10**38 else None
    except (InvalidOperation, ValueError, OverflowError):
        return None


def exact_double(column: pl.Series, scale: int) -> pl.Series:
    """Doubles as multiples of 10**-scale, where the double is the nearest one to such a decimal.

    Both the integer (below 2**53) and 10**scale (up to 10**22) are doubles without loss, so their quotient is rounded once, as
    the text of the decimal would be. Polars multiplies by the reciprocal of a constant divisor, so NumPy divides.
    """
    value = column.cast(pl.Float64)
    unit = 10.0**scale
    rounded = (value * unit).round()
    nearest = pl.Series(rounded.to_numpy() / unit) == value
    good = (rounded.abs() < EXACT_DOUBLE) & nearest & (scale <= 22)
    return rounded.set((~good).fill_null(False), None).cast(pl.Int128, strict=False)


def timestamp_from_text(column: pl.Series, pattern: str | None) -> pl.Series:
    """Text as UTC microseconds: by the pattern, else ISO 8601, where a text without a zone is UTC."""
    if pattern is not None:
        return _parsed(column, pattern, zoned="%z" in pattern or "%#z" in pattern)
    result = _parsed(column, ZONED_FORMATS[0], zoned=True)
    for other in (*PLAIN_FORMATS, *ZONED_FORMATS[1:], "%Y-%m-%d"):
        if result.null_count() == column.null_count():
            break
        left = result.is_null()
        found = _parsed(column.set(~left, None), other, zoned="z" in other)
        result = pl.select(pl.coalesce(result, found)).to_series()
    return result


def _parsed(column: pl.Series, pattern: str, *, zoned: bool) -> pl.Series:
    if pattern == "%Y-%m-%d":
        return column.str.to_date(pattern, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if zoned:
        return column.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
    return column.str.to_datetime(pattern, time_unit="us", strict=False).dt.replace_time_zone("UTC")
