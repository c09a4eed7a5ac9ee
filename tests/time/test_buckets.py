from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import TimeframeError
from kandle.time.arrays import IntArray
from kandle.time.buckets import Buckets, CalendarBuckets, buckets, local_midnights
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, Timeframe, Unit, from_instant, to_instant
from kandle.time.zones import zone_of, zone_offsets_divide
from tests.time.schedules import at, tf

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # no midnight on days of change before 2019
    "Asia/Beirut",  # the same
    "America/St_Johns",  # half an hour, and changes at 00:01 until 2011
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",  # left out 2011-12-30
    "Australia/Lord_Howe",  # changes by half an hour
]
CALENDAR_UNITS = [Unit.DAY, Unit.WEEK, Unit.MONTH]
moments = st.datetimes(datetime(1965, 1, 1), datetime(2045, 1, 1), timezones=st.just(UTC)).map(to_instant)
fixed = st.builds(Timeframe, st.integers(1, 200), st.sampled_from([Unit.SECOND, Unit.MINUTE, Unit.HOUR]))
calendar = st.builds(Timeframe, st.integers(1, 40), st.sampled_from(CALENDAR_UNITS))
any_buckets = st.builds(buckets, st.one_of(fixed, calendar), st.sampled_from(ZONES))


def texts(instants: IntArray) -> list[str]:
    return [from_instant(int(instant)).strftime("%Y-%m-%dT%H:%M") for instant in instants]


def floor(of: Buckets, *moments: str) -> list[str]:
    return texts(of.floor(at(*moments)))


@given(any_buckets, st.lists(moments, min_size=1, max_size=5))
def test_every_instant_is_in_exactly_the_bucket_that_begins_with_its_floor(of: Buckets, moments: list[int]) -> None:
    """start <= t < end, and the next bucket begins where this one ends: ``[start, t ... )[end, ...``"""
    instants = np.array(moments)
    starts = of.floor(instants)
    ends = of.next(starts)
    assert (starts <= instants).all()
    assert (instants < ends).all()
    assert (of.floor(starts) == starts).all()
    assert (of.next(instants) == ends).all()
    assert (of.floor(ends) == ends).all()
    assert (of.floor(ends - 1) == starts).all()


@given(any_buckets, moments)
def test_ceil_is_the_instant_itself_on_an_edge_and_else_the_next_edge(of: Buckets, instant: int) -> None:
    start = of.floor(np.array([instant]))
    expected = start if start[0] == instant else of.next(start)
    assert of.ceil(np.array([instant])) == expected
    assert of.ceil(start) == start


@given(any_buckets, moments, st.integers(0, 400), st.integers(-1, 1))
def test_a_range_covers_its_interval_without_holes_and_with_nothing_more(of: Buckets, start: int, length: int, by: int) -> None:
    unit = int(of.next(np.array([start]))[0]) - int(of.floor(np.array([start]))[0])
    end = start + unit * length // 10 + by
    starts = of.range(start, end)
    if end <= start:
        assert len(starts) == 0
        return
    assert starts[0] == of.floor(np.array([start]))[0]
    assert (of.next(starts[:-1]) == starts[1:]).all()
    assert starts[-1] < end <= of.next(starts[-1:])[0]


def test_a_fixed_bucket_is_half_open() -> None:
    """
    14:25        14:30        14:35
      [------------[------------[
                   ^ belongs to the right one
    """
    five = buckets(tf("5m"))
    assert floor(five, "2024-03-08T14:29:59.999999", "2024-03-08T14:30", "2024-03-08T14:34:59.999999") == [
        "2024-03-08T14:25",
        "2024-03-08T14:30",
        "2024-03-08T14:30",
    ]


def test_fixed_buckets_before_the_epoch_are_rounded_down_too() -> None:
    hour = buckets(tf("1h"))
    assert hour.floor(np.array([-1, -HOUR, -HOUR - 1])).tolist() == [-HOUR, -HOUR, -2 * HOUR]
    assert hour.ceil(np.array([-1, -HOUR, -HOUR - 1])).tolist() == [0, -HOUR, -HOUR]


def test_fixed_buckets_do_not_depend_on_the_zone() -> None:
    instants = at("2024-03-31T00:59", "2024-03-31T01:01")
    assert (buckets(tf("4h"), "Europe/Berlin").floor(instants) == buckets(tf("4h")).floor(instants)).all()


def lengths_in_hours(timeframe: str, zone: str, start: str, end: str) -> list[float]:
    edges = buckets(tf(timeframe), zone).range(*map(int, at(start, end)))
    return [(int(after) - int(edge)) / HOUR for edge, after in pairwise(edges)]


def test_days_of_a_change_of_clocks_have_23_and_25_hours() -> None:
    """
    Berlin      Sat 30        Sun 31       Mon 1
    UTC         29T23 --24h-- 30T23 --23h-- 31T22 ---
    """
    assert lengths_in_hours("1d", "Europe/Berlin", "2024-03-29T23:00", "2024-04-02") == [24, 23, 24]
    assert lengths_in_hours("1d", "Europe/Berlin", "2024-10-25T22:00", "2024-10-29") == [24, 25, 24]
    assert lengths_in_hours("1wk", "Europe/Berlin", "2024-03-27", "2024-04-10") == [7 * 24 - 1, 7 * 24]
    assert lengths_in_hours("1mo", "Europe/Berlin", "2024-02-28", "2024-04-30") == [29 * 24, 31 * 24 - 1]


def test_a_day_whose_midnight_does_not_exist_begins_with_the_change_of_clocks() -> None:
    """
    São Paulo  3 Nov 23:59:59 -> 4 Nov 01:00:00
    UTC                   02:59:59    03:00:00
    """
    day = buckets(tf("1d"), "America/Sao_Paulo")
    assert floor(day, "2018-11-04T02:59", "2018-11-04T03:00", "2018-11-04T12:00") == [
        "2018-11-03T03:00",
        "2018-11-04T03:00",
        "2018-11-04T03:00",
    ]
    assert lengths_in_hours("1d", "America/Sao_Paulo", "2018-11-03T03:00", "2018-11-06") == [24, 23]
    beirut = buckets(tf("1d"), "Asia/Beirut")
    assert floor(beirut, "2022-03-26T21:59", "2022-03-26T22:00") == ["2022-03-25T22:00", "2022-03-26T22:00"]


def test_a_gap_that_begins_before_midnight_ends_the_day_early() -> None:
    """
    Toronto  30 March 1919 23:29:59 -> 31 March 00:30:00
    UTC                 31 04:29:59          04:30:00
    """
    day = buckets(tf("1d"), "America/Toronto")
    assert floor(day, "1919-03-31T04:29", "1919-03-31T04:30") == ["1919-03-30T05:00", "1919-03-31T04:30"]


def test_a_day_whose_midnight_comes_twice_begins_with_the_first() -> None:
    """
    St. John's  7 Nov 00:00 ndt, 00:01 -> 6 Nov 23:01 nst ... 7 Nov 00:00 nst
    UTC               02:30                                          03:30
    """
    day = buckets(tf("1d"), "America/St_Johns")
    assert floor(day, "2010-11-07T02:29", "2010-11-07T02:30", "2010-11-07T03:29", "2010-11-07T03:30") == [
        "2010-11-06T02:30",
        *["2010-11-07T02:30"] * 3,
    ]


def test_a_date_that_a_zone_leaves_out_has_no_bucket() -> None:
    """Samoa crossed the date line: 29 December 2011 was followed by the 31st."""
    assert texts(buckets(tf("1d"), "Pacific/Apia").range(*map(int, at("2011-12-29T10:00", "2011-12-31T10:00")))) == [
        "2011-12-29T10:00",
        "2011-12-30T10:00",
    ]


def test_days_of_half_hour_zones_begin_at_half_past() -> None:
    assert floor(buckets(tf("1d"), "Asia/Kolkata"), "2024-03-08T18:29", "2024-03-08T18:30") == [
        "2024-03-07T18:30",
        "2024-03-08T18:30",
    ]


@given(moments, st.sampled_from([zone for zone in ZONES if zone != "America/St_Johns"]))
def test_a_day_is_the_local_date(instant: int, zone: str) -> None:
    start = from_instant(int(buckets(tf("1d"), zone).floor(np.array([instant]))[0])).astimezone(ZoneInfo(zone))
    assert start.date() == from_instant(instant).astimezone(ZoneInfo(zone)).date()
    assert (start - timedelta(microseconds=1)).astimezone(UTC).astimezone(ZoneInfo(zone)).date() <= start.date()


@given(moments, st.sampled_from(ZONES))
def test_a_week_begins_on_a_monday_and_a_month_on_its_first(instant: int, zone: str) -> None:
    week = from_instant(int(buckets(tf("1wk"), zone).floor(np.array([instant]))[0])).astimezone(ZoneInfo(zone))
    month = from_instant(int(buckets(tf("1mo"), zone).floor(np.array([instant]))[0])).astimezone(ZoneInfo(zone))
    assert week.isoweekday() == 1
    assert month.day == 1


def test_weeks_are_iso_weeks_through_the_turn_of_a_year() -> None:
    assert floor(buckets(tf("1wk")), "2024-12-31", "2025-01-05", "2025-01-06") == [
        "2024-12-30T00:00",
        "2024-12-30T00:00",
        "2025-01-06T00:00",
    ]
    assert date.fromisoformat("2024-12-30").isocalendar()[:2] == (2025, 1)


def test_several_months_are_counted_from_january() -> None:
    assert floor(buckets(tf("3mo")), "2024-03-31", "2024-04-01") == ["2024-01-01T00:00", "2024-04-01T00:00"]
    assert floor(buckets(tf("12mo")), "2024-12-31", "1969-01-01") == ["2024-01-01T00:00", "1969-01-01T00:00"]


def test_several_days_are_counted_from_1970_and_several_weeks_from_its_first_monday() -> None:
    assert buckets(tf("3d")).floor(np.array([0, 3 * DAY - 1, 3 * DAY, -1])).tolist() == [0, 0, 3 * DAY, -3 * DAY]
    assert floor(buckets(tf("2wk")), "1970-01-05", "1970-01-18T23:59", "1970-01-19", "1970-01-04") == [
        "1970-01-05T00:00",
        "1970-01-05T00:00",
        "1970-01-19T00:00",
        "1969-12-22T00:00",
    ]


def test_buckets_of_many_years_have_edges_around_every_instant() -> None:
    for text in ("1200mo", "240mo", "36500d", "5000wk"):
        of = buckets(tf(text))
        for moment in ("1969-12-31", "1970-01-01", "2024-03-08", "2101-01-01"):
            instants = at(moment)
            assert of.floor(instants)[0] <= instants[0] < of.next(instants)[0]


def test_calendar_buckets_end_where_datetimes_end() -> None:
    month = buckets(tf("1mo"), "Europe/Berlin")
    assert from_instant(int(month.floor(at("9999-11-30T12:00"))[0])).isoformat() == "9999-10-31T23:00:00+00:00"
    with pytest.raises(TimeframeError, match="some bucket of 1mo is not wholly within the years 1 to 9999"):
        month.floor(at("9999-12-31T12:00"))
    with pytest.raises(TimeframeError, match="some bucket of 1mo is not wholly within the years 1 to 9999"):
        month.floor(at("0001-01-01"))
    with pytest.raises(TimeframeError, match="outside of the years 1 to 9999"):
        month.floor(np.array([-(2**63)]))


def test_days_before_1900_and_after_2100_are_right_too() -> None:
    assert floor(buckets(tf("1d"), "Europe/Berlin"), "1850-06-01T23:06:31", "2150-07-01T22:00", "2150-12-31T22:59") == [
        "1850-05-31T23:06",
        "2150-07-01T22:00",
        "2150-12-30T23:00",
    ]


def test_days_and_weeks_of_utc_are_those_of_a_zone_without_changes() -> None:
    instants = at("1969-12-31T23:59", "1970-01-01", "2024-03-08T12:00", "2024-03-11", "2024-03-10T23:59")
    for text in ("1d", "3d", "1wk", "2wk"):
        assert (buckets(tf(text)).floor(instants) == buckets(tf(text), "Etc/GMT").floor(instants)).all()
        assert (buckets(tf(text)).ceil(instants) == buckets(tf(text), "Etc/GMT").ceil(instants)).all()
        span = (int(instants[0]), int(instants[-1]))
        assert (buckets(tf(text)).range(*span) == buckets(tf(text), "Etc/GMT").range(*span)).all()


def test_walking_from_edge_to_edge_never_ends() -> None:
    of, start = CalendarBuckets(tf("1mo"), "Europe/Berlin"), at("1999-12-31T23:00")
    for _ in range(12 * 30):
        start = of.next(start)
    assert start == at("2029-12-31T23:00")


def test_no_instants_give_no_buckets() -> None:
    nothing = np.empty(0, np.int64)
    for text in ("1m", "1d"):
        of = buckets(tf(text), "Europe/Berlin")
        assert len(of.floor(nothing)) == len(of.next(nothing)) == len(of.ceil(nothing)) == len(of.range(5, 5)) == 0


def test_what_was_asked_before_does_not_change_the_answer() -> None:
    grown = CalendarBuckets(tf("1mo"), "Europe/Berlin")
    for moment in ("2024-03-08", "1950-03-08", "2090-03-08"):
        fresh = CalendarBuckets(tf("1mo"), "Europe/Berlin")
        assert (grown.next(at(moment)) == fresh.next(at(moment))).all()
        assert (grown.floor(at(moment)) == fresh.floor(at(moment))).all()


@pytest.mark.parametrize(
    ("name", "hint"), [("Berlin", "Europe/Berlin"), ("Europe/Berln", "Europe/Berlin"), ("US/Estern", "US/Eastern")]
)
def test_an_unknown_zone_is_refused_with_names_that_are_close(name: str, hint: str) -> None:
    with pytest.raises(TimeframeError, match=f"'{name}' is not a time zone; did you mean .*{hint}"):
        buckets(tf("1d"), name)


@pytest.mark.parametrize("name", ["", "???", "/etc/passwd", "../UTC", "America"])
def test_what_is_no_name_of_a_zone_is_refused(name: str) -> None:
    with pytest.raises(TimeframeError, match="is not a time zone"):
        zone_of(name)


@pytest.mark.parametrize(
    ("size", "zone", "expected"),
    [
        (HOUR, "UTC", True),
        (24 * HOUR, "UTC", True),
        (24 * HOUR, "Europe/Berlin", False),
        (HOUR, "Europe/Berlin", True),
        (2 * HOUR, "Europe/Berlin", False),
        (HOUR, "Asia/Kolkata", False),
        (30 * MINUTE, "Asia/Kolkata", True),
        (30 * MINUTE, "Asia/Kathmandu", False),
        (15 * MINUTE, "Asia/Kathmandu", True),
        (HOUR, "America/Sao_Paulo", True),
        (7 * MINUTE, "UTC", False),
        (MINUTE, "Africa/Monrovia", False),  # 44 minutes and 30 seconds until 1972
        (30 * SECOND, "Africa/Monrovia", True),
    ],
)
def test_a_grid_divides_days_if_it_has_an_edge_on_every_local_midnight(size: int, zone: str, expected: bool) -> None:
    assert zone_offsets_divide(size, zone) is expected
    midnights = buckets(tf("1d"), zone).range(*map(int, at("1970-01-02", "2040-01-01")))[1:]
    assert bool((midnights % size == 0).all()) is expected


def test_local_midnights_are_the_first_instants_of_dates() -> None:
    days = at("2024-03-31", "2024-04-01", "2024-03-31")
    assert texts(local_midnights(days, "Europe/Berlin")) == ["2024-03-30T23:00", "2024-03-31T22:00", "2024-03-30T23:00"]
