"""Keys as users give them: any number of first parts, as values or as text.

A single text is one part. The parts of a table or a stream are its key fields in their order; those of bars are their
group key, and then the start of the bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.normalizing import normalized_value

Span = tuple[int, int]
"""Instants in microseconds since the epoch, `[start, end)`."""

KeyPrefix = Any
"""A key's first parts: a sequence of values or texts, or the first part alone."""


def bar_key_fields(entity: EntityModel) -> tuple[FieldModel, ...]:
    """Return the fields of the key of bars: those of the group in their order, then the start."""
    return tuple(sorted(entity.keys, key=lambda field: field.is_timestamp))


def as_parts(key: KeyPrefix) -> Sequence[Any]:
    """Return a key as its parts; a single text, like any value that is not a sequence, is one part."""
    return (key,) if isinstance(key, str | bytes) or not isinstance(key, Sequence) else key


def key_values(entity: EntityModel, fields: Sequence[FieldModel], key: KeyPrefix) -> dict[str, Any]:
    """Return the values of a key's first parts.

    Args:
        entity: The entity, for messages.
        fields: The fields of the whole key in their order.
        key: The first parts; texts are read as values of their field: ISO 8601 for dates and instants.

    Returns:
        Python values by field name, in the order of the fields.

    Raises:
        DataError: There are too many parts, or one does not fit its field.
    """
    parts = as_parts(key)
    if len(parts) > len(fields):
        names = ", ".join(field.name for field in fields) or "none"
        count = "1 was" if len(parts) == 1 else f"{len(parts)} were"
        raise DataError(f"the key parts of {entity.name} are {names}, but {count} given: {', '.join(map(repr, parts))}")
    return {field.name: _value(entity, field, part) for field, part in zip(fields, parts, strict=False)}


def physical_key(entity: EntityModel, fields: Sequence[FieldModel], key: KeyPrefix) -> dict[str, Any]:
    """Return the values of a key's first parts as they stand in the columns of storage.

    Args:
        entity: The entity, for messages.
        fields: The fields of the whole key in their order.
        key: The first parts, as for `key_values`.

    Returns:
        Physical values by field name.

    Raises:
        DataError: There are too many parts, or one does not fit its field.
    """
    values = key_values(entity, fields, key)
    types = {field.name: field.type for field in fields}
    return {name: types[name].to_physical(value) for name, value in values.items()}


def _value(entity: EntityModel, field: FieldModel, part: Any) -> Any:
    if part is None:
        raise DataError(f"key part {entity.name}.{field.name} is None; give {field.type.words}")
    if isinstance(part, str) and str not in field.type.row.python:
        return _parsed(entity, field, part)
    problem = field.type.problem(part)
    if problem is not None:
        raise DataError(f"key part {entity.name}.{field.name} = {part!r} {problem}; give {field.type.words}")
    return part if field.normalize is None else _normalized(entity, field, part)


def _normalized(entity: EntityModel, field: FieldModel, part: str) -> str:
    assert field.normalize is not None
    try:
        return normalized_value(field.normalize, part)
    except DataError as error:
        raise DataError(f"key part {entity.name}.{field.name} = {part!r}: {error}") from error


def _parsed(entity: EntityModel, field: FieldModel, text: str) -> Any:
    try:
        value = field.type.parse(text)
    except (ValueError, ArithmeticError, KeyError) as error:
        raise DataError(f"key part {entity.name}.{field.name} = {text!r} is not {field.type.words}") from error
    problem = field.type.problem(value)
    if problem is not None:
        raise DataError(f"key part {entity.name}.{field.name} = {text!r} {problem}; give {field.type.words}")
    return value
