"""Stages in the wrong order, and queries that mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, field_validator

import kandle
from kandle import Gaps, Key, Timeframe, Timestamp
from kandle import functions as f
from kandle.errors import KandleError, QueryError
from kandle.query.nodes import describe
from kandle.query.query import Tumbling
from kandle.query.stages import Query
from tests.query.declarations import Bar, Price, Session, Tick, bar, built, selecting, tumbling


def anything(value: Any) -> Any:
    """Hide a value from type checkers, which would refuse what the tests do with it too."""
    return value


ORDER: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: anything(Query()).where(lambda t: t.a),
        "where is not possible here; possible is from_ (the order is from_ -> join -> ",
    ),
    (lambda: tumbling().where(lambda t: t.active), "where is not possible here; possible is group_by, having, select (the order"),
    (lambda: tumbling().tumbling(lambda t: t.time), "tumbling is not possible here; possible is group_by, having, select"),
    (
        lambda: tumbling().group_by(lambda t: t.name).group_by(lambda t: t.name),
        "group_by is not possible here; possible is having, select",
    ),
    (
        lambda: anything(Query().from_(Tick)).having(lambda t: True),
        "having is not possible here; possible is join, based_on, where, tumbling, hopping, group_by, select",
    ),
    (
        lambda: anything(Query().from_(Tick).where(lambda t: t.active)).based_on(Session),
        "based_on is not possible here; possible is where, tumbling",
    ),
    (lambda: tumbling().order_by(lambda b: b.high), "order_by is not possible here; possible is group_by, having, select"),
    (
        lambda: tumbling().group_by(lambda t: t.name).select(bar).select(bar),
        "select is not possible here; possible is order_by, limit",
    ),
    (
        lambda: tumbling().group_by(lambda t: t.name).select(bar).limit(3),
        "limit without order_by would keep arbitrary bars; write .order_by(",
    ),
    (
        lambda: anything(Query().from_(Tick).where(lambda t: t.active)).join(Session, on=lambda t, s: t.name == s.name),
        "join is not possible here; possible is where",
    ),
    (
        lambda: anything(Query().from_(Tick)).selct(lambda t: t),
        "a query has no stage 'selct'; did you mean 'select'? Choose from: from_",
    ),
    (lambda: anything(Query()).form(Tick), "a query has no stage 'form'; did you mean 'from_'?"),
]


@pytest.mark.parametrize(("declare", "message"), ORDER)
def test_a_stage_out_of_order_says_what_may_come(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(QueryError) as error:
        declare()
    assert message in str(error.value)


def test_a_whole_query_becomes_a_model() -> None:
    model = built(
        lambda q: (
            q.from_(Tick)
            .based_on(Session, open=lambda s: s.opens, close=lambda s: s.closes, day=lambda s: s.trading_date)
            .where(lambda t: t.price > 0)
            .tumbling(
                lambda t: t.time, seconds=60, minutes=(5, 1), hours=1, tz="Europe/Berlin", grace={"1m": "2s"}, gaps=Gaps.SKIP
            )
            .group_by(lambda t: t.name)
            .having(lambda t, w: f.count() > 1)
            .select(bar)
            .order_by(lambda b: (f.descending(b.high), b.name))
            .limit(5)
        )
    )
    assert isinstance(model.window, Tumbling)
    assert model.window.timeframes == tuple(map(Timeframe.parse, ("1m", "5m", "1h")))
    assert model.window.grace_by_timeframe == {Timeframe.parse("1m"): 2_000_000}
    assert (model.has_tumbling, model.limit, model.gaps) == (True, 5, Gaps.SKIP)
    assert [(order.field, order.descending) for order in model.order_by] == [("high", True), ("name", False)]
    assert model.schedule is not None
    assert describe(model.schedule.open) == "Session.opens"
    assert model.having is not None
    assert [(item.field, describe(item.expression)) for item in model.projection][1:3] == [
        ("start", "w.start"),
        ("high", "f.max(Tick.price)"),
    ]


def test_a_query_without_a_window_has_none_to_close() -> None:
    @kandle.stream("copies")
    @dataclass
    class Copy:
        name: str
        double: int

    model = built(lambda q: q.from_(Tick).select(lambda t: Copy(name=f.upper(t.name), double=t.size * 2)), Copy)
    assert not model.has_tumbling


def test_a_target_that_looks_at_its_values_is_written_with_new() -> None:
    @kandle.stream("checked")
    class Checked(BaseModel):
        name: Annotated[str, Key(0)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        high: Price

        @field_validator("high")
        @classmethod
        def positive(cls, value: Decimal) -> Decimal:
            assert value > 0
            return value

    model = built(
        lambda q: (
            tumbling()
            .group_by(lambda t: t.name)
            .select(lambda t, w: f.new(Checked, name=t.name, start=w.start, high=f.max(t.price)))
        ),
        Checked,
    )
    assert [item.field for item in model.projection] == ["name", "start", "high"]
    with pytest.raises(KandleError, match=r"Checked checks its values when it is built; write f\.new\(Checked, field=\.\.\.\)$"):
        built(
            lambda q: (
                tumbling()
                .group_by(lambda t: t.name)
                .select(lambda t, w: Checked(name=t.name, start=w.start, high=f.max(t.price)))
            ),
            Checked,
        )


FIELDS: list[tuple[dict[str, Callable[[Any, Any], Any]], str]] = [
    ({"high": lambda t, w: t.price}, r"Bar\.high = Tick\.price: Tick\.price is neither a group key.*f\.last\(Tick\.price\)"),
    (
        {"high": lambda t, w: f.max(t.note)},
        r"Bar\.high \(Decimal\(18, 6\)\) = f\.max\(Tick\.note\) may be NULL \(Tick\.note is Optional\); .* f\.coalesce\(f\.max",
    ),
    ({"high": lambda t, w: f.max(t.name)}, r"Bar\.high .* is str; declare the field as str$"),
    (
        {"high": lambda t, w: f.max(t.ratio)},
        r"is float; write f\.cast\(f\.max\(Tick\.ratio\), Precision\(18, 6\)\) or declare the field as float$",
    ),
    (
        {"high": lambda t, w: f.max(t.fine)},
        r"20 digits behind the point, but the field has 6; write f\.round\(f\.max\(Tick\.fine\), 6\)$",
    ),
    ({"high": lambda t, w: f.weighted_average(t.price, t.size)}, r"may be NULL \(the weights can add up to 0\).*f\.coalesce"),
    ({"high": lambda t, w: f.max(t.price) / f.sum(t.size)}, r"may be NULL \(the divisor can be 0\)"),
    (
        {"total": lambda t, w: f.sum(t.price)},
        r"Bar\.total \(int\) = f\.sum\(Tick\.price\) is Decimal\(38, 6\); declare the field as Decimal\(38, 6\)$",
    ),
    ({"extra": lambda t, w: f.count()}, r"Bar has no field 'extra'"),
    ({"start": lambda t, w: w.end}, r"no field of Bar is w\.start, so that .*; write start=w\.start$"),
    ({"start": lambda t, w: w.begin}, r"a window has no field 'begin'; it has start and end"),
    (
        {"name": lambda t, w: "x"},
        r"the key of Bar is \(name = 'x', start = w\.start\), but its bars .*; fill a field with Tick\.name$",
    ),
]


@pytest.mark.parametrize(("fields", "message"), FIELDS)
def test_a_field_that_cannot_be_filled_so_is_named_with_its_expression(
    fields: dict[str, Callable[[Any, Any], Any]], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        selecting(**fields)


def test_a_dataclass_that_checks_its_values_is_written_with_new() -> None:
    @kandle.stream("strict")
    @dataclass(frozen=True)
    class Strict:
        start: Annotated[datetime, Timestamp(), Key(0)]
        total: int

        def __post_init__(self) -> None:
            if self.total < 0:
                raise ValueError("below 0")

    with pytest.raises(QueryError, match=r"Strict checks its values when it is built; write f\.new\(Strict, "):
        built(lambda q: tumbling().select(lambda t, w: Strict(start=w.start, total=f.count())), Strict)
    built(lambda q: tumbling().select(lambda t, w: f.new(Strict, start=w.start, total=f.count())), Strict)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(QueryError, match=r"select: Bar\.total is missing; add total=\.\.\.$"):
        built(lambda q: tumbling().group_by(lambda t: t.name).select(lambda t, w: f.new(Bar, name=t.name, start=w.start, high=1)))


def test_what_is_rounded_anyway_is_computed_with_the_digits_of_its_field() -> None:
    model = selecting(high=lambda t, w: f.avg(t.price))
    assert str(model.projection[2].expression.type) == "Decimal(18, 6)"


WHOLE: list[tuple[Callable[[], Any], str]] = [
    (lambda: tumbling(minutes=()), "no timeframe is given"),
    (lambda: tumbling(minutes=0), "1 or more, not 0"),
    (lambda: tumbling(tz="Mars/Base"), "'Mars/Base' is not a time zone"),
    (lambda: tumbling(grace="soon"), "'soon' is not a duration"),
    (lambda: tumbling(grace={"7m": "1s"}), "grace is given for 7m, which is not a timeframe of this query; choose from: 1m"),
    (
        lambda: anything(Query().from_(Tick)).tumbling(lambda t: t.seen, minutes=1),
        "Tick.seen is datetime | None, but a time must not be NULL; write f.coalesce(Tick.seen, ...)",
    ),
    (
        lambda: anything(Query().from_(Tick)).tumbling(lambda t: t.size, minutes=1),
        "Tick.size is int, but a time must be a datetime; if it holds milliseconds, write f.from_epoch_millis(Tick.size)",
    ),
    (
        lambda: tumbling().group_by(lambda t: t.note),
        "Tick.note may be NULL, but a key must have a value; write f.coalesce(Tick.note, ...)",
    ),
    (
        lambda: tumbling().group_by(lambda t: t.ratio),
        "is float, which cannot be a key; write f.cast(Tick.ratio, Precision(18, 6))",
    ),
    (lambda: tumbling().group_by(lambda t: f.max(t.name)), "holds an aggregate, but there is no bucket yet"),
    (lambda: tumbling().group_by(lambda t: "all"), "'all' does not depend on the row; use a field"),
    (
        lambda: tumbling().group_by(lambda t: t.name).having(lambda t, w: t.size > 1),
        "Tick.size is neither a group key nor inside an aggregate; write f.last(Tick.size) or",
    ),
    (
        lambda: tumbling().group_by(lambda t: t.name).having(lambda t, w: f.count()),
        "f.count() is int, not a condition; compare it, for example f.count() > 0",
    ),
    (lambda: tumbling().group_by(lambda t: t.name).select(bar).order_by(lambda b: b.hihg), "did you mean 'high'?"),
    (
        lambda: tumbling().group_by(lambda t: t.name).select(bar).order_by(lambda b: b.high + 1),
        "<Bar.high + 1: Decimal(19, 6)> is not a field of Bar; write lambda b: b.field",
    ),
    (
        lambda: tumbling().group_by(lambda t: t.name).select(bar).order_by(lambda b: b.high).limit(0),
        "0 is not a number of bars; give an int of 1 or more",
    ),
    (lambda: built(lambda q: tumbling()), "Bar: the query is not complete; next comes one of group_by, having, select"),
    (lambda: built(lambda q: None), "Bar: the function returns None instead of a query; write lambda q: q.from_"),
    (lambda: tumbling(gaps="fill"), "gaps = 'fill'; choose one of Gaps.CARRY, Gaps.NULL, Gaps.SKIP"),
    (
        lambda: anything(Query().from_(Tick)).hopping(lambda t: t.name, size="5m", advance="1m"),
        "hopping: Tick.name is str, but a time must",
    ),
    (
        lambda: built(lambda q: tumbling().group_by(lambda t: t.name).select(lambda t, w: t.price)),
        "the function returns an expression; it must return a Bar",
    ),
    (
        lambda: built(lambda q: tumbling().group_by(lambda t: t.name).select(lambda t, w: Session)),
        "the function returns the class Session; it must return a Bar",
    ),
    (
        lambda: built(
            lambda q: q.from_(Tick).select(lambda t: f.new(Bar, name=t.name, start=t.time, high=f.max(t.price), total=1))
        ),
        "is an aggregate, but the query has neither a window nor a group key",
    ),
    (lambda: Query().from_(int), "int is not an entity"),
    (
        lambda: anything(Query().from_(Tick)).based_on(Session, open=lambda s: s.perhaps, close=lambda s: s.closes),
        "based_on (open): Session.perhaps is datetime | None, but a time must not be NULL",
    ),
    (
        lambda: anything(Query().from_(Tick)).based_on(
            Session, open=lambda s: s.opens, close=lambda s: s.closes, day=lambda s: s.opens
        ),
        "based_on (day): Session.opens is datetime, but the trading date must be a date that is not NULL; write f.to_date(",
    ),
]


@pytest.mark.parametrize(("declare", "message"), WHOLE)
def test_a_query_that_means_nothing_says_why(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(KandleError) as error:
        declare()
    assert message in str(error.value)


def test_the_leading_key_parts_of_a_schedule_are_the_group_key() -> None:
    def declare(q: Query) -> Any:
        source = q.from_(Tick).based_on(Session, open=lambda s: s.opens, close=lambda s: s.closes)
        return source.tumbling(lambda t: t.time, minutes=1).group_by(lambda t: (t.size, t.name)).select(bar)

    with pytest.raises(QueryError, match=r"the key of Bar is|leading key parts of Session"):
        built(declare)


def test_with_nulls_in_gaps_the_fields_must_be_optional() -> None:
    with pytest.raises(QueryError, match=r"Bar\.high = f\.max\(Tick\.price\) is NULL in a bucket without events"):
        built(lambda q: tumbling(gaps=Gaps.NULL).group_by(lambda t: t.name).select(bar))


def test_public_entities_of_the_tests_are_valid() -> None:
    assert built(lambda q: tumbling().group_by(lambda t: t.name).select(bar)).target.cls is Bar


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            lambda t, w: anything(Bar)(name=t.name, start=w.start, high=1, total=1, extra=2),
            r"unexpected keyword argument 'extra'$",
        ),
        (lambda t, w: anything(Bar)(name=t.name, start=w.start), r"missing 2 required positional arguments: 'high' and 'total'$"),
        (
            lambda t, w: anything(f).maximum(t.price),
            r"'maximum'; did you mean 'max'\? Choose from: abs, add_milliseconds, .*, year$",
        ),
    ],
)
def test_a_wrong_argument_or_function_is_named_without_advice_for_something_else(select: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        built(lambda q: tumbling().group_by(lambda t: t.name).select(select))
