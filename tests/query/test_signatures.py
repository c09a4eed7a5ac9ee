"""Types and NULLs of expressions, and what functions refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kandle import Precision
from kandle import functions as f
from kandle.errors import QueryError
from kandle.model.entity import entity_model
from kandle.query.recording import RecordingRow, RecordingWindow, record_expression
from tests.query.declarations import Tick

TYPES: list[tuple[Callable[[Any], Any], str, bool]] = [
    (lambda t: t.size + 1, "int", False),
    (lambda t: t.size / 2, "float", False),
    (lambda t: t.size / t.size, "float", True),
    (lambda t: t.size // 2, "int", False),
    (lambda t: t.ratio * t.size, "float", False),
    (lambda t: t.price + 1, "Decimal(19, 6)", False),
    (lambda t: t.price + t.size, "Decimal(26, 6)", False),
    (lambda t: t.price * t.size, "Decimal(37, 6)", False),
    (lambda t: t.price * t.price, "Decimal(36, 12)", False),
    (lambda t: t.price + t.fine, "Decimal(38, 20)", False),
    (lambda t: t.price / 4, "Decimal(38, 12)", False),
    (lambda t: t.price / t.size, "Decimal(38, 12)", True),
    (lambda t: round(t.price, 2), "Decimal(15, 2)", False),
    (lambda t: f.floor(t.price), "Decimal(13, 0)", False),
    (lambda t: t.note + "x", "str", True),
    (lambda t: f.coalesce(t.note, "none"), "str", False),
    (lambda t: f.null_if(t.name, ""), "str", True),
    (lambda t: f.is_null(t.note), "bool", False),
    (lambda t: f.sqrt(t.ratio), "float", True),
    (lambda t: f.year(t.seen), "int", True),
    (lambda t: f.sum(t.price), "Decimal(38, 6)", False),
    (lambda t: f.sum(f.length(t.note)), "int", False),
    (lambda t: f.avg(t.size), "float", False),
    (lambda t: f.avg(t.price), "Decimal(38, 12)", False),
    (lambda t: f.max(t.note), "str", True),
    (lambda t: f.count(), "int", False),
    (lambda t: f.stddev(t.size), "float", True),
    (lambda t: f.stddev_population(t.size), "float", False),
    (lambda t: f.weighted_average(t.price, t.size), "Decimal(38, 12)", True),
    (lambda t: f.cast(t.size, Precision(10, 2)), "Decimal(10, 2)", False),
    (lambda t: f.case((t.size > 1, t.price), otherwise=None), "Decimal(18, 6)", True),
]


def node(function: Callable[[Any], Any]) -> Any:
    return record_expression("test", function, RecordingRow(entity_model(Tick)))


@pytest.mark.parametrize(("function", "kind", "nullable"), TYPES)
def test_type_and_null_of_an_expression(function: Callable[[Any], Any], kind: str, nullable: bool) -> None:
    found = node(function)
    assert (str(found.type), found.nullable) == (kind, nullable)


REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda t: t.name + 1, r"operator \+ takes numbers.*Tick\.name: str, 1: int"),
    (lambda t: t.name > 1, r"operator > takes two values of one type"),
    (
        lambda t: t.price * t.ratio,
        r"Tick\.price \(Decimal\(18, 6\)\) and Tick\.ratio \(float\) cannot be combined.*write f\.cast\(Tick\.price, float\) or",
    ),
    (
        lambda t: t.fine * t.fine,
        r"would have 40 digits behind the point, but 38 are possible; round first: f\.round\(Tick\.fine, 18\)$",
    ),
    (lambda t: t.price // 2, r"// of decimals is not defined.*write f\.floor\(Tick\.price / 2\)$"),
    (lambda t: t.price % 2, r"% of decimals is not defined.*write Tick\.price - f\.floor\(Tick\.price / 2\) \* 2$"),
    (lambda t: t.active & t.size, r"operator & takes two bools"),
    (lambda t: f.upper(t.size), r"f\.upper takes a str, not \(Tick\.size: int\)"),
    (lambda t: f.max(t.active), r"f\.max takes a number, text, date or datetime, not \(Tick\.active: bool\)$"),
    (lambda t: f.sum(t.name), r"f\.sum takes a number"),
    (
        lambda t: f.max(RecordingWindow().start),
        r"f\.max\(w\.start\): w\.start is the same for all events of a bucket.*write w\.start without f\.max$",
    ),
    (lambda t: f.max(f.min(t.price)), r"an aggregate cannot contain another aggregate"),
    (lambda t: f.coalesce(t.name, 1), r"f\.coalesce takes values of one type"),
    (lambda t: f.round(t.price, -1), r"f\.round\(Tick\.price, -1\): the number of digits must be a constant int of 0 or more"),
    (lambda t: f.round(t.price, t.size), r"f\.round: digits must be a constant, not Tick\.size$"),
    (lambda t: f.substring(t.name, 0), r"characters are counted from 1; write f\.substring\(Tick\.name, 1\)$"),
    (lambda t: f.substring(t.name, 0, 3), r"characters are counted from 1; write f\.substring\(Tick\.name, 1, 3\)$"),
    (lambda t: f.substring(t.name, 1, -1), r"f\.substring\(Tick\.name, 1, -1\): the length must be 0 or more"),
    (lambda t: f.left_pad(t.name, -1), r"f\.left_pad\(Tick\.name, -1\): the length must be 0 or more"),
    (lambda t: f.right_pad(t.name, 5, ""), r"f\.right_pad\(Tick\.name, 5, ''\): fill must be one character"),
    (lambda t: f.left_pad(t.name, 5, "ab"), r"f\.left_pad\(Tick\.name, 5, 'ab'\): fill must be one character"),
    (lambda t: f.is_in(t.name, t.note), r"a list of constants, not a field; write Tick\.name == Tick\.note$"),
    (lambda t: f.cast(t.day, int), r"f\.cast\(Tick\.day, int\): date cannot become int or any other type$"),
    (lambda t: f.cast(t.price, int), r"cannot become int; write f\.floor\(Tick\.price\) or f\.round\(Tick\.price\)$"),
    (lambda t: f.cast(t.time, str), r"datetime cannot become str; write f\.format_timestamp\(Tick\.time, \"%Y-%m-%d\"\)$"),
    (lambda t: f.cast(t.active, int), r"bool cannot become int; it can become str$"),
    (
        lambda t: f.cast(t.price, Precision(18, 2)),
        r"would lose digits behind the point; write f\.cast\(f\.round\(Tick\.price, 2\), Precision\(18, 2\)\)$",
    ),
    (lambda t: f.case((t.size, 1), otherwise=2), r"f\.case: Tick\.size is int; the first part of each pair must be a condition"),
    (lambda t: f.case(otherwise=2), r"f\.case has no branch; write f\.case\(\(condition, value\), otherwise=value\)"),
    (lambda t: f.case((t.active, 1), otherwise="a"), r"all values must have one type, but these differ: 1 \(int\), 'a' \(str\)$"),
    (lambda t: f.hour(t.time, "Europe/Berln"), r"'Europe/Berln' is not a time zone; did you mean Europe/Berlin"),
    (lambda t: f.greatest(t.active, t.active), r"f\.greatest takes values of one type"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED)
def test_a_wrong_argument_is_named_with_what_is_accepted(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises((QueryError, ValueError), match=message):
        node(function)
