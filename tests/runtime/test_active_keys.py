"""Which keys should be there: of the schedule, of the configuration, and seen; keys that appear, expire and come back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import kandle.testing
from kandle import Context
from kandle.errors import OptionsError
from kandle.plan.plan import plan
from kandle.runtime.active_keys import ActiveKeys, key_names
from kandle.runtime.counters import QueryHealth
from tests.runtime.building import at, hours, tick
from tests.runtime.declarations import Bar, bars_market
from tests.time.schedules import calendar_of, row

PLAN = plan(bars_market(minutes=1).model().queries[Bar])


def test_keys_that_were_seen_are_those_of_all_tasks() -> None:
    tasks = [pl.DataFrame({"symbol": ["A", "B"], "_key": [0, 1]}), None, pl.DataFrame({"symbol": ["C"], "_key": [0]})]
    assert ActiveKeys(PLAN).observed(tasks) == {"A", "B", "C"}
    assert ActiveKeys(PLAN).observed([]) == set()


def test_silent_are_those_that_are_configured_or_scheduled_and_were_not_seen() -> None:
    of = ActiveKeys(PLAN, [("A",), ("X",)])
    assert of.silent({"A", "S"}, None) == {"X"}
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00", key=key) for key in ("S", "T")])
    assert of.silent({"A", "S"}, calendar) == {"X", "T"}
    assert ActiveKeys(PLAN).silent(set(), None) == set()


def test_unscheduled_are_those_that_are_configured_or_were_seen_and_have_no_sessions() -> None:
    of = ActiveKeys(PLAN, [("A",), ("S",)])
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00", key=key) for key in ("S", "T")])
    assert of.unscheduled({"B", "T"}, calendar) == {"A", "B"}
    assert of.unscheduled({"B"}, None) == set()
    assert key_names({"B\0x", "A\0y", "C\0z"}, 2) == ("A, y", "B, x")


def test_keys_without_sessions_are_named_once_and_hold_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """
    A  listed, has sessions        B  listed, has none        C  not listed, has events and no sessions
    """

    async def story(market: Any) -> None:
        await market.hours.add_async(hours("14:30", "21:00"))
        await market.ticks.add_many_async([tick("14:30:10"), tick("14:30:10", symbol="C")])
        for _ in range(5):
            await market.clock.advance_async("1m")
        assert health(market).unscheduled_keys == ("B", "C")
        assert [bar.symbol for bar in await market.finals_async(Bar, "1m")] == ["A"] * 5
        await market.hours.add_async(hours("14:30", "21:00", "C"))
        await market.clock.advance_async("1m")
        assert health(market).unscheduled_keys == ("B",)

    run(bars_market(minutes=1, scheduled=True), story, universe={"keys": [["A"], ["B"]]})
    named = [record.message for record in caplog.records if "no sessions" in record.message]
    assert named == [f"Bar: no sessions in topic hours for the keys {key}" for key in "BC"]


def test_a_configured_key_with_too_many_or_too_few_parts_is_refused_by_name() -> None:
    expected = r"universe\.keys: \['A', 'B'\] has 2 parts, the group key of Bar has 1"
    with pytest.raises(OptionsError, match=expected):
        ActiveKeys(PLAN, [("A",), ("A", "B")])
    with pytest.raises(OptionsError, match=expected):
        run(bars_market(minutes=1), nothing, universe={"keys": [["A", "B"]]})


async def nothing(market: Any) -> None:
    """No story."""


def run(context: type[Context], story: Any, start: str = "14:30", **options: Any) -> None:
    async def told() -> None:
        async with kandle.testing.context(context, start=at(start), **options) as market:
            await story(market)

    asyncio.run(told())


def health(market: Any) -> QueryHealth:
    found: QueryHealth = market.health().queries[0]
    return found


def test_configured_keys_that_are_silent_are_counted_until_they_are_heard_of() -> None:
    async def story(market: Any) -> None:
        await market.clock.advance_async("1m")
        assert (health(market).keys, health(market).silent_keys) == (0, 3)
        await market.ticks.add_many_async([tick("14:31:10", symbol="A"), tick("14:31:10", symbol="Z")])
        await market.clock.advance_async("1m")
        assert (health(market).keys, health(market).silent_keys) == (2, 2)
        await market.ticks.add_many_async([tick("14:32:10", symbol="B"), tick("14:32:10", symbol="C")])
        await market.clock.advance_async("1m")
        assert (health(market).keys, health(market).silent_keys) == (4, 0)
        # Being expected makes no bars: before a key's first event there is none.
        assert {bar.symbol for bar in await market.finals_async(Bar, "1m")} == {"A", "B", "C", "Z"}

    run(bars_market(minutes=1), story, universe={"keys": [["A"], ["B"], ["C"]]})


def test_scheduled_keys_that_are_silent_are_counted_too() -> None:
    async def story(market: Any) -> None:
        await market.hours.add_many_async([hours("14:30", "21:00", symbol) for symbol in ("A", "B")])
        await market.ticks.add_async(tick("14:30:10", symbol="A"))
        await market.clock.advance_async("1m")
        assert (health(market).keys, health(market).silent_keys) == (1, 2)

    run(bars_market(minutes=1, scheduled=True), story, universe={"keys": [["C"]]})


def test_a_key_begins_with_its_first_event_and_not_before() -> None:
    """
    14:30  14:31  14:32  14:33
    A o      .      .      .       . a bar without events
             B      o      .
    """

    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", symbol="A"))
        await market.clock.advance_async("2m")
        await market.ticks.add_async(tick("14:32:10", symbol="B"))
        await market.clock.advance_async("2m")
        found = [(bar.symbol, bar.start.minute, bar.ticks) for bar in await market.finals_async(Bar, "1m")]
        assert found == [("A", 30, 1), ("A", 31, 0), ("A", 32, 0), ("A", 33, 0), ("B", 32, 1), ("B", 33, 0)]

    run(bars_market(minutes=1), story)


async def bars_of(market: Any, timeframe: str, symbol: str = "A") -> list[tuple[str, int]]:
    return [(bar.start.strftime("%H:%M:%S"), bar.ticks) for bar in await market.finals_async(Bar, timeframe, [symbol])]


def test_a_silent_key_expires_and_comes_back_with_its_next_event() -> None:
    """
    14:30:00  :05            :15            :40 :41     :51
       o   o   .  ...         .|              o  .  ...  .|
       last event in :01      expired         back
    """

    async def story(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:00", 1), tick("14:30:01.5", 2)])
        await market.clock.advance_async("39s")
        seconds = await bars_of(market, "1s")
        assert seconds == [("14:30:00", 1), ("14:30:01", 1), *((f"14:30:{second:02d}", 0) for second in range(2, 12))]
        await market.ticks.add_async(tick("14:30:40", 7))
        await market.clock.advance_async("1m")
        back = (await bars_of(market, "1s"))[len(seconds) :]
        assert back == [("14:30:40", 1), *((f"14:30:{second:02d}", 0) for second in range(41, 51))]
        minutes = await bars_of(market, "1m")
        assert minutes == [("14:30:00", 3)]
        gap = (await market.finals_async(Bar, "1s", ["A"]))[-1]
        assert (gap.open, gap.volume) == (7, 0)

    run(bars_market(seconds=1, minutes=1), story, universe={"expire_after": "10s"})


def test_a_key_that_has_events_often_enough_never_expires() -> None:
    async def story(market: Any) -> None:
        for number in range(6):
            await market.ticks.add_async(tick(at("14:30:00") + number * timedelta(seconds=10), number))
            await market.clock.advance_async("10s")
        assert len(await bars_of(market, "1s")) == 60

    run(bars_market(seconds=1), story, universe={"expire_after": "10s"})


def test_expiry_of_one_key_does_not_touch_the_others() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:00", symbol="A"), tick("14:30:00", symbol="B")])
        await market.clock.advance_async("8s")
        await market.ticks.add_async(tick("14:30:08", symbol="B"))
        await market.clock.advance_async("1m")
        assert len(await bars_of(market, "1s", "A")) == 11
        assert len(await bars_of(market, "1s", "B")) == 19

    run(bars_market(seconds=1), story, universe={"expire_after": "10s"})


@pytest.mark.parametrize(("expire_after", "expected"), [("auto", 7 * 24 + 1), ("never", 10 * 24), ("0s", 10 * 24), ("1d", 25)])
def test_without_a_schedule_a_key_usually_expires_after_seven_days(expire_after: str, expected: int) -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:00"))
        await market.clock.advance_async("10d")
        assert len(await bars_of(market, "1h")) == expected

    run(bars_market(hours=1), story, start="14:00", universe={"expire_after": expire_after})


def test_with_a_schedule_a_key_usually_never_expires() -> None:
    async def story(market: Any) -> None:
        await market.hours.add_many_async([hours("14:00", "16:00"), hours("2024-04-08T14:00", "2024-04-08T16:00")])
        await market.ticks.add_async(tick("14:30:00", 3))
        await market.clock.advance_async("40d")
        found = await market.finals_async(Bar, "1h")
        assert [(bar.start.isoformat()[:13], bar.close) for bar in found] == [
            ("2024-03-08T14", 3),
            ("2024-03-08T15", 3),
            ("2024-04-08T14", 3),
            ("2024-04-08T15", 3),
        ]

    run(bars_market(hours=1, scheduled=True), story, start="14:00")


def test_higher_bars_of_a_key_that_expired_within_them_hold_its_events() -> None:
    """
    14:30              14:35              14:40
      |o..........|      |                   |      1m bars end two minutes after the event
      |------- 5m -------|--- no bar --------|
    """

    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 4))
        await market.clock.advance_async("20m")
        assert await bars_of(market, "1m") == [("14:30:00", 1), ("14:31:00", 0), ("14:32:00", 0)]
        five = await market.finals_async(Bar, "5m")
        assert [(bar.start.minute, bar.close, bar.ticks) for bar in five] == [(30, 4, 1)]

    run(bars_market(minutes=(1, 5)), story, universe={"expire_after": "2m"})
