"""What the client library tells of itself: figures of a member's consumer and producer, for the metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

MILLISECONDS = 1_000


class Statistics:
    """The newest figures of each client of a member; names and units are those of librdkafka's STATISTICS.md."""

    def __init__(self) -> None:
        self._clients: dict[str, dict[str, int]] = {}

    def of(self, client: str) -> Callable[[str], None]:
        """The callback of a client, which the library gives its figures as JSON; a new client takes the place of the old one."""

        def take(text: str) -> None:
            self._clients[client] = _figures(json.loads(text))

        return take

    @property
    def figures(self) -> Mapping[str, int]:
        """Records, bytes and errors since the clients were made; the longest `round_trip` and `throttled`, in microseconds."""
        every = list(self._clients.values())
        names = dict.fromkeys(name for each in every for name in each)
        return {name: (max if name in GREATEST else sum)(each.get(name, 0) for each in every) for name in names}


GREATEST = ("round_trip", "throttled")


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
        "throttled": max((each.get("throttle", {}).get("avg", 0) for each in brokers), default=0) * MILLISECONDS,
    }
