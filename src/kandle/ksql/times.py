"""Functions of instants, which have milliseconds, and strftime patterns as patterns of java.time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kandle.ksql.operators import arithmetic, builder_of_call, call, cast, number
from kandle.ksql.terms import RefusedError, ScalarBuilder, Term
from kandle.ksql.types import BIGINT, DATE, VARCHAR, text_literal
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
"""Directives of strftime as letters of java.time.

Names of months and days, AM and PM and weeks are left out: their text depends on the locale of ksqlDB's
machine.
"""

FIXED_TEXTS = {"Z": "UTC", "%": "%", "n": "\n", "t": "\t"}
"""Directives whose text is always the same, since instants are in UTC."""

_DIRECTIVE = re.compile(r"%([-.:]?[0-9]?[A-Za-z%])")
_LITERAL = re.compile(r"'[^']*'")
_SYNTAX = re.compile(r"[A-Za-z'\[\]{}#]")


def java_pattern(pattern: str) -> str:
    """Return the pattern of java.time that gives the same text as a strftime pattern.

    Raises:
        RefusedError: If java.time has no letter for a directive, or its text depends on the locale.
    """
    written, literal = "", ""
    for position, part in enumerate(_DIRECTIVE.split(pattern)):
        if position % 2 and part not in FIXED_TEXTS:
            written += _quoted(literal) + _letters(part, pattern)
            literal = ""
        else:
            literal += FIXED_TEXTS[part] if position % 2 else _literal_part(part, pattern)
    return written + _quoted(literal)


def has_offset(pattern: str) -> bool:
    """Return whether a pattern of java.time, made by `java_pattern`, reads the offset from UTC."""
    return "x" in _LITERAL.sub("", pattern)


def _literal_part(part: str, pattern: str) -> str:
    if "%" in part:
        raise RefusedError(f"the pattern {pattern!r} has a % without a known letter; write %% for a percent sign")
    return part


def _quoted(literal: str) -> str:
    """Return literal text, in quotes if it has letters or signs with a meaning."""
    return "'" + literal.replace("'", "''") + "'" if _SYNTAX.search(literal) else literal


def _letters(directive: str, pattern: str) -> str:
    if directive not in LETTERS:
        possible = ", ".join(f"%{letter}" for letter in (*LETTERS, *FIXED_TEXTS))
        raise RefusedError(
            f"%{directive} in the pattern {pattern!r} has no counterpart in ksqlDB that is the same in every locale; "
            f"use one of {possible}"
        )
    return LETTERS[directive]


THURSDAY = number(3)
"""The day of the week of 1970-01-01, counted from Monday as 0."""
WEEK = number(7)
UTC = Term("'UTC'", VARCHAR, nullable=False)


def _text(value: str) -> Term:
    return Term(text_literal(value), VARCHAR, nullable=False)


def _part(pattern: str) -> ScalarBuilder:
    """Return the builder of a part of the date or time, in UTC or in the zone of the second argument."""
    return lambda node, terms: cast(call("FORMAT_TIMESTAMP", terms[0], _text(pattern), *terms[1:]), BIGINT)


def _to_date(node: Call, terms: Sequence[Term]) -> Term:
    instant = terms[0] if len(terms) == 1 else call("CONVERT_TZ", terms[0], UTC, terms[1])
    return cast(instant, DATE)


def _day_of_week(node: Call, terms: Sequence[Term]) -> Term:
    """Calculate it from the number of the day: ksqlDB's own patterns depend on the locale of its machine."""
    days = arithmetic("+", call("UNIX_DATE", _to_date(node, terms)), THURSDAY)
    from_monday = arithmetic("%", arithmetic("+", arithmetic("%", days, WEEK), WEEK), WEEK)
    return arithmetic("+", from_monday, number(1))


def _milliseconds_between(node: Call, terms: Sequence[Term]) -> Term:
    start, end = terms
    return arithmetic("-", call("UNIX_TIMESTAMP", end), call("UNIX_TIMESTAMP", start))


def _add_milliseconds(node: Call, terms: Sequence[Term]) -> Term:
    instant, milliseconds = terms
    return call("FROM_UNIXTIME", arithmetic("+", call("UNIX_TIMESTAMP", instant), milliseconds))


def _format_timestamp(node: Call, terms: Sequence[Term]) -> Term:
    pattern = node.arguments[1]
    assert isinstance(pattern, Constant)
    return call("FORMAT_TIMESTAMP", terms[0], _text(java_pattern(pattern.value)))


TIMES: dict[str, ScalarBuilder] = {
    "year": _part("yyyy"),
    "month": _part("MM"),
    "day": _part("dd"),
    "hour": _part("HH"),
    "minute": _part("mm"),
    "second": _part("ss"),
    "day_of_week": _day_of_week,
    "to_date": _to_date,
    "epoch_millis": builder_of_call("UNIX_TIMESTAMP"),
    "from_epoch_millis": builder_of_call("FROM_UNIXTIME"),
    "milliseconds_between": _milliseconds_between,
    "add_milliseconds": _add_milliseconds,
    "format_timestamp": _format_timestamp,
}
"""Builders by the function's name in the query language."""
