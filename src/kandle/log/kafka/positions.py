"""How far groups have come, asked as a member would ask.

The administrative client could tell as well, but the library may end the process where it has asked that in an outage.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Literal

from confluent_kafka import Consumer as Client
from confluent_kafka import TopicPartition as Place

from kandle.errors import UnavailableError
from kandle.log.kafka.failures import Told, configured, meaning, translated
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

ASKED_FOR = 2 * SECOND
"""Longest wait for one answer: a client that waits for a coordinator it has lost is given up after it."""

PAUSE = 5 * MILLISECOND

MOST_KEPT = 16
"""Clients that are kept for the next question, each of a group: so many groups has no process, but a cluster may."""

Isolation = Literal["read_committed", "read_uncommitted"]
"""Whether a client waits for open transactions, or is told what was committed before them."""


class Positions:
    """Of all groups; to be asked from any thread."""

    def __init__(self, settings: KafkaSettings, name: str, clock: Clock, told: Told) -> None:
        self._settings = settings
        self._name = name
        self._clock = clock
        self._told = told
        self._idle: dict[tuple[str, Isolation], Any] = {}

    def committed(self, group: str, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Next offset of those partitions that the group has committed one of, and who said so.

        Positions that an open transaction may still change are given as they were before it.
        """
        deadline = self._clock.steady() + self._settings.request
        while True:
            try:
                return self._asked(group, places, "read_uncommitted")
            except UnavailableError:
                if self._clock.steady() > deadline:
                    raise
                self._clock.pause(PAUSE)

    def settled(self, group: str, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Next offset of those partitions that the group has committed one of; open transactions are waited for."""
        deadline = self._clock.steady() + self._settings.patience
        while True:
            try:
                return {place: offset for place, (offset, _) in self._asked(group, places, "read_committed").items()}
            except UnavailableError as error:
                if self._clock.steady() > deadline:
                    # Where the brokers do not answer at all, that is said instead.
                    self._asked(group, places, "read_uncommitted")
                    words = ", ".join(f"{place.topic} {place.partition}" for place in sorted(places))
                    raise UnavailableError(
                        f"group {group}: a transaction that moves the positions of some of {words} has been open for "
                        f"{self._settings.patience // SECOND} s"
                    ) from error
                self._clock.pause(PAUSE)

    def _asked(
        self, group: str, places: Collection[TopicPartition], isolation: Isolation
    ) -> dict[TopicPartition, tuple[int, str]]:
        """UnavailableError if there is no answer for a while."""
        if not places:
            return {}
        # Nobody else uses a client meanwhile, so that none has to wait for another's open transactions.
        client = self._idle.pop((group, isolation), None) or self._made(group, isolation)
        try:
            with translated(f"positions of group {group}"):
                timeout = min(ASKED_FOR, self._settings.request, self._settings.patience) / SECOND
                found = client.committed([Place(*place) for place in places], timeout)
        except BaseException:
            client.close()
            raise
        self._keep((group, isolation), client)
        for place in found:
            if place.error is not None:
                raise meaning(place.error, f"position of group {group} in {place.topic}, partition {place.partition}")
        return {
            TopicPartition(place.topic, place.partition): (place.offset, place.metadata or "")
            for place in found
            if place.offset >= 0
        }

    def _made(self, group: str, isolation: Isolation) -> Any:
        with configured(self._settings.bootstrap):
            return Client({**self._settings.teller(self._name, group, isolation), "error_cb": self._told}, logger=logger)

    def _keep(self, key: tuple[str, Isolation], client: Any) -> None:
        left = [self._idle.pop(key, None)]
        if len(self._idle) >= MOST_KEPT:
            left.append(self._idle.pop(next(iter(self._idle)), None))
        self._idle[key] = client
        for each in left:
            if each is not None:
                each.close()

    def close(self) -> None:
        """Let go of the connections."""
        while self._idle:
            self._idle.popitem()[1].close()
