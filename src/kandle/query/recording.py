"""Recording rows: what the lambdas of a query are called with, so that their expressions become a tree.

A lambda is called once. Whatever it does that cannot be recorded is an error that says what to write instead.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from types import FrameType, ModuleType
from typing import Any, NoReturn

from kandle.errors import QueryError, unknown_name
from kandle.model.entity import EntityModel
from kandle.model.types import INTEGER, PYTHON_TYPES, STRING, TIMESTAMP, DataType, DecimalType
from kandle.query.nodes import AnyNode, Column, Constant, WindowBound, describe
from kandle.query.signatures import call

WAYS_OUT = (
    "write & for `and`, | for `or`, f.not_(x) for `not`, (a < b) & (b < c) for `a < b < c`, f.is_in(x, ys) for `x in ys`, "
    "f.case(...) or f.if_(...) for `if`, f.greatest and f.least for max() and min()"
)
NEW_TARGET = "a class that looks at its values when it is built is written f.new(Class, field=...)"
CONSTRUCTORS = ("__init__", "__post_init__", "__attrs_post_init__", "__new__")
METHODS = {
    "upper": "f.upper(x)",
    "lower": "f.lower(x)",
    "strip": "f.trim(x)",
    "replace": "f.replace(x, old, new)",
    "startswith": "f.starts_with(x, prefix)",
    "endswith": "f.ends_with(x, suffix)",
    "find": "f.index_of(x, part)",
    "ljust": "f.right_pad(x, length)",
    "rjust": "f.left_pad(x, length)",
    "zfill": 'f.left_pad(x, length, "0")',
    "quantize": "f.round(x, digits)",
    "date": "f.to_date(x)",
    "strftime": "f.format_timestamp(x, pattern)",
    "timestamp": "f.epoch_millis(x)",
    "weekday": "f.day_of_week(x)",
    "isoweekday": "f.day_of_week(x)",
    **{part: f"f.{part}(x)" for part in ("year", "month", "day", "hour", "minute", "second")},
}


def failure_advice(error: Exception, stage: str) -> str:
    """What helps with an error of the user's code, as the end of a message; nothing where it says enough itself."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        own = {name for name, value in vars(error.obj).items() if getattr(value, "__module__", None) == error.obj.__name__}
        return unknown_name("", error.name or "", [name for name in vars(error.obj) if name in own and name[0].islower()])
    names_an_argument = isinstance(error, TypeError) and "argument" in str(error)
    return f"; {NEW_TARGET}" if stage == "select" and not names_an_argument else ""


CONNECTIVES = {
    True: "`and` cannot be recorded; write (a) & (b)",
    False: "`or` cannot be recorded; write (a) | (b)",
}
"""What to write in the place of a connective, by whether it goes on while its operand is true."""

CONSTRUCTS = {
    "UNARY_NOT": "`not` cannot be recorded; write f.not_(x)",
    "CONTAINS_OP": "`in` cannot be recorded; write f.is_in(x, values)",
    "CALL": "max(), min(), any() and the like cannot be recorded; write f.greatest(a, b), f.least(a, b)",
    "PRECALL": "max(), min(), any() and the like cannot be recorded; write f.greatest(a, b), f.least(a, b)",
}
"""What to write in the place of a construct, by the instruction that asks for the truth of a value."""


def truth_advice(frame: FrameType) -> str:
    """What to write in the place of the construct that asked for the truth of an expression."""
    if frame.f_code.co_name in CONSTRUCTORS:
        return NEW_TARGET
    names = [instruction.opname for instruction in dis.get_instructions(frame.f_code)]
    offsets = [instruction.offset for instruction in dis.get_instructions(frame.f_code)]
    at = offsets.index(frame.f_lasti) if frame.f_lasti in offsets else 0
    # Python 3.13 asks for the truth in an instruction of its own, before the one that uses it.
    name = names[at + 1] if names[at] == "TO_BOOL" else names[at]
    before = names[:at]
    # `and`, `or` and chained comparisons keep the value: by the jump itself, or from Python 3.12 on by a copy.
    keeps_value = name.endswith("_OR_POP")
    if "JUMP" in name and before[-1:] == ["COPY"]:
        keeps_value, before = True, before[:-1]
    is_chained = before[-2:] == ["COPY", "COMPARE_OP"] or (name == "COMPARE_OP" and before[-2:] == ["SWAP", "COPY"])
    if is_chained and name.startswith(("JUMP", "POP_JUMP", "COMPARE_OP")):
        return "a chained comparison cannot be recorded; write (a < b) & (b < c)"
    if keeps_value:
        return CONNECTIVES["IF_FALSE" in name]
    advice = (text for prefix, text in CONSTRUCTS.items() if name.startswith(prefix))
    return next(advice, f"an expression has no truth value while its query is recorded; {WAYS_OUT}")


def attribute_advice(name: str) -> str:
    """What to write in the place of a method or another attribute of a value."""
    function = METHODS.get(name)
    way_out = f"write {function}" if function else "use the functions of kandle.functions"
    return f"its attribute .{name} cannot be recorded; {way_out}"


def constant_type(value: Any) -> DataType:
    """The type of a constant; QueryError if no value of its kind can stand in a query."""
    if isinstance(value, Decimal):
        return _decimal_type(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise QueryError(f"the constant {value!r} has no time zone; write datetime(..., tzinfo=timezone.utc)")
        return TIMESTAMP
    if type(value) is int and INTEGER.problem(value):
        raise QueryError(f"the constant {value} does not fit 64 bits; write Decimal({str(value)!r})")
    if type(value) in PYTHON_TYPES:
        return PYTHON_TYPES[type(value)]
    raise QueryError(
        f"a constant of type {type(value).__name__} cannot stand in a query: {value!r}; use "
        "str, int, float, bool, Decimal, datetime, date, UUID or bytes"
    )


def _decimal_type(value: Decimal) -> DecimalType:
    if not value.is_finite():
        raise QueryError(f"the constant {value} is not a finite number")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    return DecimalType(max(1, scale, len(digits) + max(0, int(exponent))), scale)


class Recorded:
    """An expression while its query is being recorded; stands for a value of the type that the lambda expects."""

    __slots__ = ("_node",)

    def __init__(self, node: AnyNode) -> None:
        object.__setattr__(self, "_node", node)

    def __repr__(self) -> str:
        return f"<{describe(self._node)}: {self._node.type}>"

    # Arithmetic and comparisons are recorded.

    def __add__(self, other: Any) -> Recorded:
        return _text_or_sum(self, other)

    def __radd__(self, other: Any) -> Recorded:
        return _text_or_sum(other, self)

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
        self._refuse(truth_advice(sys._getframe(1)))

    def __invert__(self) -> NoReturn:
        self._refuse("~ cannot be recorded; write f.not_(x)")

    def __len__(self) -> int:
        self._refuse("len() cannot be recorded; write f.length(x)")

    def __contains__(self, item: object) -> bool:
        self._refuse("`in` cannot be recorded; write f.contains(x, part) for texts")

    def __iter__(self) -> NoReturn:
        self._refuse("a value cannot be iterated over; for the greatest or least of values write f.greatest or f.least")

    def __getitem__(self, item: object) -> NoReturn:
        self._refuse("indexing cannot be recorded; write f.substring(x, start, length) for texts")

    def __format__(self, pattern: str) -> str:
        self._refuse("f-strings and format() cannot be recorded; write f.concat(x, y) and f.cast(x, str)")

    def __str__(self) -> str:
        self._refuse("str() cannot be recorded; write f.cast(x, str); repr(x) shows the expression")

    def __int__(self) -> int:
        self._refuse("int() cannot be recorded; write f.cast(x, int), f.floor(x) or f.round(x)")

    def __index__(self) -> int:
        self._refuse("a value that is not known yet cannot be an index or a count")

    def __float__(self) -> float:
        self._refuse("float() and the functions of math cannot be recorded; write f.cast(x, float), f.sqrt(x), f.ln(x) ...")

    def __hash__(self) -> int:
        self._refuse("a value cannot be a key or a member of a set or dict; write f.is_in(x, values) or f.case(...)")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self._refuse(attribute_advice(name))

    def _refuse(self, what: str) -> NoReturn:
        raise QueryError(f"{describe(self._node)}: {what}")


def _binary(function: str, left: Any, right: Any) -> Recorded:
    return Recorded(call(function, *_beside(left, right)))


def _text_or_sum(left: Any, right: Any) -> Recorded:
    """`+` concatenates texts and adds numbers."""
    nodes = _beside(left, right)
    return Recorded(call("concat" if all(node.type == STRING or str(node.type) == "str" for node in nodes) else "add", *nodes))


def _comparison(function: str, left: Recorded, right: Any) -> Recorded:
    if right is None:
        raise QueryError(f"{describe(left._node)}: a comparison with None is never true; write f.is_null(x) or f.is_not_null(x)")
    return _binary(function, left, right)


def _beside(left: Any, right: Any) -> tuple[AnyNode, AnyNode]:
    return node_of(left), node_of(right)


def node_of(value: Any) -> AnyNode:
    """The node of a recorded expression, or of a constant."""
    if isinstance(value, Recorded):
        node: AnyNode = value._node
        return node
    if isinstance(value, RecordingRow):
        raise QueryError(f"a whole {value!r} stands where a value is expected; name one of its fields")
    return Constant(value, constant_type(value))


class RecordingRow:
    """Stands for a row of an entity; its fields are recorded columns, which may all be NULL where there may be no row."""

    __slots__ = ("_entity", "_optional")

    def __init__(self, entity: EntityModel, *, optional: bool = False) -> None:
        object.__setattr__(self, "_entity", entity)
        object.__setattr__(self, "_optional", optional)

    def __repr__(self) -> str:
        return str(self._entity.name)

    def __getattr__(self, name: str) -> Recorded:
        entity: EntityModel = object.__getattribute__(self, "_entity")
        for found in entity.fields:
            if found.name == name:
                optional: bool = object.__getattribute__(self, "_optional")
                return Recorded(Column(entity.name, name, found.type, found.nullable or optional))
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        raise QueryError(unknown_name(f"{entity.name} has no field {name!r}", name, [found.name for found in entity.fields]))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise QueryError(f"{self!r}.{name}: a row cannot be changed in a query")


class Window:
    """The bucket in a `select` or `having`: `start` (inclusive) and `end` (exclusive), UTC."""

    start: datetime
    end: datetime


class RecordingWindow(Window):
    """Stands for the bucket; its bounds are recorded."""

    def __init__(self) -> None:
        bounds: dict[str, Any] = {"start": Recorded(WindowBound("start")), "end": Recorded(WindowBound("end"))}
        self.__dict__.update(bounds)

    def __getattr__(self, name: str) -> NoReturn:
        raise QueryError(f"a window has no {name!r}; it has start and end")


def record(stage: str, function: Callable[..., Any], *rows: Any) -> Any:
    """What the lambda of a stage gives for recording rows; errors are prefixed with the stage."""
    try:
        return function(*rows)
    except QueryError as error:
        raise QueryError(f"{stage}: {error}") from error
    except Exception as error:
        # It is the user's code that runs here, and any class may refuse to be built from expressions.
        what = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise QueryError(f"{stage}: the function cannot be recorded: {what}{failure_advice(error, stage)}") from error


def record_expression(stage: str, function: Callable[..., Any], *rows: Any) -> AnyNode:
    """The expression that the lambda of a stage records."""
    value = record(stage, function, *rows)
    if not isinstance(value, Recorded):
        raise QueryError(f"{stage}: {_not_recorded(value)}")
    return value._node


def _not_recorded(value: Any) -> str:
    if isinstance(value, bool):
        return (
            f"the function gives the plain {value}; `x is None`, `x is not None` and isinstance() cannot be recorded: "
            "write f.is_null(x) or f.is_not_null(x)"
        )
    if value is None:
        return "the function gives None; return the expression"
    return f"the function gives {value!r}, which does not depend on the row; name a field"
