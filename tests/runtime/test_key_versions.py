"""Queries and schedules over an entity whose key has changed, and bars whose own key has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle.testing
from kandle import BarSet, Context, EventSet, Key, ModelError, QueryError, TableSet, Timestamp
from kandle import functions as f
from kandle.cli.rekey import next_version
from kandle.ksql.script import query_program
from kandle.sets.rekeying import rekey
from kandle.sets.topic_pairs import bar_pairs

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@kandle.stream("ticks", partitions=2)
@dataclass(frozen=True)
class TickV1:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    size: int


@kandle.stream(
    "ticks",
    partitions=2,
    key_version=2,
    previous=TickV1,
    upgrade=lambda old: Tick("north", old.symbol, old.time, int(1 / old.size and old.size)),
    dual_write=True,
)
@dataclass(frozen=True)
class Tick:
    venue: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    time: Annotated[datetime, Timestamp()]
    size: int


@kandle.table("hours")
@dataclass(frozen=True)
class HoursV1:
    symbol: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    begins: datetime
    ends: datetime


@kandle.table(
    "hours", key_version=2, previous=HoursV1, upgrade=lambda old: Hours("north", old.symbol, old.number, old.begins, old.ends)
)
@dataclass(frozen=True)
class Hours:
    venue: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    number: Annotated[int, Key(2)]
    begins: datetime
    ends: datetime


@kandle.stream("bars")
@dataclass(frozen=True)
class BarV1:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    size: int


@kandle.stream("bars", key_version=2, previous=BarV1, upgrade=lambda old: Bar("north", old.symbol, old.start, old.size))
@dataclass(frozen=True)
class Bar:
    venue: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    size: int


class Before(Context):
    ticks: EventSet[TickV1]
    bars: BarSet[BarV1]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(BarV1).to_query(
            lambda q: (
                q.from_(TickV1)
                .tumbling(lambda t: t.time, seconds=(1, 10))
                .group_by(lambda t: t.symbol)
                .select(lambda t, w: BarV1(symbol=t.symbol, start=w.start, size=f.sum(t.size)))
            )
        )


class After(Context):
    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .tumbling(lambda t: t.time, seconds=(1, 10))
                .group_by(lambda t: (t.venue, t.symbol))
                .select(lambda t, w: Bar(venue=t.venue, symbol=t.symbol, start=w.start, size=f.sum(t.size)))
            )
        )


class InHours(Context):
    ticks: EventSet[Tick]
    old_hours: TableSet[HoursV1]
    hours: TableSet[Hours]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .based_on(Hours, open=lambda h: h.begins, close=lambda h: h.ends)
                .tumbling(lambda t: t.time, seconds=(1, 10), gaps=kandle.Gaps.SKIP)
                .group_by(lambda t: (t.venue, t.symbol))
                .select(lambda t, w: Bar(venue=t.venue, symbol=t.symbol, start=w.start, size=f.sum(t.size)))
            )
        )


def opened(cls: type[Context], folder: Path, seconds: float = 0) -> Any:
    return kandle.testing.context(cls, start=at(seconds), log={"path": folder})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A log in which programs of the old version have ticks of ten seconds, and their bars."""
    with opened(Before, tmp_path) as before:
        for second in range(10):
            before.ticks.add(TickV1("A", at(second), 1))
            before.ticks.add(TickV1("B", at(second), 2))
        before.clock.set(at(11))
        assert len(before.finals(BarV1, "1s", ["A"])) >= 10
    yield tmp_path


def sizes(market: Any, timeframe: str, *key: str) -> dict[float, int]:
    return {(bar.start - NOON).total_seconds(): bar.size for bar in market.finals(Bar, timeframe, key)}


def test_a_query_reads_the_events_of_both_versions_each_once(folder: Path) -> None:
    with opened(After, folder, 11) as after:
        after.ticks.add(Tick("north", "A", at(11), 5))
        after.clock.set(at(20))
        assert sizes(after, "10s", "north", "A") == {0: 10, 10: 5}
        assert sizes(after, "10s", "north", "B") == {0: 20, 10: 0}
        assert after.health().queries[0].lag == 0


def test_a_query_waits_for_the_old_topic_before_it_closes_buckets(folder: Path) -> None:
    with opened(After, folder, 11) as after:
        after.clock.set(at(60))
        assert sum(sizes(after, "10s", "north", "A").values()) == 10


def test_an_event_that_cannot_be_upgraded_is_a_dead_letter_and_stops_nobody(folder: Path) -> None:
    with opened(Before, folder, 12) as before:
        before.ticks.add(TickV1("A", at(12), 0))
        before.ticks.add(TickV1("A", at(12), 3))
    with opened(After, folder, 13) as after:
        after.clock.set(at(20))
        assert sizes(after, "10s", "north", "A") == {0: 10, 10: 3}
        assert after.health().queries[0].counters.rejected == 1


def test_a_schedule_has_the_rows_of_both_versions(tmp_path: Path) -> None:
    with opened(InHours, tmp_path) as market:
        market.old_hours.add(HoursV1("A", 1, at(0), at(2)))
        market.hours.add(Hours("north", "B", 1, at(0), at(1)))
        for second in range(4):
            market.ticks.add_many([Tick("north", "A", at(second), 1), Tick("north", "B", at(second), 1)])
        market.clock.set(at(10))
        assert sizes(market, "10s", "north", "A") == {0: 2}
        assert sizes(market, "10s", "north", "B") == {0: 1}
        market.hours.add(Hours("north", "A", 1, at(0), at(30)))
        market.ticks.add(Tick("north", "A", at(11), 7))
        market.clock.set(at(20))
        assert sizes(market, "10s", "north", "A")[10] == 7


def test_reads_have_older_bars_in_the_form_of_the_new_ones(folder: Path) -> None:
    class Reader(Context):
        bars: BarSet[Bar]
        ticks: EventSet[Tick]
        on_model_creating = After.on_model_creating

    with opened(Reader, folder, 11) as reader:
        # Nothing was made anew yet.
        first = reader.bars("10s").to_list(["north", "A"])
    assert first == [Bar("north", "A", at(0), 10)]


def test_finals_that_were_copied_are_not_made_again(folder: Path) -> None:
    market: Any = opened(After, folder, 11)
    plan = market._plans[Bar]
    with opened(After, folder, 11) as after:
        # The query has not begun: nothing is due in a context that was opened just now.
        results = [rekey(after._host.log, pair) for pair in bar_pairs(plan)]
        assert all(result.is_whole and result.copied for result in results)
        after.ticks.add(Tick("north", "A", at(12), 5))
        after.clock.set(at(20))
        assert sizes(after, "10s", "north", "A") == {0: 10, 10: 5}
        bars = [message.value for message in _taken(after.bars("10s").messages(), 4)]
        assert sorted((bar.symbol, bar.start) for bar in bars) == [("A", at(0)), ("A", at(10)), ("B", at(0)), ("B", at(10))]


def _taken(messages: Any, count: int) -> list[Any]:
    taken = []
    for message in messages:
        taken.append(message)
        if len(taken) == count:
            return taken
    return taken


def test_bars_say_of_which_version_they_are(folder: Path) -> None:
    with opened(After, folder, 11) as after:
        after.clock.set(at(20))
        [message] = _taken(after.bars("10s").messages(), 1)
        assert message.headers["key-version"] == "2"


def test_a_query_does_not_write_two_versions_of_its_bars() -> None:
    @kandle.stream(
        "bars",
        key_version=2,
        previous=BarV1,
        upgrade=lambda old: Twice("x", old.start, 1),
        dual_write=True,
        downgrade=lambda new: BarV1(new.code, new.start, new.size),
    )
    @dataclass(frozen=True)
    class Twice:
        code: Annotated[str, Key(0)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        size: int

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Twice).to_query(
            lambda q: (
                q.from_(TickV1)
                .tumbling(lambda t: t.time, seconds=1)
                .group_by(lambda t: t.symbol)
                .select(lambda t, w: Twice(code=t.symbol, start=w.start, size=f.sum(t.size)))
            )
        )

    sets = {"ticks": EventSet[TickV1], "bars": BarSet[Twice]}
    cls: Any = type("Market", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})
    with pytest.raises(ModelError, match="Twice: dual_write is for what is added, and a query makes Twice"):
        cls.model()


def test_ksqldb_cannot_upgrade_records() -> None:
    with pytest.raises(QueryError, match="Tick has earlier versions of its key, and ksqlDB cannot call the function"):
        query_program(After.model().queries[Bar])


def test_versions_are_copied_one_after_the_other() -> None:
    entities = list(After.model().entities.values())
    assert next_version(entities, "BarV1", "Bar").cls is Bar
    with pytest.raises(ModelError, match="the version before Bar is BarV1, not 'TickV1'; copy one version after the other"):
        next_version(entities, "TickV1", "Bar")
    with pytest.raises(ModelError, match="BarV1 is an earlier version of Bar: name the former class first"):
        next_version(entities, "Bar", "BarV1")
