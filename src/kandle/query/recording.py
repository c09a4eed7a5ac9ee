"""Recording of the functions of a query, which are called once with rows that build a tree of expressions.

Whatever such a function does that cannot be recorded is a QueryError that says what to write instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

from kandle.errors import QueryError, unknown_name
from kandle.model.entity import EntityModel
from kandle.model.types import INTEGER, PYTHON_TYPES, TIMESTAMP, DataType, DecimalType, StringType
from kandle.query.advice import ADVICE, attribute_advice, failure_advice, truth_advice
from kandle.query.nodes import AnyNode, Column, Constant, WindowBound, describe
from kandle.query.signatures import call


def record(stage: str, function: Callable[..., Any], *rows: Any) -> Any:
    """Call the function of a stage with recording rows and return its result; errors begin with the stage."""
    try:
        return function(*rows)
    except QueryError as error:
        raise QueryError(f"{stage}: {error}") from error
    except Exception as error:
        # It is the user's code that runs here, and any class may refuse to be built from expressions.
        traceback = error.__traceback__
        if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
            shown = " and ".join(map(repr, rows))
            raise QueryError(f"{stage}: the function is called with {shown}: {error}") from error
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise QueryError(f"{stage}: the function cannot be recorded: {reason}{failure_advice(error)}") from error


def record_expression(stage: str, function: Callable[..., Any], *rows: Any) -> AnyNode:
    """Call the function of a stage with recording rows and return the expression that it computes."""
    value = record(stage, function, *rows)
    if not isinstance(value, Recorded):
        raise QueryError(f"{stage}: {_not_recorded(value)}")
    return value._node


def _not_recorded(value: Any) -> str:
    if isinstance(value, bool):
        return (
            f"the function returns the constant {value}; `x is None`, `x is not None` and isinstance() cannot be recorded: "
            "write f.is_null(x) or f.is_not_null(x)"
        )
    if value is None:
        return "the function returns None; return an expression"
    return f"the function returns {value!r}, which does not depend on the row; use a field of the row"


class Recorded:
    """An expression while its query is recorded; stands for a value of the type that the function expects."""

    __slots__ = ("_node",)

    def __init__(self, node: AnyNode) -> None:
        object.__setattr__(self, "_node", node)

    def __repr__(self) -> str:
        return f"<{describe(self._node)}: {self._node.type}>"

    # Arithmetic, comparisons and conditions are recorded.

    def __add__(self, other: Any) -> Recorded:
        return _sum_or_text(self, other)

    def __radd__(self, other: Any) -> Recorded:
        return _sum_or_text(other, self)

    def __sub__(self, other: Any) -> Recorded:
        return _binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Recorded:
        return _binary("subtract", other, self)

    def __mul__(self, other: Any) -> Recorded:
        return _binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Recorded:
        return _binary("multiply", other, self)

    def __truediv__(self, other: Any) -> Recorded:
        return _binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Recorded:
        return _binary("divide", other, self)

    def __floordiv__(self, other: Any) -> Recorded:
        return _binary("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Recorded:
        return _binary("floor_divide", other, self)

    def __mod__(self, other: Any) -> Recorded:
        return _binary("modulo", self, other)

    def __rmod__(self, other: Any) -> Recorded:
        return _binary("modulo", other, self)

    def __pow__(self, other: Any) -> Recorded:
        return _binary("power", self, other)

    def __neg__(self) -> Recorded:
        return Recorded(call("negate", self._node))

    def __pos__(self) -> Recorded:
        return self

    def __abs__(self) -> Recorded:
        return Recorded(call("abs", self._node))

    def __round__(self, digits: int = 0) -> Recorded:
        return Recorded(call("round", self._node, Constant(digits, INTEGER)))

    def __eq__(self, other: object) -> Recorded:  # type: ignore[override]
        return _comparison("equal", self, other)

    def __ne__(self, other: object) -> Recorded:  # type: ignore[override]
        return _comparison("not_equal", self, other)

    def __lt__(self, other: Any) -> Recorded:
        return _comparison("less", self, other)

    def __le__(self, other: Any) -> Recorded:
        return _comparison("less_equal", self, other)

    def __gt__(self, other: Any) -> Recorded:
        return _comparison("greater", self, other)

    def __ge__(self, other: Any) -> Recorded:
        return _comparison("greater_equal", self, other)

    def __and__(self, other: Any) -> Recorded:
        return _binary("and", self, other)

    def __rand__(self, other: Any) -> Recorded:
        return _binary("and", other, self)

    def __or__(self, other: Any) -> Recorded:
        return _binary("or", self, other)

    def __ror__(self, other: Any) -> Recorded:
        return _binary("or", other, self)

    # Everything else cannot be recorded.

    def __bool__(self) -> bool:
        raise self._error(truth_advice(self._node, sys._getframe(1)))

    def __str__(self) -> str:
        raise self._error(ADVICE["__str__"](self._node))

    def __format__(self, pattern: str) -> str:
        raise self._error(ADVICE["__format__"](self._node))

    def __int__(self) -> int:
        raise self._error(ADVICE["__int__"](self._node))

    def __float__(self) -> float:
        raise self._error(ADVICE["__float__"](self._node))

    def __index__(self) -> int:
        raise self._error(ADVICE["__index__"](self._node))

    def __len__(self) -> int:
        raise self._error(ADVICE["__len__"](self._node))

    def __hash__(self) -> int:
        raise self._error(ADVICE["__hash__"](self._node))

    def __contains__(self, item: object) -> bool:
        raise self._error(ADVICE["__contains__"](self._node))

    def __iter__(self) -> NoReturn:
        raise self._error(ADVICE["__iter__"](self._node))

    def __getitem__(self, item: object) -> NoReturn:
        raise self._error(ADVICE["__getitem__"](self._node))

    def __invert__(self) -> NoReturn:
        raise self._error(ADVICE["__invert__"](self._node))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise self._error(attribute_advice(self._node, name))

    def _error(self, problem: str) -> QueryError:
        return QueryError(f"{describe(self._node)}: {problem}")


def _binary(function: str, left: Any, right: Any) -> Recorded:
    return Recorded(call(function, node_of(left), node_of(right)))


def _sum_or_text(left: Any, right: Any) -> Recorded:
    """Record `+`: it joins texts and adds numbers."""
    nodes = node_of(left), node_of(right)
    is_text = all(isinstance(node.type, StringType) for node in nodes)
    return Recorded(call("concat" if is_text else "add", *nodes))


def _comparison(function: str, left: Recorded, right: Any) -> Recorded:
    if right is None:
        shown = describe(left._node)
        instead = f"f.is_not_null({shown})" if function == "not_equal" else f"f.is_null({shown})"
        raise QueryError(f"{shown}: a comparison with None is never true; write {instead}")
    return _binary(function, left, right)


class RecordingRow:
    """A row of an entity whose fields are recorded columns.

    `optional` says that the row may be missing (a left join), so that all of its fields may be NULL.
    """

    __slots__ = ("_entity", "_optional")

    def __init__(self, entity: EntityModel, *, optional: bool = False) -> None:
        object.__setattr__(self, "_entity", entity)
        object.__setattr__(self, "_optional", optional)

    def __repr__(self) -> str:
        return str(self._entity.name)

    def __getattr__(self, name: str) -> Recorded:
        entity: EntityModel = object.__getattribute__(self, "_entity")
        for field in entity.fields:
            if field.name == name:
                optional: bool = object.__getattribute__(self, "_optional")
                return Recorded(Column(entity.name, name, field.type, field.nullable or optional))
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        names = [field.name for field in entity.fields]
        raise QueryError(unknown_name(f"{entity.name} has no field {name!r}", name, names))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise QueryError(f"{self!r}.{name}: a query cannot change a row; put the new value into the result of select")


class Window:
    """The bucket of a bar, as `having` and `select` get it."""

    start: datetime
    """Start of the bucket, inclusive, in UTC."""

    end: datetime
    """End of the bucket, exclusive, in UTC."""


class RecordingWindow(Window):
    """A bucket whose bounds are recorded."""

    def __init__(self) -> None:
        bounds: dict[str, Any] = {"start": Recorded(WindowBound("start")), "end": Recorded(WindowBound("end"))}
        self.__dict__.update(bounds)

    def __repr__(self) -> str:
        return "window"

    def __getattr__(self, name: str) -> NoReturn:
        raise QueryError(f"a window has no field {name!r}; it has start and end")


def node_of(value: Any) -> AnyNode:
    """Return the node of a recorded expression, or of a constant."""
    if isinstance(value, Recorded):
        node: AnyNode = value._node
        return node
    if isinstance(value, RecordingRow | RecordingWindow):
        first = value._entity.fields[0].name if isinstance(value, RecordingRow) else "start"
        raise QueryError(f"{value!r} is a row, not a value; use one of its fields, for example {value!r}.{first}")
    return Constant(value, constant_type(value))


def constant_type(value: Any) -> DataType:
    """Return the type of a constant; QueryError if no value of its class can be used in a query."""
    if isinstance(value, Decimal):
        return _decimal_type(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise QueryError(f"the constant {value!r} has no time zone; write datetime(..., tzinfo=timezone.utc)")
        return TIMESTAMP
    if isinstance(value, int) and not isinstance(value, bool) and INTEGER.problem(value) is not None:
        raise QueryError(f"the constant {value} does not fit 64 bits; write Decimal({str(value)!r})")
    kind = PYTHON_TYPES.get(type(value))
    if kind is None:
        raise QueryError(
            f"the constant {value!r} is of type {type(value).__name__}; "
            "use str, int, float, bool, Decimal, datetime, date, UUID or bytes"
        )
    return kind


def _decimal_type(value: Decimal) -> DecimalType:
    """Return the smallest decimal type that holds a constant."""
    if not value.is_finite():
        raise QueryError(f"the constant {value} is not a finite number")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    return DecimalType(max(1, scale, len(digits) + max(0, int(exponent))), scale)
