import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
from rich.console import Console

from kandle.backfill.backfill import Summary, TimeframeSummary
from kandle.cli.output import console, counts, frame_table, hints, progress_bar, show_summary

SUMMARY = Summary(
    "t.csv", 2.0, 10_000, 1, 2, 3, 4, [TimeframeSummary("1m", 12_345_678, 1234, 12, "a/very[bold]/deep/bars_1m_final.csv")]
)


def shown(target: Console, *renderables: object) -> str:
    for each in renderables:
        target.print(each)
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_counts_are_one_line_with_ticks_per_second() -> None:
    assert counts(SUMMARY) == (
        "10,000 ticks read in 2.00 s (5,000 per second), 1 late, 2 filtered, 3 outside sessions, 4 outside the range"
    )


def test_a_terminal_of_80_columns_shows_all_numbers_and_names_in_full() -> None:
    target = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, markup=False)
    show_summary(target, SUMMARY)
    text = shown(target)
    for part in ("gaps filled", "incomplete", "12,345,678", "1,234", "bars_1m_final.csv", "Files written to a/very[bold]/deep"):
        assert part in text


def test_text_that_looks_like_markup_is_text() -> None:
    frame = pl.DataFrame({"name": ["[red]x", ":smile:"]})
    target = console(io.StringIO())
    assert "[red]x" in (text := shown(target, frame_table(target, frame, "title")))
    assert ":smile:" in text


def test_bars_are_shown_with_all_digits_and_null_as_nothing() -> None:
    frame = pl.DataFrame(
        {"at": [datetime(2024, 1, 1, tzinfo=UTC)], "value": [Decimal("1.50")], "none": [None]},
        schema={"at": pl.Datetime("us", "UTC"), "value": pl.Decimal(9, 2), "none": pl.Int64},
    )
    target = console(io.StringIO())
    _, head, row = shown(target, frame_table(target, frame, "title")).splitlines()
    assert head.split() == ["at", "value", "none"]
    assert row.split() == ["2024-01-01", "00:00:00", "1.50"]


def test_no_progress_is_reported_where_nobody_looks() -> None:
    with progress_bar(100, is_wanted=False) as report:
        assert report is None


def test_events_that_are_left_out_in_a_way_that_is_rarely_meant_come_with_a_hint() -> None:
    def told(**counts: int) -> list[str]:
        zero: dict[str, Any] = {"ticks_read": 5, "late": 0, "filtered": 0, "outside_sessions": 0, "outside_range": 0}
        return [hint.split(":")[0] for hint in hints(Summary("file", 1.0, **(zero | counts)))]

    assert told() == []
    assert told(late=1) == ["Late events arrived after their bucket had closed"]
    assert told(outside_sessions=5) == ["No event was inside a session"]
    assert told(outside_sessions=4) == []
