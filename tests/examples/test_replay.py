"""Real ticks through the running system: their own times drive the clock, and the finals are the published bars."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import kandle
import kandle.testing
from examples.fx import Fx, Quote, QuoteBar
from examples.gold import Gold, Trade, TradeBar
from kandle import Context
from kandle.context.options import Options
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND, from_instant, to_instant

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
QUOTES, FX_DAY = DATA / "fx_quotes_2014-05-01.csv.gz", "2014-05-01"
TRADES, GOLD_DAY = DATA / "gold_trades_2013-10-07.csv.gz", "2013-10-07"

pytestmark = pytest.mark.skipif(not QUOTES.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def physical(path: Path, entity: type) -> pl.DataFrame:
    return to_physical(entity_model(entity), pl.read_csv(path, infer_schema=False))


def logical(path: Path, entity: type) -> pl.DataFrame:
    return to_logical(entity_model(entity), physical(path, entity))


def published(name: str, entity: type) -> pl.DataFrame:
    return logical(DATA / name, entity)


async def replayed(
    context: type[Context], stream: str, ticks: pl.DataFrame, bars: type, slice_of: str
) -> dict[str, pl.DataFrame]:
    """Finals of every timeframe after the ticks were added slice by slice, the clock moving with them, and a day went by."""
    ticks = ticks.sort("time", maintain_order=True)
    start = to_instant(ticks["time"].min()) // SECOND * SECOND  # type: ignore[arg-type]
    async with kandle.testing.context(context, start=from_instant(start)) as market:
        for part in ticks.with_columns(pl.col("time").dt.truncate(slice_of).alias("slice")).partition_by(
            "slice", include_key=False
        ):
            newest = to_instant(part["time"].max())
            await getattr(market, stream).add_many(part)
            await market.clock.set(newest)
        await market.clock.advance("1d")
        assert market.health().queries[0].counters.late == 0
        names = [bar.name for bar in market.plan_of(bars).emitted]
        return {name: await market.time_bucket(bars, name).to_polars() for name in names}


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
AHEAD = 40 * SECOND
"""How far ticks are before the clock, in their time."""
BEGIN = datetime(2014, 5, 1, 8, 0, tzinfo=UTC)
LENGTH = timedelta(minutes=10)


def test_quotes_at_fifty_times_their_speed_through_real_processes_give_the_published_bars(tmp_path: Path) -> None:
    ticks = logical(QUOTES, Quote).filter(pl.col("time").is_between(BEGIN, BEGIN + LENGTH, closed="left"))
    since = from_instant(SystemClock().now()) + timedelta(seconds=6)
    clock = {"start": BEGIN.isoformat(), "since": since.isoformat(), "speed": SPEED}
    variables = {f"KANDLE_CLOCK__{name.upper()}": str(value) for name, value in clock.items()}
    command = [sys.executable, "-m", "kandle.cli", "run", "examples.fx:Fx", "--data", str(tmp_path / "data")]
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(["src", "."])}
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        options = Options(access="write_only", log={"path": tmp_path / "data"}, clock=clock)
        with Fx(options) as market:
            # Ticks are most of a second ahead, so that a machine that stutters does not make them late.
            for part in ticks.with_columns(pl.col("time").dt.truncate("1s").alias("s")).partition_by("s", include_key=False):
                wait_until(market.clock, to_instant(part["time"].min()) - AHEAD)  # type: ignore[arg-type]
                market.quotes.add_many(part)
            wait_until(market.clock, to_instant(BEGIN + LENGTH) + 4 * SECOND)
        SystemClock().pause(SECOND)
    finally:
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 0, errors
    with Fx.open(access="read_only", log={"path": tmp_path / "data"}) as market:
        for timeframe in ("1s", "1m"):
            theirs = published(f"fx_bars_{timeframe}_{FX_DAY}.csv.gz", QuoteBar)
            theirs = theirs.filter(pl.col("bucket_start").is_between(BEGIN, BEGIN + LENGTH, closed="left"))
            keys = ["broker", "symbol", "bucket_start"]
            ours = market.time_bucket(QuoteBar, timeframe).to_polars().join(theirs, on=keys, how="semi").sort(keys)
            assert ours.equals(theirs.select(ours.columns).sort(keys)), timeframe


def wait_until(clock: object, instant: int) -> None:
    """Wait until the scaled clock says so."""
    while (left := instant - clock.now()) > 0:  # type: ignore[attr-defined]
        SystemClock().pause(max(1_000, int(left / SPEED)))
