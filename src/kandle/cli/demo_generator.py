"""The process of the demo that writes ticks until SIGTERM: `python -m kandle.cli.demo_generator CONFIG SEED`."""

from __future__ import annotations

import asyncio
import sys

from kandle.cli.demo_market import Market, RandomWalks
from kandle.cli.run import stop_signals
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.errors import KandleError
from kandle.time.timeframe import MILLISECOND

SHORTEST_PAUSE = 5 * MILLISECOND
"""Least real time between two writes, in microseconds."""

FAILED = 2


async def generate(config: str, seed: int) -> None:
    """Write the ticks of seeded random walks in real time until a signal arrives."""
    with stop_signals() as stopped:
        options = Options.load(config, access="write_only")
        shortest = round(SHORTEST_PAUSE * options.clock.speed)
        async with Market(options) as market:
            clock = state_of(market).clock
            walks = RandomWalks(seed, clock.now())
            while not stopped.is_set():
                await clock.sleep_until(max(walks.next_end, clock.now() + shortest))
                ticks = walks.until(clock.now())
                if not ticks.is_empty():
                    await market.ticks.add_many_async(ticks)


def main() -> int:
    """Run the process and return its exit code; an error is one line on standard error."""
    try:
        asyncio.run(generate(sys.argv[1], int(sys.argv[2])))
    except KandleError as error:
        print(f"kandle: error: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
