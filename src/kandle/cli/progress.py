"""A progress bar on standard error, if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Report = Callable[[int, int], None]
"""Takes the rows and bytes that have been read."""


@contextmanager
def progress_bar(total_bytes: int | None, *, is_wanted: bool) -> Iterator[Report | None]:
    """What is to be told of progress; None where nobody would see it."""
    terminal = Console(stderr=True)
    if not (is_wanted and terminal.is_terminal):
        yield None
        return
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]:,} ticks"))
    with Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True) as progress:
        task = progress.add_task("reading", total=total_bytes, rows=0)
        yield lambda rows, read: progress.update(task, completed=read, rows=rows)
