"""What the demo shows while it runs: live bars that change and finals as they come, on a terminal or as plain lines."""

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
"""How many of the newest finals are shown: as many as fit."""

OTHER_LINES = 11
"""Lines of a picture that are not bars."""

PRICES = ("open", "high", "low", "close")
Row = Mapping[str, Any]


@dataclass(slots=True)
class Seen:
    """What has been read so far: the newest live bar of each timeframe and symbol, the newest finals, counters."""

    live: dict[tuple[str, str], Row] = field(default_factory=dict)
    finals: deque[tuple[str, Row]] = field(default_factory=lambda: deque(maxlen=NEWEST))
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    """When the newest final bucket of each timeframe and symbol starts, in microseconds."""
    first: dict[str, int] = field(default_factory=dict)
    """Event time of each symbol's first tick."""
    counts: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    ticks: int = 0

    def take(self, log: Log, bars: Sequence[BarPlan], batches: Sequence[Batch]) -> None:
        """Take in what was appended to the topics of live bars and finals, and to others, which hold ticks."""
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
        """Whether each symbol's final of the last bucket that ends by an instant is there, if it has one."""
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
    """Shows what was seen after so many microseconds."""

    def show(self, seen: Seen, elapsed: int, bars: Sequence[BarPlan]) -> None: ...


@dataclass(slots=True)
class PlainView:
    """A line per second."""

    target: Console
    _next: int = SECOND

    def show(self, seen: Seen, elapsed: int, bars: Sequence[BarPlan]) -> None:
        if elapsed < self._next:
            return
        self._next = elapsed - elapsed % SECOND + SECOND
        self.target.print(f"{elapsed / SECOND:4.0f} s  {_counters(seen, bars)}{_newest(seen)}", soft_wrap=True)


def _counters(seen: Seen, bars: Sequence[BarPlan]) -> str:
    finals = ", ".join(f"{bar.name} {seen.counts[bar.name]} ({seen.gaps[bar.name]} gaps)" for bar in bars)
    return f"{seen.ticks} ticks; finals: {finals}"


def _newest(seen: Seen) -> str:
    if not seen.finals:
        return ""
    timeframe, row = seen.finals[0]
    gap = ", a gap" if row["ticks"] == 0 else ""
    return f"; newest: {row['symbol']} {timeframe} {row['start']:%H:%M:%S} close {row['close']}{gap}"


@dataclass(slots=True)
class TerminalView:
    """Two tables that are drawn again and again."""

    live: Live
    target: Console

    def show(self, seen: Seen, elapsed: int, bars: Sequence[BarPlan]) -> None:
        head = Text(f"{elapsed / SECOND:5.1f} s   {_counters(seen, bars)}", no_wrap=True, overflow="ellipsis")
        room = self.target.height - len(seen.live) - OTHER_LINES
        self.live.update(Group(head, _live_table(seen, bars), _finals_table(seen, max(FEWEST, room))))


def _live_table(seen: Seen, bars: Sequence[BarPlan]) -> Table:
    table = _table("live bars", "")
    order = {bar.name: position for position, bar in enumerate(bars)}
    for timeframe, symbol in sorted(seen.live, key=lambda found: (found[1], order[found[0]])):
        row = seen.live[timeframe, symbol]
        table.add_row(*_cells(timeframe, row), style="green" if row["close"] >= row["open"] else "red")
    return table


def _finals_table(seen: Seen, count: int) -> Table:
    table = _table("newest finals", "gap")
    for timeframe, row in islice(seen.finals, count):
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
    """Tables on a terminal, lines elsewhere."""
    if not target.is_terminal:
        yield PlainView(target)
        return
    with Live(console=target, refresh_per_second=10) as live:
        yield TerminalView(live, target)
