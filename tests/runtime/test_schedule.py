"""Schedules from their topic: loaded before heartbeats, waited for, kept up to date, and judged key by key."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from datetime import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord, Write
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
    before = provider.version
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    assert provider.refresh()
    assert before is not None and provider.version is not None
    assert (before.positions, provider.version.positions) == ({0: 1}, {0: 2})
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


def test_when_the_last_row_is_removed_no_key_is_in_session_and_the_problem_shows(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of()
    row = hours("14:30", "21:00")
    parts.add(row)
    provider = parts.provider()
    provider.refresh()
    removed(parts, row)
    caplog.set_level(logging.WARNING, "kandle")
    assert [provider.refresh() for _ in range(3)] == [True, False, False]
    assert sessions(provider) == []
    assert provider.problem == "the schedule of Bar: topic hours has no rows any more, so no key is in a session"
    assert [record.message for record in caplog.records] == [provider.problem]
    parts.add(hours("15:00", "16:00"))
    assert provider.refresh()
    assert provider.problem is None


def test_a_schedule_whose_rows_were_all_removed_before_the_start_is_no_reason_to_wait() -> None:
    parts = parts_of()
    row = hours("14:30", "21:00")
    parts.add(row)
    removed(parts, row)
    provider = parts.provider()
    assert provider.refresh()
    assert sessions(provider) == []


def test_rows_that_retention_has_removed_are_gone_at_once() -> None:
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    provider = parts.provider()
    provider.refresh()
    parts.log.truncate(TopicPartition("hours", 0), 1)
    assert provider.refresh()
    assert sessions(provider) == [("13:30", "20:00")]
    parts.log.truncate(TopicPartition("hours", 0), 2)
    assert provider.refresh()
    assert sessions(provider) == []


WRONG_ROWS = [
    (
        hours("20:00", "22:00", day="2024-03-09"),
        r"overlaps .* \(partition 0, offset 0 and partition 0, offset 2 of topic hours\)",
    ),
    (hours("2024-03-09T15:00", "2024-03-09T15:00"), r"closes before or when it opens \(partition 0, offset 2 of topic hours\)"),
    (hours("9999-12-31T15:00", "9999-12-31T16:00"), r"key \('A',\): Hours.opens is beyond the years"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_ROWS)
def test_a_wrong_row_concerns_its_own_key_which_keeps_the_sessions_that_it_had(wrong: Any, words: str) -> None:
    """
    A  14:30-21:00    then a row that cannot be right, and a corrected one
    B  09:00-11:30                 then 09:00-12:00
    """
    parts = parts_of()
    parts.add(hours("14:30", "21:00"), hours("09:00", "11:30", "B"))
    provider = parts.provider()
    provider.refresh()
    parts.add(wrong)
    parts.add(hours("09:00", "12:00", "B"))
    assert provider.refresh()
    assert sorted(sessions(provider)) == [("09:00", "12:00"), ("14:30", "21:00")]
    assert re.search(words, str(provider.problem))
    assert "until that is corrected the key has only the sessions that it had before" in str(provider.problem)
    assert not provider.refresh()
    # A row that corrects it is taken in with all that came in between.
    parts.add(type(wrong)(wrong.symbol, wrong.day, at("2024-03-09T15:00"), at("2024-03-09T16:00")))
    assert provider.refresh()
    assert provider.problem is None
    assert sorted(sessions(provider)) == [("09:00", "12:00"), ("14:30", "21:00"), ("15:00", "16:00")]


def test_a_key_whose_rows_were_never_right_has_no_sessions_and_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "kandle")
    parts = parts_of()
    parts.add(hours("21:00", "14:30"), hours("09:00", "11:30", "B"))
    provider = parts.provider()
    assert provider.refresh()
    assert sessions(provider) == [("09:00", "11:30")]
    assert "key ('A',)" in str(provider.problem)
    for _ in range(3):
        parts.clock.jump(parts.clock.now() + 3600 * SECOND)
        provider.refresh()
    assert [record.message for record in caplog.records] == [provider.problem]


def test_a_row_without_a_time_is_wrong_for_its_key_only() -> None:
    parts = parts_of()
    frame = frame_of([hours("14:30", "21:00"), hours("09:00", "11:30", "B")])
    frame = frame.with_columns(pl.when(pl.col("symbol") == "A").then(None).otherwise(pl.col("opens")).alias("opens"))
    provider = parts.provider()
    provider._take(Batch("hours", 0, np.arange(2), np.zeros(2, np.int64), Records(frame)), 0)
    provider._positions = {0: 2}
    assert provider._build(0)
    assert sessions(provider) == [("09:00", "11:30")]
    assert "the row of key ('A',): Hours.opens is NULL (partition 0, offset 0 of topic hours)" in str(provider.problem)


def test_a_record_that_cannot_be_read_is_wrong_for_the_key_that_it_names() -> None:
    """
    offset 0  A Friday     1  B Friday     2  A Friday, torn     3  its key is torn, too
    """
    parts = parts_of()
    frame = frame_of([hours("14:30", "21:00"), hours("09:00", "11:30", "B")])
    torn = RejectedRecord(2, b"A", b"torn", "it is cut off", key_values=tuple(frame.select("symbol", "day").row(0)))
    nameless = RejectedRecord(3, b"torn", b"torn", "its key is cut off")
    provider = parts.provider()
    provider._take(Batch("hours", 0, np.arange(2), np.zeros(2, np.int64), Records(frame), 4, (torn, nameless)), 0)
    provider._positions = {0: 4}
    assert provider._build(0)
    assert sessions(provider) == [("09:00", "11:30")]
    assert "the row of key ('A',): it is cut off (partition 0, offset 2 of topic hours)" in provider.faults[0]
    assert provider.faults[1] == "partition 0, offset 3 of topic hours cannot be read, so it is left out: its key is cut off"


def test_trading_dates_that_go_backwards_are_wrong_like_any_contradiction() -> None:
    parts = parts_of(by_day=True, days=1)
    parts.add(hours("14:30", "15:00"))
    provider = parts.provider()
    provider.refresh()
    parts.add(hours("15:00", "15:30", day="2024-03-07"))
    provider.refresh()
    assert "earlier trading date" in str(provider.problem)
    assert sessions(provider) == [("14:30", "15:00")]


def test_sessions_of_two_trading_dates_in_one_base_bucket_are_wrong_for_their_key_only() -> None:
    parts = Parts(bars_market(scheduled=True, by_day=True, hours=1, days=1), "14:00")
    parts.add(hours("14:00", "14:20"), hours("14:30", "15:00", day="2024-03-09"), hours("09:00", "10:00", "B"))
    provider = parts.provider()
    assert provider.refresh()
    assert sessions(provider) == [("09:00", "10:00")]
    assert "share a bucket of 1h" in str(provider.problem)


def take_out_of_the_middle(parts: Parts) -> None:
    """Remove the second record, which nothing else shows."""
    assert isinstance(parts.log, EmbeddedLog)
    hours_topic = "(SELECT id FROM topic WHERE name = 'hours')"
    parts.log.database.run(f"DELETE FROM batch WHERE first = 1 AND topic = {hours_topic}")


def test_once_a_day_at_an_absolute_time_everything_is_read_again() -> None:
    """
    Friday 14:00      Saturday 00:05 UTC
        |--- new rows only ---|--- all rows once more

    A repair of the log has taken a row out of the middle; only a whole reading notices that.
    """
    parts = parts_of()
    parts.add(hours("14:30", "21:00"))
    parts.add(hours("2024-03-11T13:30", "2024-03-11T20:00"))
    provider = parts.provider(refresh_at=time(0, 5))
    provider.refresh()
    take_out_of_the_middle(parts)
    for now in ("2024-03-08T23:59", "2024-03-09T00:04:59.999999"):
        parts.clock.jump(t(now))
        provider.refresh()
        assert len(sessions(provider)) == 2
    parts.clock.jump(t("2024-03-09T00:05"))
    provider.refresh()
    assert sessions(provider) == [("14:30", "21:00")]


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
    take_out_of_the_middle(parts)
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
    provider._known_adapters = {"hours_in_three": None}
    for number, row in enumerate([hours("14:30", "21:00"), hours("09:00", "11:30", "B"), hours("01:00", "02:00", "C")]):
        parts.log.append([Write("hours_in_three", number, Records(frame_of([row])))])
    assert provider.refresh()
    assert provider.calendar is not None
    assert sorted(provider.calendar.keys) == [("A",), ("B",), ("C",)]
    assert provider.version is not None
    assert provider.version.positions == {0: 1, 1: 1, 2: 1}
