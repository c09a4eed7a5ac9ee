"""Functions of instants; an instant of ksqlDB has milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kandle.ksql.constants import number
from kandle.ksql.operators import arithmetic, call, cast
from kandle.ksql.terms import Term
from kandle.ksql.types import BIGINT, DATE, VARCHAR, RefusedError, text
from kandle.query.nodes import Call, Constant

LETTERS = {
    "Y": "yyyy",
    "y": "yy",
    "m": "MM",
    "d": "dd",
    "j": "DDD",
    "H": "HH",
    "I": "hh",
    "M": "mm",
    "S": "ss",
    "f": "SSSSSSSSS",
    "3f": "SSS",
    "6f": "SSSSSS",
    "9f": "SSSSSSSSS",
    ".3f": ".SSS",
    ".6f": ".SSSSSS",
    ".9f": ".SSSSSSSSS",
    "-m": "M",
    "-d": "d",
    "-j": "D",
    "-H": "H",
    "-I": "h",
    "-M": "m",
    "-S": "s",
    "F": "yyyy-MM-dd",
    "T": "HH:mm:ss",
    "X": "HH:mm:ss",
    "D": "MM/dd/yy",
    "x": "MM/dd/yy",
    "R": "HH:mm",
    "z": "xx",
    ":z": "xxx",
}
"""Without those whose text depends on the region of ksqlDB's computer: names of months and days, AM and PM, weeks."""

TEXTS = {"Z": "UTC", "%": "%", "n": "\n", "t": "\t"}
"""What is always the same, since the instants are in UTC."""

_DIRECTIVE = re.compile(r"%([-.:]?[0-9]?[A-Za-z%])")
_LITERAL = re.compile(r"'[^']*'")
_SYNTAX = re.compile(r"[A-Za-z'\[\]{}#]")


def java_pattern(pattern: str) -> str:
    """The pattern of java.time that gives the same text."""
    written, literal = "", ""
    for position, part in enumerate(_DIRECTIVE.split(pattern)):
        if position % 2 and part not in TEXTS:
            written += _quoted(literal) + _letters(part, pattern)
            literal = ""
        else:
            literal += TEXTS[part] if position % 2 else _plain(part, pattern)
    return written + _quoted(literal)


def has_offset(pattern: str) -> bool:
    """Whether a pattern of java.time, as `java_pattern` gives it, reads the offset from UTC."""
    return "x" in _LITERAL.sub("", pattern)


def _plain(part: str, pattern: str) -> str:
    if "%" in part:
        raise RefusedError(f"the pattern {pattern!r} has a % without a letter that is known; a percent sign is written %%")
    return part


def _quoted(literal: str) -> str:
    """Text as it stands, in quotes where a sign in it would mean something."""
    return "'" + literal.replace("'", "''") + "'" if _SYNTAX.search(literal) else literal


def _letters(directive: str, pattern: str) -> str:
    if directive not in LETTERS:
        possible = ", ".join(f"%{letter}" for letter in (*LETTERS, *TEXTS))
        raise RefusedError(
            f"no pattern of ksqlDB gives what %{directive} in {pattern!r} gives, whatever the region of its computer; "
            f"possible are {possible}"
        )
    return LETTERS[directive]


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
