"""A tour of Kafka on this machine, in three commands, each in a terminal of its own:

make kafka
.venv/bin/kandle run examples.fx:Fx --log kafka
.venv/bin/python -m examples.feed

The third one adds quotes that it makes up, and prints the bars of a second as they become final. Kill the second one as you like,
or start it twice: no bar is missing or doubled. Ctrl-C ends each.
"""

import random
import threading
from datetime import UTC, datetime
from decimal import Decimal

from examples.fx import Fx, Quote

SYMBOLS = {"EURUSD": Decimal("1.08000"), "USDJPY": Decimal("149.20000"), "GBPUSD": Decimal("1.26000")}
EVERY = 0.05
"""Seconds between two quotes."""


def quotes(market: Fx, stop: threading.Event) -> None:
    """Add a quote of one symbol after the other until told to stop."""
    bids = dict(SYMBOLS)
    while not stop.wait(EVERY):
        symbol = random.choice(list(bids))
        bids[symbol] += Decimal(random.randint(-5, 5)) / 100_000
        market.quotes.add(Quote(datetime.now(UTC), "demo", symbol, bids[symbol], bids[symbol] + Decimal("0.00010")))


def main() -> None:
    stop = threading.Event()
    with Fx.open(log={"kind": "kafka"}, runtime={"enabled": False}) as market:
        feeder = threading.Thread(target=quotes, args=(market, stop))
        feeder.start()
        try:
            for bar in market.bars("1s"):
                prices = f"{bar.bid_open} {bar.bid_high} {bar.bid_low} {bar.bid_close}"
                print(f"{bar.bucket_start:%H:%M:%S}  {bar.symbol}  {prices}")
        except KeyboardInterrupt:
            print("ended")
        finally:
            stop.set()
            feeder.join()


if __name__ == "__main__":
    main()
