"""What the demo proves: each expected final exists once and is what plain Polars makes of the ticks, or of the finer bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kandle.time.timeframe import Timeframe

KEYS = ["symbol", "start"]
VALUES = ["open", "high", "low", "close", "volume", "ticks"]
INSTANT = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Check:
    """The finals of one timeframe: how many there should be and are, and what is wrong with them."""

    timeframe: str
    expected: int
    found: int
    doubled: int
    gaps: int
    differing: int

    @property
    def is_right(self) -> bool:
        """Whether each expected final is there, once, and as it should be."""
        return self.expected == self.found and not self.doubled and not self.differing


def bars_of_ticks(ticks: pl.DataFrame, size: int, until: int) -> pl.DataFrame:
    """Bars of `size` microseconds that end by `until`, gaps included; ticks are (symbol, time, price, size) in log order."""
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
    """Bars of `size` microseconds that end by `until`, gaps included, merged from bars of a finer timeframe."""
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
    """Start of the bucket in which an instant lies."""
    instant = pl.col(column).dt.timestamp("us")
    return (instant - instant % size).cast(INSTANT)


def _without_holes(bars: pl.DataFrame, size: int, until: int) -> pl.DataFrame:
    """A bar for each bucket from a symbol's first to the last that ends by `until`; an empty one repeats the close before it."""
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
    """For each tick whether its bucket was over before it was written, so that it is left out.

    Rows of ticks have `_partition` and `_offset`. A heartbeat says that all buckets are over up to its `instant`, once all ticks
    before its `position` are in.
    """
    beats = heartbeats.group_by("_partition", _offset=pl.col("position")).agg(pl.col("instant").max()).sort("_offset")
    ordered = ticks.with_row_index("_row").sort("_offset")
    known = ordered.join_asof(beats, on="_offset", by="_partition", check_sortedness=False).sort("_row")
    over = _start("time", size).dt.timestamp("us") + size + grace
    return known.select((pl.col("instant").dt.timestamp("us") >= over).fill_null(False)).to_series()


def checks(ticks: pl.DataFrame, finals: Mapping[Timeframe, pl.DataFrame], until: int) -> list[Check]:
    """All timeframes, finest first: the finest against the ticks that came in time, each other one against the one before it."""
    found = []
    finer: pl.DataFrame | None = None
    for timeframe, bars in finals.items():
        expected = bars_of_ticks(ticks, timeframe.size, until)
        answer = expected if finer is None else bars_of_bars(finer, timeframe.size, until)
        found.append(check(timeframe, bars, (expected, answer), until))
        finer = bars
    return found


def check(timeframe: Timeframe, finals: pl.DataFrame, right: tuple[pl.DataFrame, pl.DataFrame], until: int) -> Check:
    """Compare finals (each record of the log) that end by `until` with those that are expected and with what they should be."""
    expected, answer = right
    ended = finals.filter(pl.col("start").dt.timestamp("us") + timeframe.size <= until)
    once = ended.unique(KEYS, keep="first", maintain_order=True)
    found = once.join(expected, on=KEYS, how="semi")
    joined = once.join(answer, on=KEYS, how="left", suffix="_answer")
    same = joined.filter(pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_answer")) for name in VALUES))
    return Check(
        str(timeframe),
        expected=expected.height,
        found=found.height,
        doubled=ended.height - once.height,
        gaps=found.filter(pl.col("ticks") == 0).height,
        differing=once.height - same.height,
    )
