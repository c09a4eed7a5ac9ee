"""Clocks that somebody sets, laptops that sleep, processes that were off: no final twice, none missing, and it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kandle.context.context import state_of
from kandle.errors import OptionsError, TimeframeError
from kandle.runtime.counters import QueryState
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, SECOND
from tests.runtime.building import hours, t, tick
from tests.runtime.declarations import Bar, bars_market
from tests.testing.stories import every_minute, health, in_topic, minutes, opened, told

PLAIN = bars_market(minutes=(1, 5), hours=1)
SCHEDULED = bars_market(minutes=(1, 5), hours=1, scheduled=True)


def test_a_clock_stepped_forward_by_hours_closes_and_fills_up_to_the_new_time() -> None:
    """
    14:30:10 o     14:31 ======> 17:30      o 15:00 (late)   o 17:30:10
    """

    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.advance_async("1m")
        await market.clock.jump_async(t("17:30"))
        assert minutes(market) == every_minute("14:30", "17:30")
        await market.ticks.add_many_async([tick("15:00:10", 6), tick("17:30:10", 7)])
        await market.clock.advance_async("1m")
        assert minutes(market) == every_minute("14:30", "17:31")
        assert [(bar.start.hour, bar.ticks) for bar in in_topic(market, "1h")] == [(14, 1), (15, 0), (16, 0)]
        assert [bar.close for bar in in_topic(market, "1m")] == [5] * 180 + [7]
        assert health(market).counters.late == 1

    told(PLAIN, story)


def test_a_clock_stepped_over_the_end_of_a_session_fills_the_session_and_no_more() -> None:
    """
    Friday 14:30 |==== 14:40 ~~~~ 21:00|              Monday 13:30 |====
                         `-------------- jump ----------> 13:32
    """

    async def story(market: Any) -> None:
        await market.hours.add_many_async([hours("14:30", "21:00"), hours("2024-03-11T13:30", "2024-03-11T20:00")])
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.advance_async("10m")
        await market.clock.jump_async(t("23:10"))
        assert minutes(market) == every_minute("14:30", "21:00")
        await market.clock.jump_async(t("2024-03-11T13:32"))
        await market.ticks.add_async(tick("2024-03-11T13:32:10", 6))
        await market.clock.advance_async("1m")
        assert minutes(market) == every_minute("14:30", "21:00") + every_minute("13:30", "13:33")
        found = [(bar.start.day, bar.start.hour, bar.ticks) for bar in in_topic(market, "1h")]
        assert found == [(8, hour, int(hour == 14)) for hour in range(14, 21)]
        assert health(market).counters.late == 0

    told(SCHEDULED, story)


@pytest.mark.parametrize("seconds", [1, 29, 31, 90])
def test_a_clock_stepped_back_by_seconds_makes_nothing_final_twice_and_loses_nothing(seconds: int) -> None:
    async def story(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("14:32:30"))
        sent = health(market).counters.heartbeats_sent
        await market.clock.jump_async(t("14:32:30") - seconds * SECOND)
        # Whoever has the right time sends events of the open minute, whoever has the wrong one perhaps of one that is final.
        await market.ticks.add_many_async([tick("14:32:20", 6), tick("14:31:59", 7)])
        state_of(market).settle()
        assert health(market).counters.late == 1
        await market.clock.set_async(t("14:32:59"))
        assert health(market).counters.heartbeats_sent == sent
        await market.clock.set_async(t("14:35"))
        assert minutes(market) == every_minute("14:30", "14:35")
        assert [bar.ticks for bar in in_topic(market, "1m")] == [1, 0, 1, 0, 0]
        assert [bar.ticks for bar in in_topic(market, "5m")] == [2]

    told(PLAIN, story)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_clock_stepped_back_by_hours_waits_for_the_old_time_and_goes_on_there(leaves: bool, tmp_path: Path) -> None:
    """
    14:30 ---- 16:00    real time
    13:00 ---- 14:00 ------- 16:00 ------- 16:10   by the clock that was set back

    What is over by the clock of before stays so, also for a process that was started in between.
    """

    async def before(market: Any) -> int:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("16:00"))
        return health(market).counters.heartbeats_sent

    async def after(market: Any) -> None:
        sent = health(market).counters.heartbeats_sent
        assert minutes(market) == every_minute("14:30", "16:00")
        await market.ticks.add_many_async([tick("13:59:10", 6), tick("16:00:10", 7)])
        await market.clock.set_async(t("15:59:59"))
        assert health(market).counters.late == 1
        assert health(market).counters.heartbeats_sent == sent
        assert minutes(market) == every_minute("14:30", "16:00")
        await market.clock.set_async(t("16:10"))
        assert minutes(market) == every_minute("14:30", "16:10")
        assert [bar.ticks for bar in in_topic(market, "5m")][-2:] == [1, 0]
        assert health(market).state is QueryState.RUNNING

    async def whole(market: Any) -> None:
        await before(market)
        await market.clock.jump_async(t("14:00"))
        await after(market)

    if leaves:
        told(PLAIN, before, "14:30", tmp_path / "log")
        told(PLAIN, after, "14:00", tmp_path / "log")
    else:
        told(PLAIN, whole)


def test_the_clock_of_a_test_goes_back_by_jump_only() -> None:
    async def story(market: Any) -> None:
        with pytest.raises(TimeframeError, match="a clock does not go back: 2024-03-08 14:29:59"):
            await market.clock.set_async(t("14:29:59"))
        await market.clock.jump_async(t("14:29:59"))
        assert market.clock.now() == t("14:29:59")

    told(PLAIN, story)


@pytest.mark.parametrize("ticks_first", [True, False])
def test_a_suspended_laptop_wakes_with_all_gaps_filled_and_takes_what_comes_then(ticks_first: bool) -> None:
    """
    14:30:10 o  o 14:30:40     (suspended for 8 hours)    22:30:50 wakes; o 22:30:45, and o 15:00 from a buffer

    Its first event after waking may be there before its first heartbeat, or after it: both give the same.
    """

    async def story(market: Any) -> list[tuple[Any, int, Any]]:
        await market.ticks.add_many_async([tick("14:30:10", 5), tick("14:30:40", 6)])
        await market.clock.advance_async("50s")
        woken = t("14:30:50") + 8 * HOUR
        if ticks_first:
            # The clock has moved, but nobody has looked at it yet.
            clock = state_of(market).clock
            assert isinstance(clock, ManualClock)
            clock.jump(woken)
        else:
            await market.clock.jump_async(woken)
        await market.ticks.add_many_async([tick("22:30:45", 7), tick("15:00", 8)])
        await market.clock.advance_async("10s")
        assert minutes(market) == every_minute("14:30", "22:31")
        counters = health(market).counters
        assert (counters.late, counters.timeframes["1m"].gaps, counters.fenced) == (1, 479, 0)
        return [(bar.start, bar.ticks, bar.close) for bar in in_topic(market, "1m")]

    found = told(PLAIN, story)
    assert [(ticks, close) for _, ticks, close in found] == [(2, 6)] + [(0, 6)] * 479 + [(1, 7)]


def test_a_start_in_the_middle_of_a_session_makes_bars_from_the_first_event_on() -> None:
    async def story(market: Any) -> None:
        await market.hours.add_async(hours("14:30", "21:00"))
        await market.clock.advance_async("5m")
        assert minutes(market) == []
        await market.ticks.add_async(tick("18:07:10", 5))
        await market.clock.set_async(t("19:00"))
        assert minutes(market) == every_minute("18:07", "19:00")
        assert [f"{bar.start:%H:%M}" for bar in in_topic(market, "5m")] == [f"18:{m:02d}" for m in range(5, 60, 5)]
        assert [(bar.start.hour, bar.ticks) for bar in in_topic(market, "1h")] == [(18, 1)]

    told(SCHEDULED, story, "18:02")


async def produced(market: Any) -> None:
    """A producer that only writes, while nobody runs the query."""
    await market.ticks.add_many_async([tick("14:45:10", 5), tick("14:47:10", 6)])


def test_events_that_were_there_before_the_start_are_in_their_bars(tmp_path: Path) -> None:
    told(PLAIN, produced, "14:48", tmp_path / "log", access="write_only")

    async def story(market: Any) -> None:
        assert minutes(market) == every_minute("14:45", "15:00")
        assert [bar.ticks for bar in in_topic(market, "1m")][:3] == [1, 0, 1]
        assert health(market).counters.late == 0

    told(PLAIN, story, "15:00", tmp_path / "log")


BACKFILLS = [("0s", 1), ("1m", 1), ("2m", 2)]


@pytest.mark.parametrize(("backfill", "heartbeats"), BACKFILLS)
def test_after_two_days_off_all_is_filled_with_no_more_heartbeats_than_the_backfill(
    tmp_path: Path, backfill: str, heartbeats: int
) -> None:
    """
    Friday 14:30 o 15:00 |  (off; a producer writes: o Saturday 10:00:10)  | Sunday 15:00
    """

    async def first(market: Any) -> None:
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("15:00"))

    async def meanwhile(market: Any) -> None:
        await market.ticks.add_async(tick("2024-03-09T10:00:10", 7))

    async def after(market: Any) -> None:
        found = in_topic(market, "1m")
        assert len(found) == len({bar.start for bar in found}) == 2 * 24 * 60 + 30
        assert [(f"{bar.start:%a %H:%M}", bar.close) for bar in found if bar.ticks] == [("Fri 14:30", 5), ("Sat 10:00", 7)]
        assert found[-1].start.strftime("%a %H:%M") == "Sun 14:59"
        assert len(in_topic(market, "1h")) == 49
        counters = health(market).counters
        assert (counters.heartbeats_sent, counters.late) == (heartbeats, 0)
        await market.ticks.add_async(tick("2024-03-10T14:59:59", 8))
        await market.clock.advance_async("1m")
        assert health(market).counters.late == 1

    folder = tmp_path / "log"
    told(PLAIN, first, "14:30", folder)
    told(PLAIN, meanwhile, "2024-03-09T10:00:11", folder, access="write_only")
    told(PLAIN, after, "2024-03-10T15:00", folder, heartbeat={"backfill": backfill})


def test_after_a_weekend_off_only_what_the_schedule_expects_is_filled(tmp_path: Path) -> None:
    async def friday(market: Any) -> None:
        await market.hours.add_many_async([hours("14:30", "21:00"), hours("2024-03-11T13:30", "2024-03-11T20:00")])
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("15:00"))

    async def monday(market: Any) -> None:
        await market.clock.advance_async("1s")
        assert minutes(market) == every_minute("14:30", "21:00") + every_minute("13:30", "14:00")
        assert {bar.close for bar in await market.finals_async(Bar, "1m")} == {5}

    told(SCHEDULED, friday, "14:30", tmp_path / "log")
    told(SCHEDULED, monday, "2024-03-11T14:00", tmp_path / "log")


@pytest.mark.parametrize("backfill", ["121s", "3m", "2d"])
def test_a_backfill_of_heartbeats_beyond_two_minutes_is_refused_with_the_reason(backfill: str) -> None:
    with pytest.raises(
        OptionsError, match=r"heartbeat\.backfill.*at most 2m; .*the first heartbeat after a start closes all older buckets"
    ):
        opened(PLAIN, "14:30", heartbeat={"backfill": backfill})


@pytest.mark.parametrize("context", [PLAIN, SCHEDULED], ids=["plain", "scheduled"])
def test_what_fell_due_while_nobody_was_there_is_done_at_the_first_look(context: Any, tmp_path: Path) -> None:
    """No event came meanwhile, so that nothing but the first heartbeat can tell."""

    async def before(market: Any) -> None:
        await market.hours.add_async(hours("14:30", "21:00"))
        await market.ticks.add_async(tick("14:30:10", 5))
        await market.clock.set_async(t("15:00"))

    async def after(market: Any) -> list[str]:
        return minutes(market)

    told(context, before, "14:30", tmp_path / "log")
    assert told(context, after, "16:00", tmp_path / "log") == every_minute("14:30", "16:00")
