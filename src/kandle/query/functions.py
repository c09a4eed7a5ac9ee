"""The functions of the query language, typed as functions of plain values: `from kandle import functions as f`.

Aggregates: first, last, first_by_offset, last_by_offset, min, max, sum, count, avg, count_distinct, stddev, stddev_population,
weighted_average. All others are scalar. They only record; see docs/query-language.md for what each means.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar, overload
from typing import cast as typed

from kandle.errors import QueryError
from kandle.model.markers import Precision
from kandle.model.types import FLOAT, INTEGER, STRING, DataType, DecimalType, FloatType, IntegerType, StringType
from kandle.query.nodes import AnyNode, Branch, Case, Cast, Constant, describe
from kandle.query.recording import Recorded, node_of
from kandle.query.result_types import common_type
from kandle.query.signatures import aggregate, call
from kandle.time.buckets import zone_of

T = TypeVar("T")
Number = TypeVar("Number", int, float, Decimal)


def _aggregate(function: str, *arguments: Any) -> Any:
    return Recorded(aggregate(function, *map(node_of, arguments)))


def _call(function: str, *arguments: Any) -> Any:
    return Recorded(call(function, *map(node_of, arguments)))


# Aggregates


def first(x: T) -> T:
    """Value of the earliest event, by event time, whose value is not NULL."""
    return typed(T, _aggregate("first", x))


def last(x: T) -> T:
    """Value of the latest event, by event time, whose value is not NULL."""
    return typed(T, _aggregate("last", x))


def first_by_offset(x: T) -> T:
    """Value of the first event in the order of the log whose value is not NULL."""
    return typed(T, _aggregate("first_by_offset", x))


def last_by_offset(x: T) -> T:
    """Value of the last event in the order of the log whose value is not NULL."""
    return typed(T, _aggregate("last_by_offset", x))


def min(x: T) -> T:
    """Least value."""
    return typed(T, _aggregate("min", x))


def max(x: T) -> T:
    """Greatest value."""
    return typed(T, _aggregate("max", x))


def sum(x: Number) -> Number:
    """Sum of the values, 0 if there are none."""
    return typed(Number, _aggregate("sum", x))


def count(x: object = ...) -> int:
    """Number of events, or of those whose value is not NULL."""
    return typed(int, _aggregate("count") if x is ... else _aggregate("count", x))


@overload
def avg(x: Decimal) -> Decimal: ...
@overload
def avg(x: float) -> float: ...
def avg(x: Any) -> Any:
    """Mean of the values; of decimals an exact quotient, rounded half up."""
    return _aggregate("avg", x)


def count_distinct(x: object) -> int:
    """Number of different values; keeps them all while the bucket is open."""
    return typed(int, _aggregate("count_distinct", x))


def stddev(x: int | float | Decimal) -> float:
    """Standard deviation of a sample, NULL below two values."""
    return typed(float, _aggregate("stddev", x))


def stddev_population(x: int | float | Decimal) -> float:
    """Standard deviation of the whole population."""
    return typed(float, _aggregate("stddev_population", x))


@overload
def weighted_average(x: Decimal, weight: Decimal | int) -> Decimal: ...
@overload
def weighted_average(x: int, weight: Decimal) -> Decimal: ...
@overload
def weighted_average(x: float, weight: float) -> float: ...
def weighted_average(x: Any, weight: Any) -> Any:
    """sum(x * weight) / sum(weight), NULL if the weights add up to 0."""
    return _aggregate("weighted_average", x, weight)


# NULL and conditions


def is_null(x: object) -> bool:
    """Whether the value is NULL."""
    return typed(bool, _call("is_null", x))


def is_not_null(x: object) -> bool:
    """Whether the value is not NULL."""
    return typed(bool, _call("is_not_null", x))


def coalesce(x: T | None, *others: T | None) -> T:
    """The first value that is not NULL."""
    return typed(T, _call("coalesce", x, *others))


def null_if(x: T, other: T) -> T | None:
    """NULL where the two are equal, else the first."""
    return typed(T, _call("null_if", x, other))


def not_(x: bool) -> bool:
    """The opposite of a condition; NULL of NULL."""
    return typed(bool, _call("not", x))


def is_in(x: T, values: Iterable[T]) -> bool:
    """Whether the value is one of these constants."""
    if isinstance(values, Recorded):
        raise QueryError(f"f.is_in({describe(node_of(x))}, ...): the values are a list of constants, not a field")
    return typed(bool, _call("is_in", x, *values))


def between(x: T, low: T, high: T) -> bool:
    """low <= x <= high."""
    return typed(bool, _call("between", x, low, high))


def greatest(x: T, *others: T) -> T:
    """The greatest of several values, NULL if one is."""
    return typed(T, _call("greatest", x, *others))


def least(x: T, *others: T) -> T:
    """The least of several values, NULL if one is."""
    return typed(T, _call("least", x, *others))


def case(*branches: tuple[bool, T], otherwise: T) -> T:
    """The value of the first `(condition, value)` whose condition is true, else `otherwise`."""
    arms = [(node_of(condition), _or_null(value)) for condition, value in branches]
    rest = _or_null(otherwise)
    kind = common_type([*(value for _, value in arms), rest])
    wrong = [condition for condition, _ in arms if str(condition.type) != "bool"]
    if kind is None or wrong or not arms:
        shown = ", ".join(f"{describe(value)}: {value.type}" for _, value in arms)
        raise QueryError(
            f"f.case takes (condition, value) pairs, conditions that are bools and values of one type, not ({shown}, "
            f"otherwise {describe(rest)}: {rest.type})"
        )
    typed_arms = tuple(Branch(condition, _null_of(value, kind)) for condition, value in arms)
    return typed(T, Recorded(Case(typed_arms, _null_of(rest, kind), kind)))


def if_(condition: bool, value: T, otherwise: T) -> T:
    """One of two values."""
    return case((condition, value), otherwise=otherwise)


def _or_null(value: Any) -> AnyNode:
    return Constant(None, STRING) if value is None else node_of(value)


def _null_of(node: AnyNode, kind: DataType) -> AnyNode:
    return Constant(None, kind) if isinstance(node, Constant) and node.value is None else node


@overload
def cast(x: object, kind: type[T]) -> T: ...
@overload
def cast(x: object, kind: Precision) -> Decimal: ...
def cast(x: Any, kind: Any) -> Any:
    """The value as another type: str, int, float or `Precision(18, 6)`; what does not fit is an error when it comes."""
    node = node_of(x)
    target = DecimalType(kind.precision, kind.scale) if isinstance(kind, Precision) else _CASTS.get(kind)
    if target is None or type(node.type) not in _CASTABLE[type(target)]:
        wanted = getattr(kind, "__name__", kind)
        raise QueryError(
            f"f.cast({describe(node)}, {wanted}): {node.type} cannot become {wanted}; possible are str, int, float and "
            "Precision(precision, scale), from numbers and texts"
        )
    fewer = isinstance(target, DecimalType) and isinstance(node.type, DecimalType) and target.scale < node.type.scale
    if fewer and isinstance(target, DecimalType):
        raise QueryError(f"f.cast({describe(node)}, {target}) would lose digits; write f.cast(f.round(x, {target.scale}), ...)")
    return Recorded(node if target == node.type else Cast(node, target))


_CASTS: dict[Any, DataType] = {str: STRING, int: INTEGER, float: FLOAT}
_NUMBERS = (IntegerType, FloatType, DecimalType)
_CASTABLE: dict[type[DataType], tuple[type[DataType], ...]] = {
    StringType: (*_NUMBERS, StringType, type(node_of(True).type)),
    IntegerType: (IntegerType, StringType),
    FloatType: (*_NUMBERS, StringType),
    DecimalType: (*_NUMBERS, StringType),
}


def new(target: type[T], **fields: object) -> T:
    """The target of a `select`, for classes that look at their values when they are built; checked when the model is built."""
    return typed(T, NewTarget(target, fields))


class NewTarget:
    """Fields of a target that is not built while the query is recorded."""

    def __init__(self, target: type, fields: dict[str, object]) -> None:
        self.target = target
        self.fields = fields


def descending(x: T) -> T:
    """Order by this field, greatest first; only in `order_by`."""
    return typed(T, Descending(x))


class Descending:
    """A field to order by, greatest first."""

    def __init__(self, value: object) -> None:
        self.value = value


# Text


def upper(x: str) -> str:
    """In capital letters."""
    return typed(str, _call("upper", x))


def lower(x: str) -> str:
    """In small letters."""
    return typed(str, _call("lower", x))


def trim(x: str) -> str:
    """Without white space at both ends."""
    return typed(str, _call("trim", x))


def length(x: str) -> int:
    """Number of characters."""
    return typed(int, _call("length", x))


def substring(x: str, start: int, length: int | None = None) -> str:
    """The text from character `start` on, counted from 1, of `length` characters or to the end."""
    first_character: object = start
    if isinstance(first_character, int) and first_character < 1:
        raise QueryError(f"f.substring({describe(node_of(x))}, {start}): characters are counted from 1")
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.substring({describe(node_of(x))}, {start}, {length}): a text has 0 characters or more")
    return typed(str, _call("substring", x, start) if length is None else _call("substring", x, start, length))


def concat(x: str, *others: str) -> str:
    """The texts one after the other, NULL if one is."""
    return typed(str, _call("concat", x, *others))


def replace(x: str, old: str, new: str) -> str:
    """Every occurrence of the constant `old` replaced."""
    _constants("replace", old)
    return typed(str, _call("replace", x, old, new))


def starts_with(x: str, prefix: str) -> bool:
    """Whether the text begins so."""
    return typed(bool, _call("starts_with", x, prefix))


def ends_with(x: str, suffix: str) -> bool:
    """Whether the text ends so."""
    return typed(bool, _call("ends_with", x, suffix))


def contains(x: str, part: str) -> bool:
    """Whether the text holds the part."""
    return typed(bool, _call("contains", x, part))


def index_of(x: str, part: str) -> int:
    """Place of the first occurrence, counted from 1; 0 if there is none."""
    return typed(int, _call("index_of", x, part))


def left_pad(x: str, length: int, fill: str = " ") -> str:
    """The text filled up at its beginning with one character, or cut, to a constant length."""
    return typed(str, _pad("left_pad", x, length, fill))


def right_pad(x: str, length: int, fill: str = " ") -> str:
    """The text filled up at its end with one character, or cut, to a constant length."""
    return typed(str, _pad("right_pad", x, length, fill))


def _pad(function: str, x: str, length: int, fill: str) -> Any:
    _constants(function, length, fill)
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.{function}({describe(node_of(x))}, {length}): a text has 0 characters or more")
    if isinstance(fill, str) and len(fill) != 1:
        raise QueryError(
            f"f.{function}({describe(node_of(x))}, {length}, {fill!r}): it is filled up with one character; for a longer text "
            "write f.concat(x, ...)"
        )
    return _call(function, x, length, fill)


def _constants(function: str, *values: object) -> None:
    for value in values:
        if isinstance(value, Recorded):
            raise QueryError(f"f.{function}: {describe(node_of(value))} must be a constant")


# Numbers


def abs(x: Number) -> Number:
    """Without its sign."""
    return typed(Number, _call("abs", x))


def round(x: Number, digits: int = 0) -> Number:
    """Rounded to a constant number of digits behind the point; decimals half away from zero."""
    _constants("round", digits)
    return typed(Number, _call("round", x, digits))


def floor(x: Number) -> Number:
    """The greatest whole number that is not greater."""
    return typed(Number, _call("floor", x))


def ceil(x: Number) -> Number:
    """The least whole number that is not less."""
    return typed(Number, _call("ceil", x))


def sign(x: int | float | Decimal) -> int:
    """-1, 0 or 1."""
    return typed(int, _call("sign", x))


def sqrt(x: float) -> float:
    """Square root, NULL below 0."""
    return typed(float, _call("sqrt", x))


def exp(x: float) -> float:
    """e to the power of x."""
    return typed(float, _call("exp", x))


def ln(x: float) -> float:
    """Natural logarithm, NULL unless above 0."""
    return typed(float, _call("ln", x))


def log10(x: float) -> float:
    """Logarithm to the base of 10, NULL unless above 0."""
    return typed(float, _call("log10", x))


def power(x: float, exponent: float) -> float:
    """x to the power of the exponent."""
    return typed(float, _call("power", x, exponent))


# Time


def _part(function: str, x: datetime, zone: str | None) -> int:
    _constants(function, zone)
    return typed(int, _call(function, x) if zone is None else _call(function, x, _known_zone(zone)))


def _known_zone(zone: str) -> str:
    return zone_of(zone).key


def year(x: datetime, zone: str | None = None) -> int:
    """Year, in UTC or a time zone."""
    return _part("year", x, zone)


def month(x: datetime, zone: str | None = None) -> int:
    """Month from 1 to 12."""
    return _part("month", x, zone)


def day(x: datetime, zone: str | None = None) -> int:
    """Day of the month."""
    return _part("day", x, zone)


def hour(x: datetime, zone: str | None = None) -> int:
    """Hour from 0 to 23."""
    return _part("hour", x, zone)


def minute(x: datetime, zone: str | None = None) -> int:
    """Minute from 0 to 59."""
    return _part("minute", x, zone)


def second(x: datetime, zone: str | None = None) -> int:
    """Second from 0 to 59."""
    return _part("second", x, zone)


def day_of_week(x: datetime, zone: str | None = None) -> int:
    """Day of the ISO week, Monday 1 to Sunday 7."""
    return _part("day_of_week", x, zone)


def to_date(x: datetime, zone: str | None = None) -> date:
    """The date, in UTC or a time zone."""
    return typed(date, _part("to_date", x, zone))


def epoch_millis(x: datetime) -> int:
    """Milliseconds since the epoch, rounded down."""
    return typed(int, _call("epoch_millis", x))


def from_epoch_millis(x: int) -> datetime:
    """The instant of milliseconds since the epoch."""
    return typed(datetime, _call("from_epoch_millis", x))


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Milliseconds from start to end, rounded down."""
    return typed(int, _call("milliseconds_between", start, end))


def add_milliseconds(x: datetime, milliseconds: int) -> datetime:
    """The instant so much later."""
    return typed(datetime, _call("add_milliseconds", x, milliseconds))


def format_timestamp(x: datetime, pattern: str) -> str:
    """The instant in UTC as text, by a constant strftime pattern."""
    _constants("format_timestamp", pattern)
    return typed(str, _call("format_timestamp", x, pattern))
