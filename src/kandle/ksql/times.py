"""Functions of instants; an instant of ksqlDB has milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kandle.ksql.constants import number
from kandle.ksql.names import text
from kandle.ksql.operators import arithmetic, call, cast
from kandle.ksql.patterns import java_pattern
from kandle.ksql.terms import Term
from kandle.ksql.types import BIGINT, DATE, VARCHAR
from kandle.query.nodes import Call, Constant

Builder = Callable[[Call, Sequence[Term]], Term]
THURSDAY = number(3)
"""1970-01-01 was the day of the week with this number, Monday being 0."""
WEEK = number(7)
UTC = Term("'UTC'", VARCHAR, nullable=False)


def _literal(value: str) -> Term:
    return Term(text(value), VARCHAR, nullable=False)


def _part(pattern: str) -> Builder:
    """A part of the date or time in UTC, or in the zone that is the second argument."""
    return lambda node, terms: cast(call("FORMAT_TIMESTAMP", terms[0], _literal(pattern), *terms[1:]), BIGINT)


def _date(node: Call, terms: Sequence[Term]) -> Term:
    instant = terms[0] if len(terms) == 1 else call("CONVERT_TZ", terms[0], UTC, terms[1])
    return cast(instant, DATE)


def _day_of_week(node: Call, terms: Sequence[Term]) -> Term:
    """From the number of the day, since ksqlDB's own patterns count days of the week as its computer's region does."""
    days = arithmetic("+", call("UNIX_DATE", _date(node, terms)), THURSDAY)
    of_week = arithmetic("%", arithmetic("+", arithmetic("%", days, WEEK), WEEK), WEEK)
    return arithmetic("+", of_week, number(1))


def _epoch_millis(node: Call, terms: Sequence[Term]) -> Term:
    return call("UNIX_TIMESTAMP", terms[0])


def _from_epoch_millis(node: Call, terms: Sequence[Term]) -> Term:
    return call("FROM_UNIXTIME", terms[0])


def _milliseconds_between(node: Call, terms: Sequence[Term]) -> Term:
    start, end = terms
    return arithmetic("-", call("UNIX_TIMESTAMP", end), call("UNIX_TIMESTAMP", start))


def _add_milliseconds(node: Call, terms: Sequence[Term]) -> Term:
    instant, milliseconds = terms
    return call("FROM_UNIXTIME", arithmetic("+", call("UNIX_TIMESTAMP", instant), milliseconds))


def _format_timestamp(node: Call, terms: Sequence[Term]) -> Term:
    pattern = node.arguments[1]
    assert isinstance(pattern, Constant)
    return call("FORMAT_TIMESTAMP", terms[0], _literal(java_pattern(pattern.value)))


TIMES: dict[str, Builder] = {
    "year": _part("yyyy"),
    "month": _part("MM"),
    "day": _part("dd"),
    "hour": _part("HH"),
    "minute": _part("mm"),
    "second": _part("ss"),
    "day_of_week": _day_of_week,
    "to_date": _date,
    "epoch_millis": _epoch_millis,
    "from_epoch_millis": _from_epoch_millis,
    "milliseconds_between": _milliseconds_between,
    "add_milliseconds": _add_milliseconds,
    "format_timestamp": _format_timestamp,
}
