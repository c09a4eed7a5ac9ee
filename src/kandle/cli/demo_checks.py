"""The check at the end of the demo: each expected final was written once and equals what plain Polars computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kandle.time.timeframe import Timeframe

KEYS = ["symbol", "start"]
VALUES = ["open", "high", "low", "close", "volume", "ticks"]
INSTANT = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Counts of the finals of one timeframe: expected and written ones, duplicates, gaps among them, and wrong ones."""

    timeframe: str
    expected: int
    written: int
    duplicates: int
    gaps: int
    wrong: int

    @property
    def is_right(self) -> bool:
        """Whether each expected final was written once with the right values."""
        return self.expected == self.written and not self.duplicates and not self.wrong


def bars_of_ticks(ticks: pl.DataFrame, size: int, until: int) -> pl.DataFrame:
    """Compute bars of `size` microseconds that end by `until`, gaps included, from (symbol, time, price, size) in log order."""
    price = pl.col("price")
    bars = (
        ticks.sort("symbol", "time", maintain_order=True)
        .with_columns(start=_start("time", size))
        .group_by(KEYS, maintain_order=True)
        .agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            volume=pl.col("size").sum(),
            ticks=pl.len().cast(pl.Int64),
        )
    )
    return _without_holes(bars, size, until)


def bars_of_bars(finer: pl.DataFrame, size: int, until: int) -> pl.DataFrame:
    """Compute bars of `size` microseconds that end by `until`, gaps included, from bars of a finer timeframe."""
    bars = (
        finer.filter(pl.col("ticks") > 0)
        .unique(KEYS, keep="first")
        .sort(KEYS)
        .with_columns(start=_start("start", size))
        .group_by(KEYS, maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume", "ticks").sum(),
        )
    )
    return _without_holes(bars, size, until)


def _start(column: str, size: int) -> pl.Expr:
    """Return the start of the bucket that contains an instant."""
    instant = pl.col(column).dt.timestamp("us")
    return (instant - instant % size).cast(INSTANT)


def _without_holes(bars: pl.DataFrame, size: int, until: int) -> pl.DataFrame:
    """Add a bar for each empty bucket from a symbol's first to the last that ends by `until`; it repeats the last close."""
    first = bars.group_by("symbol").agg(pl.col("start").min().dt.timestamp("us"))
    ranges = pl.int_ranges("start", pl.lit(until - size + 1), size, dtype=pl.Int64)
    grid = first.select("symbol", start=ranges).explode("start").drop_nulls().with_columns(pl.col("start").cast(INSTANT))
    close = pl.col("close").forward_fill().over("symbol")
    return (
        grid.join(bars, on=KEYS, how="left")
        .sort(KEYS)
        .with_columns(close, pl.col("volume", "ticks").fill_null(0))
        .with_columns(pl.col("open", "high", "low").fill_null(pl.col("close")))
        .select(*KEYS, *VALUES)
    )


def is_late(ticks: pl.DataFrame, heartbeats: pl.DataFrame, size: int, grace: int) -> pl.Series:
    """Return for each tick whether its bucket had closed before the tick was written.

    Ticks have the columns `_partition` and `_offset`. A heartbeat closes all buckets that end by its `instant`, once all ticks
    before its `position` have been read.
    """
    beats = heartbeats.group_by("_partition", _offset=pl.col("position")).agg(pl.col("instant").max()).sort("_offset")
    ordered = ticks.with_row_index("_row").sort("_offset")
    known = ordered.join_asof(beats, on="_offset", by="_partition", check_sortedness=False).sort("_row")
    over = _start("time", size).dt.timestamp("us") + size + grace
    return known.select((pl.col("instant").dt.timestamp("us") >= over).fill_null(False)).to_series()


def check_finals(ticks: pl.DataFrame, finals: Mapping[Timeframe, pl.DataFrame], until: int) -> list[CheckResult]:
    """Compare the finest timeframe with the ticks that were in time, and each other one with the timeframe before it."""
    results = []
    finer: pl.DataFrame | None = None
    for timeframe, bars in finals.items():
        expected = bars_of_ticks(ticks, timeframe.size, until)
        answer = expected if finer is None else bars_of_bars(finer, timeframe.size, until)
        results.append(check_timeframe(timeframe, bars, (expected, answer), until))
        finer = bars
    return results


def check_timeframe(
    timeframe: Timeframe, finals: pl.DataFrame, reference: tuple[pl.DataFrame, pl.DataFrame], until: int
) -> CheckResult:
    """Compare the finals that end by `until` with the buckets that are expected and with the values that are right."""
    expected, answer = reference
    ended = finals.filter(pl.col("start").dt.timestamp("us") + timeframe.size <= until)
    once = ended.unique(KEYS, keep="first", maintain_order=True)
    written = once.join(expected, on=KEYS, how="semi")
    joined = once.join(answer, on=KEYS, how="left", suffix="_answer")
    same = joined.filter(pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_answer")) for name in VALUES))
    return CheckResult(
        str(timeframe),
        expected=expected.height,
        written=written.height,
        duplicates=ended.height - once.height,
        gaps=written.filter(pl.col("ticks") == 0).height,
        wrong=once.height - same.height,
    )
