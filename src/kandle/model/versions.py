"""Objects of an entity from one version of its key to the next, and back; what a declaration says of both is checked here.

An upgrade is a function of the user from one object to another one, so it is called once for each record.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from types import CodeType
from typing import Any

from kandle.errors import DataError, ModelError
from kandle.model.entity import MISSING, EntityModel
from kandle.model.mapping import mapping
from kandle.model.markers import Upgrade
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

SAMPLES: Mapping[type[DataType], object] = {
    BooleanType: True,
    IntegerType: 1,
    FloatType: 1.0,
    DecimalType: Decimal(0),
    StringType: "A",
    UuidType: uuid.UUID(int=1),
    BytesType: b"A",
    DateType: date(2024, 1, 2),
    TimestampType: datetime(2024, 1, 2, tzinfo=UTC),
    StringMapType: {},
}
"""A value of each type, to try a function with."""


def check_version(entity: EntityModel) -> None:
    """Check what the declaration of an entity says of the version of its key.

    Functions are tried with an object of made-up values: what they make of it must be of the right class. That they fail for
    such an object says nothing.

    Raises:
        ModelError: `upgrade` or `downgrade` makes an object of another class, or there is no way back for `dual_write`.
    """
    version = entity.version
    if version is None or version.previous is None:
        return
    check_version(version.previous)
    assert version.upgrade is not None
    _check_class(entity, "upgrade", version.upgrade, version.previous, entity)
    if version.downgrade is not None:
        _check_class(entity, "downgrade", version.downgrade, entity, version.previous)
    elif version.dual_write:
        _check_fields(entity, version.previous)


def _check_class(entity: EntityModel, name: str, function: Upgrade, source: EntityModel, target: EntityModel) -> None:
    try:
        result = function(_sample(source))
    except Exception:
        return
    if not isinstance(result, target.cls):
        raise ModelError(
            f"{entity.name}: {name} makes a {type(result).__name__} of a {source.name}; it must return a {target.name}"
        )


def _sample(entity: EntityModel) -> Any:
    values = {field.name: SAMPLES[type(field.type)] for field in entity.fields}
    return mapping(entity).populate(values)


def _check_fields(entity: EntityModel, previous: EntityModel) -> None:
    own = {field.name: field.type for field in entity.fields}
    for field in previous.fields:
        if field.default is MISSING and own.get(field.name) != field.type:
            raise ModelError(
                f"{entity.name}: dual_write writes a {previous.name} of each {entity.name}, but {entity.name} has no field "
                f"{field.name} of type {field.type}; add downgrade=..., a function from a {entity.name} to a {previous.name}"
            )


def upgraded(entity: EntityModel, obj: Any) -> Any:
    """Return an object of the previous version as one of the entity.

    Args:
        entity: An entity with a previous version.
        obj: An object of the previous version.

    Raises:
        DataError: The function of the declaration fails, or makes an object of another class.
    """
    version = entity.version
    assert version is not None and version.upgrade is not None
    return _made(version.upgrade, "upgrade", obj, entity)


def downgraded(entity: EntityModel, obj: Any) -> Any:
    """Return an object of the entity as one of the previous version.

    Args:
        entity: An entity with a previous version.
        obj: An object of the entity.

    Raises:
        DataError: The function of the declaration fails, or makes an object of another class.
    """
    version = entity.version
    assert version is not None and version.previous is not None
    function = _by_fields(entity) if version.downgrade is None else version.downgrade
    return _made(function, "downgrade", obj, version.previous)


def _made(function: Upgrade, name: str, obj: Any, target: EntityModel) -> Any:
    try:
        result = function(obj)
    except Exception as error:
        raise DataError(f"{name} of {obj!r} to {target.name} fails: {type(error).__name__}: {error}") from error
    if not isinstance(result, target.cls):
        raise DataError(f"{name} of {obj!r} makes a {type(result).__name__}; it must return a {target.name}")
    return result


@cache
def _by_fields(entity: EntityModel) -> Callable[[Any], Any]:
    """Return the function back that takes fields of the same name and type over."""
    assert entity.version is not None and entity.version.previous is not None
    previous = entity.version.previous
    own = {field.name: field.type for field in entity.fields}
    names = [field.name for field in previous.fields if own.get(field.name) == field.type]
    return lambda obj: mapping(previous).populate({name: getattr(obj, name) for name in names})


def form_text(entity: EntityModel) -> str:
    """Return a text that differs where records become other objects: of the versions of the key, and of functions on the way."""
    parts: list[str] = []
    for version in (*entity.former, entity):
        forms = [_function_text(field.normalize) for field in version.keys if field.normalize is not None]
        upgrade = version.version.upgrade if version.version is not None else None
        parts += [version.topic, *forms, "" if upgrade is None else _function_text(upgrade)]
    return " ".join(parts)


def _function_text(function: Callable[[Any], Any]) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None)
    return name if code is None else f"{name} {_code_text(code)}"


def _code_text(code: CodeType) -> str:
    constants = [_code_text(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
