"""Ticks per second from a file to finals, beside plain Polars and DuckDB doing only the one-minute aggregation of the same file.

    make bench            (or: python benchmarks/backfill.py --ticks 5000000 --rounds 3)

Every measurement runs in a process of its own, in turns, so that all see the same machine; the fastest of the rounds counts.
kandle makes 1m, 5m and 1h finals (first, max, min, last, sum; gaps skipped) and writes them to Parquet; the others make 1m
bars only and write nothing. Peak memory is the resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import duckdb
import numpy as np
import polars as pl

import kandle
from kandle import BarSet, Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 6)]
DAY_OF_TICKS = 86_400 * 1_000_000


@kandle.stream("ticks")
@dataclass(frozen=True, slots=True)
class Tick:
    time: Annotated[datetime, Timestamp()]
    venue: Annotated[str, Key(0)]
    name: Annotated[str, Key(1)]
    price: Price
    size: int


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    start: Annotated[datetime, Timestamp(), Key(2)]
    venue: Annotated[str, Key(0)]
    name: Annotated[str, Key(1)]
    first: Price
    highest: Price
    lowest: Price
    last: Price
    total: int


class Bench(Context):
    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .tumbling(lambda t: t.time, minutes=(1, 5), hours=1, gaps=kandle.Gaps.SKIP)
                .group_by(lambda t: (t.venue, t.name))
                .select(
                    lambda t, w: Bar(
                        start=w.start,
                        venue=t.venue,
                        name=t.name,
                        first=f.first(t.price),
                        highest=f.max(t.price),
                        lowest=f.min(t.price),
                        last=f.last(t.price),
                        total=f.sum(t.size),
                    )
                )
            )
        )


def generate(path: Path, ticks: int, keys: int) -> None:
    """Write a day of random-walk ticks of `keys` names at 4 venues, ordered by time, in the format of the path's suffix."""
    random = np.random.default_rng(7)
    number = random.integers(0, keys, ticks)
    frame = pl.DataFrame(
        {
            "time": pl.Series(np.sort(random.integers(0, DAY_OF_TICKS, ticks))).cast(pl.Datetime("us", "UTC")),
            "venue": pl.Series(number % 4).cast(pl.String).str.pad_start(3, "v"),
            "name": pl.Series(number).cast(pl.String).str.pad_start(8, "N"),
            "price": pl.Series(1_000_000 + np.cumsum(random.integers(-3, 4, ticks)), dtype=pl.Int64),
            "size": random.integers(1, 500, ticks),
        }
    ).with_columns((pl.col("price").cast(pl.Decimal(18, 0)) * Decimal("0.000001")).cast(pl.Decimal(18, 6)))
    if path.suffix == ".csv":
        frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    else:
        frame.write_parquet(path)


def with_kandle(path: Path) -> int:
    with tempfile.TemporaryDirectory() as out:
        summary = kandle.backfill(Bench, ticks=path, out=out).summary
    return summary.timeframes[0].bars


def _polars_source(path: Path) -> pl.LazyFrame:
    if path.suffix != ".csv":
        return pl.scan_parquet(path)
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "time": pl.String,
        "venue": pl.String,
        "name": pl.String,
        "price": pl.Decimal(18, 6),
        "size": pl.Int64,
    }
    times = pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
    return pl.scan_csv(path, schema=schema).with_columns(times)


def _polars_bars() -> list[pl.Expr]:
    price, size = pl.col("price"), pl.col("size")
    return [
        price.first().alias("first"),
        price.max().alias("highest"),
        price.min().alias("lowest"),
        price.last().alias("last"),
        size.sum().alias("total"),
    ]


def with_polars_dynamic(path: Path) -> int:
    grouped = _polars_source(path).group_by_dynamic("time", every="1m", group_by=["venue", "name"])
    return grouped.agg(_polars_bars()).collect().height


def with_polars_truncate(path: Path) -> int:
    grouped = _polars_source(path).group_by("venue", "name", pl.col("time").dt.truncate("1m"))
    return grouped.agg(_polars_bars()).collect(engine="streaming").height


def with_duckdb(path: Path) -> int:
    reader = f"read_csv('{path}', types={{'price': 'DECIMAL(18,6)'}})" if path.suffix == ".csv" else f"read_parquet('{path}')"
    query = f"""
        SELECT count(*) FROM (
            SELECT venue, name, time_bucket(INTERVAL '1 minute', time), arg_min(price, time), max(price), min(price),
                   arg_max(price, time), sum(size)
            FROM {reader} GROUP BY ALL)
    """
    row = duckdb.connect(config={"threads": 2}).execute(query).fetchone()
    assert row is not None
    return int(row[0])


CONTENDERS: dict[str, Callable[[Path], int]] = {
    "kandle 1m+5m+1h": with_kandle,
    "Polars group_by_dynamic 1m": with_polars_dynamic,
    "Polars group_by(truncate) 1m": with_polars_truncate,
    "DuckDB time_bucket 1m": with_duckdb,
}


def measure(name: str, path: Path) -> None:
    """Run one contender in this process and print its figures as JSON."""
    if CONTENDERS[name] is with_kandle:
        # kandle loads most of its modules on first use; loading them is not what is measured.
        row = {"time": ["2024-03-08T14:30:00Z"], "venue": ["A"], "name": ["A"], "price": ["1.0"], "size": [1]}
        kandle.backfill(Bench, ticks=pl.DataFrame(row))
    began = time.perf_counter()
    bars = CONTENDERS[name](path)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"bars": bars, "seconds": seconds, "peak_mib": peak}))


def compare(path: Path, ticks: int, rounds: int) -> None:
    """Run all contenders in turns, each in a process of its own, and print the fastest round of each beside kandle's."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            command = [sys.executable, __file__, "--measure", name, "--path", str(path)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[name].append(json.loads(answer.splitlines()[-1]))
    best = {name: min(rounds, key=lambda figures: figures["seconds"]) for name, rounds in results.items()}
    ours = next(iter(best.values()))["seconds"]
    for name, result in best.items():
        rate, ratio = ticks / result["seconds"] / 1e6, ours / result["seconds"]
        figures = f"{rate:6.2f} M ticks/s  {result['bars']:>9.0f} 1m bars  peak {result['peak_mib']:6.0f} MiB"
        print(f"  {name:<30} {figures}  kandle takes {ratio:5.2f} x its time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--formats", nargs="+", choices=["parquet", "csv"], default=["parquet", "csv"])
    parser.add_argument("--measure", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--generate", type=int, metavar="KEYS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        generate(options.path, options.ticks, options.generate)
        return
    if options.measure:
        measure(options.measure, options.path)
        return
    for keys in options.keys:
        for suffix in options.formats:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"ticks.{suffix}"
                # In a process of its own too: a child's peak memory begins with that of the process that started it.
                make = [sys.executable, __file__, "--generate", str(keys), "--path", str(path), "--ticks", str(options.ticks)]
                subprocess.run(make, check=True)
                print(f"{options.ticks:,} ticks, {keys:,} keys, {suffix} ({path.stat().st_size / 2**20:.0f} MiB)")
                compare(path, options.ticks, options.rounds)


if __name__ == "__main__":
    main()
