"""How long reads take that need a little of much, on the embedded log and on Kafka, once they are followed.

    python -m benchmarks.reading --rows 2200000 --finals 2300000 --bars 1000000

A table of `--rows` records, of which the rows of one key are read; `--finals` final bars of one day, of which those of one key
are read; and `--bars` final bars that are all read. A broker is started for Kafka, which is left out where Java is missing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import numpy as np
import polars as pl

import kandle
from benchmarks.declarations import Bar, Tick, bars_of_ticks
from kandle import BarSet, Context, EventSet, Key, TableSet
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.time.timeframe import MINUTE
from tools.kafka.cluster import FAST, Cluster
from tools.kafka.errors import DownloadError, MissingToolError
from tools.kafka.libraries import java, libraries

START = 1_700_006_400_000_000
"""Midnight."""
MINUTES = 1_440
"""Minutes of a day, and so final bars of a key."""
ROWS_OF_A_KEY = 200
ROWS_AT_ONCE = 50_000
ROUNDS = 21


@kandle.table("accounts")
@dataclass(frozen=True, slots=True)
class Account:
    owner: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    balance: int
    note: str


class Day(Context):
    """A table, and bars of one minute and of two."""

    accounts: TableSet[Account]
    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(lambda q: bars_of_ticks(q, minutes=(1, 2)))


def accounts(rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of a table; the records of an owner are far apart."""
    owners = max(1, rows // ROWS_OF_A_KEY)
    for begin in range(0, rows, ROWS_AT_ONCE):
        numbers = np.arange(begin, min(begin + ROWS_AT_ONCE, rows))
        owner = pl.Series(numbers % owners).cast(pl.String)
        columns = {"owner": "owner-" + owner, "number": numbers // owners, "balance": numbers * 7, "note": "note of " + owner}
        yield pl.DataFrame(columns)


def finals(count: int) -> Iterator[pl.DataFrame]:
    """Yield final bars of all keys, minute by minute."""
    random = np.random.default_rng(7)
    keys = max(1, count // MINUTES)
    for begin in range(0, count, ROWS_AT_ONCE):
        numbers = np.arange(begin, min(begin + ROWS_AT_ONCE, count))
        prices = [pl.Series(random.integers(1_000_000, 2_000_000, len(numbers))) for _ in range(4)]
        columns = {
            "venue": pl.Series(["north"]).new_from_index(0, len(numbers)),
            "name": pl.Series(numbers % keys).cast(pl.String),
            "start": pl.Series(START + numbers // keys * MINUTE).cast(pl.Datetime("us", "UTC")),
            **dict(zip(("first", "highest", "lowest", "last"), prices, strict=True)),
            "total": numbers,
        }
        yield pl.DataFrame(columns)


def fill(log: Log, topic: str, frames: Iterator[pl.DataFrame]) -> None:
    """Append frames to a topic of one partition."""
    for frame in frames:
        log.append([Write(topic, 0, Records(frame))])


def seconds(read: Callable[[], Any], rounds: int) -> float:
    """Return the median of the seconds that a read takes."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        taken.append(time.perf_counter() - began)
    return median(taken)


def measure(name: str, options: Options, sizes: argparse.Namespace) -> None:
    """Fill a log, and print how long the reads take."""
    with Day(options.model_copy(update={"access": "write_only"})) as day:
        log = state_of(day).log
        fill(log, "accounts", accounts(sizes.rows))
        fill(log, "bars_1m_final", finals(sizes.finals))
        fill(log, "bars_2m_final", finals(sizes.bars))
    with Day(options.model_copy(update={"access": "read_only"})) as day:
        print(f"{name}: {sizes.rows:,} rows of a table, {sizes.finals:,} and {sizes.bars:,} final bars")
        table, minutes, all_bars = day.accounts, day.bars("1m"), day.bars("2m")
        key = ["north", str(max(1, sizes.finals // MINUTES) - 1)]
        begin, end = "2023-11-15T00:00Z", "2023-11-16T00:00Z"
        reads: list[tuple[str, Callable[[], Any], int]] = [
            ("rows of one owner, to_list", lambda: table.to_list(["owner-0"]), ROUNDS),
            ("one row, get", lambda: table.get(["owner-0", 0]), ROUNDS),
            ("one key's day, to_list", lambda: minutes.to_list(key, start=begin, end=end), ROUNDS),
            ("all bars, to_polars", all_bars.to_polars, 3),
            ("all bars, to_list", all_bars.to_list, 1),
        ]
        for label, read, rounds in reads:
            began = time.perf_counter()
            count = len(result) if isinstance(result := read(), list | pl.DataFrame) else 1
            first = time.perf_counter() - began
            del result
            print(f"  {label:<28} {count:>9,} {seconds(read, rounds) * 1000:>10.2f} ms   the first {first:>7.2f} s")
    with Day(options.model_copy(update={"access": "read_only"})) as day:
        began = time.perf_counter()
        day.accounts.get(["owner-0", 0])
        print(f"  {'one row after a restart':<28} {1:>9,} {(time.perf_counter() - began) * 1000:>10.2f} ms")


@contextmanager
def broker() -> Iterator[str | None]:
    """Start a broker; gives nothing where none can run."""
    try:
        java()
        libraries()
    except (MissingToolError, DownloadError) as error:
        print(f"Kafka is left out: {error}")
        yield None
        return
    with Cluster(jvm=FAST) as cluster:
        yield cluster.bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_200_000)
    parser.add_argument("--finals", type=int, default=2_300_000)
    parser.add_argument("--bars", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["embedded", "kafka"])
    sizes = parser.parse_args()
    if sizes.only != "kafka":
        with tempfile.TemporaryDirectory() as folder:
            measure("embedded log", Options(log={"path": folder}), sizes)
    if sizes.only != "embedded":
        with tempfile.TemporaryDirectory() as folder, broker() as bootstrap:
            if bootstrap is not None:
                log = {"kind": "kafka", "path": folder}
                measure("Kafka", Options(log=log, kafka={"bootstrap": bootstrap}), sizes)


if __name__ == "__main__":
    main()
