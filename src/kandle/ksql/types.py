"""Names, text literals and column types as ksqlDB writes them.

A column's name is written in backticks, which keep its case and make every word usable. The name of a stream
or table is made from its topic. Columns that kandle adds get names that no field has. `column_type` is the
type of ksqlDB that holds the values of a type of kandle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kandle.errors import QueryError
from kandle.model.types import STRING_MAP, DataType, DecimalType

RESERVED = ("ROWTIME", "ROWPARTITION", "ROWOFFSET", "WINDOWSTART", "WINDOWEND")
"""Names of ksqlDB's own columns; no other column can have them, in whatever case."""

_SOURCE = re.compile(r"[A-Za-z0-9_-]+")
_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9_]")
_STARTS_WITH_LETTER = re.compile(r"_*[A-Za-z]")


def quoted(name: str) -> str:
    """Return a column's name in backticks.

    Raises:
        QueryError: If ksqlDB reserves the name.
    """
    check_name(name)
    return _in_backticks(name)


def check_name(name: str, where: str = "") -> None:
    """Check that a column can have this name.

    Args:
        name: Name of a field or column.
        where: Beginning of the error message, such as `"Tick: "`.

    Raises:
        QueryError: If ksqlDB reserves the name.
    """
    if name.upper() in RESERVED:
        raise QueryError(
            f"{where}ksqlDB reserves the name {name!r} for a column of its own, so that no field can have it; rename the field"
        )


def source_name(name: str) -> str:
    """Return the name of a stream or table in backticks.

    Raises:
        QueryError: If the name has other characters than letters, digits, `_` and `-`.
    """
    if not _SOURCE.fullmatch(name):
        raise QueryError(f"ksqlDB cannot have a stream or table named {name!r}: use letters, digits, _ and - only")
    return _in_backticks(name)


def name_of_topic(topic: str) -> str:
    """Return the name of the stream or table over a topic, without backticks.

    It has letters, digits and `_`, with a letter before the first digit: ksqlDB's names have no dots, and it
    names the Avro schema of a key with several columns after the stream or table.
    """
    name = _OTHER_CHARACTERS.sub("_", topic)
    return name if _STARTS_WITH_LETTER.match(name) else f"t_{name}"


def text_literal(value: str) -> str:
    """Return a text as a literal, in single quotes."""
    return "'" + value.replace("'", "''") + "'"


def _in_backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class UniqueNames:
    """Column names in use, compared without case, since ksqlDB finds the fields of records in any case."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.upper() for name in taken}

    def claim(self, wanted: str) -> str:
        """Return the wanted name, with `_` appended until it is free, and reserve it."""
        name = wanted
        while name.upper() in self._taken:
            name += "_"
        self._taken.add(name.upper())
        return name


@dataclass(frozen=True, slots=True)
class KsqlType:
    """A type of ksqlDB, written as in a statement: `DECIMAL(18,6)`."""

    name: str
    precision: int = 0
    scale: int = 0
    elements: tuple[KsqlType, ...] = ()
    """The element of an array, key and value of a map, or the fields of a struct."""
    fields: tuple[str, ...] = ()
    """The field names of a struct."""

    def __str__(self) -> str:
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.name == "STRUCT":
            shown = (f"{quoted(field)} {kind}" for field, kind in zip(self.fields, self.elements, strict=True))
            return f"STRUCT<{', '.join(shown)}>"
        return f"{self.name}<{', '.join(map(str, self.elements))}>" if self.elements else self.name

    @property
    def is_decimal(self) -> bool:
        """Whether this is a DECIMAL."""
        return self.name == "DECIMAL"

    @property
    def is_number(self) -> bool:
        """Whether values can be calculated with."""
        return self.name in ("INTEGER", "BIGINT", "DECIMAL", "DOUBLE")

    @property
    def whole(self) -> int:
        """The number of digits before the decimal point."""
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
    """Return a DECIMAL; ksqlDB's own results may have more than 38 digits."""
    return KsqlType("DECIMAL", precision, scale)


def array(element: KsqlType) -> KsqlType:
    """Return an ARRAY."""
    return KsqlType("ARRAY", elements=(element,))


def mapping(key: KsqlType, value: KsqlType) -> KsqlType:
    """Return a MAP."""
    return KsqlType("MAP", elements=(key, value))


def struct(fields: Mapping[str, KsqlType]) -> KsqlType:
    """Return a STRUCT with these fields, in this order."""
    return KsqlType("STRUCT", elements=tuple(fields.values()), fields=tuple(fields))


def column_type(kind: DataType) -> KsqlType:
    """Return the type of a column that holds values of a kandle type; a TIMESTAMP has milliseconds."""
    if isinstance(kind, DecimalType):
        return decimal(kind.precision, kind.scale)
    return mapping(VARCHAR, VARCHAR) if kind == STRING_MAP else KsqlType(kind.ksql)
