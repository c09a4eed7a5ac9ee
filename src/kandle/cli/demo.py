"""`kandle demo`: ticks of four instruments over two days, and the bars, tables and chart that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import polars as pl
from rich.console import Console

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.backfill.writers import OutputFolder
from kandle.cli.chart import Candles, candle_chart
from kandle.cli.demo_ticks import DAYS, end_of_ticks, generate
from kandle.cli.report import frame_table, show_line, show_summary
from kandle.model.entity import entity_model

Value = Annotated[Decimal, Precision(18, 2)]
DEMO_FOLDER = Path("kandle-demo")
SHOWN_ROWS = 3
CHARTED = ("ALPHA", "15m")


@kandle.stream("ticks")
@dataclass(frozen=True, slots=True)
class Tick:
    """One trade."""

    time: Annotated[datetime, Timestamp()]
    name: Annotated[str, Key(0)]
    value: Value
    amount: int


@kandle.table("sessions")
@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of a trading day; a day with a lunch break has two."""

    name: Annotated[str, Key(0)]
    day: Annotated[date, Key(1)]
    begins: Annotated[datetime, Key(2)]
    ends: datetime


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    """What happened in one bucket."""

    name: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    first: Value
    highest: Value
    lowest: Value
    last: Value
    amount: int
    ticks: int


class Market(Context):
    """The whole declaration: three entities and one query."""

    ticks: EventSet[Tick]
    sessions: TableSet[Session]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .based_on(Session, open=lambda s: s.begins, close=lambda s: s.ends, day=lambda s: s.day)
                .where(lambda t: t.value > 0)
                .tumbling(lambda t: t.time, minutes=(1, 5, 15), hours=1, days=1, grace="2s")
                .group_by(lambda t: t.name)
                .select(
                    lambda t, w: Bar(
                        name=t.name,
                        start=w.start,
                        first=f.first(t.value),
                        highest=f.max(t.value),
                        lowest=f.min(t.value),
                        last=f.last(t.value),
                        amount=f.sum(t.amount),
                        ticks=f.count(),
                    )
                )
            )
        )


def run_demo(target: Console, out: Path, seed: int) -> None:
    """Generate, backfill, show; files of ticks, sessions and bars are left in the folder."""
    ticks, sessions = write_inputs(out, seed)
    target.print(f"kandle demo: trades of four instruments on {DAYS[0]} and {DAYS[-1]}, with market hours and pauses\n")
    result = kandle.backfill(Market, Bar, ticks=ticks, schedule=sessions, out=out / "bars", until=end_of_ticks())
    show_summary(target, result.summary)
    frames = {each.timeframe: pl.read_parquet(each.path) for each in result.summary.timeframes if each.path is not None}
    for timeframe, frame in frames.items():
        target.print()
        target.print(frame_table(target, frame.head(SHOWN_ROWS), f"{timeframe}: {SHOWN_ROWS} of {frame.height:,} bars"))
    show_chart(target, frames)
    show_files(target, out)


def write_inputs(out: Path, seed: int) -> tuple[Path, Path]:
    """Files of generated ticks and sessions."""
    folder = OutputFolder(out)
    tables = zip((Tick, Session), generate(seed), strict=True)
    writers = [(folder.writer(entity_model(cls).topic, entity_model(cls)), frame) for cls, frame in tables]
    for writer, frame in writers:
        writer.write(frame)
    folder.commit()
    return writers[0][0].path, writers[1][0].path


def show_chart(target: Console, frames: dict[str, pl.DataFrame]) -> None:
    """Candles of one instrument and timeframe."""
    name, timeframe = CHARTED
    bars = frames[timeframe].filter(pl.col("name") == name)
    columns = [bars[column].cast(pl.Float64).to_list() for column in ("first", "highest", "lowest", "last")]
    candles = Candles(bars["start"].dt.strftime("%H:%M").to_list(), *columns)
    target.print(f"\n{name}, {timeframe}")
    target.print(candle_chart(candles, width=min(target.width, 120)), end="")


def show_files(target: Console, out: Path) -> None:
    """Where everything is, and how to go on."""
    show_line(
        target, f"\nTicks and sessions are in {out / 'ticks.parquet'} and {out / 'sessions.parquet'}, bars in {out / 'bars'}"
    )
    show_line(target, "The declaration is kandle.cli.demo:Market. Try:")
    show_line(target, "  kandle explain kandle.cli.demo:Market")
    inputs = f"--ticks {out / 'ticks.parquet'} --schedule {out / 'sessions.parquet'}"
    show_line(target, f"  kandle backfill kandle.cli.demo:Market {inputs} --out {out / 'csv'} --format csv")
