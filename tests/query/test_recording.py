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
    ("and", lambda t: t.price > 0 and t.size > 0, r"`and` cannot be recorded; write \(a\) & \(b\)"),
    ("or", lambda t: t.price > 0 or t.size > 0, r"`or` cannot be recorded; write \(a\) \| \(b\)"),
    ("not", lambda t: not t.active, r"write f\.not_\(x\)"),
    ("invert", lambda t: ~t.active, r"write f\.not_\(x\)"),
    ("chained comparison", lambda t: 0 < t.size < 5, r"a chained comparison cannot .* \(a < b\) & \(b < c\)"),
    ("chained comparison in an if", lambda t: f.count() if 0 < t.size < 5 else 1, r"a chained comparison cannot"),
    ("in a list", lambda t: t.name in ["a", "b"], r"f\.is_in\(x, "),
    ("not in a list", lambda t: t.name not in ["a", "b"], r"f\.is_in\(x, "),
    ("in a set", lambda t: t.name in {"a", "b"}, r"f\.is_in\(x, "),
    ("in a dict", lambda t: {"a": 1}[t.name], r"f\.is_in\(x, "),
    ("part of a text", lambda t: "a" in t.name, r"f\.contains\(x, part\)"),
    ("is None", lambda t: t.note is None, r"gives the plain False.*f\.is_null\(x\)"),
    ("is not None", lambda t: t.note is not None, r"gives the plain True.*f\.is_not_null\(x\)"),
    ("== None", lambda t: t.note == None, r"comparison with None is never true; write f\.is_null"),  # noqa: E711
    ("if", lambda t: t.price if t.active else t.fine, r"f\.if_\("),
    ("max", lambda t: max(t.price, t.fine) > 0, r"f\.greatest"),
    ("min", lambda t: min(t.price, t.fine) > 0, r"f\.least"),
    ("len", lambda t: len(t.name) > 3, r"f\.length\(x\)"),
    ("f-string", lambda t: f"{t.name}!" == "a!", r"f\.concat"),
    ("str", lambda t: str(t.size) == "1", r"f\.cast\(x, str\)"),
    ("int", lambda t: int(t.price) > 1, r"f\.cast\(x, int\)"),
    ("float", lambda t: float(t.price) > 1, r"f\.cast\(x, float\)"),
    ("math", lambda t: math.sqrt(t.size) > 1, r"f\.sqrt\(x\)"),
    ("slice", lambda t: t.name[0:3] == "abc", r"f\.substring"),
    ("loop", lambda t: list(t.name), r"cannot be iterated"),
    ("range", lambda t: [1, 2][t.size], r"index or a count"),
    ("method", lambda t: t.name.upper() == "A", r"its attribute \.upper cannot be recorded; write f\.upper\(x\)"),
    ("attribute", lambda t: t.time.year == 2024, r"write f\.year\(x\)"),
    ("unknown attribute", lambda t: t.price.foo, r"use the functions of kandle\.functions"),
    ("unknown field", lambda t: t.prize > 0, r"Tick has no field 'prize'; did you mean 'price'\? Choose from: name, time"),
    ("change of a row", lambda t: setattr(t, "price", 1), r"a row cannot be changed"),
    ("nothing", lambda t: None, r"gives None; return the expression"),
    ("constant", lambda t: 5, r"gives 5, which does not depend on the row"),
    ("plain bool", lambda t: True, r"gives the plain True"),
    ("naive datetime", lambda t: t.time > NAIVE, r"has no time zone; write datetime\(..., tzinfo=timezone\.utc\)"),
    ("foreign constant", lambda t: t.name == object(), r"a constant of type object cannot stand in a query"),
    ("huge constant", lambda t: t.size > 2**70, r"does not fit 64 bits; write Decimal"),
    ("not a number", lambda t: t.price > Decimal("NaN"), r"not a finite number"),
    ("float beside a decimal", lambda t: t.price > 0.5, r"one is exact, the other is not; write f\.cast"),
    ("whole row", f.is_null, r"a whole Tick stands where a value is expected"),
    ("not a condition", lambda t: t.size + 1, r"where: Tick\.size \+ 1 is int, not a condition"),
    ("aggregate", lambda t: f.max(t.price) > 1, r"where: f\.max\(Tick\.price\) > 1 holds an aggregate"),
    ("too many arguments", WITH_TWO_ARGUMENTS, r"where: the function cannot be recorded"),
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
