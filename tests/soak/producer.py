"""A process that adds ticks until SIGTERM, and keeps book of them: what it is about to add, and what is kept.

python -m tests.soak.producer CONTEXT OPTIONS OUTPUT PLAN
"""

from __future__ import annotations

import faulthandler
import json
import random
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl

from kandle.context.context import state_of
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.soak.declaration import CONTEXTS, LONGEST_NAME

RUN = 1_000_000_000
"""The number of a run's first tick is the number of the run times this."""

QUIET_EVERY = 7
"""Of so many seconds a key is silent in two, so that there are gaps to fill."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ticks per second of so many keys; the time of a tick is up to `backwards` microseconds before now."""

    run: int
    keys: int = 40
    rate: int = 4_000
    pause: int = 10 * MILLISECOND
    backwards: int = 300 * MILLISECOND
    poison: int = 0
    """Microseconds between two ticks whose bars do not fit; 0 is none."""

    def to_text(self) -> str:
        return json.dumps(asdict(self))


def ticks(plan: Plan, now: int, first: int, count: int, chance: np.random.Generator) -> pl.DataFrame:
    """Up to `count` ticks of this moment; keys that are silent now have none."""
    keys = chance.integers(0, plan.keys, count)
    keys = keys[(now // SECOND + keys) % QUIET_EVERY > 1]
    # Whole milliseconds, as Avro keeps them.
    times = (now - chance.integers(0, plan.backwards + 1, len(keys))) // MILLISECOND * MILLISECOND
    return pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "name": pl.Series(keys).cast(pl.String),
            "price": pl.Series(chance.integers(1_000, 2_000, len(keys)), dtype=pl.Int64).cast(pl.Decimal(18, 6)),
            "number": pl.Series(np.arange(first, first + len(keys)), dtype=pl.Int64),
        }
    )


def with_poison(frame: pl.DataFrame, now: int, first: int) -> pl.DataFrame:
    """Return ticks, and after them one with a name that is too long for a bar."""
    poison = {
        "time": pl.Series([now // MILLISECOND * MILLISECOND], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        "name": ["poison".ljust(LONGEST_NAME + 1, "!")],
        "price": pl.Series([1], dtype=pl.Int64).cast(pl.Decimal(18, 6)),
        "number": pl.Series([first + frame.height], dtype=pl.Int64),
    }
    return frame.vstack(pl.DataFrame(poison))


def note(book: TextIO, word: str, first: int, count: int) -> None:
    book.write(f"{word} {first} {count}\n")
    book.flush()


def main() -> int:
    faulthandler.register(signal.SIGUSR1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    name, options, output, text = sys.argv[1:]
    plan = Plan(**json.loads(text))
    chance, sizes = np.random.default_rng(plan.run), random.Random(plan.run)
    following = plan.run * RUN
    with CONTEXTS[name].open(access="write_only", **json.loads(options)) as context, Path(output).open("a") as book:
        began, due = state_of(context).clock.steady(), 0.0
        poison_at = began if plan.poison else sys.maxsize
        while not stop.wait(plan.pause / SECOND):
            due = min((state_of(context).clock.steady() - began) * plan.rate / SECOND, plan.rate)
            began = state_of(context).clock.steady()
            frame = ticks(plan, state_of(context).clock.now(), following, round(due * sizes.uniform(0, 2)), chance)
            if began >= poison_at:
                frame = with_poison(frame, state_of(context).clock.now(), following)
                poison_at = began + plan.poison
            if frame.height:
                note(book, "try", following, frame.height)
                context.ticks.add_many(frame)  # type: ignore[attr-defined]
                note(book, "kept", following, frame.height)
                following += frame.height
    return 0


if __name__ == "__main__":
    sys.exit(main())
