"""Projection of a query: the expressions that `select` assigns to the fields of its target.

They are checked and fitted to the types of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kandle.errors import ModelError, QueryError, unknown_name
from kandle.model.entity import MISSING, EntityModel, FieldModel
from kandle.model.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringType,
    TimestampType,
)
from kandle.query.functions.results import NewTarget
from kandle.query.nodes import Aggregate, AnyNode, Call, Cast, Column, Constant, describe, walk
from kandle.query.query import Projection
from kandle.query.recording import Recorded, node_of

ROUNDED = ("divide", "round", "avg", "weighted_average")
"""Functions that compute with the digits of the field that they fill, so that nothing is rounded twice."""


def make_projection(target: EntityModel, value: Any) -> tuple[Projection, ...]:
    """Return the expression of every field of the target, in the order of the fields.

    Args:
        target: The entity that the query makes.
        value: What the function of `select` returned: an object of the target or `f.new(Target, ...)`.

    Raises:
        QueryError: If it is something else, or for the first field that is missing or whose expression does
            not fit.
    """
    expressions = _expressions(target, value)
    return tuple(
        Projection(field.name, _assign(target, field, expressions[field.name]), _wider(field.type, expressions[field.name]))
        for field in target.fields
    )


def _expressions(target: EntityModel, value: Any) -> Mapping[str, AnyNode]:
    given = value.target if isinstance(value, NewTarget) else type(value)
    if given is not target.cls and (isinstance(value, NewTarget | Recorded) or not isinstance(value, target.cls)):
        name = "an expression" if given is Recorded else f"a {given.__name__}"
        name = f"the class {value.__name__}" if isinstance(value, type) else name
        raise QueryError(f"select: the function returns {name}; it must return a {target.name}")
    names = [field.name for field in target.fields]
    fields = value.fields if isinstance(value, NewTarget) else {name: getattr(value, name) for name in names}
    for name in fields:
        if name not in names:
            raise QueryError(unknown_name(f"select: {target.name} has no field {name!r}", name, names))
    return {field.name: _expression(target, field, fields) for field in target.fields}


def _expression(target: EntityModel, field: FieldModel, fields: Mapping[str, Any]) -> AnyNode:
    value = fields.get(field.name, field.default)
    if value is MISSING:
        raise QueryError(f"select: {target.name}.{field.name} is missing; add {field.name}=...")
    if value is None:
        return Constant(None, field.type)
    try:
        return node_of(value() if callable(value) and not isinstance(value, Recorded) else value)
    except ModelError as error:
        raise QueryError(f"select: {target.name}.{field.name}: {error}") from error


def _assign(target: EntityModel, field: FieldModel, node: AnyNode) -> AnyNode:
    """Return the expression with the field's type; QueryError if it does not fit the field."""
    label = f"select: {target.name}.{field.name} ({field.type}) = {describe(node)}"
    if node.nullable and not field.nullable:
        raise QueryError(
            f"{label} may be NULL ({_why_null(node)}); declare the field as Optional or write f.coalesce({describe(node)}, ...)"
        )
    fitted = _fit(field, node, label)
    if fitted is None:
        raise QueryError(f"{label} is {node.type}; {_conversion(field, node)}declare the field as {node.type}")
    return fitted


def _wider(kind: DataType, node: AnyNode) -> DataType | None:
    """Return the type of what fills a field as it is, if that has longer values than the field.

    Averages and other computed values are not looked at: their types have room for what almost never happens. For the same
    reason a sum counts as wide as what it adds up.
    """
    if not isinstance(node, Column | Aggregate) or (isinstance(node, Aggregate) and node.function in ROUNDED):
        return None
    given = node.arguments[0].type if isinstance(node, Aggregate) and node.function == "sum" else node.type
    if isinstance(kind, DecimalType) and isinstance(given, DecimalType):
        return given if given.precision - given.scale > kind.precision - kind.scale else None
    if isinstance(kind, StringType) and isinstance(given, StringType):
        lengths = (kind.max_length, given.max_length)
        return given if None not in lengths and lengths[1] > lengths[0] else None  # type: ignore[operator]
    return None


def _fit(field: FieldModel, node: AnyNode, label: str) -> AnyNode | None:
    """Return the expression with the field's type, or None if its own type cannot become that."""
    kind = field.type
    if isinstance(node, Constant) and node.value is None:
        return Constant(None, kind)
    if isinstance(kind, DecimalType):
        return _fit_decimal(kind, node, label)
    if isinstance(kind, FloatType) and isinstance(node.type, IntegerType):
        return Cast(node, kind)
    # Texts of any length fit here; the engine checks the text of every bar against the length of its field.
    return node if type(kind) is type(node.type) else None


def _fit_decimal(kind: DecimalType, node: AnyNode, label: str) -> AnyNode | None:
    if isinstance(node.type, IntegerType):
        return Cast(node, kind)
    if not isinstance(node.type, DecimalType):
        return None
    if isinstance(node, Call | Aggregate) and node.function in ROUNDED:
        return replace(node, type=kind)
    if node.type.scale > kind.scale:
        raise QueryError(
            f"{label} has {node.type.scale} digits behind the point, but the field has {kind.scale}; "
            f"write f.round({describe(node)}, {kind.scale})"
        )
    return node if node.type == kind else Cast(node, kind)


def _why_null(node: AnyNode) -> str:
    for part in walk(node):
        if isinstance(part, Aggregate) and part.function == "stddev":
            return "a standard deviation needs two events"
        if isinstance(part, Aggregate) and part.function == "weighted_average":
            return "the weights can add up to 0"
        if isinstance(part, Call) and part.function in ("divide", "floor_divide", "modulo") and part.nullable:
            return "the divisor can be 0"
    column = next((part for part in walk(node) if isinstance(part, Column) and part.nullable), None)
    return f"{describe(column)} is Optional" if column is not None else "its function has no value for some arguments"


def _conversion(field: FieldModel, node: AnyNode) -> str:
    """Return how to convert the expression to the field's type, as `write ... or `, or an empty text."""
    shown = describe(node)
    match field.type, node.type:
        case FloatType(), DecimalType():
            return f"write f.cast({shown}, float) or "
        case DecimalType(precision, scale), FloatType():
            return f"write f.cast({shown}, Precision({precision}, {scale})) or "
        case StringType(), IntegerType() | FloatType() | DecimalType() | BooleanType():
            return f"write f.cast({shown}, str) or "
        case DateType(), TimestampType():
            return f"write f.to_date({shown}) or "
        case TimestampType(), IntegerType():
            return f"write f.from_epoch_millis({shown}), if it holds milliseconds since the epoch, or "
    return ""


def check_grouped(target: EntityModel, fields: tuple[Projection, ...], keys: tuple[AnyNode, ...]) -> None:
    """Raise QueryError if a field uses a column that is neither a group key nor inside of an aggregate."""
    for item in fields:
        column = bare_column(item.expression, keys)
        if column is not None:
            raise QueryError(
                f"select: {target.name}.{item.field} = {describe(item.expression)}: {describe(column)} is neither a group "
                f"key nor inside an aggregate; write f.last({describe(column)}) or group by it"
            )


def bare_column(node: Any, keys: tuple[AnyNode, ...]) -> AnyNode | None:
    """Return the first column that stands outside of aggregates and is not part of a group key, or None."""
    if node in keys or isinstance(node, Aggregate):
        return None
    if isinstance(node, Column):
        return node
    columns = (bare_column(child, keys) for child in node.children)
    return next((column for column in columns if column is not None), None)
