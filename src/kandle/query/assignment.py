"""From what a `select` lambda gives to the projection of the target: every field filled, with an expression of its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kandle.errors import ModelError, QueryError
from kandle.model.entity import MISSING, EntityModel, FieldModel, unknown
from kandle.model.types import DecimalType, FloatType, IntegerType
from kandle.query.describe import describe
from kandle.query.functions import NewTarget
from kandle.query.nodes import Aggregate, AnyNode, Call, Cast, Constant, aggregates, walk
from kandle.query.query import Projection
from kandle.query.recording import Recorded, node_of

ROUNDED = ("divide", "round", "avg", "weighted_average")
"""What is computed directly with the digits of its field, so that nothing is rounded twice."""


def projection(target: EntityModel, value: Any) -> tuple[Projection, ...]:
    """The projection of a selected object; QueryError names field and expression."""
    fields = selected_fields(target, value)
    return tuple(Projection(found.name, _assigned(target, found, fields[found.name])) for found in target.fields)


def selected_fields(target: EntityModel, value: Any) -> Mapping[str, AnyNode]:
    """The expression of every field of the selected object."""
    if isinstance(value, NewTarget):
        _check_target(target, value.target)
        return _complete(target, value.fields)
    if isinstance(value, Recorded) or not isinstance(value, target.cls):
        _check_target(target, type(value))
    return _complete(target, {found.name: getattr(value, found.name) for found in target.fields})


def _check_target(target: EntityModel, given: type) -> None:
    if given is not target.cls:
        name = "an expression" if given is Recorded else f"a {given.__name__}"
        raise QueryError(f"select: the function gives {name}, but the query is declared for {target.name}")


def _complete(target: EntityModel, fields: Mapping[str, Any]) -> Mapping[str, AnyNode]:
    names = [found.name for found in target.fields]
    for name in fields:
        if name not in names:
            raise QueryError(unknown(f"select: {target.name} has no field {name!r}", name, names))
    return {found.name: _field_node(target, found, fields) for found in target.fields}


def _field_node(target: EntityModel, found: FieldModel, fields: Mapping[str, Any]) -> AnyNode:
    value = fields.get(found.name, found.default)
    if value is MISSING:
        raise QueryError(f"select: {target.name}.{found.name} is missing")
    if value is None:
        return Constant(None, found.type)
    try:
        return node_of(value() if callable(value) and not isinstance(value, Recorded) else value)
    except ModelError as error:
        raise QueryError(f"select: {target.name}.{found.name}: {error}") from error


def _assigned(target: EntityModel, found: FieldModel, node: AnyNode) -> AnyNode:
    where = f"select: {target.name}.{found.name} ({found.type}) = {describe(node)}"
    if node.nullable and not found.nullable:
        raise QueryError(
            f"{where} may be NULL ({_why_null(node)}); declare the field as `{found.type} | None` or write f.coalesce(x, ...)"
        )
    fitted = _fitted(found, node, where)
    if fitted is None:
        raise QueryError(f"{where} is {node.type}; {_advice(found, node)}")
    return fitted


def _fitted(found: FieldModel, node: AnyNode, where: str) -> AnyNode | None:
    """The node with the field's type, or None if its own does not go with that."""
    kind = found.type
    if isinstance(node, Constant) and node.value is None:
        return Constant(None, kind)
    if isinstance(kind, DecimalType):
        return _fitted_decimal(kind, node, where)
    if isinstance(kind, FloatType) and isinstance(node.type, IntegerType):
        return Cast(node, kind)
    # Texts of any length go together here; the engine checks those of every bar against its field.
    return node if type(kind) is type(node.type) else None


def _fitted_decimal(kind: DecimalType, node: AnyNode, where: str) -> AnyNode | None:
    if isinstance(node.type, IntegerType):
        return Cast(node, kind)
    if not isinstance(node.type, DecimalType):
        return None
    if isinstance(node, Call | Aggregate) and node.function in ROUNDED:
        return replace(node, type=kind)
    if node.type.scale > kind.scale:
        raise QueryError(
            f"{where} has {node.type.scale} digits behind the point, the field {kind.scale}; write f.round(x, {kind.scale})"
        )
    return node if node.type == kind else Cast(node, kind)


def _why_null(node: AnyNode) -> str:
    for found in walk(node):
        if isinstance(found, Aggregate) and found.function == "stddev":
            return "a standard deviation needs two events"
        if isinstance(found, Aggregate) and found.function == "weighted_average":
            return "the weights can add up to 0"
        if isinstance(found, Call) and found.function in ("divide", "floor_divide", "modulo") and found.nullable:
            return "the divisor can be 0"
    return "one of its fields is Optional"


def _advice(found: FieldModel, node: AnyNode) -> str:
    if isinstance(found.type, FloatType) and isinstance(node.type, DecimalType):
        return "write f.cast(x, float)"
    if isinstance(found.type, DecimalType) and isinstance(node.type, FloatType):
        return f"write f.cast(x, Precision({found.type.precision}, {found.type.scale}))"
    return "the types do not go together"


def check_grouped(target: EntityModel, fields: tuple[Projection, ...], keys: tuple[AnyNode, ...]) -> None:
    """Outside of aggregates only group keys and window bounds may stand."""
    for item in fields:
        bare = bare_column(item.expression, keys)
        if bare is not None:
            raise QueryError(
                f"select: {target.name}.{item.field} = {describe(item.expression)}: {describe(bare)} is neither a group key "
                f"nor inside an aggregate; write f.last({describe(bare)}) or group by it"
            )


def bare_column(node: Any, keys: tuple[AnyNode, ...]) -> AnyNode | None:
    """A column of the source that stands outside of aggregates and is not part of a group key."""
    if node in keys or isinstance(node, Aggregate):
        return None
    if not node.children:
        return node if type(node).__name__ == "Column" else None
    return next((found for child in node.children if (found := bare_column(child, keys)) is not None), None)


def carried_into(fields: tuple[Projection, ...], target: EntityModel) -> tuple[str, str] | None:
    """A non-Optional field whose aggregate has no value in an empty bucket, and the expression; None if there is none."""
    always = ("count", "sum", "count_distinct")
    for item in fields:
        empty = [found for found in aggregates(item.expression) if found.function not in always]
        if empty and not target.field(item.field).nullable:
            return item.field, describe(item.expression)
    return None
