"""The examples against real ticks and independently published bars: every row and every digit.

The data are not part of the repository: `KANDLE_SHARED_DATA` names their folder (default: ../shared/data).
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import kandle
from examples.fx import Fx, QuoteBar
from examples.gold import Gold, TradeBar
from kandle import Gaps
from kandle.cli.app import main
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
QUOTES, FX_DAY = DATA / "fx_quotes_2014-05-01.csv.gz", "2014-05-01"
TRADES = DATA / "gold_trades_2013-10-07.csv.gz"

pytestmark = pytest.mark.skipif(not QUOTES.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def oracle(name: str, entity: type) -> pl.DataFrame:
    """Published bars with exact decimals."""
    model = entity_model(entity)
    return to_logical(model, to_physical(model, pl.read_csv(DATA / name, infer_schema=False)))


def written(path: Path, entity: type) -> pl.DataFrame:
    model = entity_model(entity)
    return to_logical(model, to_physical(model, pl.read_csv(path, infer_schema=False)))


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert left.value.code == 0


def test_quotes_on_the_command_line_give_the_published_bars(tmp_path: Path) -> None:
    run("backfill", "examples.fx:Fx", "--ticks", QUOTES, "--out", tmp_path, "--format", "csv", "--gaps", "skip")
    for timeframe, rows in (("1s", 67_195), ("1m", 5_608)):
        ours = written(tmp_path / f"quote_bars_{timeframe}_final.csv", QuoteBar)
        theirs = oracle(f"fx_bars_{timeframe}_{FX_DAY}.csv.gz", QuoteBar)
        assert ours.height == rows
        assert ours.equals(theirs)


def test_a_written_file_is_the_published_one_to_the_letter(tmp_path: Path) -> None:
    run("backfill", "examples.fx:Fx", "--ticks", QUOTES, "--out", tmp_path, "--format", "csv", "--gaps", "skip")
    ours = pl.read_csv(tmp_path / "quote_bars_1m_final.csv", infer_schema=False)
    assert ours.equals(pl.read_csv(DATA / f"fx_bars_1m_{FX_DAY}.csv.gz", infer_schema=False))


def test_trades_on_the_command_line_give_the_published_bars(tmp_path: Path) -> None:
    """Five bars of the publisher differ in volume by themselves."""
    run("backfill", "examples.gold:Gold", "--ticks", TRADES, "--out", tmp_path, "--format", "csv", "--gaps", "skip")
    ours = written(tmp_path / "gold_bars_1m_final.csv", TradeBar)
    theirs = oracle("gold_bars_1m_2013-10-07.csv.gz", TradeBar)
    assert ours.drop("volume").equals(theirs.drop("volume"))
    assert (ours["volume"] == theirs["volume"]).sum() == 1_495


def test_filled_bars_beside_the_published_ones_carry_the_last_price() -> None:
    theirs = oracle(f"fx_bars_1m_{FX_DAY}.csv.gz", QuoteBar)
    filled = kandle.backfill(Fx, ticks=QUOTES)["1m"]
    keys = ["bucket_start", "broker", "symbol"]
    assert filled.join(theirs, on=keys, how="semi").equals(theirs)
    for _, series in filled.group_by("broker", "symbol"):
        minutes = series["bucket_start"].diff().drop_nulls().unique()
        assert minutes.to_list() == [timedelta(minutes=1)]
        gaps = series.with_columns(pl.col("bid_close").shift().alias("before")).join(theirs, on=keys, how="anti")
        assert (gaps["bid_open"] == gaps["before"]).all()
        assert (gaps["bid_high"] == gaps["before"]).all()


def test_higher_bars_of_gold_are_those_made_straight_from_the_ticks() -> None:
    ticks = pl.read_csv(TRADES, infer_schema=False).with_columns(
        pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC"),
        pl.col("price").cast(pl.Decimal(18, 6)),
        pl.col("size").cast(pl.Int64),
    )
    found = kandle.backfill(Gold, ticks=TRADES, gaps=Gaps.SKIP)
    for timeframe in ("5m", "1h", "1d"):
        price = pl.col("price")
        straight = (
            ticks.group_by(pl.col("time").dt.truncate(timeframe).alias("bucket_start"), "symbol", maintain_order=True)
            .agg(
                price.first().alias("open"),
                price.max().alias("high"),
                price.min().alias("low"),
                price.last().alias("close"),
                pl.col("size").sum().alias("volume"),
            )
            .sort("bucket_start", "symbol")
        )
        assert found[timeframe].equals(straight), timeframe


def test_ticks_in_any_order_within_the_grace_give_the_same_bars(tmp_path: Path) -> None:
    """Ticks of the same time and key keep their order, since only that tells which of them was first."""
    ticks = pl.read_csv(QUOTES, infer_schema=False).with_row_index("number")
    random.seed(5)
    moments = ticks["time"].str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.epoch("ms")
    delay = {moment: random.randint(0, 4_000) for moment in set(moments.to_list())}
    arrival = pl.Series("arrival", [moment + delay[moment] for moment in moments.to_list()])
    shuffled = ticks.with_columns(arrival).sort("arrival", "number").drop("arrival", "number")
    assert not shuffled["time"].is_sorted()
    late = shuffled.head(1_000)
    changed = _with_grace("5s")
    sorted_ones = kandle.backfill(changed, ticks=QUOTES)
    mixed = kandle.backfill(changed, ticks=pl.concat([shuffled, late]))
    assert (sorted_ones.summary.late, mixed.summary.late) == (0, 1_000)
    for timeframe in ("1s", "1m", "5m", "1h", "1d"):
        assert mixed[timeframe].equals(sorted_ones[timeframe]), timeframe


def _with_grace(grace: str) -> type[kandle.Context]:
    from dataclasses import replace

    from kandle.context.model import Model
    from kandle.time.timeframe import parse_duration

    model = Fx.model()
    query = model.queries[QuoteBar]
    window = replace(query.window, grace=parse_duration(grace))  # type: ignore[type-var]
    graceful = Model(model.entities, {QuoteBar: replace(query, window=window)})
    return type("Graceful", (Fx,), {"model": classmethod(lambda cls: graceful)})


def test_complete_only_leaves_out_what_the_input_does_not_cover_to_its_end(tmp_path: Path) -> None:
    everything = kandle.backfill(Gold, ticks=TRADES)
    complete = kandle.backfill(Gold, ticks=TRADES, complete_only=True)
    for whole, cut in zip(everything.summary.timeframes, complete.summary.timeframes, strict=True):
        assert whole.incomplete == cut.incomplete == whole.bars - cut.bars
    last = datetime(2013, 10, 7, 23, 59, 52, 934000, tzinfo=UTC)
    assert complete["1m"]["bucket_start"].max() == last.replace(second=0, microsecond=0) - timedelta(minutes=1)
    day = kandle.backfill(Gold, ticks=TRADES, until="2013-10-08", complete_only=True)
    assert [found.incomplete for found in day.summary.timeframes] == [0, 0, 0, 0]
    assert day["1d"]["volume"].sum() == everything["1d"]["volume"].sum()
    highest = everything["1m"]["high"].max()
    assert day["1d"]["high"].max() == highest
    assert isinstance(highest, Decimal) and highest > 0
