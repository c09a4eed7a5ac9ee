"""Reference of the functions of the query language: `from kandle import functions as f`.

Each function is typed as a function of plain values and records a call instead of computing it. Aggregates
turn the events of a bucket into one value: first, last, first_by_offset, last_by_offset, min, max, sum,
count, avg, count_distinct, stddev, stddev_population and weighted_average. All other functions are scalar:
they turn the values of one event or bar into one value.

NULL: aggregates skip events whose value is NULL. A scalar function returns NULL if one of its arguments is
    NULL, unless its
description says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
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
from kandle.query.nodes import AnyNode, Branch, Case, Cast, Constant, describe
from kandle.query.recording import Recorded, node_of
from kandle.query.result_types import common_type
from kandle.query.signatures import aggregate, call
from kandle.time.zones import zone_of

T = TypeVar("T")
Number = TypeVar("Number", int, float, Decimal)


# Aggregates


def first(x: T) -> T:
    """Return the value of the earliest event of the bucket.

    Events are ordered by event time, those of equal time by their order in the log.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `open=f.first(t.price)`
    """
    return typed(T, _aggregate("first", x))


def last(x: T) -> T:
    """Return the value of the latest event of the bucket.

    Events are ordered by event time, those of equal time by their order in the log.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `close=f.last(t.price)`
    """
    return typed(T, _aggregate("last", x))


def first_by_offset(x: T) -> T:
    """Return the value of the event of the bucket that was written to the log first, whatever its event time.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.
    """
    return typed(T, _aggregate("first_by_offset", x))


def last_by_offset(x: T) -> T:
    """Return the value of the event of the bucket that was written to the log last, whatever its event time.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.
    """
    return typed(T, _aggregate("last_by_offset", x))


def min(x: T) -> T:
    """Return the smallest value in the bucket.

    Args:
        x: A number, text, date or datetime. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `low=f.min(t.price)`
    """
    return typed(T, _aggregate("min", x))


def max(x: T) -> T:
    """Return the largest value in the bucket.

    Args:
        x: A number, text, date or datetime. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `span=f.max(t.price) - f.min(t.price)`
    """
    return typed(T, _aggregate("max", x))


def sum(x: Number) -> Number:
    """Return the sum of the values in the bucket.

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        The sum, never NULL: 0 without values. The sum of decimals is exact and has up to 38 digits.

    Example:
        `volume=f.sum(t.size)`
    """
    return typed(Number, _aggregate("sum", x))


def count(x: object = ...) -> int:
    """Return the number of events in the bucket.

    Args:
        x: An expression of any type; if given, only events where it is not NULL are counted.

    Returns:
        The number, never NULL: 0 in an empty bucket.

    Example:
        `trades=f.count()`
    """
    return typed(int, _aggregate("count") if x is ... else _aggregate("count", x))


@overload
def avg(x: Decimal) -> Decimal: ...
@overload
def avg(x: float) -> float: ...
def avg(x: Any) -> Any:
    """Return the mean of the values in the bucket.

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        A float for ints and floats. For decimals the exact quotient, rounded once, half away from zero, to
        the digits of the field that it fills. NULL if all values are NULL. In an empty bucket (`Gaps.CARRY`):
        the latest `x` before it.
    """
    return _aggregate("avg", x)


def count_distinct(x: object) -> int:
    """Return the number of different values in the bucket.

    All different values are kept in memory while the bucket is open.

    Args:
        x: An expression of any type. Events where it is NULL are skipped.

    Returns:
        The number, never NULL: 0 in an empty bucket.

    Example:
        `buyers=f.count_distinct(t.buyer)`
    """
    return typed(int, _aggregate("count_distinct", x))


def stddev(x: int | float | Decimal) -> float:
    """Return the standard deviation of the values in the bucket, taken as a sample (divisor n - 1).

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        A float; NULL if there are fewer than two values, and so in an empty bucket.
    """
    return typed(float, _aggregate("stddev", x))


def stddev_population(x: int | float | Decimal) -> float:
    """Return the standard deviation of the values in the bucket, taken as the whole population (divisor n).

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        A float; NULL if all values are NULL. 0 in an empty bucket (`Gaps.CARRY`).
    """
    return typed(float, _aggregate("stddev_population", x))


@overload
def weighted_average(x: Decimal, weight: Decimal | int) -> Decimal: ...
@overload
def weighted_average(x: int, weight: Decimal) -> Decimal: ...
@overload
def weighted_average(x: float, weight: float) -> float: ...
def weighted_average(x: Any, weight: Any) -> Any:
    """Return the weighted mean of the values in the bucket: sum(x * weight) / sum(weight).

    Args:
        x: A number. Events where it is NULL are skipped.
        weight: A number, not a float if `x` is a decimal and the other way round. Events where it is NULL are
            skipped.

    Returns:
        A float, or a decimal if one of the two is a decimal, rounded as by `avg`. NULL if the weights add up
        to 0. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `vwap=f.weighted_average(t.price, t.size)`
    """
    return _aggregate("weighted_average", x, weight)


# NULL and conditions


def is_null(x: object) -> bool:
    """Test whether a value is NULL.

    Args:
        x: An expression of any type.

    Returns:
        True or False, never NULL.
    """
    return typed(bool, _call("is_null", x))


def is_not_null(x: object) -> bool:
    """Test whether a value is not NULL.

    Args:
        x: An expression of any type.

    Returns:
        True or False, never NULL.
    """
    return typed(bool, _call("is_not_null", x))


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
    return typed(T, _call("coalesce", x, *others))


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
    return typed(T, _call("null_if", x, other))


def not_(x: bool) -> bool:
    """Negate a condition.

    Args:
        x: A condition.

    Returns:
        The opposite; NULL where the condition is NULL.

    Example:
        `.where(lambda t: f.not_(t.is_test))`
    """
    return typed(bool, _call("not", x))


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
            f"f.is_in({_shown(x)}, {_shown(values)}): the values must be a list of constants, not a field; "
            f"write {_shown(x)} == {_shown(values)}"
        )
    return typed(bool, _call("is_in", x, *values))


def between(x: T, low: T, high: T) -> bool:
    """Test whether low <= x <= high.

    Args:
        x: An expression.
        low: The lower bound, inclusive.
        high: The upper bound, inclusive.

    Returns:
        True or False.
    """
    return typed(bool, _call("between", x, low, high))


def greatest(x: T, *others: T) -> T:
    """Return the largest of several values of one event or bar (`max` is the largest of a bucket).

    Args:
        x: A number, text, date or datetime.
        others: Expressions or constants of the same type, at least one.

    Returns:
        The value; NULL if one of them is NULL.
    """
    return typed(T, _call("greatest", x, *others))


def least(x: T, *others: T) -> T:
    """Return the smallest of several values of one event or bar (`min` is the smallest of a bucket).

    Args:
        x: A number, text, date or datetime.
        others: Expressions or constants of the same type, at least one.

    Returns:
        The value; NULL if one of them is NULL.
    """
    return typed(T, _call("least", x, *others))


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


# Text


def upper(x: str) -> str:
    """Convert a text to upper case.

    Args:
        x: A text.

    Returns:
        The text in upper case.
    """
    return typed(str, _call("upper", x))


def lower(x: str) -> str:
    """Convert a text to lower case.

    Args:
        x: A text.

    Returns:
        The text in lower case.
    """
    return typed(str, _call("lower", x))


def trim(x: str) -> str:
    """Remove white space from both ends of a text.

    Args:
        x: A text.

    Returns:
        The text without leading and trailing white space.
    """
    return typed(str, _call("trim", x))


def length(x: str) -> int:
    """Count the characters of a text.

    Args:
        x: A text.

    Returns:
        The number of characters.
    """
    return typed(int, _call("length", x))


def substring(x: str, start: int, length: int | None = None) -> str:
    """Return a part of a text.

    Args:
        x: A text.
        start: Position of the first character, counted from 1.
        length: Number of characters; to the end of the text if it is left out.

    Returns:
        The part; shorter than `length` where the text ends.

    Example:
        `f.substring(t.symbol, 1, 3)`
    """
    first_position: object = start
    if isinstance(first_position, int) and first_position < 1:
        raise QueryError(f"f.substring({_shown(x)}, {start}): characters are counted from 1; write {_shown_start(x, length)}")
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.substring({_shown(x)}, {start}, {length}): the length must be 0 or more")
    return typed(str, _call("substring", x, start) if length is None else _call("substring", x, start, length))


def concat(x: str, *others: str) -> str:
    """Join texts; the operator `+` does the same for two.

    Args:
        x: A text.
        others: More texts, at least one.

    Returns:
        The joined text; NULL if one of the texts is NULL.

    Example:
        `f.concat(t.venue, ":", t.symbol)`
    """
    return typed(str, _call("concat", x, *others))


def replace(x: str, old: str, new: str) -> str:
    """Replace every occurrence of a part of a text.

    Args:
        x: A text.
        old: The part to replace, a constant; not a pattern.
        new: The text to put in its place.

    Returns:
        The changed text.
    """
    _check_constants("replace", old=old)
    return typed(str, _call("replace", x, old, new))


def starts_with(x: str, prefix: str) -> bool:
    """Test whether a text starts with a prefix.

    Args:
        x: A text.
        prefix: The prefix; not a pattern.

    Returns:
        True or False.

    Example:
        `.where(lambda t: f.not_(f.starts_with(t.symbol, "TEST")))`
    """
    return typed(bool, _call("starts_with", x, prefix))


def ends_with(x: str, suffix: str) -> bool:
    """Test whether a text ends with a suffix.

    Args:
        x: A text.
        suffix: The suffix; not a pattern.

    Returns:
        True or False.
    """
    return typed(bool, _call("ends_with", x, suffix))


def contains(x: str, part: str) -> bool:
    """Test whether a text contains another text.

    Args:
        x: A text.
        part: The text to search for; not a pattern.

    Returns:
        True or False.
    """
    return typed(bool, _call("contains", x, part))


def index_of(x: str, part: str) -> int:
    """Return the position of the first occurrence of a part of a text.

    Args:
        x: A text.
        part: The text to search for; not a pattern.

    Returns:
        The position of its first character, counted from 1; 0 if the text does not contain it.
    """
    return typed(int, _call("index_of", x, part))


def left_pad(x: str, length: int, fill: str = " ") -> str:
    """Extend a text at its start to a fixed length, or cut it to that length.

    Args:
        x: A text.
        length: Number of characters of the result, a constant.
        fill: The character to fill up with, a constant.

    Returns:
        A text of exactly `length` characters; a text that is too long loses its end.

    Example:
        `f.left_pad(t.number, 6, "0")`
    """
    return typed(str, _pad("left_pad", x, length, fill))


def right_pad(x: str, length: int, fill: str = " ") -> str:
    """Extend a text at its end to a fixed length, or cut it to that length.

    Args:
        x: A text.
        length: Number of characters of the result, a constant.
        fill: The character to fill up with, a constant.

    Returns:
        A text of exactly `length` characters; a text that is too long loses its end.
    """
    return typed(str, _pad("right_pad", x, length, fill))


# Numbers


def abs(x: Number) -> Number:
    """Return the absolute value of a number.

    Args:
        x: A number.

    Returns:
        The number without its sign.
    """
    return typed(Number, _call("abs", x))


def round(x: Number, digits: int = 0) -> Number:
    """Round a number to a fixed number of decimal places.

    Args:
        x: A number.
        digits: Number of decimal places, a constant, 0 or more.

    Returns:
        The rounded number. Decimals are rounded half away from zero; ints stay as they are.

    Example:
        `f.round(t.price, 2)`
    """
    _check_constants("round", digits=digits)
    return typed(Number, _call("round", x, digits))


def floor(x: Number) -> Number:
    """Round down to the nearest integer.

    Args:
        x: A number.

    Returns:
        The integer as a number of the same kind: a decimal with scale 0 for a decimal, a float for a float.
    """
    return typed(Number, _call("floor", x))


def ceil(x: Number) -> Number:
    """Round up to the nearest integer.

    Args:
        x: A number.

    Returns:
        The integer as a number of the same kind: a decimal with scale 0 for a decimal, a float for a float.
    """
    return typed(Number, _call("ceil", x))


def sign(x: int | float | Decimal) -> int:
    """Return the sign of a number.

    Args:
        x: A number.

    Returns:
        -1, 0 or 1.
    """
    return typed(int, _call("sign", x))


def sqrt(x: float) -> float:
    """Return the square root of a number.

    Args:
        x: An int or float.

    Returns:
        The square root; NULL where `x` is negative.
    """
    return typed(float, _call("sqrt", x))


def exp(x: float) -> float:
    """Return e raised to a power.

    Args:
        x: The power, an int or float.

    Returns:
        The result as a float.
    """
    return typed(float, _call("exp", x))


def ln(x: float) -> float:
    """Return the natural logarithm of a number.

    Args:
        x: An int or float.

    Returns:
        The logarithm; NULL where `x` is 0 or negative.
    """
    return typed(float, _call("ln", x))


def log10(x: float) -> float:
    """Return the logarithm of a number to base 10.

    Args:
        x: An int or float.

    Returns:
        The logarithm; NULL where `x` is 0 or negative.
    """
    return typed(float, _call("log10", x))


def power(x: float, exponent: float) -> float:
    """Raise a number to a power; the operator `**` does the same.

    Args:
        x: An int or float.
        exponent: An int or float.

    Returns:
        The result as a float.
    """
    return typed(float, _call("power", x, exponent))


# Time


def year(x: datetime, zone: str | None = None) -> int:
    """Return the year of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The year, such as 2024.

    Example:
        `f.year(t.time, "America/New_York")`
    """
    return typed(int, _time_part("year", x, zone))


def month(x: datetime, zone: str | None = None) -> int:
    """Return the month of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The month, from 1 to 12.
    """
    return typed(int, _time_part("month", x, zone))


def day(x: datetime, zone: str | None = None) -> int:
    """Return the day of the month of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The day, from 1 to 31.
    """
    return typed(int, _time_part("day", x, zone))


def hour(x: datetime, zone: str | None = None) -> int:
    """Return the hour of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The hour, from 0 to 23.

    Example:
        `.where(lambda t: f.hour(t.time, "Europe/Berlin") < 12)`
    """
    return typed(int, _time_part("hour", x, zone))


def minute(x: datetime, zone: str | None = None) -> int:
    """Return the minute of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The minute, from 0 to 59.
    """
    return typed(int, _time_part("minute", x, zone))


def second(x: datetime, zone: str | None = None) -> int:
    """Return the second of a datetime, without its fraction.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The second, from 0 to 59.
    """
    return typed(int, _time_part("second", x, zone))


def day_of_week(x: datetime, zone: str | None = None) -> int:
    """Return the day of the week of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The day, from 1 (Monday) to 7 (Sunday).
    """
    return typed(int, _time_part("day_of_week", x, zone))


def to_date(x: datetime, zone: str | None = None) -> date:
    """Return the date of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The date in that zone.
    """
    return typed(date, _time_part("to_date", x, zone))


def epoch_millis(x: datetime) -> int:
    """Convert a datetime to milliseconds since the epoch (1970-01-01T00:00:00Z).

    Args:
        x: A datetime.

    Returns:
        The milliseconds, rounded down.
    """
    return typed(int, _call("epoch_millis", x))


def from_epoch_millis(x: int) -> datetime:
    """Convert milliseconds since the epoch (1970-01-01T00:00:00Z) to a datetime.

    Args:
        x: The milliseconds.

    Returns:
        The datetime in UTC.
    """
    return typed(datetime, _call("from_epoch_millis", x))


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return the time between two datetimes in milliseconds.

    Args:
        start: The earlier datetime.
        end: The later datetime.

    Returns:
        The milliseconds from start to end, rounded down; negative if `end` is earlier.

    Example:
        `f.milliseconds_between(t.sent, t.received)`
    """
    return typed(int, _call("milliseconds_between", start, end))


def add_milliseconds(x: datetime, milliseconds: int) -> datetime:
    """Add milliseconds to a datetime.

    Args:
        x: A datetime.
        milliseconds: The number to add; negative for an earlier time.

    Returns:
        The datetime in UTC.
    """
    return typed(datetime, _call("add_milliseconds", x, milliseconds))


def format_timestamp(x: datetime, pattern: str) -> str:
    """Format a datetime in UTC as text.

    Args:
        x: A datetime.
        pattern: A strftime pattern, a constant.

    Returns:
        The text.

    Example:
        `f.format_timestamp(t.time, "%Y-%m-%d")`
    """
    _check_constants("format_timestamp", pattern=pattern)
    return typed(str, _call("format_timestamp", x, pattern))


# The result of a query


def new(target: type[T], **fields: object) -> T:
    """Describe the result of a `select` without building it.

    Use it for classes that check or convert their values when they are built, such as pydantic models or
    dataclasses with `__post_init__`: while a query is recorded there are only expressions, no values. The
    fields are checked when the model is built.

    Args:
        target: The entity that the query makes.
        fields: The expression of each field.

    Returns:
        A description of the object, for `select` only.

    Example:
        `.select(lambda t, w: f.new(Bar, symbol=t.symbol, start=w.start, high=f.max(t.price)))`
    """
    return typed(T, NewTarget(target, fields))


class NewTarget:
    """A target of `select` that is not built while the query is recorded."""

    def __init__(self, target: type, fields: dict[str, object]) -> None:
        self.target = target
        self.fields = fields


def descending(x: T) -> T:
    """Order by a field from its largest to its smallest value.

    Args:
        x: A field of the result.

    Returns:
        A description of the order, for `order_by` only.

    Example:
        `.order_by(lambda b: (f.descending(b.volume), b.symbol))`
    """
    return typed(T, Descending(x))


class Descending:
    """A field to order by, largest value first."""

    def __init__(self, value: object) -> None:
        self.value = value


# What the functions share


def _aggregate(function: str, *arguments: Any) -> Any:
    return Recorded(aggregate(function, *map(node_of, arguments)))


def _call(function: str, *arguments: Any) -> Any:
    return Recorded(call(function, *map(node_of, arguments)))


def _shown(value: Any) -> str:
    return describe(node_of(value))


def _check_constants(function: str, **arguments: object) -> None:
    for name, value in arguments.items():
        if isinstance(value, Recorded):
            raise QueryError(f"f.{function}: {name} must be a constant, not {_shown(value)}")


def _node_or_null(value: Any) -> AnyNode:
    return Constant(None, STRING) if value is None else node_of(value)


def _with_null_of(node: AnyNode, kind: DataType) -> AnyNode:
    """Return the node; a NULL that has no type yet gets this one."""
    return Constant(None, kind) if isinstance(node, Constant) and node.value is None else node


_CAST_TARGETS: dict[Any, DataType] = {str: STRING, int: INTEGER, float: FLOAT}
_CASTABLE: dict[type[DataType], tuple[type[DataType], ...]] = {
    StringType: (IntegerType, FloatType, DecimalType, StringType, BooleanType),
    IntegerType: (IntegerType, StringType),
    FloatType: (IntegerType, FloatType, DecimalType, StringType),
    DecimalType: (IntegerType, FloatType, DecimalType, StringType),
}
"""For each type that a value can be cast to, the types that it can be cast from."""


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


def _shown_start(x: str, length: int | None) -> str:
    return f"f.substring({_shown(x)}, 1)" if length is None else f"f.substring({_shown(x)}, 1, {length})"


def _pad(function: str, x: str, length: int, fill: str) -> Any:
    _check_constants(function, length=length, fill=fill)
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.{function}({_shown(x)}, {length}): the length must be 0 or more")
    if isinstance(fill, str) and len(fill) != 1:
        raise QueryError(f"f.{function}({_shown(x)}, {length}, {fill!r}): fill must be one character")
    return _call(function, x, length, fill)


def _time_part(function: str, x: datetime, zone: str | None) -> Any:
    _check_constants(function, zone=zone)
    return _call(function, x) if zone is None else _call(function, x, zone_of(zone).key)
