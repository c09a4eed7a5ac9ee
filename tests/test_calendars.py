"""Schedule rows of real exchanges."""

from __future__ import annotations

import sys
from datetime import date

import pytest

from kandle.calendars import SessionRow, sessions
from kandle.errors import KandleError, ScheduleError


def spans(exchange: str, start: str, end: str) -> list[str]:
    rows: list[SessionRow] = sessions(exchange, ["a"], start, end)
    return [f"{row.trading_date} {row.open:%d %H:%M}-{row.close:%d %H:%M}" for row in rows]


def test_early_closes_and_holidays_of_new_york() -> None:
    assert spans("XNYS", "2024-11-27", "2024-12-02") == ["2024-11-27 27 14:30-27 21:00", "2024-11-29 29 14:30-29 18:00"]


def test_new_york_opens_an_hour_earlier_in_utc_after_its_clocks_change() -> None:
    assert [span[11:] for span in spans("XNYS", "2024-03-08", "2024-03-12")] == ["08 14:30-08 21:00", "11 13:30-11 20:00"]


def test_a_lunch_break_makes_two_rows_of_a_day() -> None:
    assert [span[11:] for span in spans("XHKG", "2024-03-08", "2024-03-09")] == ["08 01:30-08 04:00", "08 05:00-08 08:00"]


def test_a_session_that_opens_on_sunday_evening_has_mondays_date() -> None:
    assert spans("CMES", "2024-03-11", "2024-03-12") == ["2024-03-11 10 22:00-11 22:00"]


def test_rows_are_made_for_every_key_by_the_users_own_function() -> None:
    rows = sessions("XNYS", [("x", 1), ("y", 2)], date(2024, 3, 8), date(2024, 3, 9), make=lambda key, day, a, b: (key, day))
    assert rows == [(("x", 1), date(2024, 3, 8)), (("y", 2), date(2024, 3, 8))]


def test_an_unknown_exchange_is_named_with_some_that_are_close() -> None:
    with pytest.raises(ScheduleError, match=r"'XNYZ' is not an exchange.*did you mean .*XNYS"):
        sessions("XNYZ", ["a"], "2024-01-01", "2024-02-01")


@pytest.mark.parametrize(("start", "end"), [("2024-02-01", "2024-02-01"), ("2024-02-01", "2024-01-01")])
def test_an_end_that_is_not_after_the_start_is_refused(start: str, end: str) -> None:
    with pytest.raises(ScheduleError, match="the end is exclusive, so it is after the start"):
        sessions("XNYS", ["a"], start, end)


def test_a_text_that_is_no_date_is_refused() -> None:
    with pytest.raises(ScheduleError, match="'soon' is not a date"):
        sessions("XNYS", ["a"], "soon", "2024-01-01")


def test_dates_without_a_session_give_no_rows() -> None:
    assert spans("XNYS", "2024-03-09", "2024-03-11") == spans("XNYS", "2024-11-28", "2024-11-29") == []


def test_dates_that_no_calendar_covers_are_refused_with_what_is_covered() -> None:
    with pytest.raises(ScheduleError, match=r"no schedule of XHKG from 1950-01-01 to 1950-01-31: .* back to the year 1960"):
        sessions("XHKG", ["a"], "1950-01-01", "1950-02-01")


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(KandleError, match=r'pip install "kandle\[calendars\]"'):
        sessions("XNYS", ["a"], "2024-01-01", "2024-02-01")


def test_a_key_that_is_not_a_tuple_is_a_tuple_of_one_part() -> None:
    assert {row.key for row in sessions("XNYS", ["ACME", (7,)], "2024-03-08", "2024-03-09")} == {("ACME",), (7,)}
