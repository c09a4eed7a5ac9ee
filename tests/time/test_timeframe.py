"""Timeframes, periods, durations and instants as values and as texts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle import Period, Timeframe
from kandle.errors import TimeframeError
from kandle.time.timeframe import Unit, as_timeframe, from_instant, parse_duration, parse_instant, to_instant

timeframes = st.builds(Timeframe, st.integers(1, 1000), st.sampled_from(Unit))


@given(timeframes)
def test_a_timeframe_is_read_as_it_is_printed(timeframe: Timeframe) -> None:
    assert Timeframe.parse(str(timeframe)) == timeframe


@given(timeframes, timeframes)
def test_equal_timeframes_have_equal_hashes_and_others_have_an_order(one: Timeframe, other: Timeframe) -> None:
    assert (one == other) == (hash(one) == hash(other) and str(one) == str(other))
    assert (one < other) + (one == other) + (one > other) == 1


def test_fixed_units_are_brought_to_their_coarsest() -> None:
    assert [str(Period.seconds(value)) for value in (1, 60, 90, 3600, 7200)] == ["1s", "1m", "90s", "1h", "2h"]
    assert Period.minutes(120) == Period.hours(2)


def test_what_a_change_of_clocks_or_the_calendar_can_make_differ_is_not_equal() -> None:
    assert Period.hours(24) != Period.days(1)
    assert Period.days(7) != Period.weeks(1)
    assert Period.months(12).value == 12


def test_timeframes_are_ordered_by_length_and_then_by_unit() -> None:
    ordered = ["1s", "59s", "1m", "90s", "5m", "90m", "2h", "24h", "1d", "7d", "1wk", "30d", "1mo", "12mo"]
    assert [str(timeframe) for timeframe in sorted(map(Timeframe.parse, reversed(ordered)))] == ordered
    with pytest.raises(TypeError):
        _ = Period.minutes(1) < "5m"


def test_a_timeframe_may_be_given_as_text() -> None:
    assert as_timeframe("5m") == as_timeframe(Period.minutes(5)) == Period.seconds(300)


def test_the_unit_is_a_unit() -> None:
    with pytest.raises(TimeframeError, match=r"'m' is not a unit of timeframes; write one of Unit\.SECOND, Unit\.MINUTE"):
        Timeframe(5, "m")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1201mo", "36526d", "99999999999999999999s"])
def test_a_timeframe_is_at_most_100_years(text: str) -> None:
    assert str(Period.months(1200)) == "1200mo"
    with pytest.raises(TimeframeError, match="is longer than 100 years"):
        Timeframe.parse(text)


@pytest.mark.parametrize("text", ["", "m", "5", "0m", "5x", "-1m", "1.5h", "1M", "5 min", "1h30m"])
def test_a_text_that_is_no_timeframe_is_an_error_that_lists_units_and_examples(text: str) -> None:
    with pytest.raises(TimeframeError, match=r"is not a timeframe; write a number and one of s, m, h, d, wk, mo, for example"):
        Timeframe.parse(text)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "5"])
def test_a_timeframe_is_a_whole_number(value: object) -> None:
    with pytest.raises(TimeframeError, match="whole number of minutes, 1 or more"):
        Period.minutes(value)  # type: ignore[arg-type]


def test_a_calendar_timeframe_has_no_fixed_size() -> None:
    assert Period.minutes(5).size == 300_000_000
    with pytest.raises(TimeframeError, match="1mo has no fixed size"):
        _ = Period.months(1).size


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("2s", 2_000_000), ("200ms", 200_000), ("1m30s", 90_000_000), ("1h", 3_600_000_000), ("5us", 5), ("0s", 0)],
)
def test_a_duration_is_read(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds
    assert parse_duration(timedelta(microseconds=microseconds)) == microseconds


@pytest.mark.parametrize("text", ["", "2", "s", "2 fortnights", "1mo", "-2s", "2s!"])
def test_a_text_that_is_no_duration_is_an_error_with_examples(text: str) -> None:
    with pytest.raises(TimeframeError, match=r"is not a duration; .* for example 2s, 200ms, 1m30s"):
        parse_duration(text)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(TimeframeError, match="cannot be negative"):
        parse_duration(timedelta(seconds=-1))


ZONES = [UTC, ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York"), timezone(timedelta(hours=-7, seconds=1))]


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from(ZONES)))
def test_an_instant_is_exact_in_both_directions(moment: datetime) -> None:
    assert from_instant(to_instant(moment)) == moment.astimezone(UTC)
    assert from_instant(to_instant(moment)).tzinfo is UTC


def test_an_instant_outside_of_the_years_of_a_datetime_is_refused() -> None:
    with pytest.raises(TimeframeError, match="outside of the years 1 to 9999"):
        from_instant(-(2**63))


def test_a_datetime_without_a_zone_is_refused() -> None:
    wrong: Any = date(2024, 3, 8)
    with pytest.raises(
        TimeframeError, match=r"datetime.date\(2024, 3, 8\) is not a point in time; give a datetime with a time zone"
    ):
        to_instant(wrong)
    with pytest.raises(TimeframeError, match=r"has no time zone; write datetime\(..., tzinfo=timezone.utc\)"):
        to_instant(datetime(2024, 1, 1))


def test_texts_of_instants() -> None:
    assert parse_instant("1970-01-02") == 86_400_000_000
    assert parse_instant("1970-01-01T00:00:01") == 1_000_000
    assert parse_instant("1970-01-01T01:00+01:00") == 0
    assert from_instant(-1) == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    with pytest.raises(TimeframeError, match="'noon' is not a point in time"):
        parse_instant("noon")
