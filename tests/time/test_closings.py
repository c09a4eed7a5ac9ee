"""Heartbeats are planned for every instant at which some bucket of some key is complete, in every zone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.time.arrays import IntArray
from kandle.time.closings import NEVER, ClosingSpec, closings
from kandle.time.sessions import SessionCalendar
from kandle.time.slots import HoppingSlots, slots
from kandle.time.timeframe import DAY, HOUR, MINUTE, from_instant, parse_instant
from tests.time.schedules import Row, at, calendar_of, row, schedules, tf

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/St_Johns",
         "Pacific/Chatham", "Asia/Tehran")  # fmt: skip
"""Midnights on the hour, and at 15, 30 and 45 minutes past it."""


def shown(instants: IntArray) -> list[str]:
    return [from_instant(int(instant)).strftime("%d %H:%M:%S") for instant in instants]


def all_complete(spec: ClosingSpec, calendar: SessionCalendar, before: int) -> set[int]:
    """Return when the expected buckets of all groups and timeframes are complete."""
    instants: set[int] = set()
    for timeframe in (spec.base, *spec.others):
        of = slots(timeframe, zone=spec.zone, base=spec.base, calendar=calendar, by_trading_day=spec.by_trading_day)
        for group in range(calendar.group_count):
            starts = of.expected(group, -1000 * DAY, before)
            instants |= set(of.complete(np.full(len(starts), group), starts).tolist())
    return instants


@given(schedules(), st.sampled_from(["30s", "15m"]), st.sampled_from(ZONES), st.booleans())
def test_every_bucket_of_every_timeframe_is_complete_at_a_planned_instant(
    rows: list[Row], base: str, zone: str, is_whole: bool
) -> None:
    calendar = calendar_of(rows, is_whole=is_whole)
    spec = ClosingSpec(tf(base), [tf(text) for text in ("30m", "90m", "4h", "1d", "1wk", "1mo")], zone=zone)
    planned = closings(spec, calendar).between(-DAY, 40 * DAY)
    assert all_complete(spec, calendar, 3 * DAY) <= set(planned.tolist())
    assert planned.tolist() == sorted(set(planned.tolist()))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("base", ["1m", "1d"])
@pytest.mark.parametrize("is_whole", [False, True])
def test_days_weeks_and_months_by_trading_date_are_complete_at_a_planned_instant(zone: str, base: str, is_whole: bool) -> None:
    rows = [
        row("2024-11-21T14:30", "2024-11-21T21:00", "2024-11-21", "a"),
        row("2024-11-24T23:00", "2024-11-25T18:00:00.5", "2024-11-25", "a"),
        row("2024-11-29T04:00", "2024-11-29T07:30", "2024-11-29", "b"),
        row("2024-11-30T04:00", "2024-11-30T04:07", "2024-11-30", "b"),
    ]
    calendar = calendar_of(rows, is_whole=is_whole)
    spec = ClosingSpec(tf(base), [tf(text) for text in ("1d", "1wk", "1mo") if text != base], zone=zone, by_trading_day=True)
    of = closings(spec, calendar)
    planned = of.between(parse_instant("2024-11-01"), parse_instant("2025-01-15"))
    expected = all_complete(spec, calendar, parse_instant("2025-01-15"))
    assert expected <= set(planned.tolist())
    # Whoever sleeps until the next instant misses none.
    for instant in expected:
        assert of.next(instant - 1) == instant


def test_the_last_close_of_a_trading_date_is_planned_and_so_is_the_midnight_of_the_last_one() -> None:
    """
    21   |== 14:30 - 21:00 ==|     22   |== 14:30 - 18:00 ==|     05:00 on the 23rd: midnight in New York ends the last one
    """
    calendar = calendar_of(
        [row(f"2024-11-{day}T14:30", f"2024-11-{day}T{close}", f"2024-11-{day}") for day, close in ((21, "21:00"), (22, "18:00"))]
    )
    of = closings(ClosingSpec(tf("1d"), zone="America/New_York", by_trading_day=True), calendar)
    planned = shown(of.between(parse_instant("2024-11-21T06:00"), parse_instant("2024-11-23T06:00")))
    assert planned == ["21 21:00:00", "22 05:00:00", "23 05:00:00"]
    assert of.ends(at("2024-11-21T20:59:59", "2024-11-21T21:00")).tolist() == at("2024-11-21T21:00", "2024-11-22T05:00").tolist()


def test_a_coarser_bucket_that_may_still_grow_is_planned_when_it_ends() -> None:
    """
    15:00 |== 15:10|         15:30    the half hour of the last known session ends
    """
    calendar = calendar_of([row("2024-03-08T15:00", "2024-03-08T15:10")])
    of = closings(ClosingSpec(tf("1m"), [tf("30m")]), calendar)
    assert shown(of.between(parse_instant("2024-03-08T15:08"), parse_instant("2024-03-08T15:59")))[-2:] == [
        "08 15:10:00",
        "08 15:30:00",
    ]


@given(schedules(keys=1), st.sampled_from([("20m", "1m"), ("90m", "30m")]))
def test_hopping_windows_are_complete_at_a_planned_instant(rows: list[Row], sizes: tuple[str, str]) -> None:
    size, advance = map(tf, sizes)
    calendar = calendar_of(rows)
    starts = HoppingSlots(size, advance, calendar).expected(0, -DAY, 4 * DAY) if rows else np.empty(0, np.int64)
    planned = closings(ClosingSpec(advance, windows=[size]), calendar).between(-DAY, 10 * DAY)
    assert set((starts + size.size).tolist()) <= set(planned.tolist())


def test_an_event_outside_of_all_sessions_waits_for_nothing() -> None:
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00")])
    of = closings(ClosingSpec(tf("1m")), calendar)
    times = at("2024-03-08T14:29:59", "2024-03-08T14:30", "2024-03-08T21:00")
    assert of.ends(times).tolist() == [NEVER, parse_instant("2024-03-08T14:31"), NEVER]


def test_without_a_schedule_all_base_buckets_are_planned() -> None:
    of = closings(ClosingSpec(tf("1m"), [tf("1h")]))
    assert of.between(0, 3 * MINUTE).tolist() == [MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert (of.next(0), of.next(MINUTE - 1), of.between(HOUR, HOUR).tolist()) == (MINUTE, MINUTE, [])
