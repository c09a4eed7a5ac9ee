"""Normalized keys from end to end: what is written and read, groups of queries, schedules, reads by key, configured keys."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import polars as pl
import pytest

import kandle.testing
from kandle import BarSet, Context, EventSet, Key, QueryError, TableSet, Timestamp
from kandle import functions as f
from kandle.ksql.script import query_program
from kandle.log.records import Records, Write
from kandle.model.markers import Normalizer
from kandle.query.nodes import describe

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def market_class(
    ticks: Normalizer | None = None,
    bars: Normalizer | None = None,
    hours: Normalizer | None = None,
    group: Callable[[Any], Any] = lambda t: t.symbol,
) -> Any:
    """Return a context whose events, bars and schedule have these forms of their key."""

    @kandle.stream("ticks")
    @dataclass(frozen=True)
    class Tick:
        symbol: Annotated[str, Key(0, normalize=ticks)]
        time: Annotated[datetime, Timestamp()]
        size: int

    @kandle.table("hours")
    @dataclass(frozen=True)
    class Hours:
        symbol: Annotated[str, Key(0, normalize=hours)]
        begins: datetime
        ends: datetime

    @kandle.stream("bars")
    @dataclass(frozen=True)
    class Bar:
        symbol: Annotated[str, Key(0, normalize=bars)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        size: int

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .based_on(Hours, open=lambda h: h.begins, close=lambda h: h.ends)
                .tumbling(lambda t: t.time, seconds=1, gaps=kandle.Gaps.SKIP)
                .group_by(group)
                .select(lambda t, w: Bar(symbol=group(t), start=w.start, size=f.sum(t.size)))
            )
        )

    sets = {"ticks": EventSet[Tick], "hours": TableSet[Hours], "bars": BarSet[Bar]}
    cls: Any = type("Market", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})
    cls.Tick, cls.Hours, cls.Bar = Tick, Hours, Bar
    return cls


def no_dots(text: str) -> str:
    return text.replace(".", "")


def opened(cls: Any) -> Any:
    return kandle.testing.context(cls, start=NOON, universe={"keys": [["abc"], ["x.y"]]})


@pytest.fixture(params=["ticks", "bars", "hours"])
def upper(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open a context of which one entity says that keys are upper case."""
    with opened(market_class(**{request.param: str.upper})) as market:
        yield market


def raw(market: Any, *rows: tuple[str, datetime, int]) -> None:
    """Write ticks as programs of others do, with keys as they are."""
    frame = pl.DataFrame(list(rows), schema=["symbol", "time", "size"], orient="row")
    schema = market._host.log.topic("ticks").schema
    market._host.log.append([Write("ticks", 0, Records(frame.cast(schema)))])


def test_one_form_of_a_key_that_is_declared_anywhere_holds_for_the_whole_query(upper: Any) -> None:
    cls = type(upper)
    upper.hours.add(cls.Hours("Abc", at(0), at(60)))
    upper.ticks.add_many([cls.Tick("abc", at(0), 1), cls.Tick("ABC", at(0.5), 2)])
    raw(upper, ("aBc", at(0.6), 4))
    upper.clock.set(at(5))
    expected = [cls.Bar("ABC", at(0), 7)]
    assert upper.finals(cls.Bar, "1s") == expected
    assert upper.bars("1s").to_list("abc") == upper.bars("1s").to_list(["Abc"]) == expected
    query = upper.health().queries[0]
    # The configured key abc had events, and x.y had none; it has no sessions either.
    assert (query.silent_keys, query.unscheduled_keys) == (1, ("X.Y",))


def test_a_function_of_the_user_is_used_wherever_keys_are() -> None:
    cls = market_class(ticks=no_dots)
    with opened(cls) as market:
        market.hours.add(cls.Hours("x.y", at(0), at(60)))
        market.ticks.add(cls.Tick("x.y", at(0), 1))
        raw(market, ("xy.", at(0), 2))
        market.clock.set(at(5))
        assert market.finals(cls.Bar, "1s") == [cls.Bar("xy", at(0), 3)]
        assert [tick.symbol for tick in market.ticks.to_list("x.y")] == ["xy", "xy"]
        assert [message.key for message in _taken(market.ticks.messages(), 2)] == [("xy",), ("xy",)]
        market.hours.remove("x..y")
        assert market.hours.to_list() == []


def _taken(messages: Any, count: int) -> list[Any]:
    taken = []
    for message in messages:
        taken.append(message)
        if len(taken) == count:
            return taken
    return taken


def test_a_key_that_cannot_be_normalized_is_a_dead_letter() -> None:
    cls = market_class(ticks=lambda text: str(int(text)))
    with kandle.testing.context(cls, start=NOON) as market:
        market.hours.add(cls.Hours("7", at(0), at(60)))
        raw(market, ("07", at(0), 1), ("x", at(0), 1), ("7", at(0), 1))
        market.clock.set(at(5))
        assert market.finals(cls.Bar, "1s") == [cls.Bar("7", at(0), 2)]
        assert market.health().queries[0].counters.rejected == 1
        with pytest.raises(kandle.DataError, match=r"Tick.symbol = 'x': normalize fails for 'x'"):
            market.ticks.to_list()


def test_two_forms_of_one_key_are_refused() -> None:
    with pytest.raises(QueryError, match=r"Tick.symbol and Bar.symbol are one key, but normalize=str.upper and .*=str.lower"):
        market_class(ticks=str.upper, bars=str.lower).model()


def test_a_form_that_the_query_cannot_compute_is_refused_where_only_the_bars_have_it() -> None:
    with pytest.raises(QueryError, match=r"Bar.symbol has normalize=no_dots, but Tick.symbol has not.*or str.strip"):
        market_class(bars=no_dots).model()


def test_a_key_that_the_query_normalizes_itself_has_that_form_already() -> None:
    model = market_class(bars=str.upper, group=lambda t: f.upper(t.symbol)).model()
    [query] = model.queries.values()
    assert [describe(key) for key in query.group_by] == ["f.upper(Tick.symbol)"]


def test_ksqldb_computes_the_forms_that_it_has_and_refuses_others_by_name() -> None:
    [query] = market_class(ticks=str.strip).model().queries.values()
    text = "\n".join(statement.text for statement in query_program(query).statements)
    assert "TRIM(`t`.`symbol`) AS `_k0`" in text and "ON TRIM(`t`.`symbol`) = `s`.`id`" in text
    [query] = market_class(ticks=no_dots).model().queries.values()
    with pytest.raises(QueryError, match=r"Tick.symbol: normalize=no_dots is a function of Python, which ksqlDB cannot call"):
        query_program(query)
