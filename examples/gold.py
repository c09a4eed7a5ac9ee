"""Trades of futures contracts to bars with volume, from one minute to one day.

kandle backfill examples.gold:Gold --ticks trades.csv.gz --out bars --format csv
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import BarSet, Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 6)]


@kandle.stream("gold_trades")
@dataclass(frozen=True, slots=True)
class Trade:
    time: Annotated[datetime, Timestamp()]
    symbol: Annotated[str, Key(0)]
    price: Price
    size: int


@kandle.stream("gold_bars")
@dataclass(frozen=True, slots=True)
class TradeBar:
    bucket_start: Annotated[datetime, Timestamp(), Key(1)]
    symbol: Annotated[str, Key(0)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int


class Gold(Context):
    trades: EventSet[Trade]
    bars: BarSet[TradeBar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(TradeBar).to_query(
            lambda q: (
                q.from_(Trade)
                .tumbling(lambda t: t.time, minutes=(1, 5), hours=1, days=1, grace="2s")
                .group_by(lambda t: t.symbol)
                .select(
                    lambda t, w: TradeBar(
                        bucket_start=w.start,
                        symbol=t.symbol,
                        open=f.first(t.price),
                        high=f.max(t.price),
                        low=f.min(t.price),
                        close=f.last(t.price),
                        volume=f.sum(t.size),
                    )
                )
            )
        )
