"""When buckets are complete, trading dates, and very many schedules at once, against brute force."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import ScheduleError, TimeframeError
from kandle.time import sessions as sessions_module
from kandle.time.buckets import buckets
from kandle.time.sessions import SessionCalendar, SessionRows
from kandle.time.slots import HoppingSlots, check_trading_days, slots
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, parse_instant
from tests.time.schedules import Row, at, calendar_of, row, schedules, tf

BEGIN, END = -2 * DAY, 4 * DAY


def own(rows: list[Row], key: Any) -> list[tuple[int, int]]:
    return sorted((opens, closes) for owner, opens, closes, _ in rows if owner == key)


@given(schedules(), st.sampled_from(["30s", "1m", "5m", "1h", "1d"]), st.booleans())
def test_a_bucket_is_complete_with_the_last_base_bucket_that_its_schedule_expects(
    rows: list[Row], text: str, is_whole: bool
) -> None:
    keys = [(number,) for number in range(3)]
    calendar = calendar_of(rows, is_whole=is_whole)
    of = slots(tf(text), zone="Asia/Kolkata", base=tf("30s"), calendar=calendar)
    for key, group in zip(keys, calendar.groups(keys), strict=True):
        spans = own(rows, key)
        starts = of.expected(int(group), BEGIN, END)
        groups = np.full(len(starts), group)
        for start, end, complete in zip(starts, of.end(groups, starts), of.complete(groups, starts), strict=True):
            # All sessions begin and end on a base bucket here.
            last = max(min(closes, end) for opens, closes in spans if opens < end and closes > start)
            is_known = is_whole or any(opens >= end for opens, _ in spans)
            assert complete == (last if is_known else end)


def test_the_end_of_a_session_inside_of_a_base_bucket_is_rounded_up_but_not_beyond_the_bucket() -> None:
    """
    04:00         04:12:30       04:15       next session
    [ session ----]     .         |          [
    1m base:      ...04:13        |          5m base: 04:15
    """
    calendar = calendar_of([row("2024-03-08T04:00", "2024-03-08T04:12:30"), row("2024-03-08T05:00", "2024-03-08T05:01")])
    start = at("2024-03-08T04:00")
    for base, timeframe, expected in (
        ("1m", "1h", "04:13"),
        ("5m", "1h", "04:15"),
        ("1s", "1h", "04:12:30"),
        ("5m", "5m", "04:05"),
    ):
        of = slots(tf(timeframe), base=tf(base), calendar=calendar)
        assert of.complete(np.zeros(1, np.int64), start) == at(f"2024-03-08T{expected}")


def test_the_last_session_that_is_known_may_be_followed_by_others_so_its_bucket_waits_for_its_end() -> None:
    sessions = [row("2024-03-08T04:00", "2024-03-08T04:12")]
    of = slots(tf("1h"), base=tf("1m"), calendar=calendar_of(sessions))
    assert of.complete(np.zeros(1, np.int64), at("2024-03-08T04:00")) == at("2024-03-08T05:00")
    # A session that begins later within the same hour does not say that the hour is over, one in the next hour does.
    of = slots(tf("1h"), base=tf("1m"), calendar=calendar_of([*sessions, row("2024-03-08T04:30", "2024-03-08T04:40")]))
    assert of.complete(np.zeros(1, np.int64), at("2024-03-08T04:00")) == at("2024-03-08T05:00")
    of = slots(tf("1h"), base=tf("1m"), calendar=calendar_of([*sessions, row("2024-03-08T05:00", "2024-03-08T05:40")]))
    assert of.complete(np.zeros(1, np.int64), at("2024-03-08T04:00")) == at("2024-03-08T04:12")


def test_a_key_without_rows_expects_nothing_and_a_bucket_without_sessions_ends_as_it_ends() -> None:
    calendar = calendar_of([row("2024-03-08T04:00", "2024-03-08T04:12", "2024-03-08")])
    for by_trading_day in (False, True):
        of = slots(tf("1d"), base=tf("1m"), calendar=calendar, by_trading_day=by_trading_day)
        assert len(of.expected(-1, BEGIN, parse_instant("2030-01-01"))) == 0
    two = calendar_of([row("2024-03-08T04:00", "2024-03-08T04:12"), row("2024-03-08T08:00", "2024-03-08T08:12")])
    of = slots(tf("1h"), base=tf("1m"), calendar=two)
    for group, text in ((-1, "04:00"), (0, "03:00"), (0, "05:00"), (0, "09:00")):
        start = at(f"2024-03-08T{text}")
        assert of.complete(np.array([group]), start) == start + HOUR


def test_a_session_of_years_is_looked_at_only_where_it_is_asked_for() -> None:
    """A second is one of a billion here: this would not end if all of them were made."""
    calendar = calendar_of([row("1990-01-01", "2090-01-01")])
    of = slots(tf("1s"), base=tf("1s"), calendar=calendar)
    begin = parse_instant("2024-03-08")
    assert of.expected(0, begin, begin + 3 * SECOND).tolist() == [begin + SECOND, begin + 2 * SECOND]


def test_without_a_calendar_every_bucket_is_expected() -> None:
    of = slots(tf("1m"), base=tf("1m"))
    nothing = np.zeros(2, np.int64)
    assert of.expected(0, 0, 4 * MINUTE).tolist() == [MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert of.start(nothing, np.array([59 * SECOND, MINUTE])).tolist() == [0, MINUTE]
    assert of.complete(nothing, np.array([0, MINUTE])).tolist() == [MINUTE, 2 * MINUTE]


@st.composite
def trading_dates(draw: st.DrawFn) -> list[Row]:
    """Sessions of two keys that open on the evening before their date; days off, breaks, half days."""
    rows: list[Row] = []
    first = date(2024, 2, 20)
    for key in ("a", "b"):
        for number in sorted(draw(st.sets(st.integers(0, 24), min_size=1, max_size=12))):
            day = first + timedelta(days=number)
            opens = parse_instant(day.isoformat()) - draw(st.integers(0, 3)) * HOUR
            length = draw(st.integers(1, 20)) * HOUR
            number_of_epoch = (day - date(1970, 1, 1)).days
            if draw(st.booleans()):
                rows.append(((key,), opens, opens + length, number_of_epoch))
            else:
                rows.append(((key,), opens, opens + length // 2, number_of_epoch))
                rows.append(((key,), opens + length // 2 + MINUTE, opens + length, number_of_epoch))
    return rows


def label(day: int, text: str) -> Any:
    label_date = date(1970, 1, 1) + timedelta(days=day)
    return {"1d": label_date, "1wk": label_date.isocalendar()[:2], "1mo": (label_date.year, label_date.month)}[text]


@given(trading_dates(), st.sampled_from(["1d", "1wk", "1mo"]))
def test_a_bucket_of_trading_dates_goes_from_their_first_open_to_their_last_close(rows: list[Row], text: str) -> None:
    calendar = calendar_of(rows)
    of = slots(tf(text), zone="America/New_York", base=tf("1m"), calendar=calendar, by_trading_day=True)
    for key in (("a",), ("b",)):
        spans: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for _, opens, closes, day in sorted(session for session in rows if session[0] == key):
            assert day is not None
            spans[label(day, text)].append((opens, closes))
        group = int(calendar.groups([key])[0])
        starts = of.expected(group, 0, 2**62)
        groups = np.full(len(starts), group)
        assert of.opened(groups, starts).tolist() == [sessions[0][0] for sessions in spans.values()]
        assert of.end(groups, starts).tolist() == [sessions[-1][1] for sessions in spans.values()]
        complete = of.complete(groups, starts)
        assert complete[:-1].tolist() == of.end(groups, starts)[:-1].tolist()
        # Nothing is known after the last one, so it waits for a midnight in New York.
        assert complete[-1] > of.end(groups, starts)[-1]
        assert buckets(tf("1d"), "America/New_York").floor(complete[-1:]) == complete[-1:]
        for start, inside in zip(starts, spans.values(), strict=True):
            instants = np.array([edge for opens, closes in inside for edge in (opens, closes - 1)])
            assert set(of.start(np.full(len(instants), group), instants).tolist()) == {int(start)}


def test_the_last_known_trading_dates_are_complete_when_the_zones_last_date_is_over() -> None:
    """
    New York      Fri 8, closes 16:00       Sat 00:00     Mon 11 00:00       1 April 00:00
    UTC                         21:00           05:00            04:00               04:00
    """
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00", "2024-03-08")])
    for text, expected in (("1d", "2024-03-09T05:00"), ("1wk", "2024-03-11T04:00"), ("1mo", "2024-04-01T04:00")):
        of = slots(tf(text), zone="America/New_York", base=tf("1m"), calendar=calendar, by_trading_day=True)
        start = of.start(np.zeros(1, np.int64), at("2024-03-08T14:30"))
        assert of.opened(np.zeros(1, np.int64), start) == at("2024-03-08T14:30")
        assert of.complete(np.zeros(1, np.int64), start) == at(expected)
        assert of.end(np.zeros(1, np.int64), start) == at("2024-03-08T21:00")


def test_a_base_of_trading_dates_is_complete_with_its_close_and_not_at_midnight() -> None:
    rows = [row("2024-03-08T14:30", "2024-03-08T21:00", "2024-03-08"), row("2024-03-11T13:30", "2024-03-11T20:00", "2024-03-11")]
    for text in ("1d", "1wk"):
        of = slots(tf(text), base=tf("1d"), calendar=calendar_of(rows), by_trading_day=True)
        start = of.start(np.zeros(1, np.int64), at("2024-03-08T14:30"))
        assert of.complete(np.zeros(1, np.int64), start) == at("2024-03-08T21:00")


def test_an_instant_whose_session_was_taken_away_belongs_to_the_session_before_it() -> None:
    """
    known          Fri 14:30 - 21:00         nothing on Thursday
    instants   Thu 20:00       Fri 20:00     Fri 21:00
    """
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00", "2024-03-08")])
    of = slots(tf("1d"), base=tf("1m"), calendar=calendar, by_trading_day=True)
    starts = of.start(np.zeros(3, np.int64), at("2024-03-07T20:00", "2024-03-08T20:00", "2024-03-08T21:00"))
    assert starts.tolist() == at("2024-03-07", "2024-03-08", "2024-03-08").tolist()


def test_a_bucket_whose_sessions_were_all_taken_away_still_ends() -> None:
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00", "2024-03-08")])
    of = slots(tf("1d"), zone="America/New_York", base=tf("1m"), calendar=calendar, by_trading_day=True)
    nothing = np.zeros(1, np.int64)
    assert of.opened(nothing, at("2024-03-07")) == at("2024-03-07T05:00")
    assert of.end(nothing, at("2024-03-07")) == of.complete(nothing, at("2024-03-07")) == at("2024-03-08T05:00")


def test_trading_dates_need_a_schedule_that_has_them() -> None:
    calendar = calendar_of([row("2024-03-08T14:30", "2024-03-08T21:00")])
    with pytest.raises(ScheduleError, match="1wk by trading date needs sessions with trading dates"):
        slots(tf("1wk"), base=tf("1m"), calendar=calendar, by_trading_day=True)


def test_sessions_of_one_trading_date_or_of_other_keys_may_share_a_base_bucket() -> None:
    rows = [
        row("2024-03-08T10:00", "2024-03-08T11:10", "2024-03-08"),
        row("2024-03-08T11:20", "2024-03-08T12:00", "2024-03-08"),
        row("2024-03-08T12:00", "2024-03-08T13:00", "2024-03-09"),
        row("2024-03-08T12:10", "2024-03-08T13:00", "2024-03-12", key="b"),
    ]
    check_trading_days(calendar_of(rows), tf("1h"))
    with pytest.raises(ScheduleError, match="share a bucket of 8h; declare a finer timeframe, for example 1h"):
        check_trading_days(calendar_of(rows), tf("8h"))


@pytest.mark.parametrize(
    ("opens", "base", "advice"),
    [
        ("2024-03-08T12:07", "1h", "declare a finer timeframe, for example 5m$"),
        ("2024-03-08T12:00:31", "1h", "declare a finer timeframe, for example 30s$"),
        ("2024-03-08T12:00:30.6", "1m", "declare a finer timeframe, for example 30s$"),
        ("2024-03-08T12:00:00.6", "1s", "correct one of them$"),
    ],
)
def test_sessions_that_share_a_base_bucket_are_told_which_timeframe_separates_them(opens: str, base: str, advice: str) -> None:
    rows = [
        row("2024-03-08T10:00", "2024-03-08T12:00:00.5", "2024-03-08"),
        row(opens, "2024-03-08T13:00", "2024-03-09"),
    ]
    with pytest.raises(ScheduleError, match=advice):
        check_trading_days(calendar_of(rows), tf(base))


@given(schedules(keys=4), st.lists(st.tuples(st.integers(0, 4), st.integers(BEGIN, END)), max_size=30))
def test_very_many_schedules_are_searched_one_by_one_with_the_same_result(rows: list[Row], asked: list[tuple[int, int]]) -> None:
    calendar = calendar_of(rows)
    groups = calendar.groups([(key,) for key, _ in asked])
    instants = np.array([instant for _, instant in asked], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions_module, "MOST_CELLS", -(2**40))
        one_by_one = calendar.locate(groups, instants)
    assert one_by_one.tolist() == calendar.locate(groups, instants).tolist()


def test_a_year_of_sessions_of_ten_thousand_keys_is_one_table() -> None:
    keys, days = 10_000, 250
    opens = np.tile(np.arange(days) * DAY, keys)
    rows = SessionRows([(key,) for key in range(keys)], np.repeat(np.arange(keys), days), opens, opens + 8 * HOUR)
    calendar = SessionCalendar(rows)
    assert (calendar.group_count, len(calendar.opens)) == (1, days)
    assert set(calendar.groups([(0,), (9_999,)]).tolist()) == {0}


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-10_000 * SECOND, 10_000 * SECOND))
def test_hopping_windows_that_hold_an_instant_are_those_that_begin_up_to_their_size_before(
    hops: int, seconds: int, instant: int
) -> None:
    advance, size = tf(f"{seconds}s"), tf(f"{hops * seconds}s")
    starts = buckets(advance).range(instant - 2 * size.size, instant + 2 * size.size)
    brute = [int(start) for start in starts if start <= instant < start + size.size]
    assert sorted(HoppingSlots(size, advance).starts(np.array([instant]))[0].tolist()) == brute


@given(schedules(keys=1), st.integers(BEGIN, END), st.integers(0, 30))
def test_hopping_windows_are_expected_where_they_overlap_a_session(rows: list[Row], after: int, hours: int) -> None:
    calendar = calendar_of(rows)
    group = int(calendar.groups([(0,)])[0])
    size, advance, before = tf("1h"), tf("15m"), after + hours * HOUR
    starts = buckets(advance).range(after + 1, before)
    spans = own(rows, (0,))
    brute = [
        int(start)
        for start in starts
        if start > after and any(opens < start + size.size and closes > start for opens, closes in spans)
    ]
    expected = HoppingSlots(size, advance, calendar).expected(group, after, before)
    assert expected.tolist() == brute


def test_an_advance_that_does_not_divide_the_size_is_refused() -> None:
    with pytest.raises(TimeframeError, match="a window of 5m cannot advance by 2m"):
        HoppingSlots(tf("5m"), tf("2m"))
    with pytest.raises(TimeframeError, match="1d has no fixed size"):
        HoppingSlots(tf("1d"), tf("1h"))
