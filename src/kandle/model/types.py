"""Data types of fields and expressions, each with its columnar representation.

Two representations exist. *Physical* frames are what the engine computes on: decimals are scaled integers
(value * 10**scale), instants are microseconds since the epoch. *Logical* frames are what users see:
decimals are Polars decimals. All other types look the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context

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
