"""What the client library tells of itself: figures of a member's consumer and producer, for the metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kandle.time.timeframe import MILLISECOND

GREATEST = ("round_trip", "throttled")
"""Figures of which the greatest of all clients counts, not the sum."""


class Statistics:
    """The newest figures of each client of a member, told `every` so many microseconds, never if that is 0.

    Names and units of what is told are those of librdkafka's STATISTICS.md.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._clients: dict[str, dict[str, int]] = {}

    def of(self, client: str) -> dict[str, Any]:
        """Settings that have a client tell its figures; a new client of the name takes the place of the old one."""

        def take(text: str) -> None:
            self._clients[client] = _figures(json.loads(text))

        return {"statistics.interval.ms": self._every // MILLISECOND, "stats_cb": take}

    @property
    def figures(self) -> Mapping[str, int]:
        """Records, bytes and errors since the clients were made; the longest `round_trip` and `throttled`, in microseconds."""
        every = list(self._clients.values())
        names = dict.fromkeys(name for each in every for name in each)
        return {name: (max if name in GREATEST else sum)(each.get(name, 0) for each in every) for name in names}


def _figures(told: Mapping[str, Any]) -> dict[str, int]:
    brokers = list(told.get("brokers", {}).values())
    return {
        "records_received": told.get("rxmsgs", 0),
        "bytes_received": told.get("rxmsg_bytes", 0),
        "records_sent": told.get("txmsgs", 0),
        "bytes_sent": told.get("txmsg_bytes", 0),
        "records_queued": told.get("msg_cnt", 0),
        "request_errors": sum(each.get("txerrs", 0) + each.get("rxerrs", 0) + each.get("req_timeouts", 0) for each in brokers),
        "round_trip": max((each.get("rtt", {}).get("avg", 0) for each in brokers), default=0),
        "throttled": max((each.get("throttle", {}).get("avg", 0) for each in brokers), default=0) * MILLISECOND,
    }
