"""Functions for NULL, conditions, choices and casts."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar, overload
from typing import cast as typed

from kandle.errors import QueryError
from kandle.model.markers import Precision
from kandle.model.types import (
    FLOAT,
    INTEGER,
    STRING,
    BooleanType,
    DataType,
    DecimalType,
    FloatType,
    IntegerType,
    StringType,
    TimestampType,
)
from kandle.query.functions.recorded import display, record_call
from kandle.query.nodes import AnyNode, Branch, Case, Cast, Constant, describe
from kandle.query.recording import Recorded, node_of
from kandle.query.result_types import common_type

T = TypeVar("T")


def is_null(x: object) -> bool:
    """Test whether a value is NULL.

    Args:
        x: An expression of any type.

    Returns:
        True or False, never NULL.
    """
    return typed(bool, record_call("is_null", x))


def is_not_null(x: object) -> bool:
    """Test whether a value is not NULL.

    Args:
        x: An expression of any type.

    Returns:
        True or False, never NULL.
    """
    return typed(bool, record_call("is_not_null", x))


def coalesce(x: T | None, *others: T | None) -> T:
    """Return the first of several values that is not NULL.

    Args:
        x: An expression.
        others: Expressions or constants of the same type.

    Returns:
        The value; NULL only if all are NULL.

    Example:
        `f.coalesce(t.discount, Decimal(0))`
    """
    return typed(T, record_call("coalesce", x, *others))


def null_if(x: T, other: T) -> T | None:
    """Return NULL where two values are equal, and the first value elsewhere.

    Args:
        x: An expression.
        other: An expression or constant of the same type.

    Returns:
        `x` or NULL; `x` where `other` is NULL.

    Example:
        `f.null_if(t.name, "")`
    """
    return typed(T, record_call("null_if", x, other))


def not_(x: bool) -> bool:
    """Negate a condition.

    Args:
        x: A condition.

    Returns:
        The opposite; NULL where the condition is NULL.

    Example:
        `.where(lambda t: f.not_(t.is_test))`
    """
    return typed(bool, record_call("not", x))


def is_in(x: T, values: Iterable[T]) -> bool:
    """Test whether a value equals one of several constants.

    Args:
        x: An expression.
        values: Constants of the same type, at least one.

    Returns:
        True or False; NULL where `x` is NULL.

    Example:
        `.where(lambda t: f.is_in(t.venue, ["north", "south"]))`
    """
    if isinstance(values, Recorded):
        raise QueryError(
            f"f.is_in({display(x)}, {display(values)}): the values must be a list of constants, not a field; "
            f"write {display(x)} == {display(values)}"
        )
    return typed(bool, record_call("is_in", x, *values))


def between(x: T, low: T, high: T) -> bool:
    """Test whether low <= x <= high.

    Args:
        x: An expression.
        low: The lower bound, inclusive.
        high: The upper bound, inclusive.

    Returns:
        True or False.
    """
    return typed(bool, record_call("between", x, low, high))


def greatest(x: T, *others: T) -> T:
    """Return the largest of several values of one event or bar (`max` is the largest of a bucket).

    Args:
        x: A number, text, date or datetime.
        others: Expressions or constants of the same type, at least one.

    Returns:
        The value; NULL if one of them is NULL.
    """
    return typed(T, record_call("greatest", x, *others))


def least(x: T, *others: T) -> T:
    """Return the smallest of several values of one event or bar (`min` is the smallest of a bucket).

    Args:
        x: A number, text, date or datetime.
        others: Expressions or constants of the same type, at least one.

    Returns:
        The value; NULL if one of them is NULL.
    """
    return typed(T, record_call("least", x, *others))


def case(*branches: tuple[bool, T], otherwise: T) -> T:
    """Return the value of the first condition that is true.

    Args:
        branches: Pairs `(condition, value)`, at least one. All values are of one type; None is NULL.
        otherwise: The value if no condition is true; a condition that is NULL is not true.

    Returns:
        The chosen value.

    Example:
        `f.case((t.size > 1000, "large"), (t.size > 100, "medium"), otherwise="small")`
    """
    arms = [(node_of(condition), _node_or_null(value)) for condition, value in branches]
    default = _node_or_null(otherwise)
    if not arms:
        raise QueryError("f.case has no branch; write f.case((condition, value), otherwise=value)")
    for condition, _ in arms:
        if not isinstance(condition.type, BooleanType):
            raise QueryError(
                f"f.case: {describe(condition)} is {condition.type}; the first part of each pair must be a condition"
            )
    kind = common_type([*(value for _, value in arms), default])
    if kind is None:
        values = ", ".join(f"{describe(value)} ({value.type})" for value in (*(value for _, value in arms), default))
        raise QueryError(f"f.case: all values must have one type, but these differ: {values}")
    typed_arms = tuple(Branch(condition, _with_null_of(value, kind)) for condition, value in arms)
    return typed(T, Recorded(Case(typed_arms, _with_null_of(default, kind), kind)))


def if_(condition: bool, value: T, otherwise: T) -> T:
    """Return one of two values: the short form of `case` for one condition.

    Args:
        condition: A condition.
        value: The value where the condition is true.
        otherwise: The value where the condition is false or NULL, of the same type.

    Returns:
        The chosen value.

    Example:
        `f.if_(t.is_sale, -t.size, t.size)`
    """
    return case((condition, value), otherwise=otherwise)


@overload
def cast(x: object, kind: type[T]) -> T: ...
@overload
def cast(x: object, kind: Precision) -> Decimal: ...
def cast(x: Any, kind: Any) -> Any:
    """Convert a value to another type.

    A value that does not fit the new type, such as the text "abc" as int, stops the query with a `DataError`;
    it never becomes another value.

    Args:
        x: A number, a text, or a bool (which can only become a text).
        kind: `str`, `int` (from texts), `float` or `Precision(precision, scale)` for a decimal.

    Returns:
        The converted value.

    Example:
        `f.cast(t.ratio, Precision(18, 6))`
    """
    node = node_of(x)
    target = DecimalType(kind.precision, kind.scale) if isinstance(kind, Precision) else _CAST_TARGETS.get(kind)
    if target is None or not isinstance(node.type, _CASTABLE[type(target)]):
        raise QueryError(_refused_cast(node, kind))
    if isinstance(target, DecimalType) and isinstance(node.type, DecimalType) and target.scale < node.type.scale:
        raise QueryError(
            f"f.cast({describe(node)}, {target}) would lose digits behind the point; "
            f"write f.cast(f.round({describe(node)}, {target.scale}), Precision({target.precision}, {target.scale}))"
        )
    return Recorded(node if target == node.type else Cast(node, target))


_CAST_TARGETS: dict[Any, DataType] = {str: STRING, int: INTEGER, float: FLOAT}
_CASTABLE: dict[type[DataType], tuple[type[DataType], ...]] = {
    StringType: (IntegerType, FloatType, DecimalType, StringType, BooleanType),
    IntegerType: (IntegerType, StringType),
    FloatType: (IntegerType, FloatType, DecimalType, StringType),
    DecimalType: (IntegerType, FloatType, DecimalType, StringType),
}
"""For each type that a value can be cast to, the types that it can be cast from."""


def _node_or_null(value: Any) -> AnyNode:
    return Constant(None, STRING) if value is None else node_of(value)


def _with_null_of(node: AnyNode, kind: DataType) -> AnyNode:
    """Return the node; a NULL that has no type yet gets this one."""
    return Constant(None, kind) if isinstance(node, Constant) and node.value is None else node


def _refused_cast(node: AnyNode, kind: Any) -> str:
    wanted = getattr(kind, "__name__", kind)
    start = f"f.cast({describe(node)}, {wanted}): {node.type} cannot become {wanted}"
    names = {StringType: "str", IntegerType: "int", FloatType: "float", DecimalType: "Precision(precision, scale)"}
    possible = [name for target, name in names.items() if isinstance(node.type, _CASTABLE[target])]
    if kind is int and node.type.is_numeric:
        return f"{start}; write f.floor({describe(node)}) or f.round({describe(node)})"
    if kind is str and isinstance(node.type, TimestampType):
        return f'{start}; write f.format_timestamp({describe(node)}, "%Y-%m-%d")'
    return f"{start}; it can become {', '.join(possible)}" if possible else f"{start} or any other type"
