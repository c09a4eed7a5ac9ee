"""When finals come with a schedule: with the last close and the grace, in every zone, whatever the base is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.building import hours, t, tick
from tests.runtime.declarations import bars_market
from tests.testing.stories import health, in_topic, told


async def add_sessions(market: Any, *days: tuple[str, str, str]) -> None:
    await market.hours.add_many_async([hours(f"{day}T{opens}", f"{day}T{closes}") for day, opens, closes in days])


@pytest.mark.parametrize("sizes", [{"minutes": 1, "days": 1}, {"days": 1}])
def test_a_trading_day_is_final_with_its_last_close_and_grace_whatever_the_base_is(sizes: dict[str, int]) -> None:
    """
    Friday   14:30 |===== o ====| 21:00   21:00:05 final        05:00 midnight in New York
    """

    async def story(market: Any) -> None:
        await add_sessions(market, ("2024-03-08", "14:30", "21:00"), ("2024-03-11", "13:30", "20:00"))
        await market.clock.set_async(t("15:00"))
        await market.ticks.add_async(tick("15:00", 5))
        await market.clock.set_async(t("21:00:04.999999"))
        assert in_topic(market, "1d") == []
        await market.clock.set_async(t("21:00:05"))
        assert [(bar.start, bar.ticks) for bar in in_topic(market, "1d")] == [(hours("14:30", "21:00").opens, 1)]

    told(bars_market(scheduled=True, by_day=True, tz="America/New_York", grace="5s", **sizes), story, "2024-03-08T00:00")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide",
                                  "America/St_Johns", "Pacific/Chatham", "Asia/Tehran"])  # fmt: skip
@pytest.mark.parametrize("by_day", [True, False])
def test_weeks_and_months_after_the_last_known_session_are_final_in_every_zone(zone: str, by_day: bool) -> None:
    """Close them at midnights of the zone, which in some zones are on no hour of UTC."""

    async def story(market: Any) -> None:
        await add_sessions(market, ("2024-11-21", "04:00", "07:30"))
        await market.clock.set_async(t("2024-11-21T05:00"))
        await market.ticks.add_async(tick("2024-11-21T05:00", 5))
        for until, counts in (("2024-11-21T04:59", [0, 0, 0]), ("2024-11-25T12:00", [1, 1, 0]), ("2024-12-01T12:00", [1, 1, 1])):
            await market.clock.set_async(max(t(until), t("2024-11-21T05:00")))
            assert [len(in_topic(market, timeframe)) for timeframe in ("1d", "1wk", "1mo")] == counts

    context = bars_market(scheduled=True, by_day=by_day, tz=zone, days=1, weeks=1, months=1)
    told(context, story, "2024-11-20T00:00")


@pytest.mark.parametrize("first", ["1970-01-01T00:00", "1969-12-31T23:59:59", "2034-01-01T00:00"])
def test_one_wrong_time_among_the_first_events_takes_nothing_from_the_others_and_fills_a_week_at_most(first: str) -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:10", 5, "B"), tick(first, 1), tick("14:31:10", 6), tick("14:32:10", 7)])
        await market.clock.set_async(t("14:34"))
        counters = health(market).counters
        assert counters.late == 0
        assert counters.timeframes["1m"].gaps <= 7 * 24 * 60 + 20
        bars = [bar for bar in in_topic(market, "1m") if bar.ticks and bar.start.year == 2024]
        assert [(bar.symbol, bar.start.minute) for bar in bars] == [("B", 30), ("A", 31), ("A", 32)]

    told(bars_market(minutes=1), story, "14:33")


def test_a_live_query_fills_however_many_bars_there_are_to_be_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many keys that were away for days need more bars than any file; a backfill asks whether some time is wrong."""
    monkeypatch.setattr("kandle.engine.closing.LARGEST_SILENCE", 100)

    async def story(market: Any) -> None:
        await market.ticks.add_many_async([tick("14:30:10", 5, symbol) for symbol in "ABCDE"])
        await market.clock.set_async(t("16:30"))
        assert len(in_topic(market, "1m")) == 5 * 120

    told(bars_market(minutes=1), story)
