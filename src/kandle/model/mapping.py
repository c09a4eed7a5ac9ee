"""Between objects of an entity and records: key and value, rows and columns."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import polars as pl

from kandle.errors import DataError
from kandle.model.columns import logical_schema, physical_schema, to_logical
from kandle.model.entity import MISSING, EntityModel, FieldModel
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
from kandle.time.timeframe import from_instant, to_instant


@dataclass(frozen=True, slots=True)
class Record:
    """The key parts of an object in their order, and its other fields by name."""

    key: tuple[Any, ...]
    value: dict[str, Any]


class EntityMapping:
    """The compiled plan of one entity: objects to records and frames, and back."""

    def __init__(self, entity: EntityModel) -> None:
        self.entity = entity
        self._checks = {found.name: _CHECKS[type(found.type)] for found in entity.fields}

    def extract(self, obj: Any) -> Record:
        """Key and value record of an object; DataError names a value that does not fit."""
        value = {found.name: self._checked(found, getattr(obj, found.name)) for found in self.entity.fields}
        return Record(tuple(value.pop(found.name) for found in self.entity.keys), value)

    def combine(self, record: Record) -> dict[str, Any]:
        """All fields of a record by name, in the order of declaration."""
        keys = {found.name: part for found, part in zip(self.entity.keys, record.key, strict=True)}
        every = keys | record.value
        return {found.name: every[found.name] for found in self.entity.fields}

    def populate(self, values: Mapping[str, Any]) -> Any:
        """The object with these values; fields that are left out take their defaults."""
        missing = [f.name for f in self.entity.fields if f.name not in values and f.default is MISSING]
        if missing:
            raise DataError(f"{self.entity.name} needs values for {', '.join(missing)}")
        return self.entity.cls(**{found.name: values[found.name] for found in self.entity.fields if found.name in values})

    def to_frame(self, objects: Iterable[Any]) -> pl.DataFrame:
        """Physical frame of objects; DataError names the object's number, field and value."""
        return self.frame_of([self.row(obj, number) for number, obj in enumerate(objects)])

    def row(self, obj: Any, number: int | None = None) -> tuple[Any, ...]:
        """The physical values of one object; DataError names its number, if given, and a field whose value does not fit."""
        place = "" if number is None else f"object {number}: "
        if not isinstance(obj, self.entity.cls):
            raise DataError(f"{place}{obj!r} is of type {type(obj).__name__}, not {self.entity.name}")
        try:
            return tuple(_physical(found, self._checked(found, getattr(obj, found.name))) for found in self.entity.fields)
        except DataError as error:
            raise DataError(f"{place}{error}") from None

    def frame_of(self, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        """Physical frame of rows that `row` gave."""
        return pl.DataFrame(rows, schema=physical_schema(self.entity), orient="row")

    def key_row(self, parts: Sequence[Any]) -> dict[str, Any]:
        """Physical values of the first parts of a key, by field; DataError names a part that does not fit or is too much."""
        keys = self.entity.keys
        if len(parts) > len(keys):
            names = ", ".join(found.name for found in keys)
            raise DataError(f"a key of {self.entity.name} has the parts {names}; {len(parts)} were given")
        return {found.name: _physical(found, self._checked(found, part)) for found, part in zip(keys, parts, strict=False)}

    def _checked(self, found: FieldModel, value: Any) -> Any:
        if value is None:
            if found.nullable:
                return None
            raise DataError(f"{self.entity.name}.{found.name} is None, but the field is not Optional")
        problem = self._checks[found.name](found.type, value)
        if problem is not None:
            raise DataError(f"{self.entity.name}.{found.name} = {value!r} {problem} ({found.type})")
        return value

    def from_frame(self, frame: pl.DataFrame) -> list[Any]:
        """Objects of the rows of a physical or logical frame."""
        if frame.schema != pl.Schema(logical_schema(self.entity)):
            frame = to_logical(self.entity, frame.select(list(physical_schema(self.entity))))
        names = frame.columns
        restore = [_RESTORE.get(type(self.entity.field(name).type)) for name in names]
        return [self.populate(dict(zip(names, _restored(restore, row), strict=True))) for row in frame.iter_rows()]


def _restored(restore: Sequence[Callable[[Any], Any] | None], row: Sequence[Any]) -> list[Any]:
    return [value if change is None or value is None else change(value) for change, value in zip(restore, row, strict=True)]


_RESTORE: dict[type[DataType], Callable[[Any], Any]] = {
    TimestampType: lambda value: value.astimezone(UTC),
    UuidType: uuid.UUID,
    StringMapType: lambda entries: {entry["key"]: entry["value"] for entry in entries},
}


def _physical(found: FieldModel, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(found.type, DecimalType):
        sign, digits, exponent = value.as_tuple()
        whole = int("".join(map(str, digits))) * (-1 if sign else 1)
        shift = found.type.scale + int(exponent)
        return whole * 10**shift if shift >= 0 else whole // 10**-shift
    if isinstance(found.type, TimestampType):
        return from_instant(to_instant(value))
    if isinstance(found.type, UuidType):
        return str(value)
    if isinstance(found.type, StringMapType):
        return [{"key": key, "value": text} for key, text in value.items()]
    return value


def _instance(*kinds: type) -> Callable[[DataType, Any], str | None]:
    names = " or ".join(kind.__name__ for kind in kinds)

    def check(kind: DataType, value: Any) -> str | None:
        return None if isinstance(value, kinds) and not isinstance(value, bool) else f"is not a {names}"

    return check


def _integer(kind: DataType, value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "is not an int"
    return None if -(2**63) <= value < 2**63 else "does not fit 64 bits"


def _float(kind: DataType, value: Any) -> str | None:
    if not isinstance(value, float | int) or isinstance(value, bool):
        return "is not a float or int"
    try:
        return None if math.isfinite(value) else "is not a finite number"
    except OverflowError:
        return "is too large for a float"


def _decimal(kind: DataType, value: Any) -> str | None:
    assert isinstance(kind, DecimalType)
    if not isinstance(value, Decimal):
        return f"is of type {type(value).__name__}, not Decimal; write Decimal({str(value)!r})"
    if not value.is_finite():
        return "is not a finite Decimal"
    _, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    behind = -int(exponent) - (len(digits) - len(text)) if text else 0
    if behind > kind.scale:
        return f"has {behind} digits behind the point"
    return None if abs(value) < Decimal(10) ** (kind.precision - kind.scale) else "has too many digits before the point"


def _string(kind: DataType, value: Any) -> str | None:
    assert isinstance(kind, StringType)
    if not isinstance(value, str):
        return "is not a str"
    if not _is_unicode(value):
        return "is not text that UTF-8 can hold: it has half of a surrogate pair"
    return None if kind.max_length is None or len(value) <= kind.max_length else f"is longer than {kind.max_length} characters"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _datetime(kind: DataType, value: Any) -> str | None:
    if not isinstance(value, datetime):
        return "is not a datetime"
    return None if value.tzinfo is not None else "has no time zone; write datetime(..., tzinfo=timezone.utc)"


def _date(kind: DataType, value: Any) -> str | None:
    return None if isinstance(value, date) and not isinstance(value, datetime) else "is not a date"


def _boolean(kind: DataType, value: Any) -> str | None:
    return None if isinstance(value, bool) else "is not a bool"


def _string_map(kind: DataType, value: Any) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(part, str) for item in value.items() for part in item):
        return "is not a dict of str to str"
    is_text = all(_is_unicode(part) for item in value.items() for part in item)
    return None if is_text else "holds text that UTF-8 cannot hold: it has half of a surrogate pair"


_CHECKS: dict[type[DataType], Callable[[DataType, Any], str | None]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    FloatType: _float,
    DecimalType: _decimal,
    StringType: _string,
    UuidType: _instance(uuid.UUID),
    BytesType: _instance(bytes),
    DateType: _date,
    TimestampType: _datetime,
    StringMapType: _string_map,
}


@cache
def mapping(entity: EntityModel) -> EntityMapping:
    """The mapping of an entity, compiled once."""
    return EntityMapping(entity)
