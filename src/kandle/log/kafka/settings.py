"""How clients of Kafka are set up: for exactly-once work with short waits; and their statistics."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kandle.errors import OptionsError
from kandle.log.port import GroupSpec
from kandle.time.timeframe import MILLISECOND, SECOND

MIN_SESSION = 6 * SECOND
"""Brokers refuse a shorter session than their group.min.session.timeout.ms; this is its default."""

MAX_HEARTBEAT = 250
"""Longest interval of heartbeats in milliseconds: members hear with their next heartbeat that others have
joined or left, so a rebalance takes about that long."""

MAX_IDLE = 2_000
"""Milliseconds after which clients that ask coordinators close an idle connection."""

MAX_QUEUE_KBYTES = 16_384
"""What the library reads ahead of each partition, in KiB."""

GroupProtocol = Literal["classic", "consumer"]


@dataclass(frozen=True, slots=True)
class ClientProperties:
    """Settings of the client library for clients that read and that write one topic."""

    consumer: Mapping[str, str] = field(default_factory=dict, repr=False)
    producer: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the brokers are, and how clients are set up; durations are in microseconds.

    Attributes:
        bootstrap: Addresses of brokers (`host:port`), with commas between them.
        properties: Settings of the client library for all clients (`security.protocol`, `sasl.password`,
            ...). They may hold secrets, so they are never printed; nor are those of `consumer` and
            `producer`.
        consumer: Settings for consumers only.
        producer: Settings for producers only.
        protocol: The group protocol: `classic`, or `consumer` for that of KIP-848.
        session: Time without a heartbeat after which a member loses its partitions; None takes the lease of
            the group.
        transaction: Time for which the brokers keep a transaction of a dead process open.
        statistics: How often members report statistics of their clients; 0 is never.
        patience: Longest wait for something that other processes or brokers must do first.
        request: Longest wait for the answer to one request.
        replication: Replication of topics that are created without one of their own; None takes the default of
            the brokers.
        creates: Whether kandle creates the topics in which it keeps what all processes must know.
        topics: Settings for the clients of single topics.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    consumer: Mapping[str, str] = field(default_factory=dict, repr=False)
    producer: Mapping[str, str] = field(default_factory=dict, repr=False)
    protocol: GroupProtocol = "classic"
    session: int | None = None
    transaction: int = 10 * SECOND
    statistics: int = 10 * SECOND
    patience: int = 30 * SECOND
    request: int = 10 * SECOND
    replication: int | None = None
    creates: bool = True
    topics: Mapping[str, ClientProperties] = field(default_factory=dict, repr=False)

    def places_of(self, names: Collection[str]) -> list[str]:
        """Return the options that hold any of some properties, such as `topics.ticks.consumer`."""
        sections = {"kafka.properties": self.properties, "kafka.consumer": self.consumer, "kafka.producer": self.producer}
        for topic, own in self.topics.items():
            sections |= {f"topics.{topic}.consumer": own.consumer, f"topics.{topic}.producer": own.producer}
        return [section for section, properties in sections.items() if not properties.keys().isdisjoint(names)]

    def consumer_of(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the settings of a consumer of topics: those of all consumers, and of the topics.

        Raises:
            OptionsError: Two of the topics have different settings.
        """
        owners: dict[str, str] = {}
        merged: dict[str, str] = {}
        for topic in topics:
            for name, value in self.topics.get(topic, ClientProperties()).consumer.items():
                if merged.get(name, value) != value:
                    raise OptionsError(
                        f"topics.{owners[name]}.consumer and topics.{topic}.consumer have different values of {name}, but one "
                        "client reads both topics"
                    )
                owners[name], merged[name] = topic, value
        return {**self.consumer, **merged}

    def producer_of(self, topic: str) -> dict[str, str]:
        """Return the settings of a producer of a topic: those of all producers, and of the topic."""
        return {**self.producer, **self.topics.get(topic, ClientProperties()).producer}

    def for_client(self, name: str) -> dict[str, Any]:
        """Return the settings that all clients share."""
        common = {
            # Errors in the background are logged once by `ClientErrors`; the library would log each attempt.
            "log_level": 2,
            "reconnect.backoff.max.ms": 1_000,
            # Brokers that create topics on demand do so in their own way, and again when one was deleted.
            "allow.auto.create.topics": False,
        }
        return {"bootstrap.servers": self.bootstrap, "client.id": name, **common, **self.properties}

    def _for_coordinator_client(self, name: str) -> dict[str, Any]:
        """Return the settings of a client that asks coordinators of groups or transactions.

        A client that has lost its coordinator in an outage, and waits for it, looks for it again only when
        some connection changes (librdkafka's issue 5511), so connections without use are closed.
        """
        return {"connections.max.idle.ms": MAX_IDLE, **self.for_client(name)}

    def for_reader(self, name: str, topics: Iterable[str] = ()) -> dict[str, Any]:
        """Return the settings of a consumer without a group, which is assigned what it reads."""
        return {
            **self.for_client(name),
            "group.id": f"{name}-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # The default of a second stalls a reader that has caught up.
            "fetch.queue.backoff.ms": 2,
            # A fetch that waits for records delays the next one from the same broker, of whatever partition.
            "fetch.wait.max.ms": 10,
            "queued.min.messages": 200_000,
            **self.consumer_of(topics),
        }

    def for_tail(self, name: str) -> dict[str, Any]:
        """Return the settings of a consumer without a group that goes on with what is appended."""
        own = {"fetch.wait.max.ms": 100, "auto.offset.reset": "error", "queued.max.messages.kbytes": 16_384}
        return {**self.for_reader(name), **own, **self.consumer}

    def for_positions(self, name: str, group: str, isolation: str) -> dict[str, Any]:
        """Return the settings of a consumer that only asks for the positions of its group."""
        return {
            **self._for_coordinator_client(name),
            "group.id": group,
            "isolation.level": isolation,
            # While a transaction is open the library asks again that often; by default once a second.
            "retry.backoff.ms": 5,
            "retry.backoff.max.ms": 20,
        }

    def for_member(self, spec: GroupSpec) -> dict[str, Any]:
        """Return the settings of a member of a group.

        With the classic protocol it is a static member: a process that joins under the same name takes its
        place.
        """
        own = {
            "group.id": spec.group,
            # Positions are set explicitly; one that the brokers do not have any more must be reported.
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
            # For each partition; the default of 64 MiB would be a gigabyte for sixteen of them.
            "queued.max.messages.kbytes": MAX_QUEUE_KBYTES,
            # Partitions that are added are noticed that soon; by default after five minutes.
            "topic.metadata.refresh.interval.ms": 5_000,
        }
        if spec.max_bytes:
            own["queued.max.messages.kbytes"] = min(max(spec.max_bytes >> 10, 1), MAX_QUEUE_KBYTES)
        if spec.stall:
            # The library's own thread keeps the session alive meanwhile; rebalances wait no longer for a stuck member either.
            own["max.poll.interval.ms"] = max(spec.stall, self.session_of(spec)) // MILLISECOND
        settings = self.for_reader(spec.member) | own | self.consumer_of(spec.topics)
        if self.protocol == "consumer":
            # A static member that leaves, and its successor too, would have to wait for the end of its
            # session here.
            return settings | {"group.protocol": "consumer"}
        session = self.session_of(spec)
        classic = {
            "group.instance.id": spec.member,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session // MILLISECOND,
            "heartbeat.interval.ms": min(max(session // MILLISECOND // 12, 50), MAX_HEARTBEAT),
        }
        return classic | settings

    def session_of(self, spec: GroupSpec) -> int:
        """Return how long a member of a group may be silent, in microseconds."""
        configured = {**self.properties, **self.consumer_of(spec.topics)}.get("session.timeout.ms")
        if configured is not None:
            return int(configured) * MILLISECOND
        return self.session if self.session is not None else max(spec.lease, MIN_SESSION)

    def for_appender(self, name: str, topic: str | None = None) -> dict[str, Any]:
        """Return the settings of a producer whose retries neither double nor reorder records."""
        return {
            **self.for_client(name),
            "enable.idempotence": True,
            "linger.ms": 0,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 5_000_000,
            "queue.buffering.max.kbytes": 2_097_151,
            "delivery.timeout.ms": self.patience // MILLISECOND,
            "request.timeout.ms": self.request // MILLISECOND,
            **(self.producer if topic is None else self.producer_of(topic)),
        }

    def for_transactions(self, name: str, transactional_id: str) -> dict[str, Any]:
        """Return the settings of a producer of transactions; the next one with the same id fences it."""
        return (
            self._for_coordinator_client(name)
            | self.for_appender(name)
            | {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": self.transaction // MILLISECOND,
                "delivery.timeout.ms": self.transaction // MILLISECOND,
                "request.timeout.ms": min(self.request, self.transaction) // MILLISECOND,
                # The default of 100 ms is how long each commit would wait for the markers of the last one.
                "retry.backoff.ms": 5,
            }
        )


MAXIMA = ("round_trip", "throttled")
"""Statistics of which the largest of all clients counts, not the sum."""


class Statistics:
    """The latest statistics of each client of a group member, reported by the library at an interval.

    The names and units in the library's reports are those of librdkafka's STATISTICS.md.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._figures: dict[str, dict[str, int]] = {}

    def settings_for(self, client: str) -> dict[str, Any]:
        """Return settings with which a client reports here, in place of the former one of that name."""

        def take(report: str) -> None:
            self._figures[client] = _figures(json.loads(report))

        return {"statistics.interval.ms": self._interval // MILLISECOND, "stats_cb": take}

    @property
    def figures(self) -> Mapping[str, int]:
        """Records, bytes and errors since the clients were created, summed over them.

        `round_trip` and `throttled` are in microseconds, the largest of any client.
        """
        clients = list(self._figures.values())
        names = dict.fromkeys(name for figures in clients for name in figures)
        return {name: (max if name in MAXIMA else sum)(figures.get(name, 0) for figures in clients) for name in names}


def _figures(report: Mapping[str, Any]) -> dict[str, int]:
    brokers = list(report.get("brokers", {}).values())
    errors = ("txerrs", "rxerrs", "req_timeouts")
    return {
        "records_received": report.get("rxmsgs", 0),
        "bytes_received": report.get("rxmsg_bytes", 0),
        "records_sent": report.get("txmsgs", 0),
        "bytes_sent": report.get("txmsg_bytes", 0),
        "records_queued": report.get("msg_cnt", 0),
        "request_errors": sum(broker.get(name, 0) for broker in brokers for name in errors),
        "round_trip": max((broker.get("rtt", {}).get("avg", 0) for broker in brokers), default=0),
        "throttled": max((broker.get("throttle", {}).get("avg", 0) for broker in brokers), default=0) * MILLISECOND,
    }
