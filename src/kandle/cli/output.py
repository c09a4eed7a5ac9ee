"""Output of the commands: tables for terminals, aligned text for pipes, JSON, progress bars and text files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import IO, Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from kandle.backfill.backfill import Summary
from kandle.errors import OutputError
from kandle.model.columns import logical_decimal
from kandle.model.types import DecimalType
from kandle.plan.topics import TopicSpec
from kandle.time.timeframe import from_instant

PLAIN_WIDTH = 200
"""Columns of text that goes to a file or another program, where no terminal limits them."""


def console(file: IO[str] | None = None) -> Console:
    """Return a console on standard output or the given file; `PLAIN_WIDTH` columns wide if that is not a terminal."""
    target = Console(file=file, highlight=False, markup=False, emoji=False)
    if not target.is_terminal:
        target.width = PLAIN_WIDTH
    return target


def summary_table(target: Console, summary: Summary) -> Table:
    """Return a table with one row per timeframe."""
    table = table_of(target, ["timeframe", "bars", "gaps filled", "incomplete", "file"], {"bars", "gaps filled", "incomplete"})
    for row in summary.timeframes:
        table.add_row(row.timeframe, f"{row.bars:,}", f"{row.gaps:,}", f"{row.incomplete:,}", Path(row.path or "").name)
    return table


def counts(summary: Summary) -> str:
    """Return one line that says how many events were read and how many were left out, and why."""
    read = f"{summary.ticks_read:,} ticks read in {summary.seconds:.2f} s ({summary.ticks_per_second:,.0f} per second)"
    others = {
        "late": summary.late,
        "filtered": summary.filtered,
        "outside sessions": summary.outside_sessions,
        "outside the range": summary.outside_range,
    }
    return ", ".join([read, *(f"{count:,} {name}" for name, count in others.items())])


def hints(summary: Summary) -> Iterator[str]:
    """Yield advice for events that were left out in a way that is rarely intended."""
    if summary.late:
        first = "" if summary.first_late is None else f" {summary.first_late}."
        yield (
            f"Late events arrived after their bucket had closed:{first} If the later of these times is wrong, correct it, or "
            "leave its event out with --until or where; otherwise sort the input by time, or give the query more grace."
        )
    if summary.ticks_read and summary.outside_sessions == summary.ticks_read:
        yield "No event was inside a session: check that keys and times of the schedule match those of the events."


def show_summary(target: Console, summary: Summary) -> None:
    """Print counts, a table of the timeframes, advice, and the folder of the files."""
    show_line(target, counts(summary))
    target.print(summary_table(target, summary))
    for hint in hints(summary):
        show_line(target, hint)
    folders = {str(Path(row.path).parent) for row in summary.timeframes if row.path is not None}
    if folders:
        show_line(target, f"Files written to {', '.join(sorted(folders))}")


def show_line(target: Console, text: str) -> None:
    """Print a line without wrapping it, so that paths and commands in it can be copied."""
    target.print(text, soft_wrap=True)


def frame_table(target: Console, frame: pl.DataFrame, title: str | None = None) -> Table:
    """Return a table of all rows of a small frame, numbers aligned to the right."""
    numeric = {name for name, kind in frame.schema.items() if kind.is_numeric()}
    table = table_of(target, frame.columns, numeric, title)
    for row in frame.iter_rows():
        table.add_row(*map(_cell, row))
    return table


def table_of(target: Console, columns: Iterable[str], right: set[str], title: str | None = None) -> Table:
    """Return an empty table with these columns; those in `right` are aligned to the right."""
    box = SIMPLE_HEAD if target.is_terminal else None
    table = Table(title=title, box=box, title_justify="left", title_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "" if value is None else str(value)


class Columns:
    """Formatter of aligned text columns. The header precedes the first row; columns widen as later rows need it."""

    def __init__(self, names: Sequence[str], right: Collection[int] = ()) -> None:
        self._names = list(names)
        self._right = frozenset(right)
        self._widths = [len(name) for name in names]
        self._has_head = False

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Return the rows as lines of text, preceded by the header in the first call."""
        table = [list(row) for row in rows]
        self._widths = [max(width, *(len(row[i]) for row in table), 0) for i, width in enumerate(self._widths)]
        head = [] if self._has_head else [self._line(self._names)]
        self._has_head = True
        return [*head, *map(self._line, table)]

    def _line(self, row: Sequence[str]) -> str:
        cells = [
            text.rjust(width) if i in self._right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, self._widths, strict=True))
        ]
        return "  ".join(cells).rstrip()


def iso(moment: datetime) -> str:
    """Format an instant in UTC with milliseconds, or with microseconds if it has any."""
    digits = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    return moment.astimezone(UTC).isoformat(timespec=digits).replace("+00:00", "Z")


def iso_instant(instant: int) -> str:
    """Format microseconds since the epoch as text in UTC."""
    return iso(from_instant(instant))


def cell(value: object) -> str:
    """Format a value for a table; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes | list | dict):
        return json.dumps(json_value(value), ensure_ascii=False)
    return printable(str(value))


def printable(text: str) -> str:
    """Escape control characters, which could move the cursor or change colours."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def json_value(value: Any) -> Any:
    """Convert a value to what JSON can hold: decimals and times as text, bytes in base64."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    return value


def json_line(values: Mapping[str, Any]) -> str:
    """Format values as a JSON object on one line."""
    return json.dumps(json_value(values), ensure_ascii=False)


def logical(spec: TopicSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """Convert the decimal columns of a topic, stored as scaled integers, to decimals."""
    return frame.with_columns(
        logical_decimal(frame[column.name], kind)
        for column in spec.columns
        if column.name in frame.columns and (kind := decimal_of(column.kind)) is not None
    )


def decimal_of(kind: str) -> DecimalType | None:
    """Parse a decimal type such as `Decimal(18, 6)`; return None for other types."""
    name, _, rest = kind.strip().lower().partition("(")
    if name != "decimal":
        return None
    precision, _, scale = rest.rstrip(")").partition(",")
    return DecimalType(int(precision), int(scale))


ProgressCallback = Callable[[int, int], None]
"""Called with the numbers of rows and bytes read so far."""


@contextmanager
def progress_bar(total_bytes: int | None, *, is_wanted: bool) -> Iterator[ProgressCallback | None]:
    """Show a progress bar on standard error; give the callback that moves it, or None if there is no terminal."""
    terminal = Console(stderr=True)
    if not (is_wanted and terminal.is_terminal):
        yield None
        return
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]:,} ticks"))
    with Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True) as progress:
        task = progress.add_task("reading", total=total_bytes, rows=0)
        yield lambda rows, read: progress.update(task, completed=read, rows=rows)


def write_text(path: Path, text: str) -> None:
    """Write a text file and create missing folders.

    Raises:
        OutputError: The file cannot be written; the message names its path.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
