"""Late events: counted, kept when that was asked for, and never in a bar; grace by timeframe."""

from __future__ import annotations

from typing import Any

import pytest

from kandle import Late
from kandle.context.context import state_of
from kandle.time.timeframe import from_instant
from tests.runtime.building import rows, t, tick
from tests.runtime.declarations import bars_market
from tests.testing.stories import health, in_topic, minutes, told


def counts(market: Any, timeframe: str = "1m") -> list[tuple[int, int]]:
    return [(bar.start.minute, bar.ticks) for bar in in_topic(market, timeframe)]


@pytest.mark.parametrize(("arrival", "is_late"), [("14:30:59.999999", 0), ("14:31", 0), ("14:31:01.999999", 0), ("14:31:02", 1)])
def test_an_event_counts_until_end_and_grace_of_its_bucket_are_over(arrival: str, is_late: int) -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10"))
        await market.clock.set_async(t(arrival))
        await market.ticks.add_async(tick("14:30:20"))
        await market.clock.set_async(t("14:31:10"))
        assert counts(market) == [(30, 2 - is_late)]
        assert health(market).counters.late == is_late

    told(bars_market(minutes=1, grace="2s"), story)


@pytest.mark.parametrize("late", [Late.TOPIC, Late.DROP])
def test_late_events_are_counted_and_kept_where_it_was_asked_for(late: Late) -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("14:32"))
        await market.ticks.add_many_async([tick("14:30:20", 99, size=7), tick("14:32:10", 6), tick("14:31:59", 98, "B")])
        await market.clock.set_async(t("14:33"))
        assert health(market).counters.late == 2
        assert counts(market) == [(30, 1), (31, 0), (32, 1)]
        names = [topic.name for topic in state_of(market).log.topics()]
        assert ("bars_late" in names) == (late is Late.TOPIC)
        if late is Late.TOPIC:
            kept = [(row["symbol"], row["price"], row["size"]) for row in rows(state_of(market).log, "bars_late")]
            assert kept == [("A", 99_000_000, 7), ("B", 98_000_000, 1)]

    told(bars_market(minutes=1, late=late), story)


def test_each_timeframe_closes_after_its_own_grace() -> None:
    """
    14:34:30 o   14:35:02  the 1m bar of 14:34 is final     14:36:10  the 5m bar of 14:30 is
    """

    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:34:30"))
        for moment, ones, fives in [
            ("14:35:01.999999", 0, 0),
            ("14:35:02", 1, 0),
            ("14:36:09.999999", 2, 0),
            ("14:36:10", 2, 1),
        ]:
            await market.clock.set_async(t(moment))
            found = len(minutes(market)), len(minutes(market, "5m"))
            assert found == (ones, fives), moment

    told(bars_market(minutes=(1, 5), grace={"1m": "2s", "5m": "70s"}), story)


def test_an_event_that_is_late_for_the_base_is_in_no_bar_above_however_long_their_grace() -> None:
    """Higher bars are made of finals, so that all timeframes agree."""

    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:34:30", 5))
        await market.clock.set_async(t("14:35:02"))
        await market.ticks.add_async(tick("14:34:40", 99))
        await market.clock.set_async(t("14:36:10"))
        assert [(bar.ticks, bar.high) for bar in in_topic(market, "5m")] == [(1, 5)]
        assert health(market).counters.late == 1

    told(bars_market(minutes=(1, 5), grace={"1m": "2s", "5m": "70s"}), story)


def test_a_timeframe_without_a_grace_of_its_own_has_that_of_what_it_is_made_from() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:34:30"))
        await market.clock.set_async(t("14:35:09.999999"))
        assert minutes(market) == minutes(market, "5m") == []
        await market.clock.set_async(t("14:35:10"))
        assert len(minutes(market)) == len(minutes(market, "5m")) == 1

    told(bars_market(minutes=(1, 5), grace={"1m": "10s"}), story)


def test_an_event_of_the_future_makes_no_other_late() -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick(from_instant(t("2034-01-01T00:00")), 9, "B"))
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("14:31"))
        assert counts(market) == [(30, 1)]
        assert health(market).counters.late == 0

    told(bars_market(minutes=1), story)
