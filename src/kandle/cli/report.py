"""Summaries and frames as tables, with lines and colours on a terminal and as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from kandle.backfill.summary import Summary

PLAIN_WIDTH = 200
"""Columns of text that goes to a file or another program, where no terminal limits them."""


def console(file: IO[str] | None = None) -> Console:
    """A console on standard output (or the file), wide enough when it is not a terminal."""
    found = Console(file=file, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = PLAIN_WIDTH
    return found


def summary_table(target: Console, summary: Summary) -> Table:
    """One line per timeframe."""
    table = table_of(target, ["timeframe", "bars", "gaps filled", "incomplete", "file"], {"bars", "gaps filled", "incomplete"})
    for each in summary.timeframes:
        table.add_row(each.timeframe, f"{each.bars:,}", f"{each.gaps:,}", f"{each.incomplete:,}", Path(each.path or "").name)
    return table


def counts(summary: Summary) -> str:
    """What was read and what was left out, in one line."""
    read = f"{summary.ticks_read:,} ticks read in {summary.seconds:.2f} s ({summary.ticks_per_second:,.0f} per second)"
    others = {
        "late": summary.late,
        "filtered": summary.filtered,
        "outside sessions": summary.outside_sessions,
        "outside the range": summary.outside_range,
    }
    return ", ".join([read, *(f"{count:,} {name}" for name, count in others.items())])


def hints(summary: Summary) -> Iterator[str]:
    """What to do about events that were left out in a way that is rarely meant."""
    if summary.late:
        yield "Late events came after their bucket was over: sort the input by time, or give the query more grace."
    if summary.ticks_read and summary.outside_sessions == summary.ticks_read:
        yield "No event was inside of a session: do the keys and the times of the schedule match those of the events?"


def show_summary(target: Console, summary: Summary) -> None:
    """Counts, the table, hints, and the folder of the files."""
    show_line(target, counts(summary))
    target.print(summary_table(target, summary))
    for hint in hints(summary):
        show_line(target, hint)
    folders = {str(Path(each.path).parent) for each in summary.timeframes if each.path is not None}
    if folders:
        show_line(target, f"Files are in {', '.join(sorted(folders))}")


def show_line(target: Console, text: str) -> None:
    """One line that only the terminal itself may break, so that what is in it can be copied."""
    target.print(text, soft_wrap=True)


def frame_table(target: Console, frame: pl.DataFrame, title: str | None = None) -> Table:
    """A small frame of bars as it is, numbers to the right."""
    numeric = {name for name, kind in frame.schema.items() if kind.is_numeric()}
    table = table_of(target, frame.columns, numeric, title)
    for row in frame.iter_rows():
        table.add_row(*map(_cell, row))
    return table


def table_of(target: Console, columns: Iterable[str], right: set[str], title: str | None = None) -> Table:
    """An empty table with these columns, those of `right` to the right."""
    box = SIMPLE_HEAD if target.is_terminal else None
    table = Table(title=title, box=box, title_justify="left", title_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "" if value is None else str(value)
