"""Mapping of an entity: between its objects and values by field, physical rows and frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import polars as pl

from kandle.errors import DataError
from kandle.model.columns import logical_schema, physical_schema, to_logical
from kandle.model.entity import MISSING, EntityModel, FieldModel


class EntityMapping:
    """The conversions of one entity: objects to values and physical frames, and back."""

    def __init__(self, entity: EntityModel) -> None:
        self.entity = entity

    def values(self, obj: Any) -> dict[str, Any]:
        """Return the values of an object by field, checked; DataError names a field whose value does not fit."""
        return {field.name: self._checked(field, getattr(obj, field.name)) for field in self.entity.fields}

    def key(self, obj: Any) -> tuple[Any, ...]:
        """Return the key parts of an object in their order; DataError names a part that does not fit."""
        return tuple(self._checked(field, getattr(obj, field.name)) for field in self.entity.keys)

    def populate(self, values: Mapping[str, Any]) -> Any:
        """Build the object with these values; fields that are left out take their defaults."""
        fields = self.entity.fields
        missing = [field.name for field in fields if field.name not in values and field.default is MISSING]
        if missing:
            raise DataError(f"{self.entity.name} needs values for {', '.join(missing)}")
        return self.entity.cls(**{field.name: values[field.name] for field in fields if field.name in values})

    def to_frame(self, objects: Iterable[Any]) -> pl.DataFrame:
        """Convert objects to a physical frame; DataError names the object's number, field and value."""
        return self.frame_of([self.row(obj, number) for number, obj in enumerate(objects)])

    def row(self, obj: Any, number: int | None = None) -> tuple[Any, ...]:
        """Return the physical values of one object, in the order of the fields.

        DataError names the object's number, if given, and the field whose value does not fit.
        """
        prefix = "" if number is None else f"object {number}: "
        if not isinstance(obj, self.entity.cls):
            raise DataError(f"{prefix}{obj!r} is of type {type(obj).__name__}, not {self.entity.name}")
        try:
            return tuple(self._physical(field, getattr(obj, field.name)) for field in self.entity.fields)
        except DataError as error:
            raise DataError(f"{prefix}{error}") from None

    def frame_of(self, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        """Return the physical frame of rows that `row` returned."""
        return pl.DataFrame(rows, schema=physical_schema(self.entity), orient="row")

    def from_frame(self, frame: pl.DataFrame) -> list[Any]:
        """Build the objects of the rows of a physical or logical frame."""
        if frame.schema != pl.Schema(logical_schema(self.entity)):
            frame = to_logical(self.entity, frame.select(list(physical_schema(self.entity))))
        names = frame.columns
        convert = [self.entity.field(name).type.to_python for name in names]
        return [
            self.populate({name: to_python(value) for name, to_python, value in zip(names, convert, row, strict=True)})
            for row in frame.iter_rows()
        ]

    def _physical(self, field: FieldModel, value: Any) -> Any:
        return field.type.to_physical(self._checked(field, value))

    def _checked(self, field: FieldModel, value: Any) -> Any:
        if value is None:
            if field.nullable:
                return None
            raise DataError(f"{self.entity.name}.{field.name} is None, but the field is not Optional")
        problem = field.type.problem(value)
        if problem is not None:
            raise DataError(f"{self.entity.name}.{field.name} = {value!r} {problem} ({field.type})")
        return value


@cache
def mapping(entity: EntityModel) -> EntityMapping:
    """Return the mapping of an entity; it is made once."""
    return EntityMapping(entity)
