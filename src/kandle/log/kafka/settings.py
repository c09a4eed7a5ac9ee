"""How Kafka is reached, and how its clients are set up for exactly-once work with short waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kandle.log.port import GroupSpec
from kandle.time.timeframe import MILLISECOND, SECOND

LEAST_SESSION = 6 * SECOND
"""Brokers refuse a shorter session than their group.min.session.timeout.ms, which is this unless it was changed."""

SLOWEST_HEARTBEAT = 250
"""Milliseconds: members hear with their next heartbeat that others have joined or left; so long does sharing anew take."""

IDLE = 2_000
"""Milliseconds for which a connection of those who ask coordinators may be idle."""

Protocol = Literal["classic", "consumer"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the brokers are; durations in microseconds.

    `properties` go to all clients as they are (`security.protocol`, `sasl.password`, ...), those of `consumer` and `producer` to
    theirs; they may hold secrets, so they are never printed. `session` is how long a member that is not heard of keeps its
    partitions, None takes the group's lease. `transaction` is how long the broker keeps a transaction of a dead process open.
    `replication` is that of the topics in which kandle keeps what it knows of topics and schemas.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    consumer: Mapping[str, str] = field(default_factory=dict, repr=False)
    producer: Mapping[str, str] = field(default_factory=dict, repr=False)
    protocol: Protocol = "classic"
    session: int | None = None
    transaction: int = 10 * SECOND
    statistics: int = 10 * SECOND
    """How often clients of groups tell their figures; 0 is never."""
    patience: int = 30 * SECOND
    request: int = 10 * SECOND
    replication: int = 1

    def client(self, name: str) -> dict[str, Any]:
        """What all clients share."""
        # What goes wrong is told once by `Told`, or raised; the library would say it with every attempt.
        # Brokers that make topics for whoever asks make them in their own way, and again when one was deleted.
        usual = {"log_level": 2, "reconnect.backoff.max.ms": 1_000, "allow.auto.create.topics": False}
        return {"bootstrap.servers": self.bootstrap, "client.id": name, **usual, **self.properties}

    def asking(self, name: str) -> dict[str, Any]:
        """A client that asks coordinators of groups.

        One that has lost its coordinator in an outage, and waits for it, looks for it anew only when some connection changes
        (librdkafka's issue 5511), so connections without use are closed.
        """
        return {"connections.max.idle.ms": IDLE, **self.client(name)}

    def reader(self, name: str) -> dict[str, Any]:
        """A consumer that is told what to read."""
        return {
            **self.client(name),
            "group.id": f"{name}-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            # The default of a second stalls a reader that has caught up.
            "fetch.queue.backoff.ms": 2,
            # A fetch that waits for records holds up the next one from the same broker, of whatever partition.
            "fetch.wait.max.ms": 10,
            "queued.min.messages": 200_000,
            **self.consumer,
        }

    def teller(self, name: str, group: str, isolation: str) -> dict[str, Any]:
        """A consumer that never joins its group: it only asks for the group's positions."""
        return {
            **self.asking(name),
            "group.id": group,
            "isolation.level": isolation,
            # So often open transactions are asked for again; the library would slow down to once a second.
            "retry.backoff.ms": 5,
            "retry.backoff.max.ms": 20,
        }

    def member(self, spec: GroupSpec) -> dict[str, Any]:
        """A consumer that shares topics with others: the same name again takes the place of the one before."""
        own = {
            "group.id": spec.group,
            # Where to begin is found out before; a position that is not there any more must not go unsaid.
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
        }
        settings = self.reader(spec.member) | own | dict(self.consumer)
        if self.protocol == "consumer":
            # With a name of its own a member that leaves, and its successor too, would have to wait for the end of its session.
            return settings | {"group.protocol": "consumer"}
        session = self.session if self.session is not None else max(spec.lease, LEAST_SESSION)
        classic = {
            "group.instance.id": spec.member,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session // MILLISECOND,
            "heartbeat.interval.ms": min(max(session // MILLISECOND // 12, 50), SLOWEST_HEARTBEAT),
        }
        return classic | settings

    def appender(self, name: str) -> dict[str, Any]:
        """A producer whose retries neither double nor reorder."""
        return {
            **self.client(name),
            "enable.idempotence": True,
            "linger.ms": 0,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 5_000_000,
            "queue.buffering.max.kbytes": 2_097_151,
            "delivery.timeout.ms": self.patience // MILLISECOND,
            "request.timeout.ms": self.request // MILLISECOND,
            **self.producer,
        }

    def transactional(self, name: str, transactional: str) -> dict[str, Any]:
        """A producer of transactions; the next one of the same id fences it."""
        return (
            self.asking(name)
            | self.appender(name)
            | {
                "transactional.id": transactional,
                "transaction.timeout.ms": self.transaction // MILLISECOND,
                "delivery.timeout.ms": self.transaction // MILLISECOND,
                "request.timeout.ms": min(self.request, self.transaction) // MILLISECOND,
                # The default of 100 ms is how long each transaction would wait for the markers of the one before.
                "retry.backoff.ms": 5,
            }
        )
