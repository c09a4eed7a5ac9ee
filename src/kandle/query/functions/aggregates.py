"""Aggregates of the query language: they turn the events of a bucket into one value and skip NULL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar, overload
from typing import cast as typed

from kandle.query.functions.recorded import record_aggregate

T = TypeVar("T")
Number = TypeVar("Number", int, float, Decimal)


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
    return typed(T, record_aggregate("first", x))


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
    return typed(T, record_aggregate("last", x))


def first_by_offset(x: T) -> T:
    """Return the value of the event of the bucket that was written to the log first, whatever its event time.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.
    """
    return typed(T, record_aggregate("first_by_offset", x))


def last_by_offset(x: T) -> T:
    """Return the value of the event of the bucket that was written to the log last, whatever its event time.

    Args:
        x: An expression of any type over the event. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.
    """
    return typed(T, record_aggregate("last_by_offset", x))


def min(x: T) -> T:
    """Return the smallest value in the bucket.

    Args:
        x: A number, text, date or datetime. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `low=f.min(t.price)`
    """
    return typed(T, record_aggregate("min", x))


def max(x: T) -> T:
    """Return the largest value in the bucket.

    Args:
        x: A number, text, date or datetime. Events where it is NULL are skipped.

    Returns:
        The value; NULL if all are NULL. In an empty bucket (`Gaps.CARRY`): the latest `x` before it.

    Example:
        `span=f.max(t.price) - f.min(t.price)`
    """
    return typed(T, record_aggregate("max", x))


def sum(x: Number) -> Number:
    """Return the sum of the values in the bucket.

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        The sum, never NULL: 0 without values. The sum of decimals is exact and has up to 38 digits.

    Example:
        `volume=f.sum(t.size)`
    """
    return typed(Number, record_aggregate("sum", x))


def count(x: object = ...) -> int:
    """Return the number of events in the bucket.

    Args:
        x: An expression of any type; if given, only events where it is not NULL are counted.

    Returns:
        The number, never NULL: 0 in an empty bucket.

    Example:
        `trades=f.count()`
    """
    return typed(int, record_aggregate("count") if x is ... else record_aggregate("count", x))


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
    return record_aggregate("avg", x)


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
    return typed(int, record_aggregate("count_distinct", x))


def stddev(x: int | float | Decimal) -> float:
    """Return the standard deviation of the values in the bucket, taken as a sample (divisor n - 1).

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        A float; NULL if there are fewer than two values, and so in an empty bucket.
    """
    return typed(float, record_aggregate("stddev", x))


def stddev_population(x: int | float | Decimal) -> float:
    """Return the standard deviation of the values in the bucket, taken as the whole population (divisor n).

    Args:
        x: A number. Events where it is NULL are skipped.

    Returns:
        A float; NULL if all values are NULL. 0 in an empty bucket (`Gaps.CARRY`).
    """
    return typed(float, record_aggregate("stddev_population", x))


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
    return record_aggregate("weighted_average", x, weight)
