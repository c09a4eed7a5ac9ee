"""The declaration of the demo (ticks of a few symbols, bars of 1, 5 and 15 seconds) and its random ticks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import numpy as np
import polars as pl

import kandle
from kandle import BarSet, Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f
from kandle.time.timeframe import MILLISECOND, SECOND

Price = Annotated[Decimal, Precision(18, 2)]


@kandle.stream("ticks", partitions=2)
@dataclass(frozen=True, slots=True)
class Tick:
    """One trade."""

    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    size: int


@kandle.stream("bars", partitions=2)
@dataclass(frozen=True, slots=True)
class Bar:
    """What happened in one bucket."""

    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int
    ticks: int


class Market(Context):
    """The whole declaration: two entities and one query."""

    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .where(lambda t: t.price > 0)
                .tumbling(lambda t: t.time, seconds=(1, 5, 15), grace="500ms")
                .group_by(lambda t: t.symbol)
                .select(
                    lambda t, w: Bar(
                        symbol=t.symbol,
                        start=w.start,
                        open=f.first(t.price),
                        high=f.max(t.price),
                        low=f.min(t.price),
                        close=f.last(t.price),
                        volume=f.sum(t.size),
                        ticks=f.count(),
                    )
                )
            )
        )


STEP = 50 * MILLISECOND
"""Microseconds of one step of the random walks."""

OLDEST = 4 * STEP
"""Ticks that are older than this are skipped: after a pause of the process they would be late."""

TICKS = pl.Schema({"symbol": pl.String(), "time": pl.Datetime("us", "UTC"), "price": pl.Decimal(18, 2), "size": pl.Int64()})
HUNDREDTH = pl.Series(["0.01"]).cast(pl.Decimal(38, 2))


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol: first price in hundredths, ticks per second, and how long (microseconds) it pauses at the end of each period."""

    name: str
    price: int
    per_second: float
    period: int = SECOND
    pause: int = 0

    def is_silent(self, elapsed: int) -> bool:
        """Return whether the symbol has no ticks so many microseconds after the start."""
        return elapsed % self.period >= self.period - self.pause


SYMBOLS = (
    Symbol("ALPHA", 10_450, 60),
    Symbol("BRAVO", 2_310, 20, period=7 * SECOND, pause=3 * SECOND),
    Symbol("DELTA", 48_200, 35, period=16 * SECOND, pause=10 * SECOND),
    Symbol("OMEGA", 193_000, 1),
)


@dataclass(slots=True)
class RandomWalks:
    """Random walks of the prices of all symbols from an instant on."""

    seed: int
    start: int
    symbols: tuple[Symbol, ...] = SYMBOLS
    _random: np.random.Generator = field(init=False)
    _prices: list[int] = field(init=False)
    _done: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._prices = [symbol.price for symbol in self.symbols]

    @property
    def next_end(self) -> int:
        """The end of the next step, in microseconds since the epoch."""
        return self.start + (self._done + 1) * STEP

    def until(self, now: int) -> pl.DataFrame:
        """Return the ticks of all steps that end by `now`, in the order of time, without those that are too old."""
        parts: list[tuple[str, int, int, int]] = []
        while self.next_end <= now:
            step = sorted(self._step(), key=lambda tick: tick[1])
            if self.next_end > now - OLDEST:
                parts += step
            self._done += 1
        names, times, prices, sizes = zip(*parts, strict=True) if parts else ((), (), (), ())
        columns = {"symbol": names, "time": times, "price": prices, "size": sizes}
        frame = pl.DataFrame(columns, schema={"symbol": pl.String, "time": pl.Int64, "price": pl.Int64, "size": pl.Int64})
        hundredths = pl.col("price").cast(pl.Decimal(38, 0)) * pl.lit(HUNDREDTH)
        return frame.with_columns(price=hundredths).cast(TICKS)

    def _step(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield the ticks of one step.

        Random numbers are drawn during a pause too, so that the walks do not depend on each other.
        """
        elapsed = self._done * STEP
        for position, symbol in enumerate(self.symbols):
            count = int(self._random.poisson(symbol.per_second * STEP / SECOND))
            times = np.sort(self._random.integers(0, STEP, count)).tolist()
            moves = np.rint(self._random.normal(0.0, symbol.price * 0.0002, count)).astype(np.int64).tolist()
            sizes = self._random.geometric(0.05, count).tolist()
            if symbol.is_silent(elapsed):
                continue
            for time, move, size in zip(times, moves, sizes, strict=True):
                self._prices[position] = max(self._prices[position] + move, 1)
                yield symbol.name, self.start + elapsed + time, self._prices[position], size
