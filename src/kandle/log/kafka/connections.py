"""The clients of one log: all are created here, with the same settings, clock, error callback and logger.

The other modules of this package take a `Clients` instead of the log, and create of it what they need.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from kandle.log.kafka.failures import ClientErrors, ClientLog, translate_settings_errors
from kandle.log.kafka.settings import KafkaSettings, Statistics
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import AnyWrite
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

Client = TypeVar("Client")

CLOSE_LIMIT = 10 * SECOND
"""Longest wait for a client that closes."""

RETIREMENT = 60 * SECOND
"""How long a producer that nobody uses any more is kept: errors that refer to it are forgotten by then."""


class Clients:
    """Creates clients of the client library.

    Each method returns a new client, which belongs to the caller. OptionsError if the library refuses the
    settings.
    """

    def __init__(self, settings: KafkaSettings, clock: Clock, name: str) -> None:
        self.settings = settings
        self.clock = clock
        self.name = name
        """The `client.id` of those clients that are given no other."""
        self.errors = ClientErrors(settings.bootstrap, clock)
        self.appended: dict[TopicPartition, int] = {}
        """The next offset of each partition after what this log has appended in this process."""

    def note_appended(self, first: Sequence[int], writes: Sequence[AnyWrite]) -> None:
        """Note where records stand that this log has appended.

        Args:
            first: The offset of the first record of each write; a negative one is not known.
            writes: The writes.
        """
        for offset, write in zip(first, writes, strict=True):
            if offset >= 0:
                partition = TopicPartition(write.topic, write.partition)
                self.appended[partition] = max(self.appended.get(partition, 0), offset + len(write))

    def admin(self) -> AdminClient:
        """Return an administrative client."""
        return self._created(AdminClient, self.settings.for_client(self.name))

    def reader(self, name: str, topic: str | None = None) -> Consumer:
        """Return a consumer that is assigned what it reads; `topic` is the one whose own settings it has."""
        return self._created(Consumer, self.settings.for_reader(name, () if topic is None else (topic,)))

    def tail(self, name: str) -> Consumer:
        """Return a consumer that is assigned what it reads, and goes on with what is appended."""
        return self._created(Consumer, self.settings.for_tail(name))

    def positions(self, group: str, isolation: str) -> Consumer:
        """Return a consumer that only asks for the positions of a group."""
        return self._created(Consumer, self.settings.for_positions(self.name, group, isolation))

    def member(self, spec: GroupSpec, statistics: Statistics) -> Consumer:
        """Return a consumer that can join a group."""
        return self._created(Consumer, {**statistics.settings_for("consumer"), **self.settings.for_member(spec)})

    def appender(self, topic: str | None = None) -> Producer:
        """Return a producer that works without transactions; `topic` is the one whose own settings it has."""
        return self._created(Producer, self.settings.for_appender(self.name, topic))

    def transactions(self, name: str, transactional_id: str, statistics: Statistics | None) -> Producer:
        """Return a producer of transactions; the caller has to call its `init_transactions`."""
        reporting = {} if statistics is None else statistics.settings_for("producer")
        return self._created(Producer, {**reporting, **self.settings.for_transactions(name, transactional_id)})

    def _created(self, client: Callable[..., Client], settings: dict[str, Any]) -> Client:
        with translate_settings_errors(self.settings):
            return client({**settings, "error_cb": self.errors}, logger=ClientLog())

    def close(self, client: Consumer) -> None:
        """Close a consumer; leave it behind if that takes too long.

        The library waits without end for a group whose coordinator is away, or for an answer to a request that
        was lost in an outage. The thread that waits ends with the process.
        """
        errors: list[BaseException] = []

        def close() -> None:
            try:
                client.close()
            except BaseException as error:
                errors.append(error)

        closing = threading.Thread(target=close, name="kandle-closing", daemon=True)
        closing.start()
        closing.join(CLOSE_LIMIT / SECOND)
        if closing.is_alive():
            logger.warning("a client of Kafka at %s does not close; it is left behind", self.settings.bootstrap)
        if errors:
            raise errors[0]

    def retire(self, producer: Producer) -> None:
        """Release a producer in a thread of its own, since the library may wait for its brokers when it is released."""
        held = [producer]

        def hold() -> None:
            threading.Event().wait(RETIREMENT / SECOND)
            held.clear()

        threading.Thread(target=hold, name="kandle-retiring", daemon=True).start()

    @property
    def record_timestamp(self) -> int | None:
        """The time of records that are written now, in milliseconds; None is the system's time."""
        return None if type(self.clock) is SystemClock else self.clock.now() // MILLISECOND

    def load_metadata(self, client: Any, topic: str, known: dict[str, int], partition: int = 0) -> None:
        """Have a client ask for the leaders of a topic's partitions before it is used.

        Left alone, the library looks for a topic that it does not know only once a second, and for partitions that
        were added only after minutes.

        Args:
            client: A consumer or producer.
            topic: Name of the topic.
            known: The number of partitions of topics for which this client was asked before; the topic is added.
            partition: The partition that will be used.
        """
        if partition >= known.get(topic, 0):
            metadata = client.list_topics(topic, timeout=self.settings.request / SECOND).topics.get(topic)
            known[topic] = 1 if metadata is None else max(len(metadata.partitions), 1)
