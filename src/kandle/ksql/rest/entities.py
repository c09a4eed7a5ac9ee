"""Rows of an answer as objects of an entity, or as dicts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from kandle.errors import DataError
from kandle.ksql.rest.columns import Column
from kandle.ksql.rest.values import value_of
from kandle.ksql.types import BIGINT, INTEGER, KsqlType, column_type
from kandle.model.entity import MISSING, EntityModel, FieldModel, entity_model
from kandle.model.mapping import mapping
from kandle.model.types import UuidType

RowReader = Callable[[Sequence[Any]], Any]

WINDOW_BOUNDS = ("WINDOWSTART", "WINDOWEND")
"""Columns that `SELECT *` adds to those of a windowed table; no column that is declared can have these names."""


def row_reader(entity: type | None, columns: Sequence[Column]) -> RowReader:
    """What makes objects, or dicts where there is no entity; DataError names columns and fields that do not fit."""
    if entity is None:
        names = [column.name for column in columns]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"the query gives more than one column {', '.join(doubles)}; name them apart with AS")
        return lambda row: dict(zip(names, _values(columns, row), strict=True))
    return _object_reader(entity_model(entity), columns)


def _object_reader(entity: EntityModel, columns: Sequence[Column]) -> RowReader:
    fields = _fields(entity, columns)
    plan = mapping(entity)

    def read(row: Sequence[Any]) -> Any:
        values = {
            found.name: _restored(found, value)
            for found, value in zip(fields, _values(columns, row), strict=True)
            if found is not None
        }
        made = plan.populate(values)
        plan.extract(made)
        return made

    return read


def _values(columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
    if len(row) != len(columns):
        raise DataError(f"the row has {len(row)} values, but {len(columns)} columns were announced")
    return [_value(column, found) for column, found in zip(columns, row, strict=True)]


def _value(column: Column, found: Any) -> Any:
    try:
        return value_of(column.type, found)
    except (ValueError, OverflowError) as error:
        raise DataError(f"column {column.name} = {found!r} is no {column.type} that kandle can hold") from error


def _restored(found: FieldModel, value: Any) -> Any:
    if value is None or not isinstance(found.type, UuidType):
        return value
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise DataError(f"{found.name} = {value!r} is no UUID") from error


def _fields(entity: EntityModel, columns: Sequence[Column]) -> list[FieldModel | None]:
    """The field of each column; None for bounds of windows that the entity has no fields for."""
    found = [_field(entity, column, columns) for column in columns]
    taken = [field.name for field in found if field is not None]
    missing = [field.name for field in entity.fields if field.name not in taken and field.default is MISSING]
    if missing:
        given = ", ".join(column.name for column in columns)
        raise DataError(f"the query gives no columns for {_of(entity, missing)}; it gives {given}: SELECT them, or use AS")
    doubles = sorted({name for name in taken if taken.count(name) > 1})
    if doubles:
        raise DataError(f"the query gives more than one column for {_of(entity, doubles)}; name them apart with AS")
    return found


def _field(entity: EntityModel, column: Column, columns: Sequence[Column]) -> FieldModel | None:
    field = _named(entity, column.name, {each.name for each in columns})
    if field is None:
        if column.name in WINDOW_BOUNDS:
            return None
        valid = ", ".join(each.name for each in entity.fields)
        raise DataError(
            f"column {column.name} of the query has no field in {entity.name}, which has {valid}; leave it out or use AS"
        )
    wanted = column_type(field.type)
    if not _fits(column.type, wanted):
        message = f"column {column.name} is {column.type}, which {entity.name}.{field.name} ({field.type}) does not take"
        raise DataError(f"{message}; CAST it to {wanted}")
    return field


def _fits(given: KsqlType, wanted: KsqlType) -> bool:
    """Whether a field takes the column; decimals of every precision, since each value is checked."""
    return given == wanted or (given.is_decimal and wanted.is_decimal) or (given, wanted) == (INTEGER, BIGINT)


def _named(entity: EntityModel, name: str, others: set[str]) -> FieldModel | None:
    """The field of that name, else the only one with it in other letters that no other column names exactly."""
    names = {each: field for field in entity.fields for each in (field.name, *field.aliases)}
    if name in names:
        return names[name]
    close = {field.name: field for each, field in names.items() if each.lower() == name.lower() and each not in others}
    if len(close) > 1:
        raise DataError(f"column {name} of the query may be any of {_of(entity, sorted(close))}; name one of them with AS")
    return next(iter(close.values()), None)


def _of(entity: EntityModel, names: Sequence[str]) -> str:
    return ", ".join(f"{entity.name}.{name}" for name in names)
