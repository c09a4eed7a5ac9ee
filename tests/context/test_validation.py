"""Queries that nothing would run, and fields that cannot hold what fills them: said when the model is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest

import kandle
import kandle.testing
from kandle import Context, EventSet, Key, MaxLength, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.context.context import scripted_model
from kandle.errors import ModelError, QueryError
from kandle.query.stages import Query
from tests.runtime.building import at
from tests.testing.stories import told


@kandle.stream("sales")
@dataclass(frozen=True)
class Sale:
    time: Annotated[datetime, Timestamp()]
    shop: Annotated[str, Key(0), MaxLength(20)]
    paid: Annotated[Decimal, Precision(10, 2)]
    pieces: int
    note: str


@kandle.stream("takings")
@dataclass(frozen=True)
class Taking:
    shop: Annotated[str, Key(0), MaxLength(20)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    paid: Annotated[Decimal, Precision(38, 2)]
    note: Annotated[str, MaxLength(10)] = ""


@kandle.stream("takings_1m_final")
@dataclass(frozen=True)
class MinuteTaking:
    shop: Annotated[str, Key(0), MaxLength(20)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    paid: Annotated[Decimal, Precision(38, 2)]
    note: Annotated[str, MaxLength(10)] = ""


@kandle.stream("longer_takings")
@dataclass(frozen=True)
class Longer:
    shop: Annotated[str, Key(0), MaxLength(20)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    minutes: int


@kandle.stream("large_sales")
@dataclass(frozen=True)
class LargeSale:
    time: Annotated[datetime, Timestamp()]
    shop: str


@kandle.table("openings")
@dataclass(frozen=True)
class Opening:
    shop: Annotated[str, Key(0), MaxLength(20)]
    opens: Annotated[datetime, Key(1)]
    closes: datetime


def takings(q: Query) -> Any:
    windowed = q.from_(Sale).tumbling(lambda s: s.time, minutes=(1, 5)).group_by(lambda s: s.shop)
    return windowed.select(lambda s, w: Taking(shop=s.shop, start=w.start, paid=f.sum(s.paid)))


def longer(source: type, time: Callable[[Any], Any] = lambda s: s.start) -> Callable[[Query], Any]:
    def declared(q: Query) -> Any:
        windowed: Any = q.from_(source).tumbling(time, minutes=15).group_by(lambda s: s.shop)
        return windowed.select(lambda s, w: Longer(shop=s.shop, start=w.start, minutes=f.count()))

    return declared


def context(queries: dict[type, Callable[[Query], Any]], *sources: type) -> type[Context]:
    """Return a context with sets of sources and of what queries make."""

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        for target, query in queries.items():
            model.entity(target).to_query(query)

    sets = {f"{cls.__name__.lower()}_set": EventSet[cls] for cls in (Sale, *sources, *queries)}  # type: ignore[valid-type]
    sets["openings"] = TableSet[Opening]  # type: ignore[assignment]
    return type("Shops", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def large(q: Query) -> Any:
    return q.from_(Sale).where(lambda s: s.pieces > 100).select(lambda s: LargeSale(time=s.time, shop=s.shop))


def counts(q: Query) -> Any:
    return q.from_(Sale).group_by(lambda s: s.shop).select(lambda s: LargeSale(time=f.last(s.time), shop=s.shop))


@pytest.mark.parametrize("query", [large, counts])
def test_a_query_without_a_window_is_refused_when_the_model_is_built(query: Callable[[Query], Any]) -> None:
    declared = context({LargeSale: query})
    message = r"the query of LargeSale has no window over time, and nothing runs such queries yet: add \.tumbling.*kandle script"
    with pytest.raises(QueryError, match=message):
        declared.model()
    with pytest.raises(QueryError, match="no window over time"):
        declared.open(validation="relaxed")
    assert LargeSale in scripted_model(declared).queries


def test_a_query_over_the_bars_of_another_one_is_refused_with_the_way_to_its_finals() -> None:
    declared = context({Taking: takings, Longer: longer(Taking)})
    message = (
        r"the query of Longer reads Taking, which another query makes: nothing is written to the topic takings.*"
        r'declare a class with the same fields for the topic of its finals, @kandle\.stream\("takings_1m_final"\), and read that'
    )
    with pytest.raises(QueryError, match=message):
        declared.model()
    with pytest.raises(QueryError, match="the query of Longer reads Longer, which it makes itself"):
        context({Longer: longer(Longer)}).model()


def test_a_schedule_that_a_query_makes_is_refused() -> None:
    def in_hours(q: Query) -> Any:
        source = q.from_(Sale).based_on(Longer, open=lambda b: b.start, close=lambda b: b.start)
        windowed = source.tumbling(lambda s: s.time, minutes=1).group_by(lambda s: s.shop)
        return windowed.select(lambda s, w: Taking(shop=s.shop, start=w.start, paid=f.sum(s.paid)))

    with pytest.raises(QueryError, match="the query of Taking reads Longer, which another query makes"):
        context({Taking: in_hours, Longer: longer(Sale, lambda s: s.time)}).model()


def test_finals_that_are_declared_as_a_stream_are_read_by_another_query() -> None:
    declared = context({Taking: takings, Longer: longer(MinuteTaking)}, MinuteTaking)

    async def story(market: Any) -> list[int]:
        await market.sale_set.add_async(Sale(at("14:30:10"), "A", Decimal("1.50"), 1, ""))
        for minute in range(31, 62):
            await market.clock.set_async(at("14:30").replace(hour=14 + minute // 60, minute=minute % 60))
        return [bar.minutes for bar in await market.finals_async(Longer, "15m")]

    assert told(declared, story) == [15, 15]


NARROW = [
    (
        lambda s, w: f.new(NarrowTaking, shop=s.shop, start=w.start, paid=f.sum(s.paid), best=f.sum(s.paid)),
        r"NarrowTaking\.best is Decimal\(5, 2\), but Sale\.paid is Decimal\(10, 2\): bars that do not fit would be "
        r"left out; declare Precision\(10, 2\), or, if no value is that large, write f\.cast\(f\.sum\(Sale\.paid\), "
        r"Precision\(5, 2\)\) \(validation=\"relaxed\" makes this a warning\)",
    ),
    (
        lambda s, w: f.new(NarrowTaking, shop=s.shop, start=w.start, paid=f.count(), best=f.max(s.paid)),
        r"NarrowTaking\.best is Decimal\(5, 2\), but f\.max\(Sale\.paid\) is Decimal\(10, 2\).*declare Precision\(10, 2\)",
    ),
    (
        lambda s, w: f.new(NarrowTaking, shop=s.shop, start=w.start, paid=f.count(), name=f.last(s.shop)),
        r"NarrowTaking\.name has at most 5 characters, but f\.last\(Sale\.shop\) at most 20.*declare MaxLength\(20\)",
    ),
]


@kandle.stream("narrow_takings")
@dataclass(frozen=True)
class NarrowTaking:
    shop: Annotated[str, Key(0), MaxLength(20)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    paid: Annotated[Decimal, Precision(10, 2)]
    best: Annotated[Decimal, Precision(5, 2)] = Decimal(0)
    name: Annotated[str, MaxLength(5)] = ""


def narrow(select: Callable[[Any, Any], Any]) -> type[Context]:
    """Return a context whose bars are as `select` says."""

    def declared(q: Query) -> Any:
        return q.from_(Sale).tumbling(lambda s: s.time, minutes=1).group_by(lambda s: s.shop).select(select)

    return context({NarrowTaking: declared})


@pytest.mark.parametrize(("select", "message"), NARROW)
def test_a_field_that_is_narrower_than_what_fills_it_is_an_error_unless_validation_is_relaxed(
    select: Callable[[Any, Any], Any], message: str
) -> None:
    declared = narrow(select)
    with pytest.raises(ModelError, match=message):
        declared.model()
    with pytest.warns(UserWarning, match="bars that do not fit would be left out"):
        declared.open(validation="relaxed")


def test_a_cast_and_computed_values_say_that_they_fit() -> None:
    narrow(
        lambda s, w: f.new(
            NarrowTaking,
            shop=s.shop,
            start=w.start,
            paid=f.sum(s.paid),
            best=f.round(f.avg(s.paid), 2),
            name=f.last(s.note),
        )
    ).model()
