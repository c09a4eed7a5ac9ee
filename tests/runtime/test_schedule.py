"""Schedules from their topic: loaded before heartbeats, waited for, kept up to date, and never worse for wrong rows."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import time
from typing import Any

import polars as pl
import pytest

from kandle.log.port import TopicPartition
from kandle.log.records import Records, Write
from kandle.time.timeframe import SECOND, from_instant, parse_instant
from tests.runtime.building import Parts, at, frame_of, hours, t
from tests.runtime.declarations import bars_market


def parts_of(**settings: Any) -> Parts:
    return Parts(bars_market(**(dict[str, Any]({"minutes": 1, "scheduled": True}) | settings)), "14:00")


def sessions(provider: object) -> list[tuple[str, str]]:
    """Opens and closes of the calendar as times of the day."""
    calendar = provider.calendar  # type: ignore[attr-defined]
    texts = [[from_instant(int(i)).strftime("%H:%M") for i in each] for each in (calendar.opens, calendar.closes)]
    return list(zip(*texts, strict=True))


def test_rows_become_a_calendar_by_their_keys() -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"), hours("09:00", "11:30", "B"))
    provider = parts.provider()
    assert provider.calendar is None
    assert provider.refresh()
    assert provider.calendar is not None
    found = {key: [provider.calendar.is_in_session((key,), t(f"{hour}:00")) for hour in (10, 15, 21)] for key in "ABC"}
    assert found == {"A": [False, True, False], "B": [True, False, False], "C": [False] * 3}


def test_keys_are_counted_also_where_their_sessions_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kandle")
    parts = parts_of()
    parts.add(hours("14:30", "21:00"), hours("14:30", "21:00", "B"))
    parts.provider().refresh()
    assert [record.message for record in caplog.records] == ["schedule of Bar: sessions of 2 keys in topic hours"]


def test_the_open_is_inside_and_the_close_is_not() -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    provider = parts.provider()
    provider.refresh()
    assert provider.calendar is not None
    edges = [t("14:30") - 1, t("14:30"), t("21:00") - 1, t("21:00")]
    assert [provider.calendar.is_in_session(("A",), edge) for edge in edges] == [False, True, True, False]


def test_without_rows_there_is_no_calendar_and_the_reason_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Words are repeated after `retry`, not at every look."""
    caplog.set_level(logging.WARNING, "kandle")
    parts = parts_of()
    provider = parts.provider(retry=10 * SECOND)
    for _ in range(21):
        assert not provider.refresh()
        parts.clock.jump(parts.clock.now() + SECOND)
    assert provider.calendar is None
    assert provider.problem == "Bar waits for rows of its schedule in topic hours"
    assert [record.message for record in caplog.records] == [provider.problem] * 3


def test_nothing_new_is_no_new_calendar_and_new_rows_are_one() -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    provider = parts.provider()
    assert [provider.refresh(), provider.refresh()] == [True, False]
    before, version = provider.calendar, provider.version
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    assert provider.refresh()
    assert provider.version > version
    assert before is not provider.calendar
    assert sessions(provider) == [("14:30", "21:00"), ("13:30", "20:00")]


def test_a_newer_row_of_the_same_key_takes_the_place_of_the_older_one() -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    provider = parts.provider()
    provider.refresh()
    parts.add(hours("14:30", "18:00"))
    assert provider.refresh()
    assert sessions(provider) == [("14:30", "18:00")]


def removed(parts: Parts, *rows: object) -> None:
    """Tombstones of these rows."""
    parts.log.append([Write("hours", 0, Records(frame_of(rows), tombstones=pl.Series([True] * len(rows))))])


def test_a_removed_row_is_gone_and_may_come_back() -> None:
    parts = parts_of()
    rows = [hours("14:30", "21:00"), hours("2024-03-11T13:30", "2024-03-11T20:00")]
    parts.add(*rows)
    provider = parts.provider()
    provider.refresh()
    removed(parts, rows[0])
    assert provider.refresh()
    assert sessions(provider) == [("13:30", "20:00")]
    parts.add(hours("15:00", "16:00"))
    assert provider.refresh()
    assert sessions(provider) == [("15:00", "16:00"), ("13:30", "20:00")]


def test_when_all_rows_are_gone_the_calendar_stays_and_the_problem_shows() -> None:
    parts = parts_of()
    row = hours("14:30", "21:00")
    parts.add(row)
    provider = parts.provider()
    provider.refresh()
    removed(parts, row)
    assert not provider.refresh()
    assert sessions(provider) == [("14:30", "21:00")]
    assert provider.problem is not None
    parts.add(hours("15:00", "16:00"))
    assert provider.refresh()
    assert provider.problem is None


CONTRADICTIONS = [
    (hours("20:00", "22:00", day="2024-03-09"), "overlaps"),
    (hours("2024-03-09T15:00", "2024-03-09T15:00"), "closes before or when it opens"),
]


@pytest.mark.parametrize(("wrong", "words"), CONTRADICTIONS)
def test_rows_that_contradict_each_other_keep_the_old_calendar_and_say_why(wrong: Any, words: str) -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    provider = parts.provider()
    provider.refresh()
    before, version = provider.calendar, provider.version
    parts.add(wrong)
    assert not provider.refresh()
    assert provider.calendar is before
    assert provider.version == version
    assert provider.problem is not None
    assert words in provider.problem
    # A row that corrects it is taken in with all that came in between.
    parts.add(type(wrong)(wrong.symbol, wrong.day, at("2024-03-09T15:00"), at("2024-03-09T16:00")))
    assert provider.refresh()
    assert provider.problem is None
    assert sessions(provider) == [("14:30", "21:00"), ("15:00", "16:00")]


def test_trading_dates_that_go_backwards_are_refused_like_any_contradiction() -> None:
    parts = parts_of(by_day=True, days=1)
    parts.add(hours("14:30", "15:00"))
    provider = parts.provider()
    provider.refresh()
    parts.add(hours("15:00", "15:30", day="2024-03-07"))
    assert not provider.refresh()
    assert "earlier trading date" in str(provider.problem)
    assert sessions(provider) == [("14:30", "15:00")]


def test_once_a_day_at_an_absolute_time_everything_is_read_again() -> None:
    """
    Friday 14:00      Saturday 00:05 UTC
        |--- new rows only ---|--- all rows once more

    Retention takes a row away without a tombstone; only a whole reading notices that.
    """
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    provider = parts.provider(refresh_at=time(0, 5))
    provider.refresh()
    parts.log.truncate(TopicPartition("hours", 0), 1)
    for now in ("2024-03-08T23:59", "2024-03-09T00:04:59.999999"):
        parts.clock.jump(t(now))
        provider.refresh()
        assert len(sessions(provider)) == 2
    parts.clock.jump(t("2024-03-09T00:05"))
    provider.refresh()
    parts.add(hours("2024-03-12T13:30", "2024-03-12T20:00"))
    provider.refresh()
    assert sessions(provider) == [("13:30", "20:00")] * 2


@pytest.mark.parametrize(
    ("start", "expected"), [("00:04:59", "2024-03-08T00:05"), ("00:05:00", "2024-03-09T00:05"), ("23:59:59", "2024-03-09T00:05")]
)
def test_the_daily_reading_is_at_the_next_such_time_after_the_start(start: str, expected: str) -> None:
    parts = parts_of()
    parts.clock.jump(t(start))
    parts.add(hours("14:30", "21:00"))
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    provider = parts.provider(refresh_at=time(0, 5))
    provider.refresh()
    parts.log.truncate(TopicPartition("hours", 0), 1)
    parts.clock.jump(parse_instant(expected) - 1)
    provider.refresh()
    assert provider.calendar_at({0: 2}) is not None
    assert len(provider.calendar_at({0: 2}).opens) == 2  # type: ignore[union-attr]
    parts.clock.jump(parse_instant(expected))
    provider.refresh()
    assert len(provider.calendar_at({0: 2}).opens) == 1  # type: ignore[union-attr]


def test_the_calendar_of_an_older_state_can_be_had_again() -> None:
    """A task that is restored must go on with the rows that it had, whatever came since."""
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    parts.add(hours("14:30", "18:00"))
    provider = parts.provider()
    provider.refresh()
    older = provider.calendar_at({0: 1})
    assert older is not None
    assert older.closes.tolist() == [t("21:00")]
    assert provider.calendar_at({0: 0}) is None


def test_rows_of_all_partitions_count() -> None:
    parts = parts_of()
    spec = replace(parts.log.topic("hours"), name="hours_in_three", partitions=3)
    parts.log.ensure(spec)
    provider = parts.provider()
    provider._topic = "hours_in_three"
    for number, row in enumerate([hours("14:30", "21:00"), hours("09:00", "11:30", "B"), hours("01:00", "02:00", "C")]):
        parts.log.append([Write("hours_in_three", number, Records(frame_of([row])))])
    assert provider.refresh()
    assert provider.calendar is not None
    assert sorted(provider.calendar.keys) == [("A",), ("B",), ("C",)]
    assert dict(provider.version) == {0: 1, 1: 1, 2: 1}
