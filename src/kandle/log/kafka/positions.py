"""Positions of consumer groups: the next offset that a group has committed for each partition.

A commit can be part of a transaction that is still open. `settled` waits until it is decided; `committed`
returns what was committed before it.

    committed position     10                    10                      25
                           |---------------------|-----------------------|------> time
                           begin transaction     position 25 is added    commit
    committed() ---------> 10                    10                      25
    settled()   ---------> 10                    waits ----------------> 25

A member that takes a partition over has to call `settled`: with 10 it would process again what the
transaction of its dead predecessor has already written. If the predecessor never commits, the transaction is
aborted (`takeover.py` says by whom).

Positions are asked for as a member would do it, by a consumer that never joins the group. The administrative
client could ask as well, but the library may end the process if it has asked that in an outage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import UnavailableError, UnknownTopicError
from kandle.log.kafka.admin import ClusterAdmin
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import REFUSED, error_for, translate_errors
from kandle.log.port import TopicPartition
from kandle.time.timeframe import MILLISECOND, SECOND, duration_text

MAX_ANSWER_TIME = 2 * SECOND
"""Longest wait for one answer; a client that waits for a coordinator it has lost is given up after it."""

PAUSE = 5 * MILLISECOND

MAX_IDLE_CLIENTS = 16
"""Clients that are kept for the next question: more than a process has groups, but a cluster may have."""

REPARTITION_SUFFIX = "-repartition"

Isolation = Literal["read_committed", "read_uncommitted"]
"""Whether a client waits for open transactions, or is told what was committed before them."""


class GroupPositions:
    """Returns the positions of any group. May be used by several threads."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._clock = clients.clock
        self._idle: dict[tuple[str, Isolation], Any] = {}

    def committed(self, group: str, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the committed positions without waiting for open transactions.

        Args:
            group: Name of the group.
            partitions: Partitions to ask for.

        Returns:
            The next offset of each partition that has a position.
        """
        deadline = self._clock.steady() + self._settings.request
        while True:
            try:
                return self._ask(group, partitions, "read_uncommitted")
            except UnavailableError:
                if self._clock.steady() > deadline:
                    raise
                self._clock.pause(PAUSE)

    def settled(self, group: str, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the committed positions, once no open transaction can change them.

        Args:
            group: Name of the group.
            partitions: Partitions to ask for.

        Raises:
            UnavailableError: A transaction stays open for longer than the patience of the settings.
        """
        deadline = self._clock.steady() + self._settings.patience
        while True:
            try:
                return self._ask(group, partitions, "read_committed")
            except UnavailableError as error:
                if self._clock.steady() > deadline:
                    # Raises the right error if the brokers do not answer at all.
                    self._ask(group, partitions, "read_uncommitted")
                    names = ", ".join(f"{partition.topic} {partition.partition}" for partition in sorted(partitions))
                    raise UnavailableError(
                        f"group {group}: a transaction that changes positions in {names} has been open for "
                        f"{duration_text(self._settings.patience)}"
                    ) from error
                self._clock.pause(PAUSE)

    def _ask(self, group: str, partitions: Collection[TopicPartition], isolation: Isolation) -> dict[TopicPartition, int]:
        """Return the positions; UnavailableError if there is no answer for a while."""
        if not partitions:
            return {}
        # A client is used by one question at a time, so that none waits for the open transactions of another.
        client = self._idle.pop((group, isolation), None) or self._clients.positions(group, isolation)
        try:
            with translate_errors(f"positions of group {group}"):
                timeout = min(MAX_ANSWER_TIME, self._settings.request, self._settings.patience) / SECOND
                answers = client.committed([ClientPartition(*partition) for partition in partitions], timeout)
        except BaseException:
            refusal = _refusal(client)
            self._clients.close(client)
            if refusal is not None:
                raise error_for(refusal, f"positions of group {group}") from KafkaException(refusal)
            raise
        self._keep((group, isolation), client)
        for answer in answers:
            if answer.error is not None:
                raise error_for(answer.error, f"position of group {group} in {answer.topic}, partition {answer.partition}")
        # Their metadata is never looked at: the library does not always terminate it.
        return {TopicPartition(answer.topic, answer.partition): answer.offset for answer in answers if answer.offset >= 0}

    def _keep(self, key: tuple[str, Isolation], client: Any) -> None:
        replaced = [self._idle.pop(key, None)]
        if len(self._idle) >= MAX_IDLE_CLIENTS:
            replaced.append(self._idle.pop(next(iter(self._idle)), None))
        self._idle[key] = client
        for old in replaced:
            if old is not None:
                self._clients.close(old)

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._clients.close(self._idle.popitem()[1])


def _refusal(client: Any) -> KafkaError | None:
    """Return why a client has got no answer, if that is because its user may not read the group: it only says so here."""
    errors = [message.error() for message in client.consume(10, 0)]
    return next((error for error in errors if error is not None and error.code() in REFUSED), None)


class KafkaProgress:
    """How far the groups of other programs, such as queries of ksqlDB, have read any topics."""

    def __init__(self, admin: ClusterAdmin, positions: GroupPositions) -> None:
        self._admin = admin
        self._positions = positions

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return the first and the next offset of each partition, open transactions included."""
        return self._admin.bounds([partition for topic in topics for partition in self._partitions(topic)]) if topics else {}

    def _partitions(self, topic: str) -> list[TopicPartition]:
        size = self._admin.topic_size(topic)
        if size is None:
            raise UnknownTopicError(f"there is no topic {topic!r} on the brokers, though a query of ksqlDB reads it")
        return [TopicPartition(topic, number) for number in range(size[0])]

    def committed(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the next offset of each partition that the group has committed."""
        return self._positions.committed(group, partitions)

    def inner_topics(self, group: str) -> list[str]:
        """Return the topics with which a query repartitions records by another key."""
        names = self._admin.partition_counts()
        return sorted(name for name in names if name.startswith(f"{group}-") and name.endswith(REPARTITION_SUFFIX))
