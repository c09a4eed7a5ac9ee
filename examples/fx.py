"""Foreign exchange quotes of several brokers to bars of bid and ask, from one second to one day.

kandle backfill examples.fx:Fx --ticks quotes.csv.gz --out bars --format csv
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import BarSet, Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 5)]


@kandle.stream("quotes")
@dataclass(frozen=True, slots=True)
class Quote:
    time: Annotated[datetime, Timestamp()]
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    bid: Price
    ask: Price


@kandle.stream("quote_bars")
@dataclass(frozen=True, slots=True)
class QuoteBar:
    bucket_start: Annotated[datetime, Timestamp(), Key(2)]
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    bid_open: Price
    bid_high: Price
    bid_low: Price
    bid_close: Price
    ask_open: Price
    ask_high: Price
    ask_low: Price
    ask_close: Price


class Fx(Context):
    quotes: EventSet[Quote]
    bars: BarSet[QuoteBar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(QuoteBar).to_query(
            lambda q: (
                q.from_(Quote)
                .tumbling(lambda t: t.time, seconds=1, minutes=(1, 5), hours=1, days=1, grace="2s")
                .group_by(lambda t: (t.broker, t.symbol))
                .select(
                    lambda t, w: QuoteBar(
                        bucket_start=w.start,
                        broker=t.broker,
                        symbol=t.symbol,
                        bid_open=f.first(t.bid),
                        bid_high=f.max(t.bid),
                        bid_low=f.min(t.bid),
                        bid_close=f.last(t.bid),
                        ask_open=f.first(t.ask),
                        ask_high=f.max(t.ask),
                        ask_low=f.min(t.ask),
                        ask_close=f.last(t.ask),
                    )
                )
            )
        )
