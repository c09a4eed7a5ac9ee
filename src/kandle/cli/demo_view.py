"""The view of the running demo: live bars and new finals, as tables on a terminal or as plain lines elsewhere."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kandle.cli.output import logical
from kandle.log.port import Log
from kandle.log.records import Batch
from kandle.plan.plan import BarPlan
from kandle.time.timeframe import SECOND, to_instant

NEWEST, FEWEST = 12, 2
"""Largest and smallest number of finals shown; as many as fit the terminal."""

OTHER_LINES = 11
"""Lines of the terminal that are not bars."""

PRICES = ("open", "high", "low", "close")
Row = Mapping[str, Any]


@dataclass(slots=True)
class DemoState:
    """The records read so far: newest live bar of each timeframe and symbol, newest finals, counters."""

    live: dict[tuple[str, str], Row] = field(default_factory=dict)
    finals: deque[tuple[str, Row]] = field(default_factory=lambda: deque(maxlen=NEWEST))
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    """Start of the newest final bucket of each timeframe and symbol, in microseconds."""
    first: dict[str, int] = field(default_factory=dict)
    """Event time of the first tick of each symbol, in microseconds."""
    counts: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    ticks: int = 0

    def take(self, log: Log, bars: Sequence[BarPlan], batches: Sequence[Batch]) -> None:
        """Take new records of live bars, finals, and, from any other topic, ticks."""
        live = {bar.live_topic: bar.name for bar in bars}
        final = {bar.final_topic: bar.name for bar in bars}
        for batch in batches:
            if batch.topic in live:
                self._take_live(live[batch.topic], _rows(log, batch))
            elif batch.topic in final:
                self._take_finals(final[batch.topic], _rows(log, batch))
            else:
                self._take_ticks(batch.records.frame)

    def _take_ticks(self, ticks: pl.DataFrame) -> None:
        self.ticks += ticks.height
        for symbol, time in ticks.group_by("symbol").agg(pl.col("time").min().dt.timestamp("us")).iter_rows():
            self.first[symbol] = min(time, self.first.get(symbol, time))

    def has_finals(self, timeframe: str, size: int, until: int) -> bool:
        """Return whether each symbol has its final of the last bucket that ends by `until`."""
        last = until - until % size - size
        return all(first >= last + size or self.ends.get((timeframe, symbol), 0) >= last for symbol, first in self.first.items())

    def _take_live(self, timeframe: str, rows: Iterator[Row]) -> None:
        self.live |= {(timeframe, row["symbol"]): row for row in rows}

    def _take_finals(self, timeframe: str, rows: Iterator[Row]) -> None:
        for row in rows:
            self.finals.appendleft((timeframe, row))
            self.ends[timeframe, row["symbol"]] = to_instant(row["start"])
            self.counts[timeframe] += 1
            self.gaps[timeframe] += row["ticks"] == 0


def _rows(log: Log, batch: Batch) -> Iterator[Row]:
    records = batch.records
    frame = records.frame if records.tombstones is None else records.frame.filter(~records.tombstones)
    return logical(log.topic(batch.topic), frame).iter_rows(named=True)


class View(Protocol):
    """A way to show the state of the demo."""

    def show(self, state: DemoState, elapsed: int, bars: Sequence[BarPlan]) -> None:
        """Show the state after `elapsed` microseconds."""


@dataclass(slots=True)
class PlainView:
    """A view that prints a line per second."""

    target: Console
    _next: int = SECOND

    def show(self, state: DemoState, elapsed: int, bars: Sequence[BarPlan]) -> None:
        if elapsed < self._next:
            return
        self._next = elapsed - elapsed % SECOND + SECOND
        self.target.print(f"{elapsed / SECOND:4.0f} s  {_counters(state, bars)}{_newest(state)}", soft_wrap=True)


def _counters(state: DemoState, bars: Sequence[BarPlan]) -> str:
    finals = ", ".join(f"{bar.name} {state.counts[bar.name]} ({state.gaps[bar.name]} gaps)" for bar in bars)
    return f"{state.ticks} ticks; finals: {finals}"


def _newest(state: DemoState) -> str:
    if not state.finals:
        return ""
    timeframe, row = state.finals[0]
    gap = ", a gap" if row["ticks"] == 0 else ""
    return f"; newest: {row['symbol']} {timeframe} {row['start']:%H:%M:%S} close {row['close']}{gap}"


@dataclass(slots=True)
class TerminalView:
    """A view that redraws two tables."""

    live: Live
    target: Console

    def show(self, state: DemoState, elapsed: int, bars: Sequence[BarPlan]) -> None:
        head = Text(f"{elapsed / SECOND:5.1f} s   {_counters(state, bars)}", no_wrap=True, overflow="ellipsis")
        room = self.target.height - len(state.live) - OTHER_LINES
        self.live.update(Group(head, _live_table(state, bars), _finals_table(state, max(FEWEST, room))))


def _live_table(state: DemoState, bars: Sequence[BarPlan]) -> Table:
    table = _table("live bars", "")
    order = {bar.name: position for position, bar in enumerate(bars)}
    for timeframe, symbol in sorted(state.live, key=lambda key: (key[1], order[key[0]])):
        row = state.live[timeframe, symbol]
        table.add_row(*_cells(timeframe, row), style="green" if row["close"] >= row["open"] else "red")
    return table


def _finals_table(state: DemoState, count: int) -> Table:
    table = _table("newest finals", "gap")
    for timeframe, row in islice(state.finals, count):
        is_gap = row["ticks"] == 0
        table.add_row(*_cells(timeframe, row), "gap" if is_gap else "", style="dim" if is_gap else "")
    return table


def _table(title: str, mark: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("symbol", "timeframe", "start"):
        table.add_column(name, no_wrap=True)
    for name in PRICES:
        table.add_column(name, justify="right", no_wrap=True, min_width=8)
    table.add_column("ticks", justify="right", no_wrap=True)
    if mark:
        table.add_column(mark)
    return table


def _cells(timeframe: str, row: Row) -> list[str]:
    prices = [str(row[name]) for name in PRICES]
    return [row["symbol"], timeframe, f"{row['start']:%H:%M:%S}", *prices, str(row["ticks"])]


@contextmanager
def view_on(target: Console) -> Iterator[View]:
    """Give a view with tables on a terminal, or one with plain lines elsewhere."""
    if not target.is_terminal:
        yield PlainView(target)
        return
    with Live(console=target, refresh_per_second=10) as live:
        yield TerminalView(live, target)
