"""Types of ksqlDB, and which of them holds the values of a type of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kandle.ksql.names import quoted
from kandle.model.types import (
    BooleanType,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)


@dataclass(frozen=True, slots=True)
class KsqlType:
    """A type of ksqlDB; as text it is what stands in a statement, such as DECIMAL(18,6)."""

    name: str
    precision: int = 0
    scale: int = 0
    elements: tuple[KsqlType, ...] = ()
    """Of an array its element, of a map key and value, of a struct its fields."""
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.name == "STRUCT":
            shown = (f"{quoted(field)} {kind}" for field, kind in zip(self.fields, self.elements, strict=True))
            return f"STRUCT<{', '.join(shown)}>"
        return f"{self.name}<{', '.join(map(str, self.elements))}>" if self.elements else self.name

    @property
    def is_decimal(self) -> bool:
        return self.name == "DECIMAL"

    @property
    def is_number(self) -> bool:
        return self.name in ("INTEGER", "BIGINT", "DECIMAL", "DOUBLE")

    @property
    def whole(self) -> int:
        """Digits in front of the point."""
        return self.precision - self.scale


BOOLEAN = KsqlType("BOOLEAN")
INTEGER = KsqlType("INTEGER")
BIGINT = KsqlType("BIGINT")
DOUBLE = KsqlType("DOUBLE")
VARCHAR = KsqlType("VARCHAR")
BYTES = KsqlType("BYTES")
DATE = KsqlType("DATE")
TIMESTAMP = KsqlType("TIMESTAMP")


def decimal(precision: int, scale: int) -> KsqlType:
    """An exact decimal; ksqlDB's own results may have more than 38 digits."""
    return KsqlType("DECIMAL", precision, scale)


def array(element: KsqlType) -> KsqlType:
    """A list of values of one type."""
    return KsqlType("ARRAY", elements=(element,))


def mapping(key: KsqlType, value: KsqlType) -> KsqlType:
    """A map."""
    return KsqlType("MAP", elements=(key, value))


def struct(fields: Mapping[str, KsqlType]) -> KsqlType:
    """Named values."""
    return KsqlType("STRUCT", elements=tuple(fields.values()), fields=tuple(fields))


_COLUMN_TYPES: dict[type[DataType], KsqlType] = {
    BooleanType: BOOLEAN,
    IntegerType: BIGINT,
    FloatType: DOUBLE,
    StringType: VARCHAR,
    UuidType: VARCHAR,
    BytesType: BYTES,
    DateType: DATE,
    TimestampType: TIMESTAMP,
    StringMapType: mapping(VARCHAR, VARCHAR),
}


def column_type(kind: DataType) -> KsqlType:
    """The type of a column that holds values of `kind`; instants have milliseconds there."""
    return decimal(kind.precision, kind.scale) if isinstance(kind, DecimalType) else _COLUMN_TYPES[type(kind)]
