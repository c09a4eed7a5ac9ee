"""Mapping of an entity: between its objects and values by field, physical rows and frames."""

from __future__ import annotations

import dataclasses
import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import Any

import polars as pl

from kandle.errors import DataError
from kandle.model.columns import physical_schema
from kandle.model.entity import MISSING, EntityModel, FieldModel
from kandle.model.normalizing import normalized_value
from kandle.model.stored import python_values, stored_columns


class EntityMapping:
    """The conversions of one entity: objects to values and physical frames, and back."""

    def __init__(self, entity: EntityModel) -> None:
        self.entity = entity
        self._is_plain = _is_plain(entity)

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
        return self.objects(stored_columns(frame.select([field.name for field in self.entity.fields])))

    def objects(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Build objects from stored values (`kandle.model.stored`), column by column in the order of the fields."""
        fields = self.entity.fields
        with pause_garbage_collection():
            values = [python_values(field.type, column) for field, column in zip(fields, columns, strict=True)]
            return list(self._make(values))

    def _make(self, values: Sequence[Sequence[Any]]) -> Iterable[Any]:
        cls = self.entity.cls
        names = [field.name for field in self.entity.fields]
        if self._is_plain:
            objects: list[Any] = [object.__new__(cls) for _ in values[0]]
            for name, column in zip(names, values, strict=True):
                deque(map(object.__setattr__, objects, repeat(name), column), maxlen=0)
            return objects
        return (cls(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True))

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
        return value if field.normalize is None else self._normalized(field, value)

    def _normalized(self, field: FieldModel, value: str) -> str:
        assert field.normalize is not None
        try:
            result = normalized_value(field.normalize, value)
        except DataError as error:
            raise DataError(f"{self.entity.name}.{field.name} = {value!r}: {error}") from error
        problem = field.type.problem(result)
        if problem is not None:
            raise DataError(f"{self.entity.name}.{field.name} = {value!r} becomes {result!r}, which {problem} ({field.type})")
        return result


def _is_plain(entity: EntityModel) -> bool:
    """Return whether objects of a class consist of its fields: those of dataclasses that only have what the decorator makes.

    Their fields can be set column by column, which is four times as fast as a call of `__init__` for each object.
    """
    cls: Any = entity.cls
    parameters = cls.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.init or hasattr(cls, "__post_init__"):
        return False
    names = {field.name for field in dataclasses.fields(cls) if field.init}
    takes_all = names == {field.name for field in entity.fields} == set(cls.__dataclass_fields__)
    is_usual = cls.__new__ is object.__new__ and (parameters.frozen or cls.__setattr__ is object.__setattr__)
    return takes_all and is_usual


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which would visit many new objects again and again for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def mapping(entity: EntityModel) -> EntityMapping:
    """Return the mapping of an entity; it is made once."""
    return EntityMapping(entity)
