"""Real ticks through the running system: their own times drive the clock, and the finals are the published bars."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import kandle
import kandle.testing
from examples.fx import Fx, Quote, QuoteBar
from examples.gold import Gold, Trade, TradeBar
from kandle import Context
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import SECOND, from_instant, to_instant
from tests.processes import RunningProcess
from tests.waiting import wait_for

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
QUOTES, FX_DAY = DATA / "fx_quotes_2014-05-01.csv.gz", "2014-05-01"
TRADES, GOLD_DAY = DATA / "gold_trades_2013-10-07.csv.gz", "2013-10-07"

pytestmark = pytest.mark.skipif(not QUOTES.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def physical(path: Path, entity: type) -> pl.DataFrame:
    return to_physical(entity_model(entity), pl.read_csv(path, infer_schema=False))


def logical(path: Path, entity: type) -> pl.DataFrame:
    return to_logical(entity_model(entity), physical(path, entity))


def instant_of(time: object) -> int:
    """Microseconds of the least or greatest time of a column."""
    assert isinstance(time, datetime)
    return to_instant(time)


def published(name: str, entity: type) -> pl.DataFrame:
    return logical(DATA / name, entity)


async def replayed(cls: type[Context], stream: str, ticks: pl.DataFrame, bars: type, slice_of: str) -> dict[str, pl.DataFrame]:
    """Finals of every timeframe after the ticks were added slice by slice, the clock moving with them, and a day went by."""
    ticks = ticks.sort("time", maintain_order=True)
    start = instant_of(ticks["time"].min()) // SECOND * SECOND
    context: Any = kandle.testing.context(cls, start=from_instant(start))
    async with context as market:
        for part in ticks.with_columns(pl.col("time").dt.truncate(slice_of).alias("slice")).partition_by(
            "slice", include_key=False
        ):
            newest = instant_of(part["time"].max())
            await getattr(market, stream).add_many_async(part)
            await market.clock.set_async(newest)
        await market.clock.advance_async("1d")
        assert market.health().queries[0].counters.late == 0
        plan = state_of(market).plan_of(bars)
        assert plan is not None
        names = [bar.name for bar in plan.emitted]
        return {name: await market.time_bucket(bars, name).to_polars_async() for name in names}


@pytest.mark.anyio
async def test_quotes_through_the_log_give_the_published_bars_and_those_of_a_backfill() -> None:
    ticks = logical(QUOTES, Quote)
    finals = await replayed(Fx, "quotes", ticks, QuoteBar, "10m")
    keys = ["broker", "symbol", "bucket_start"]
    for timeframe, rows in (("1s", 67_195), ("1m", 5_608)):
        theirs = published(f"fx_bars_{timeframe}_{FX_DAY}.csv.gz", QuoteBar)
        ours = finals[timeframe].join(theirs, on=keys, how="semi")
        assert ours.height == rows
        assert ours.sort(keys).equals(theirs.select(ours.columns).sort(keys))
    whole = kandle.backfill(Fx, ticks=ticks)
    for timeframe, found in finals.items():
        filled = whole[timeframe]
        # After the last tick the running system goes on to fill gaps; a backfill ends there.
        both = found.join(filled, on=keys, how="semi").sort(keys)
        assert both.equals(filled.select(both.columns).sort(keys)), timeframe


@pytest.mark.anyio
async def test_trades_through_the_log_give_the_published_bars() -> None:
    finals = await replayed(Gold, "trades", logical(TRADES, Trade), TradeBar, "10m")
    theirs = published(f"gold_bars_1m_{GOLD_DAY}.csv.gz", TradeBar)
    keys = [found.name for found in entity_model(TradeBar).keys]
    ours = finals["1m"].join(theirs, on=keys, how="semi").sort(keys)
    theirs = theirs.select(ours.columns).sort(keys)
    assert ours.height == 1_500
    assert ours.drop("volume").equals(theirs.drop("volume"))
    assert (ours["volume"] == theirs["volume"]).sum() == 1_495


SPEED = 50.0
AHEAD = 300 * SECOND
"""How far ticks are before the clock, in their time: six seconds, so that they are not late on a busy machine."""
KEYS = ["broker", "symbol", "bucket_start"]
ROOT = Path(__file__).resolve().parents[2]
BEGIN = datetime(2014, 5, 1, 8, 0, tzinfo=UTC)
LENGTH = timedelta(minutes=10)


def test_quotes_at_fifty_times_their_speed_through_real_processes_give_the_published_bars(tmp_path: Path) -> None:
    ticks = logical(QUOTES, Quote).filter(pl.col("time").is_between(BEGIN, BEGIN + LENGTH, closed="left"))
    since = from_instant(SystemClock().now()) + timedelta(seconds=6)
    clock = {"start": BEGIN.isoformat(), "since": since.isoformat(), "speed": SPEED}
    variables = {f"KANDLE_CLOCK__{name.upper()}": str(value) for name, value in clock.items()}
    command = [sys.executable, "-m", "kandle.cli", "run", "examples.fx:Fx", "--data", str(tmp_path / "data")]
    worker = RunningProcess(command, ROOT, os.environ | variables | {"PYTHONPATH": os.pathsep.join(["src", "."])})
    theirs = {timeframe: theirs_of(timeframe) for timeframe in ("1s", "1m")}
    try:
        options = Options(access="write_only", log={"path": tmp_path / "data"}, clock=clock)
        with Fx(options) as market:
            for part in ticks.with_columns(pl.col("time").dt.truncate("10s").alias("s")).partition_by("s", include_key=False):
                pause_until(state_of(market).clock, instant_of(part["time"].min()) - AHEAD)
                market.quotes.add_many(part)
        with Fx.open(access="read_only", log={"path": tmp_path / "data"}) as market:

            def ours() -> dict[str, pl.DataFrame]:
                bars = {timeframe: market.time_bucket(QuoteBar, timeframe).to_polars() for timeframe in theirs}
                return {name: bars[name].join(theirs[name], on=KEYS, how="semi").sort(KEYS) for name in theirs}

            found = wait_for(
                ours,
                lambda bars: all(bars[name].height == theirs[name].height for name in theirs),
                "as many bars as were published",
                check=worker.check,
                pause=1,
            )
        for timeframe, bars in found.items():
            assert bars.equals(theirs[timeframe].select(bars.columns).sort(KEYS)), timeframe
        worker.send(signal.SIGTERM)
        worker.ended()
    finally:
        worker.kill()


def theirs_of(timeframe: str) -> pl.DataFrame:
    """The published bars of the replayed minutes."""
    bars = published(f"fx_bars_{timeframe}_{FX_DAY}.csv.gz", QuoteBar)
    return bars.filter(pl.col("bucket_start").is_between(BEGIN, BEGIN + LENGTH, closed="left"))


def pause_until(clock: Clock, instant: int) -> None:
    """Wait until the scaled clock says so."""
    while (left := instant - clock.now()) > 0:
        SystemClock().pause(max(1_000, int(left / SPEED)))
