"""Data types of fields and expressions: one class for each, which states what its values are in every representation.

| type            | Python      | physical | logical  | Avro              | JSON              | ksqlDB                 |
|-----------------|-------------|----------|----------|-------------------|-------------------|------------------------|
| `bool`          | `bool`      | Boolean  | Boolean  | boolean           | true, false       | BOOLEAN                |
| `int`           | `int`       | Int64    | Int64    | long              | number            | BIGINT                 |
| `float`         | `float`     | Float64  | Float64  | double            | number            | DOUBLE                 |
| `Decimal(p, s)` | `Decimal`   | Int64/128| Decimal  | bytes/decimal     | number            | DECIMAL(p,s)           |
| `str`           | `str`       | String   | String   | string            | string            | VARCHAR                |
| `UUID`          | `uuid.UUID` | String   | String   | string            | string            | VARCHAR                |
| `bytes`         | `bytes`     | Binary   | Binary   | bytes             | string (base64)   | BYTES                  |
| `date`          | `date`      | Date     | Date     | int/date          | number (days)     | DATE                   |
| `datetime`      | `datetime`  | Datetime | Datetime | long/timestamp-.. | number (ms)       | TIMESTAMP              |
| `dict[str, str]`| `dict`      | List     | List     | map of string     | object            | MAP<VARCHAR, VARCHAR>  |

*Physical* frames are what the engine computes on: decimals are scaled integers (value * 10**scale, 128 bits from 19 digits on),
instants are microseconds since the epoch. *Logical* frames are what users see: decimals are Polars decimals. All other types look
the same in both.

How a format reads and writes a column of a type is the concern of that format (`serde`, `ksql`, `backfill`); what the type is
there is stated here and nowhere else.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any, ClassVar

import polars as pl

from kandle.errors import ModelError
from kandle.time.timeframe import from_instant, parse_instant, to_instant

MAX_PRECISION = 38
"""Digits that fit a 128-bit integer, and the limit of Avro, Parquet and Arrow decimals."""

NARROW_PRECISION = 18
"""Digits that fit a 64-bit integer."""

EXACT = Context(prec=2 * MAX_PRECISION)
"""For operations on Python decimals: Python's own context rounds to 28 digits without a warning."""

MICROSECONDS_A_DAY = 86_400_000_000
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
INTEGER_BOUNDS = (-(2**63), 2**63 - 1)
DAY_BOUNDS = (date.min.toordinal() - EPOCH_ORDINAL, date.max.toordinal() - EPOCH_ORDINAL)
INSTANT_BOUNDS = (DAY_BOUNDS[0] * MICROSECONDS_A_DAY, (DAY_BOUNDS[1] + 1) * MICROSECONDS_A_DAY - 1)


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What is stated about a data type, apart from what depends on its precision."""

    name: str
    """The type as it stands in a declaration and in messages."""
    python: tuple[type, ...]
    """Types of its values in Python."""
    logical: pl.DataType
    """Polars type that users see."""
    avro: Any
    """The Avro schema of its values, as JSON content."""
    json: Any
    """How msgspec reads its JSON values; `object` where both numbers and texts are taken."""
    ksql: str
    """The type of ksqlDB."""
    words: str
    """What a text must be to be a value, for messages."""
    literal: str = "{}"
    """How a constant is written in KSQL, around the literal of its text or number."""
    bounds: tuple[int, int] | None = None
    """The smallest and the greatest physical number, both included; None where the Polars type is the only limit."""
    parse: Callable[[str], Any] = str
    """Reads a value from text; raises ValueError, KeyError or ArithmeticError for any other."""


@dataclass(frozen=True, slots=True)
class DataType:
    """Base of all data types."""

    row: ClassVar[TypeRow]

    def __str__(self) -> str:
        return self.row.name

    @property
    def logical(self) -> pl.DataType:
        """Polars type that users see."""
        return self.row.logical

    @property
    def physical(self) -> pl.DataType:
        """Polars type that the engine computes on."""
        return self.logical

    @property
    def avro(self) -> Any:
        """Avro schema of the values, as JSON content."""
        return self.row.avro

    @property
    def ksql(self) -> str:
        """Type of ksqlDB that holds the values."""
        return self.row.ksql

    @property
    def bounds(self) -> tuple[int, int] | None:
        """Smallest and greatest physical number, both included; None where the Polars type is the only limit."""
        return self.row.bounds

    @property
    def words(self) -> str:
        """What a text must be to be a value, for messages: `a date such as 2024-03-08`."""
        return self.row.words

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return isinstance(self, IntegerType | FloatType | DecimalType)

    def parse(self, text: str) -> Any:
        """Return the Python value of a text.

        Args:
            text: The value as a user writes it.

        Raises:
            ValueError: The text is not a value; also KeyError and ArithmeticError.
        """
        return self.row.parse(text)

    def problem(self, value: Any) -> str | None:
        """Return why a Python value is not one of this type, or None if it is: `is not an int`."""
        kinds = self.row.python
        if isinstance(value, kinds) and not isinstance(value, bool):
            return None
        return f"is not a {' or '.join(kind.__name__ for kind in kinds)}"

    def to_physical(self, value: Any) -> Any:
        """Return a Python value as it stands in physical frames; None stays None."""
        return value

    def to_python(self, value: Any) -> Any:
        """Return a value of a logical frame as users see it in objects; None stays None."""
        return value


@dataclass(frozen=True, slots=True)
class BooleanType(DataType):
    """True or false."""

    row: ClassVar = TypeRow(
        name="bool",
        python=(bool,),
        logical=pl.Boolean(),
        avro="boolean",
        json=bool,
        ksql="BOOLEAN",
        words="true or false",
        parse=lambda text: {"true": True, "false": False}[text.lower()],
    )

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "is not a bool"


@dataclass(frozen=True, slots=True)
class IntegerType(DataType):
    """A signed 64-bit integer."""

    row: ClassVar = TypeRow(
        name="int",
        python=(int,),
        logical=pl.Int64(),
        avro="long",
        json=int,
        ksql="BIGINT",
        words="a whole number of 64 bits",
        bounds=INTEGER_BOUNDS,
        parse=int,
    )

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return "is not an int"
        low, high = INTEGER_BOUNDS
        return None if low <= value <= high else "does not fit 64 bits"


@dataclass(frozen=True, slots=True)
class FloatType(DataType):
    """An IEEE double."""

    row: ClassVar = TypeRow(
        name="float",
        python=(float, int),
        logical=pl.Float64(),
        avro="double",
        json=float,
        ksql="DOUBLE",
        words="a finite number",
        literal="{}E0",
        parse=float,
    )

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, float | int) or isinstance(value, bool):
            return "is not a float or int"
        try:
            return None if math.isfinite(value) else "is not a finite number"
        except OverflowError:
            return "is too large for a float"


@dataclass(frozen=True, slots=True)
class DecimalType(DataType):
    """An exact decimal of `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int
    row: ClassVar = TypeRow(
        name="Decimal",
        python=(Decimal, int),
        logical=pl.Decimal(MAX_PRECISION, 0),
        avro={"type": "bytes", "logicalType": "decimal"},
        json=object,
        ksql="DECIMAL",
        words="a decimal",
        parse=Decimal,
    )

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= MAX_PRECISION:
            raise ModelError(f"decimal precision {self.precision} is outside 1..{MAX_PRECISION}")
        if not 0 <= self.scale <= self.precision:
            raise ModelError(f"decimal scale {self.scale} is outside 0..{self.precision} (its precision)")

    def __str__(self) -> str:
        return f"Decimal({self.precision}, {self.scale})"

    @property
    def logical(self) -> pl.DataType:
        return pl.Decimal(self.precision, self.scale)

    @property
    def physical(self) -> pl.DataType:
        return pl.Int64() if self.precision <= NARROW_PRECISION else pl.Int128()

    @property
    def avro(self) -> Any:
        return self.row.avro | {"precision": self.precision, "scale": self.scale}

    @property
    def ksql(self) -> str:
        return f"DECIMAL({self.precision},{self.scale})"

    @property
    def bounds(self) -> tuple[int, int]:
        greatest = 10**self.precision - 1
        return -greatest, greatest

    @property
    def words(self) -> str:
        return f"a decimal of at most {self.precision - self.scale} digits before and {self.scale} behind the point"

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, Decimal):
            return f"is of type {type(value).__name__}, not Decimal; write Decimal({str(value)!r})"
        if not value.is_finite():
            return "is not a finite Decimal"
        _, digits, exponent = value.as_tuple()
        text = "".join(map(str, digits)).rstrip("0")
        behind = -int(exponent) - (len(digits) - len(text)) if text else 0
        if behind > self.scale:
            return f"has {behind} digits behind the point"
        return None if abs(value) < Decimal(10) ** (self.precision - self.scale) else "has too many digits before the point"

    def to_physical(self, value: Any) -> Any:
        if value is None:
            return None
        sign, digits, exponent = Decimal(value).as_tuple()
        whole = int("".join(map(str, digits))) * (-1 if sign else 1)
        shift = self.scale + int(exponent)
        return whole * 10**shift if shift >= 0 else whole // 10**-shift


@dataclass(frozen=True, slots=True)
class StringType(DataType):
    """Text, of at most `max_length` characters where that is set."""

    max_length: int | None = None
    row: ClassVar = TypeRow(name="str", python=(str,), logical=pl.String(), avro="string", json=str, ksql="VARCHAR", words="text")

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return "is not a str"
        if not _is_unicode(value):
            return "is not text that UTF-8 can hold: it has half of a surrogate pair"
        if self.max_length is None or len(value) <= self.max_length:
            return None
        return f"is longer than {self.max_length} characters"


@dataclass(frozen=True, slots=True)
class UuidType(DataType):
    """A UUID, kept as its canonical text."""

    row: ClassVar = TypeRow(
        name="UUID",
        python=(uuid.UUID,),
        logical=pl.String(),
        avro="string",
        json=str,
        ksql="VARCHAR",
        words="a UUID",
        parse=uuid.UUID,
    )

    def to_physical(self, value: Any) -> Any:
        return None if value is None else str(value)

    def to_python(self, value: Any) -> Any:
        return None if value is None else uuid.UUID(value)


@dataclass(frozen=True, slots=True)
class BytesType(DataType):
    """Raw bytes."""

    row: ClassVar = TypeRow(
        name="bytes",
        python=(bytes,),
        logical=pl.Binary(),
        avro="bytes",
        json=str,
        ksql="BYTES",
        words="bytes",
        literal="TO_BYTES({}, 'base64')",
        parse=str.encode,
    )


@dataclass(frozen=True, slots=True)
class DateType(DataType):
    """A calendar date without a zone."""

    row: ClassVar = TypeRow(
        name="date",
        python=(date,),
        logical=pl.Date(),
        avro={"type": "int", "logicalType": "date"},
        json=object,
        ksql="DATE",
        words="a date such as 2024-03-08",
        literal="PARSE_DATE({}, 'yyyy-MM-dd')",
        bounds=DAY_BOUNDS,
        parse=date.fromisoformat,
    )

    def problem(self, value: Any) -> str | None:
        return None if isinstance(value, date) and not isinstance(value, datetime) else "is not a date"


@dataclass(frozen=True, slots=True)
class TimestampType(DataType):
    """An instant in UTC, in microseconds since the epoch."""

    row: ClassVar = TypeRow(
        name="datetime",
        python=(datetime,),
        logical=pl.Datetime("us", "UTC"),
        avro={"type": "long", "logicalType": "timestamp-millis"},
        json=object,
        ksql="TIMESTAMP",
        words="a datetime such as 2024-03-08T14:30:00.250Z",
        literal="CAST({} AS TIMESTAMP)",
        bounds=INSTANT_BOUNDS,
        parse=lambda text: from_instant(parse_instant(text)),
    )

    @property
    def avro_micros(self) -> Any:
        """Avro schema of instants that are kept to the microsecond."""
        return self.row.avro | {"logicalType": "timestamp-micros"}

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, datetime):
            return "is not a datetime"
        return None if value.tzinfo is not None else "has no time zone; write datetime(..., tzinfo=timezone.utc)"

    def to_physical(self, value: Any) -> Any:
        return None if value is None else from_instant(to_instant(value))

    def to_python(self, value: Any) -> Any:
        return None if value is None else value.astimezone(UTC)


def _map_of_json(text: str) -> dict[str, str]:
    value = json.loads(text)
    if STRING_MAP.problem(value) is not None:
        raise ValueError(f"{text!r} is not a JSON object of texts")
    return dict(value)


@dataclass(frozen=True, slots=True)
class StringMapType(DataType):
    """A map from text to text, as a list of (key, value) entries."""

    row: ClassVar = TypeRow(
        name="dict[str, str]",
        python=(dict,),
        logical=pl.List(pl.Struct({"key": pl.String(), "value": pl.String()})),
        avro={"type": "map", "values": "string"},
        json=dict[str, str],
        ksql="MAP<VARCHAR, VARCHAR>",
        words="dict[str, str]",
        parse=_map_of_json,
    )

    def problem(self, value: Any) -> str | None:
        if not isinstance(value, dict) or not all(isinstance(part, str) for item in value.items() for part in item):
            return "is not a dict of str to str"
        is_text = all(_is_unicode(part) for item in value.items() for part in item)
        return None if is_text else "holds text that UTF-8 cannot hold: it has half of a surrogate pair"

    def to_physical(self, value: Any) -> Any:
        return None if value is None else [{"key": key, "value": text} for key, text in value.items()]

    def to_python(self, value: Any) -> Any:
        return None if value is None else {entry["key"]: entry["value"] for entry in value}


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


BOOLEAN = BooleanType()
INTEGER = IntegerType()
FLOAT = FloatType()
STRING = StringType()
UUID = UuidType()
BYTES = BytesType()
DATE = DateType()
TIMESTAMP = TimestampType()
STRING_MAP = StringMapType()

SIMPLE_TYPES: tuple[DataType, ...] = (BOOLEAN, INTEGER, FLOAT, STRING, UUID, BYTES, DATE, TIMESTAMP, STRING_MAP)
"""Every data type that needs no parameters; decimals do."""

PYTHON_TYPES: dict[Any, DataType] = {kind.row.python[0]: kind for kind in SIMPLE_TYPES if kind != STRING_MAP}
"""The data type of each Python type that one value of a field can have, apart from Decimal."""
