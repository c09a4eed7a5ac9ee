"""A client and a server in one event loop, for one story."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.settings import KsqlSettings
from kandle.time.clock import ScaledClock
from tests.ksqldb.serving import Asked, Reply, Served, serving
from tests.waiting import LIMIT

Story = Callable[[KsqlClient, Served], Awaitable[Any]]

PATIENT: dict[str, Any] = {"connect_timeout": "60s", "timeout": "120s", "patience": "120s"}
"""Times that are only over when something is wrong, however busy the machine is."""


FAST = ScaledClock(0, 0, 100)
"""Pauses between attempts and looks take a hundredth of their time."""


def told(answer: Callable[[Asked], Reply | None], story: Story, versions: tuple[str, ...] = ("1.1", "2"), **settings: Any) -> Any:
    """What the story returns that is told with such a server."""

    async def tell() -> Any:
        async with (
            serving(answer, versions=versions) as served,
            KsqlClient(KsqlSettings(served.url, **{**PATIENT, **settings}), FAST) as client,
        ):
            return await story(client, served)

    return asyncio.run(asyncio.wait_for(tell(), LIMIT))


def always(reply: Reply | None) -> Callable[[Asked], Reply | None]:
    """A server with one answer."""
    return lambda asked: reply


HEADER = b'{"queryId":"q1","columnNames":["n","text"],"columnTypes":["BIGINT","STRING"]}\n'


def rows(*lines: bytes, **options: Any) -> Reply:
    """The answer to a query, its header and these parts."""
    return Reply(parts=(HEADER, *lines), content_type=None, **options)
