"""Stories on a context for tests: told on a log in memory, or on one in a folder, with which the next story goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import kandle.testing
from kandle import Context
from kandle.context.context import state_of
from kandle.runtime.counters import QueryHealth
from kandle.time.timeframe import from_instant
from tests.runtime.building import bars, t
from tests.runtime.declarations import Bar

Story = Callable[[Any], Awaitable[Any]]


def opened(context: type[Context], start: str | int, folder: Path | None = None, **options: Any) -> Any:
    """A context for tests, with its log in a folder if there is one."""
    moment = from_instant(t(start) if isinstance(start, str) else start)
    if folder is not None:
        options["log"] = {"path": folder}
    return kandle.testing.context(context, start=moment, **options)


def told(context: type[Context], story: Story, start: str | int = "14:30", folder: Path | None = None, **options: Any) -> Any:
    """What a story returns that begins at `start`."""

    async def tell() -> Any:
        async with opened(context, start, folder, **options) as market:
            return await story(market)

    return asyncio.run(tell())


def health(market: Any) -> QueryHealth:
    found: QueryHealth = market.health().queries[0]
    return found


def in_topic(market: Any, timeframe: str, kind: str = "final") -> list[Any]:
    """All bars of a timeframe's topic, as they stand there: a bucket that is final twice is there twice."""
    state_of(market).settle()
    return bars(state_of(market).log, f"bars_{timeframe}_{kind}", Bar)


def minutes(market: Any, timeframe: str = "1m") -> list[str]:
    """When the finals start, as they stand in their topic."""
    return [f"{bar.start:%H:%M}" for bar in in_topic(market, timeframe)]


def every_minute(first: str, until: str) -> list[str]:
    """The minutes `[first, until)` of Friday."""
    return [f"{from_instant(moment):%H:%M}" for moment in range(t(first), t(until), 60_000_000)]
