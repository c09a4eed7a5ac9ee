"""Between objects of an entity and records: key and value, rows and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from kandle.errors import DataError
from kandle.model.columns import logical_schema, physical_schema, to_logical
from kandle.model.entity import MISSING, EntityModel, FieldModel


@dataclass(frozen=True, slots=True)
class Record:
    """The key parts of an object in their order, and its other fields by name."""

    key: tuple[Any, ...]
    value: dict[str, Any]


class EntityMapping:
    """The compiled plan of one entity: objects to records and frames, and back."""

    def __init__(self, entity: EntityModel) -> None:
        self.entity = entity

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
            return tuple(found.type.to_physical(self._checked(found, getattr(obj, found.name))) for found in self.entity.fields)
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
        return {found.name: found.type.to_physical(self._checked(found, part)) for found, part in zip(keys, parts, strict=False)}

    def _checked(self, found: FieldModel, value: Any) -> Any:
        if value is None:
            if found.nullable:
                return None
            raise DataError(f"{self.entity.name}.{found.name} is None, but the field is not Optional")
        problem = found.type.problem(value)
        if problem is not None:
            raise DataError(f"{self.entity.name}.{found.name} = {value!r} {problem} ({found.type})")
        return value

    def from_frame(self, frame: pl.DataFrame) -> list[Any]:
        """Objects of the rows of a physical or logical frame."""
        if frame.schema != pl.Schema(logical_schema(self.entity)):
            frame = to_logical(self.entity, frame.select(list(physical_schema(self.entity))))
        names = frame.columns
        restore = [self.entity.field(name).type.to_python for name in names]
        return [
            self.populate({name: back(value) for name, back, value in zip(names, restore, row, strict=True)})
            for row in frame.iter_rows()
        ]


@cache
def mapping(entity: EntityModel) -> EntityMapping:
    """The mapping of an entity, compiled once."""
    return EntityMapping(entity)
