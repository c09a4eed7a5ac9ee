"""What a lambda cannot record is an error that says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from kandle import functions as f
from kandle.errors import QueryError
from kandle.query.nodes import describe
from kandle.query.stages import Query
from tests.query.declarations import Tick

NAIVE = datetime(2024, 1, 1)


def two_arguments(t: Any, u: Any) -> Any:
    return t.price > 1


WITH_TWO_ARGUMENTS: Any = two_arguments

MISTAKES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("and", lambda t: t.price > 0 and t.size > 0, r"`and` cannot be recorded; write \(Tick\.price > 0\) & \(\.\.\.\)$"),
    ("or", lambda t: t.price > 0 or t.size > 0, r"`or` cannot be recorded; write \(Tick\.price > 0\) \| \(\.\.\.\)$"),
    ("not", lambda t: not t.active, r"`not` cannot be recorded; write f\.not_\(Tick\.active\)$"),
    ("invert", lambda t: ~t.active, r"`~` cannot be recorded; write f\.not_\(Tick\.active\)$"),
    (
        "chained comparison",
        lambda t: 0 < t.size < 5,
        r"a chained comparison cannot be recorded; write \(Tick\.size > 0\) & \(\.\.\.\)$",
    ),
    ("chained comparison in if", lambda t: 1 if 0 < t.size < 5 else 2, r"a chained comparison cannot be recorded"),
    ("in a list", lambda t: t.name in ["a", "b"], r"`in` cannot be recorded; write f\.is_in\(Tick\.name, \[\.\.\.\]\)$"),
    ("not in a list", lambda t: t.name not in ["a", "b"], r"f\.is_in\(Tick\.name, "),
    ("in a set", lambda t: t.name in {"a", "b"}, r"cannot be looked up in a set or dict; write f\.is_in\(Tick\.name, "),
    ("in a dict", lambda t: {"a": 1}[t.name], r"f\.is_in\(Tick\.name, \[\.\.\.\]\) or f\.case\(\.\.\.\)$"),
    ("part of a text", lambda t: "a" in t.name, r"write f\.contains\(Tick\.name, part\)$"),
    ("part of a number", lambda t: 1 in t.size, r"Tick\.size: `in` cannot be recorded$"),
    ("is None", lambda t: t.note is None, r"returns the constant False.*f\.is_null\(x\)"),
    ("is not None", lambda t: t.note is not None, r"returns the constant True.*f\.is_not_null\(x\)"),
    ("== None", lambda t: t.note == None, r"comparison with None is never true; write f\.is_null\(Tick\.note\)$"),  # noqa: E711
    ("!= None", lambda t: t.note != None, r"write f\.is_not_null\(Tick\.note\)$"),  # noqa: E711
    ("if", lambda t: t.price if t.active else t.fine, r"`if` cannot be recorded; write f\.if_\(Tick\.active, value, otherwise\)"),
    ("if with and", lambda t: 1 if t.active and t.size else 2, r"f\.if_\(Tick\.active, .*, with & for `and`"),
    ("max", lambda t: max(t.price, t.fine) > 0, r"max\(\) cannot be recorded; write f\.greatest\(a, b\)$"),
    ("min", lambda t: min(t.price, t.fine) > 0, r"min\(\) cannot be recorded; write f\.least\(a, b\)$"),
    ("any", lambda t: any([t.active]), r"any\(\) cannot be recorded; write a \| b$"),
    ("bool", lambda t: bool(t.active), r"bool\(\) cannot be recorded; write the condition itself$"),
    ("len", lambda t: len(t.name) > 3, r"write f\.length\(Tick\.name\)$"),
    ("f-string", lambda t: f"{t.name}!" == "a!", r"write f\.concat\(Tick\.name, \"\.\.\.\"\)$"),
    ("f-string of a number", lambda t: f"{t.size}!" == "1!", r"write f\.concat\(f\.cast\(Tick\.size, str\), "),
    ("str", lambda t: str(t.size) == "1", r"write f\.cast\(Tick\.size, str\)$"),
    ("str of a time", lambda t: str(t.time) == "x", r"write f\.format_timestamp\(Tick\.time, \"%Y-%m-%d\"\)$"),
    ("int", lambda t: int(t.price) > 1, r"write f\.floor\(Tick\.price\) or f\.round\(Tick\.price\)$"),
    ("int of a text", lambda t: int(t.name) > 1, r"write f\.cast\(Tick\.name, int\)$"),
    ("float", lambda t: float(t.price) > 1, r"write f\.cast\(Tick\.price, float\)"),
    ("math", lambda t: math.sqrt(t.size) > 1, r"for math f\.sqrt"),
    ("slice", lambda t: t.name[0:3] == "abc", r"write f\.substring\(Tick\.name, start, length\)$"),
    ("loop", lambda t: list(t.name), r"cannot be iterated"),
    ("range", lambda t: [1, 2][t.size], r"index or a count"),
    ("method", lambda t: t.name.upper() == "A", r"its attribute \.upper cannot be recorded; write f\.upper\(Tick\.name\)$"),
    ("method of another type", lambda t: t.size.upper() == "A", r"\.upper cannot be recorded; use a function of kandle"),
    ("weekday", lambda t: t.time.weekday() == 0, r"write f\.day_of_week\(Tick\.time\) - 1$"),
    ("attribute", lambda t: t.time.year == 2024, r"write f\.year\(Tick\.time\)$"),
    ("unknown attribute", lambda t: t.price.foo, r"use a function of kandle\.functions"),
    ("unknown field", lambda t: t.prize > 0, r"Tick has no field 'prize'; did you mean 'price'\? Choose from: name, time"),
    ("change of a row", lambda t: setattr(t, "price", 1), r"Tick\.price: a query cannot change a row"),
    ("nothing", lambda t: None, r"the function returns None; return an expression"),
    ("constant", lambda t: 5, r"the function returns 5, which does not depend on the row"),
    ("plain bool", lambda t: True, r"returns the constant True"),
    ("naive datetime", lambda t: t.time > NAIVE, r"has no time zone; write datetime\(..., tzinfo=timezone\.utc\)"),
    ("foreign constant", lambda t: t.name == object(), r"is of type object; use str, int"),
    ("huge constant", lambda t: t.size > 2**70, r"does not fit 64 bits; write Decimal"),
    ("not a number", lambda t: t.price > Decimal("NaN"), r"not a finite number"),
    ("float beside a decimal", lambda t: t.price > 0.5, r"one is exact, the other is not; write Decimal\('0\.5'\)$"),
    ("whole row", f.is_null, r"Tick is a row, not a value; use one of its fields, for example Tick\.name$"),
    ("not a condition", lambda t: t.size + 1, r"where: Tick\.size \+ 1 is int, not a condition"),
    ("aggregate", lambda t: f.max(t.price) > 1, r"where: f\.max\(Tick\.price\) > 1 holds an aggregate"),
    (
        "too many arguments",
        WITH_TWO_ARGUMENTS,
        r"where: the function is called with Tick: .*missing 1 required positional argument: 'u'$",
    ),
]


@pytest.mark.parametrize(("function", "message"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_is_an_error_that_says_what_to_write(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(QueryError, match=message) as error:
        Query().from_(Tick).where(function)
    assert str(error.value).startswith("where: ")


def test_an_expression_is_described_as_it_was_written() -> None:
    stage = Query().from_(Tick).where(lambda t: (t.price * 2 - 1 > t.size) & f.not_(f.is_in(t.name, ["a", "b"])))
    assert stage.draft.where is not None
    wanted = "(((Tick.price * 2) - 1) > Tick.size) & f.not_(f.is_in(Tick.name, 'a', 'b'))"
    assert describe(stage.draft.where) == wanted


def test_a_recorded_expression_can_be_looked_at() -> None:
    seen: list[str] = []

    def condition(tick: Tick) -> bool:
        seen.append(repr(tick.price + 1))
        return tick.active

    Query().from_(Tick).where(condition)
    assert seen == ["<Tick.price + 1: Decimal(19, 6)>"]


def test_several_conditions_are_joined() -> None:
    stage = Query().from_(Tick).where(lambda t: t.size > 0).where(lambda t: t.active)
    assert stage.draft.where is not None
    assert describe(stage.draft.where) == "(Tick.size > 0) & Tick.active"
