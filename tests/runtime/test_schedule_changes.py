"""A running query and its schedule: it waits for rows, and goes on with newer ones, whatever they change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import kandle.testing
from kandle import Context
from kandle.log.port import TopicPartition
from kandle.runtime.counters import QueryState
from tests.runtime.building import Parts, at, bars, hours, outwait, t, tick
from tests.runtime.declarations import Bar, bars_market

ASIDE = bars_market(minutes=(1, 5), hours=1, scheduled=True)


def parts_of(**settings: Any) -> Parts:
    return Parts(bars_market(**(dict[str, Any]({"minutes": 1, "scheduled": True}) | settings)), "14:00")


def story(context: type[Context], start: str, **options: object):  # type: ignore[no-untyped-def]
    return kandle.testing.context(context, start=at(start), **options)


def test_a_context_waits_for_its_schedule_says_so_and_goes_on_when_rows_come() -> None:
    async def waiting() -> None:
        async with story(ASIDE, "14:29") as market:
            await market.ticks.add_many_async([tick("14:30:10", 5), tick("14:31:10", 6)])
            await market.clock.advance_async("10m")
            health = market.health().queries[0]
            assert health.state is QueryState.WAITING_FOR_SCHEDULE
            assert health.problem == "Bar waits for rows of its schedule in topic hours"
            assert not market.health().is_healthy
            assert market.health().to_dict()["state"] == "waiting for schedule"
            assert await market.finals_async(Bar, "1m") == []
            assert health.counters.heartbeats_sent == 0
            await market.hours.add_async(hours("14:30", "21:00"))
            await market.clock.advance_async("10s")
            health = market.health().queries[0]
            assert (health.state, health.problem, health.schedule_sessions) == (QueryState.RUNNING, None, 1)
            found = await market.finals_async(Bar, "1m")
            assert [(bar.start.minute, bar.ticks) for bar in found] == [(30, 1), (31, 1), *((m, 0) for m in range(32, 39))]
            assert health.counters.late == 0

    asyncio.run(waiting())


def test_new_rows_take_effect_without_a_restart() -> None:
    """
    14:30            14:35    (row is added at 14:33)     14:40
      |=================|----------------------------------|
      |====================================================|
    """

    async def extended() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_async(hours("14:30", "14:35"))
            await market.ticks.add_async(tick("14:30:10", 5))
            await market.clock.advance_async("3m")
            await market.hours.add_async(hours("14:30", "14:40"))
            await market.clock.advance_async("30m")
            found = await market.finals_async(Bar, "1m")
            assert [bar.start.minute for bar in found] == list(range(30, 40))
            assert [bar.start.minute for bar in await market.finals_async(Bar, "5m")] == [30, 35]
            assert market.health().queries[0].counters.timeframes["1m"].gaps == 9

    asyncio.run(extended())


def test_a_row_that_is_taken_away_ends_its_session() -> None:
    async def shortened() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_async(hours("14:30", "14:33"))
            await market.hours.add_async(hours("15:00", "15:10", day="2024-03-09"))
            await market.ticks.add_async(tick("14:30:10", 5))
            await market.clock.advance_async("10m")
            await market.hours.remove_async(["A", at("2024-03-09T00:00").date()])
            await market.clock.advance_async("2h")
            assert [bar.start.minute for bar in await market.finals_async(Bar, "1m")] == [30, 31, 32]

    asyncio.run(shortened())


def test_contradicting_rows_show_in_health_and_stop_nothing() -> None:
    async def contradicted() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_async(hours("14:30", "14:35"))
            await market.ticks.add_async(tick("14:30:10", 5))
            await market.clock.advance_async("1m")
            await market.hours.add_async(hours("14:32", "14:50", day="2024-03-09"))
            await market.clock.advance_async("1m")
            health = market.health().queries[0]
            assert health.state is QueryState.RUNNING
            assert "overlaps" in str(health.problem)
            await market.ticks.add_async(tick("14:32:10", 7))
            await market.clock.advance_async("10m")
            assert [(bar.start.minute, bar.ticks) for bar in await market.finals_async(Bar, "1m")] == [
                (30, 1),
                (31, 0),
                (32, 1),
                (33, 0),
                (34, 0),
            ]
            await market.hours.remove_async(["A", at("2024-03-09T00:00").date()])
            await market.clock.advance_async("1m")
            assert market.health().queries[0].problem is None

    asyncio.run(contradicted())


def test_ticks_outside_of_sessions_are_counted_and_make_no_bars() -> None:
    async def outside() -> None:
        async with story(ASIDE, "14:20") as market:
            await market.hours.add_async(hours("14:30", "14:35"))
            await market.ticks.add_many_async(
                [tick("14:29:59.999999"), tick("14:30:00", 2), tick("14:35:00"), tick("14:30:00", 1, "B")]
            )
            await market.clock.advance_async("1h")
            found = await market.finals_async(Bar, "1m")
            assert [(bar.symbol, bar.start.minute, bar.ticks) for bar in found] == [
                ("A", 30, 1),
                *(("A", m, 0) for m in range(31, 35)),
            ]
            counters = market.health().queries[0].counters
            assert (counters.events, counters.outside_sessions, counters.late) == (4, 3, 0)

    asyncio.run(outside())


def test_a_restored_task_goes_on_with_the_schedule_that_it_had_and_then_with_the_newer_one() -> None:
    parts = parts_of(minutes=(1, 5))
    parts.clock.jump(t("14:30"))
    parts.add(hours("14:30", "14:40"))
    parts.add(tick("14:30:10", 5), tick("14:33:10", 6))
    first = parts.worker(context=parts.context(parts.provider()))
    first.step()
    first.close()
    # While nobody runs, the session is cut short.
    parts.add(hours("14:30", "14:37"))
    parts.clock.jump(t("14:50"))
    parts.add(tick("14:36:10", 7))
    second = parts.worker(context=parts.context(parts.provider()))
    second.step()
    parts.clock.jump(t("2024-03-09T14:30"))
    parts.add(tick("2024-03-09T14:30", 8))
    second.step()
    # The newer rows end the session at 14:37.
    assert [bar.start.minute for bar in bars(parts.log, "bars_1m_final")] == [30, 31, 32, 33, 34, 35, 36]
    assert [(bar.start.minute, bar.ticks) for bar in bars(parts.log, "bars_5m_final")] == [(30, 2), (35, 1)]


@pytest.mark.parametrize("newer", [hours("14:30", "14:35"), hours("15:30", "15:40")])
def test_a_session_that_is_cut_short_under_an_open_bucket_does_not_stop_the_query(newer: object) -> None:
    """An early close or a halt, of which the schedule hears while ticks are in an open bucket.

    14:30          14:35 14:36     14:40
      |===============|====o==========|
      |===============|                    the newer row
    """

    async def shortened() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_async(hours("14:30", "14:40"))
            await market.ticks.add_many_async([tick("14:30:10", 5), tick("14:30:10", 5, "B")])
            await market.hours.add_async(hours("14:30", "14:45", "B"))
            await market.clock.advance_async("6m")
            await market.ticks.add_async(tick("14:36:10", 6))
            await market.clock.advance_async("20s")
            await market.hours.add_async(newer)
            await market.clock.advance_async("30m")
            assert market.health().queries[0].state is QueryState.RUNNING
            found = [bar.start.minute for bar in await market.finals_async(Bar, "1m", ["A"])]
            assert found[:6] == list(range(30, 36))
            assert found[6:] in ([], [36])
            # The other keys of the partition have nothing to do with it.
            assert len(await market.finals_async(Bar, "1m", ["B"])) == 15

    asyncio.run(shortened())


def test_old_rows_that_are_taken_away_do_not_take_their_days_out_of_the_running_week() -> None:
    """
    Mon  Tue  Wed  Thu  Fri   one tick a day
     o    o    o    o    o
    the row of Monday is removed on Wednesday
    """
    context = bars_market(scheduled=True, by_day=True, minutes=1, days=1, weeks=1)

    async def cleaned_up() -> None:
        async with story(context, "2024-03-04T14:00") as market:
            for day in (4, 5, 6, 7, 8, 11, 12):
                await market.hours.add_async(hours(f"2024-03-{day:02d}T14:30", f"2024-03-{day:02d}T14:40"))
            for day in range(4, 9):
                await market.clock.set_async(t(f"2024-03-{day:02d}T14:32"))
                await market.ticks.add_async(tick(f"2024-03-{day:02d}T14:32:10", day))
                if day == 6:
                    await market.hours.remove_async(["A", at("2024-03-04T00:00").date()])
            await market.clock.set_async(t("2024-03-12T14:40"))
            assert [bar.ticks for bar in await market.finals_async(Bar, "1d")] == [1, 1, 1, 1, 1, 0]
            assert [(bar.open, bar.close, bar.ticks) for bar in await market.finals_async(Bar, "1wk")] == [(4, 8, 5)]

    asyncio.run(cleaned_up())


def test_a_key_that_goes_on_with_the_sessions_that_it_had_does_so_after_a_restart() -> None:
    """
    hours   14:30-14:35 | wrong row, and the right one is removed by retention
    ticks   30             | restart | 32             36 closes all before it
    """
    parts = parts_of()
    parts.clock.jump(t("14:30"))
    parts.add(hours("14:30", "14:35"), hours("14:30", "14:33", "B"))
    first = parts.worker(context=parts.context(parts.provider()))
    parts.add(tick("14:30:10", 5), tick("14:30:10", 5, "B"))
    first.step()
    parts.add(hours("14:35", "14:30"))
    parts.clock.jump(t("14:31"))
    first.step()
    first.flush()
    parts.log.truncate(TopicPartition("hours", 0), 2)
    second = parts.worker(context=parts.context(parts.provider()))
    parts.clock.jump(t("14:36"))
    parts.add(tick("14:32:10", 7), tick("14:36:00", 7))
    second.step()
    # Nobody sends heartbeats here, so the ticks are held for some seconds.
    outwait(parts, second.step)
    second.flush()
    assert [(bar.start.minute, bar.ticks) for bar in bars(parts.log, "bars_1m_final") if bar.symbol == "A"] == [
        (30, 1),
        (31, 0),
        (32, 1),
        (33, 0),
        (34, 0),
    ]


def test_a_wrong_row_stops_nobody_else_and_its_own_key_begins_when_it_is_corrected() -> None:
    """
    A  14:30-14:40                         from the start
    B  14:40-14:30 (wrong)    at 14:33: 14:30-14:40
    """

    async def corrected() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_many_async([hours("14:30", "14:40"), hours("14:40", "14:30", "B")])
            for minute in range(30, 39):
                await market.ticks.add_many_async([tick(f"14:{minute}:10"), tick(f"14:{minute}:20", symbol="B")])
                if minute == 33:
                    assert "of key ('B',) closes before or when it opens" in str(market.health().queries[0].problem)
                    await market.hours.add_async(hours("14:30", "14:40", "B"))
                await market.clock.advance_async("1m")
            await market.clock.advance_async("5m")
            health = market.health().queries[0]
            assert (health.problem, health.counters.outside_sessions, health.counters.late) == (None, 3, 0)
            finals = await market.finals_async(Bar, "1m")
            ticks = {symbol: [(bar.start.minute, bar.ticks) for bar in finals if bar.symbol == symbol] for symbol in "AB"}
            assert ticks["A"] == [*((minute, 1) for minute in range(30, 39)), (39, 0)]
            assert ticks["B"] == [*((minute, 1) for minute in range(33, 39)), (39, 0)]

    asyncio.run(corrected())


def test_the_removal_of_the_last_row_is_obeyed() -> None:
    async def removed() -> None:
        async with story(ASIDE, "14:30") as market:
            await market.hours.add_async(hours("14:30", "21:00"))
            await market.ticks.add_async(tick("14:30:10"))
            await market.clock.advance_async("2m")
            await market.hours.remove_async(["A", at("14:30").date()])
            await market.clock.advance_async("1m")
            await market.ticks.add_async(tick("14:33:00"))
            # Without sessions no heartbeat comes, for which the tick is held once.
            await market.clock.advance_async("9m")
            await market.clock.advance_async("1m")
            health = market.health().queries[0]
            assert [bar.start.minute for bar in await market.finals_async(Bar, "1m")] == [30, 31]
            assert (health.state, health.schedule_sessions, health.counters.outside_sessions) == (QueryState.RUNNING, 0, 1)

    asyncio.run(removed())
