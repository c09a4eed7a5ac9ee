"""The join stage: two rows in every later stage, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import polars as pl
import pytest

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.errors import PlanError, QueryError
from kandle.query.nodes import describe
from kandle.query.query import Join
from kandle.query.stages import Query
from kandle.testing import context
from tests.query.declarations import Bar, Tick, bar, built


@kandle.table("instruments")
@dataclass(frozen=True)
class Instrument:
    name: Annotated[str, Key(0)]
    lot: int


@kandle.table("places")
@dataclass(frozen=True)
class Place:
    name: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    time: datetime


@kandle.stream("quotes")
@dataclass(frozen=True)
class Quote:
    name: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


@kandle.stream("fees")
@dataclass(frozen=True)
class Fee:
    time: Annotated[datetime, Timestamp()]
    fee: Annotated[Decimal, Precision(9, 2)]


class Joined(Context):
    ticks: EventSet[Tick]
    instruments: TableSet[Instrument]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Instrument).topic("other_instruments")
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .join(Instrument, on=lambda t, i: i.name == t.name, how="left")
                .where(lambda t, i: f.coalesce(i.lot, 1) > 0)
                .tumbling(lambda t, i: t.time, minutes=1)
                .group_by(lambda t, i: t.name)
                .select(lambda t, i, w: bar(t, w, total=f.sum(f.coalesce(i.lot, t.size))))
            )
        )


def joined(other: type = Instrument, **clause: Any) -> Any:
    return Query().from_(Tick).join(other, **{"on": lambda t, o: t.name == o.name, **clause})


def clause_of(stage: Any) -> Join:
    clause: Join = stage.draft.join
    return clause


def test_columns_of_the_two_sources_are_told_apart_though_their_names_are_the_same() -> None:
    model = built(
        lambda q: (
            q.from_(Tick)
            .join(Quote, on=lambda t, o: o.name == t.name, within="5s", grace="1s")
            .where(lambda t, o: t.time < o.time)
            .tumbling(lambda t, o: o.time, minutes=1)
            .group_by(lambda t, o: o.name)
            .having(lambda t, o, w: f.sum(o.size) > f.sum(t.size))
            .select(lambda t, o, w: Bar(name=o.name, start=w.start, high=f.max(t.price), total=f.sum(o.size)))
        )
    )
    assert model.join is not None
    assert [tuple(map(describe, pair)) for pair in model.join.on] == [("Tick.name", "Quote.name")]
    assert (model.join.how, model.join.within, model.join.grace) == ("inner", 5_000_000, 1_000_000)
    assert model.where is not None
    assert describe(model.where) == "Tick.time < Quote.time"
    assert model.window is not None
    assert describe(model.window.time) == "Quote.time"
    assert model.having is not None
    assert describe(model.having) == "f.sum(Quote.size) > f.sum(Tick.size)"
    assert [entity.name for entity in model.sources] == ["Tick", "Quote"]


def test_several_equalities_are_joined_by_and() -> None:
    clause = clause_of(joined(Place, on=lambda t, p: (t.name == p.name) & (p.number == t.size)))
    assert [tuple(map(describe, pair)) for pair in clause.on] == [("Tick.name", "Place.name"), ("Tick.size", "Place.number")]


def test_fields_of_a_row_that_may_not_be_there_may_be_null() -> None:
    with pytest.raises(QueryError, match=r"f\.max\(Instrument\.lot\) may be NULL"):
        built(
            lambda q: (
                joined(how="left")
                .tumbling(lambda t, o: t.time, minutes=1)
                .group_by(lambda t, o: t.name)
                .select(lambda t, o, w: bar(t, w, total=f.max(o.lot)))
            )
        )
    with pytest.raises(QueryError, match=r"group_by: Instrument\.name may be NULL"):
        joined(how="left").tumbling(lambda t, o: t.time, minutes=1).group_by(lambda t, o: o.name)
    assert joined(how="inner").tumbling(lambda t, o: t.time, minutes=1).group_by(lambda t, o: o.name)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: joined(Tick), "Tick cannot be joined with itself, since its columns could not be told apart"),
    (
        lambda: joined(on=lambda t, o: t.name > o.name),
        "Tick.name > Instrument.name is not an equality between Tick and Instrument",
    ),
    (lambda: joined(on=lambda t, o: t.name == t.note), "Tick.name == Tick.note is not an equality"),
    (lambda: joined(on=lambda t, o: (t.name == o.name) & (o.lot > 1)), "Instrument.lot > 1 is not an equality"),
    (lambda: joined(on=lambda t, o: (t.name == o.name) | (t.size == o.lot)), "is not an equality between"),
    (lambda: joined(on=lambda t, o: f.max(t.name) == o.name), "f.max(Tick.name) == Instrument.name holds an aggregate"),
    (
        lambda: joined(on=lambda t, o: t.price == o.lot),
        "compares Decimal(18, 6) with int, but both sides must have one type; write f.cast(Instrument.lot, Precision(18, 6))",
    ),
    (
        lambda: joined(on=lambda t, o: t.size == o.lot),
        "on must compare each key part of the table Instrument once (Instrument.name), but it compares Instrument.lot",
    ),
    (
        lambda: joined(Place),
        "on must compare each key part of the table Place once (Place.name, Place.number), but it compares Place.name",
    ),
    (
        lambda: joined(Quote),
        'Tick and Quote are both streams; say how far apart in time their events may be, for example within="5s"',
    ),
    (lambda: joined(Quote, how="left", within="5s"), "a left join of streams must know how late events of Quote may be"),
    (
        lambda: joined(Fee, on=lambda t, o: t.price == o.fee, within="5s"),
        "compares Decimal(18, 6) with Decimal(9, 2), but both sides must have one type; write f.cast(Fee.fee, Precision(18, 6))",
    ),
    (lambda: joined(within="5s"), "within is for two streams, but Instrument is a table"),
    (lambda: joined(grace="5s"), "grace is for two streams, but Instrument is a table"),
    (lambda: joined(how="right"), "how = 'right'; choose one of 'inner', 'left'"),
    (
        lambda: Query().from_(Instrument).join(Quote, on=lambda i, o: i.name == o.name, within="5s"),
        "the table Instrument cannot be joined with the stream Quote; begin with from_(Quote)",
    ),
    (lambda: joined().where(lambda t: t.active), "the function is called with Tick and Instrument"),
]


@pytest.mark.parametrize(("declare", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_joined_is_refused_by_name(declare: Callable[[], Any], message: str) -> None:
    with pytest.raises(QueryError) as error:
        declare()
    assert message in str(error.value)


def test_the_model_of_a_joined_query_has_the_topics_of_its_context() -> None:
    join = Joined.model().queries[Bar].join
    assert join is not None
    assert join.entity.topic == "other_instruments"


def test_a_context_without_a_set_of_what_is_joined_is_refused() -> None:
    class Lacking(Context):
        ticks: EventSet[Tick]
        bars: EventSet[Bar]

        def on_model_creating(self, model: kandle.ModelBuilder) -> None:
            model.entity(Bar).to_query(
                lambda q: (
                    joined()
                    .tumbling(lambda t, o: t.time, minutes=1)
                    .group_by(lambda t, o: t.name)
                    .select(lambda t, o, w: bar(t, w))
                )
            )

    with pytest.raises(TypeError, match="reads Instrument, for which the context has no set"):
        Lacking.model()


def test_the_embedded_engine_refuses_a_join_when_it_would_run_it_and_not_before() -> None:
    message = (
        r"joins Tick with Instrument, which runs on ksqlDB only: set \[engine\] kind = \"ksqldb\".*or join the data before kandle"
    )
    assert "left join Instrument (topic other_instruments) on Tick.name == Instrument.name" in kandle.explain(
        kandle.plan(Joined.model().queries[Bar])
    )
    with pytest.raises(PlanError, match=message):
        kandle.backfill(Joined, Bar, ticks=pl.DataFrame())
    market = context(Joined, "2024-01-01T00:00:00Z")
    with pytest.raises(PlanError, match=message), market:
        pass
