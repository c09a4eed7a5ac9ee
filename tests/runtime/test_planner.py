"""Which heartbeats are due: buckets in session that are over with their grace, each once, none of them forgotten."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.errors import OptionsError
from kandle.runtime.planner import DueHeartbeat, HeartbeatPlanner, check_backfill
from kandle.time.closings import ClosingSpec
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, Timeframe, from_instant, parse_instant
from tests.time.schedules import Row, calendar_of, row, schedules


def t(text: str) -> int:
    """An instant of Friday, 2024-03-08, or one that is written in full."""
    return parse_instant(text if "-" in text else f"2024-03-08T{text}")


def planner(
    base: str = "1m",
    graces: Sequence[int] = (0,),
    *,
    backfill: int = MINUTE,
    sessions: SessionCalendar | None = None,
    zone: str = "UTC",
) -> HeartbeatPlanner:
    spec = ClosingSpec(Timeframe.parse(base), zone=zone)
    return HeartbeatPlanner(spec, graces, backfill=backfill, calendar=lambda: sessions)


def starts(beats: Sequence[DueHeartbeat]) -> list[str]:
    return [from_instant(beat.start).strftime("%H:%M:%S") for beat in beats]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("14:30:00", []),
        ("14:30:59.999999", []),
        ("14:31:01.999999", []),
        ("14:31:02", ["14:30:00"]),
        ("14:31:02.000001", ["14:30:00"]),
    ],
)
def test_a_bucket_is_due_when_its_end_and_the_grace_are_over_and_not_before(now: str, expected: list[str]) -> None:
    """
    14:30     14:31   14:31:02
      |---------|--------|
      bucket     grace   due
    """
    assert starts(planner(graces=[2 * SECOND]).due(t(now), t("14:30:02"))) == expected


def test_a_heartbeat_says_its_bucket_and_when_it_was_over() -> None:
    beat = DueHeartbeat(instant=t("14:31:02"), start=t("14:30:00"), grace=2 * SECOND)
    assert planner(graces=[2 * SECOND]).due(t("14:31:30"), t("14:30:02")) == [beat]


def test_every_grace_has_a_heartbeat_of_its_own() -> None:
    """
    14:30     14:31     14:31:02             14:32   14:32:02
      |---------|----------|--------------------|-------|
                +0         +2s                 +0,+60s  +2s
    """
    found = planner(graces=[0, 2 * SECOND, MINUTE, 2 * SECOND], backfill=2 * MINUTE).due(t("14:32:02"), t("14:30:02"))
    assert [(from_instant(beat.start).minute, beat.grace // SECOND) for beat in found] == [
        (29, 60),
        (30, 0),
        (30, 2),
        (30, 60),
        (31, 0),
        (31, 2),
    ]
    assert [beat.instant for beat in found] == sorted(beat.start + MINUTE + beat.grace for beat in found)


def test_what_was_sent_is_not_due_again() -> None:
    found = planner().due(t("14:31:00"), None)
    assert starts(found) == ["14:30:00"]
    assert planner().due(t("14:31:59"), found[-1].instant) == []
    assert starts(planner().due(t("14:32:00"), found[-1].instant)) == ["14:31:00"]


@pytest.mark.parametrize(
    ("backfill", "expected"),
    [
        (0, ["14:29:00"]),
        (MINUTE - 1, ["14:29:00"]),
        (MINUTE, ["14:29:00"]),
        (MINUTE + 30 * SECOND, ["14:29:00"]),
        (MINUTE + 31 * SECOND, ["14:28:00", "14:29:00"]),
        (2 * MINUTE, ["14:28:00", "14:29:00"]),
    ],
)
def test_after_a_start_heartbeats_are_made_up_within_the_backfill(backfill: int, expected: list[str]) -> None:
    """
    14:28     14:29     14:30 14:30:30
      |---------|---------|----|
                o         o    now         ends of buckets
    """
    assert starts(planner(backfill=backfill).due(t("14:30:30"), None)) == expected


def test_the_usual_backfill_is_one_minute() -> None:
    seconds = HeartbeatPlanner(ClosingSpec(Timeframe.parse("1s")), [0]).due(t("14:30:00"), None)
    assert len(seconds) == 60
    assert (starts(seconds)[0], starts(seconds)[-1]) == ("14:29:00", "14:29:59")


def test_a_backfill_of_more_than_two_minutes_is_refused_by_name() -> None:
    assert check_backfill(2 * MINUTE) == 2 * MINUTE
    expected = "a backfill of heartbeats is at most 2m; a longer one is not needed"
    with pytest.raises(OptionsError, match=re.escape(expected)):
        planner(backfill=150 * SECOND)
    with pytest.raises(OptionsError, match=r"a backfill of heartbeats is at most 2m"):
        check_backfill(2 * MINUTE + 1)
    with pytest.raises(OptionsError, match=r"a backfill of heartbeats is at most 2m"):
        check_backfill(-1)


def test_after_two_days_off_the_newest_heartbeat_is_due_even_if_it_is_older_than_the_backfill() -> None:
    """Friday's session ends at 21:00:30, and nobody was there from 20:58:10 until Saturday."""
    sessions = calendar_of([row("2024-03-08T14:30", "2024-03-08T20:50:30")])
    found = planner(sessions=sessions).due(t("20:59:30"), t("20:48:00"))
    assert starts(found) == ["20:50:00"]
    found = planner(sessions=sessions).due(t("2024-03-10T12:00:30"), t("20:48:00"))
    # The newest is the one that is sent every hour outside of sessions; it says of all that is before it that it is over.
    assert [beat.instant for beat in found] == [t("2024-03-10T12:00:00")]


def test_a_session_that_ended_long_ago_and_off_the_hour_is_closed_by_a_base_that_never_ends_on_the_hour() -> None:
    """Buckets of seven minutes end on the hour once in 420 minutes, so the newest due one may lie far back."""
    sessions = calendar_of([row("2024-03-08T00:00", "2024-03-08T00:30")])
    found = planner("7m", sessions=sessions).due(t("04:00"), None)
    assert len(found) == 1
    size = 7 * MINUTE
    ends = range((t("00:30") + size - 1) // size * size, t("04:00") + 1, size)
    expected = max(end for end in ends if end % HOUR == 0 or end - size < t("00:30"))
    assert found[0].instant == expected


def test_only_buckets_that_overlap_a_session_are_due_but_for_one_an_hour() -> None:
    """
            11:30:00    12:30:00      14:15:30
    ---------|===========|  lunch  |=====|------  sessions
    09:00                       13:00
    """
    sessions = calendar_of([row("2024-03-08T09:00", "2024-03-08T11:30"), row("2024-03-08T12:30", "2024-03-08T14:15:30")])
    of = planner(sessions=sessions, backfill=2 * MINUTE)
    last, found = t("08:00"), list[str]()
    for now in range(t("08:00"), t("16:00") + 1, MINUTE):
        beats = of.due(now, last)
        found += starts(beats)
        last = beats[-1].instant if beats else last

    def minutes(first: str, after: str) -> list[str]:
        return [from_instant(start).strftime("%H:%M:%S") for start in range(t(first), t(after), MINUTE)]

    inside = minutes("09:00", "11:30") + minutes("12:30", "14:16")
    hourly = ["08:59:00", "11:59:00", "14:59:00", "15:59:00"]
    assert found == sorted(inside + hourly)


def test_a_half_day_ends_heartbeats_early() -> None:
    sessions = calendar_of([row("2024-11-29T14:30", "2024-11-29T18:00"), row("2024-12-02T14:30", "2024-12-02T21:00")])
    of = planner(sessions=sessions)
    assert starts(of.due(t("2024-11-29T18:00"), t("2024-11-29T17:59"))) == ["17:59:00"]
    assert of.due(t("2024-11-29T18:30"), t("2024-11-29T18:00")) == []


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [("2024-03-08", "14:30", "21:00"), ("2024-03-11", "13:30", "20:00"), ("2024-11-04", "14:30", "21:00")],
)
def test_sessions_of_new_york_move_in_utc_with_its_clocks(day: str, opens: str, closes: str) -> None:
    """Half past nine in New York is 14:30 UTC in winter and 13:30 UTC in summer."""
    rows = [
        row("2024-03-08T14:30", "2024-03-08T21:00"),
        row("2024-03-11T13:30", "2024-03-11T20:00"),
        row("2024-11-04T14:30", "2024-11-04T21:00"),
    ]
    of = planner(sessions=calendar_of(rows))
    before, first = parse_instant(f"{day}T{opens}"), parse_instant(f"{day}T{opens}") + MINUTE
    assert of.due(before, before - 1) == []
    assert starts(of.due(first, before)) == [f"{opens}:00"]
    end = parse_instant(f"{day}T{closes}")
    assert len(of.due(end, end - MINUTE)) == 1
    assert of.due(end + MINUTE, end) == []


@pytest.mark.parametrize(("now", "start"), [("2024-03-30T23:00", 24), ("2024-03-31T22:00", 23), ("2024-10-27T23:00", 25)])
def test_days_of_a_zone_are_due_at_its_midnights(now: str, start: int) -> None:
    """Berlin's days have 23 and 25 hours when clocks change."""
    instant = parse_instant(now)
    of = planner("1d", zone="Europe/Berlin")
    [beat] = of.due(instant, instant - 1)
    assert (beat.instant, beat.instant - beat.start) == (instant, start * HOUR)
    assert of.due(instant - 1, instant - 10 * MINUTE) == []


def test_compaction_keeps_a_close_and_the_midnight_after_it() -> None:
    """Start and grace are the key of a heartbeat: two heartbeats of one day must not replace each other."""
    rows = [row(f"2024-03-{day}T14:30", f"2024-03-{day}T21:00", f"2024-03-{day}") for day in ("07", "08", "11")]
    spec = ClosingSpec(Timeframe.parse("1d"), zone="America/New_York", by_trading_day=True)
    of = HeartbeatPlanner(spec, [0], calendar=lambda: calendar_of(rows))
    last, heartbeats = t("2024-03-07T06:00"), list[DueHeartbeat]()
    for now in range(last, t("2024-03-12T06:00"), HOUR):
        heartbeats += of.due(now, last)
        last = max([last, *(beat.instant for beat in heartbeats)])
    instants = [from_instant(beat.instant).strftime("%d %H:%M") for beat in heartbeats]
    assert instants == ["07 21:00", "08 05:00", "08 21:00", "09 05:00", "10 05:00", "11 04:00", "12 04:00"]
    assert len({(beat.start, beat.grace) for beat in heartbeats}) == len(heartbeats)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/St_Johns", "Pacific/Chatham"])
def test_a_base_of_days_is_due_at_every_midnight_of_its_zone_also_outside_of_sessions(zone: str) -> None:
    of = planner("1d", sessions=calendar_of([row("2024-11-21T04:00", "2024-11-21T07:30")]), zone=zone)
    midnight = int(datetime(2024, 12, 24, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND
    assert [beat.instant for beat in of.due(midnight, midnight - HOUR)] == [midnight]
    assert of.due(midnight - 1, midnight - HOUR) == []


def test_a_session_without_schedule_rows_has_only_the_hourly_heartbeat() -> None:
    of = planner(sessions=calendar_of([]))
    assert of.due(t("14:35:00"), t("14:00:00")) == []
    assert starts(of.due(t("15:00:00"), t("14:00:00"))) == ["14:59:00"]


def test_a_clock_that_was_set_back_makes_nothing_due_again() -> None:
    """
    13:00                    14:00
      |------------------------|
     now (set back)           last sent
    """
    for base in ("1s", "1m", "1d"):
        assert planner(base).due(t("13:00"), t("14:00")) == []
    assert starts(planner().due(t("14:01"), t("14:00"))) == ["14:00:00"]


@pytest.mark.parametrize(
    ("now", "graces", "expected"),
    [
        ("14:30:00", [0], "14:31:00"),
        ("14:30:59.999999", [0], "14:31:00"),
        ("14:30:00", [2 * SECOND], "14:30:02"),
        ("14:30:02", [2 * SECOND], "14:31:02"),
        ("14:30:01", [0, 2 * SECOND], "14:30:02"),
        ("14:30:02", [0, 2 * SECOND], "14:31:00"),
        ("14:30:10", [90 * SECOND], "14:30:30"),
    ],
)
def test_the_next_instant_is_the_next_end_of_a_bucket_with_a_grace(now: str, graces: list[int], expected: str) -> None:
    assert from_instant(planner(graces=graces).next(t(now))) == from_instant(t(expected))


@settings(max_examples=120)
@given(
    rows=schedules(keys=2, most=4, hours=6),
    base=st.sampled_from(["1s", "1m", "5m"]),
    grace=st.sampled_from([0, 1, 2 * SECOND, 90 * SECOND]),
    moves=st.lists(st.integers(1, 110 * SECOND), min_size=1, max_size=25),
    begin=st.integers(0, 6 * HOUR),
)
def test_whoever_looks_often_enough_sends_every_bucket_of_a_session_once(
    rows: list[Row], base: str, grace: int, moves: list[int], begin: int
) -> None:
    sessions = calendar_of(rows)
    size = Timeframe.parse(base).size
    of = planner(base, [grace], backfill=2 * MINUTE, sessions=sessions)
    now, last, found = begin, begin, list[DueHeartbeat]()
    for move in moves:
        now += move
        beats = of.due(now, last)
        found += beats
        last = beats[-1].instant if beats else last
    expected = {
        start
        for start in range(0, now, size)
        if begin < start + size + grace <= now and any(opens < start + size and closes > start for _, opens, closes, _ in rows)
    }
    sent = [beat.start for beat in found]
    assert len(sent) == len(set(sent))
    assert expected <= set(sent)
    # Nothing else but those on the hour, and those whose grace reaches out of a session.
    for beat in found:
        near = any(opens < beat.start + size and closes > beat.start - grace for _, opens, closes, _ in rows)
        assert near or (beat.start + size) % HOUR == 0
        assert begin < beat.instant <= now


@settings(max_examples=120)
@given(
    st.integers(0, 3 * DAY),
    st.sampled_from(["1s", "1m", "15m", "1h"]),
    st.lists(st.integers(0, 3 * MINUTE), min_size=1, max_size=3),
)
def test_the_newest_heartbeat_after_any_time_off_is_as_new_as_can_be(off: int, base: str, graces: list[int]) -> None:
    now, size = t("14:30:17"), Timeframe.parse(base).size
    last = now - off
    found = planner(base, graces).due(now, last)
    newest = max((now - grace) // size * size + grace for grace in graces)
    assert (found[-1].instant if found else None) == (newest if newest > last else None)
    assert all(beat.instant > now - MINUTE for beat in found[:-1])
