"""Types of ksqlDB, and which of them holds the values of a type of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kandle.errors import QueryError
from kandle.model.types import STRING_MAP, DataType, DecimalType

RESERVED = ("ROWTIME", "ROWPARTITION", "ROWOFFSET", "WINDOWSTART", "WINDOWEND")
"""Names of ksqlDB's own columns, in every case of letters."""

_SOURCE = re.compile(r"[A-Za-z0-9_-]+")


def quoted(name: str) -> str:
    """A column's name in backticks, which keep its case and make every word usable."""
    check_name(name)
    return _in_backticks(name)


def check_name(name: str, where: str = "") -> None:
    """QueryError for a name that no column can have; `where` says whose it is."""
    if name.upper() in RESERVED:
        raise QueryError(
            f"{where}no column of ksqlDB can be called {name!r}: it has a column of its own of that name; rename the field"
        )


def source_name(name: str) -> str:
    """A stream's or table's name in backticks."""
    if not _SOURCE.fullmatch(name):
        raise QueryError(f"ksqlDB cannot have a stream or table {name!r}: names are made of letters, digits, _ and -")
    return _in_backticks(name)


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def _in_backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


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


def column_type(kind: DataType) -> KsqlType:
    """The type of a column that holds values of `kind`; instants have milliseconds there."""
    if isinstance(kind, DecimalType):
        return decimal(kind.precision, kind.scale)
    return mapping(VARCHAR, VARCHAR) if kind == STRING_MAP else KsqlType(kind.ksql)


class RefusedError(QueryError):
    """A reason and a way out, without the expression."""
