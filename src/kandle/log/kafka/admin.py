"""Topics of the brokers: what there is, what is created, where partitions begin and end, and who is in a group."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from kandle.errors import LogError, UnavailableError, UnknownTopicError
from kandle.log.kafka.failures import ALLOW, Told, configured, meaning, translated
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from kandle.plan.topics import TopicSpec
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

# The library does not annotate these.
EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]

CHECKED_EVERY = 20 * MILLISECOND
COORDINATOR_TIMEOUT = 2.0
"""Seconds for one question to the coordinator of a group."""
FOREVER = "-1"


class Admin:
    """The administrative side of the brokers."""

    def __init__(self, settings: KafkaSettings, name: str, clock: Clock, told: Told) -> None:
        self._settings = settings
        self._name = name
        self._clock = clock
        self._told = told
        self._stuck: list[AdminClient] = []
        """Never let go of, for the same reason."""
        self._client = self._made()

    def _made(self) -> AdminClient:
        with configured(self._settings.bootstrap):
            return AdminClient(self._settings.client(self._name) | {"error_cb": self._told}, logger=logger)

    @property
    def _timeout(self) -> float:
        return self._settings.request / SECOND

    def _of(self, what: str, futures: Mapping[Any, Any]) -> dict[Any, Any]:
        with translated(what):
            return {key: future.result(self._timeout * 2) for key, future in futures.items()}

    def _of_group(self, what: str, ask: Callable[[AdminClient], Mapping[Any, Any]]) -> dict[Any, Any]:
        """What the coordinator of a group says.

        A client that has lost its coordinator in an outage may wait for it for ever (librdkafka's issue 5511), a new one not. It
        is not asked while brokers cannot be reached: where such a question is given up, the library may end the process.
        """
        deadline = self._clock.steady() + self._settings.request
        while True:
            # Kept until the answer is there: a client that nobody holds gives none.
            client = self._client
            with translated(what):
                client.list_topics(timeout=COORDINATOR_TIMEOUT)
            try:
                return self._of(what, ask(client))
            except UnavailableError as error:
                if not _is_timeout(error):
                    raise
                self._stuck.append(client)
                self._client = self._made()
                if self._clock.steady() > deadline:
                    raise

    def reached(self) -> None:
        """UnavailableError if no broker answers soon, or within the patience if that is less; AccessError if none lets us in."""
        what = f"Kafka at {self._settings.bootstrap}"
        try:
            with translated(what):
                self._client.list_topics(timeout=min(self._settings.request, self._settings.patience) / SECOND)
        except UnavailableError as error:
            # Why they close the connection is told on the side.
            self._client.poll(0)
            if self._told.refusal is not None:
                raise meaning(self._told.refusal, what) from error
            raise

    def partitions(self) -> dict[str, int]:
        """Number of partitions of every topic."""
        with translated(f"topics of Kafka at {self._settings.bootstrap}"):
            found = self._client.list_topics(timeout=self._timeout)
        return {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None}

    def state(self, name: str) -> tuple[int, int] | None:
        """Partitions and replicas of a topic; None if it is not there."""
        with translated(f"topic {name}"):
            topic = self._client.list_topics(name, timeout=self._timeout).topics.get(name)
        if topic is None or (topic.error is not None and topic.error.code() in MISSING):
            return None
        if topic.error is not None:
            with translated(f"topic {name}"):
                raise KafkaException(topic.error)
        if not topic.partitions:
            return None
        return len(topic.partitions), len(topic.partitions[0].replicas)

    def create(self, spec: TopicSpec) -> None:
        """Create a topic and wait until the brokers know it; one that another process has created meanwhile is taken as it is."""
        topic = NewTopic(spec.name, spec.partitions, spec.replication, config=config_of(spec))
        try:
            self._client.create_topics([topic], operation_timeout=self._timeout)[spec.name].result(self._timeout * 2)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                what = f"creation of topic {spec.name} ({spec.partitions} partitions, replication {spec.replication})"
                with translated(what, f"{ALLOW} Create on the topic, or make it yourself"):
                    raise
        self._wait_for(spec.name)

    def _wait_for(self, name: str) -> None:
        deadline = self._clock.steady() + self._settings.patience
        while self.state(name) is None:
            if self._clock.steady() > deadline:
                raise UnavailableError(f"topic {name} was created, but the brokers do not show it")
            self._clock.pause(CHECKED_EVERY)

    def config(self, name: str) -> dict[str, str]:
        """Settings of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        found = self._of(f"settings of topic {name}", self._client.describe_configs([resource]))
        return {entry.name: entry.value for entry in next(iter(found.values())).values()}

    def offsets(self, places: Collection[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        """Offsets of partitions, open transactions included; a partition that has no leader for a moment is waited for."""
        what = f"offsets of {', '.join(sorted({place.topic for place in places}))}"
        deadline = self._clock.steady() + self._settings.patience
        while True:
            futures = self._client.list_offsets({Place(*place): spec for place in places}, request_timeout=self._timeout)
            try:
                with translated(what):
                    found = {place: future.result(self._timeout * 2) for place, future in futures.items()}
            except (UnavailableError, UnknownTopicError) as error:
                if not self._is_without_leader(error, places):
                    raise
                if self._clock.steady() > deadline:
                    raise UnavailableError(
                        f"{what}: partitions have had no leader for {self._settings.patience // SECOND} s"
                    ) from error
                self._clock.pause(CHECKED_EVERY)
            else:
                return {TopicPartition(place.topic, place.partition): result.offset for place, result in found.items()}

    def _is_without_leader(self, error: LogError, places: Collection[TopicPartition]) -> bool:
        """Whether the topics are there, only that no broker leads their partitions now: the client says the same of both."""
        cause = error.__cause__
        code = cause.args[0].code() if isinstance(cause, KafkaException) else None
        if code == KafkaError._NOENT:
            return all(self.state(topic) is not None for topic in {place.topic for place in places})
        return code in WITHOUT_LEADER

    def bounds(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Where partitions begin and end."""
        first, ends = self.offsets(places, EARLIEST), self.offsets(places, LATEST)
        return {place: (first[place], ends[place]) for place in places}

    def truncate(self, place: TopicPartition, before: int) -> None:
        """Have the brokers forget what stands before an offset; not waited for."""
        self._client.delete_records([Place(*place, before)])

    def groups(self) -> list[str]:
        """Names of the groups."""
        with translated("groups"):
            found = self._client.list_consumer_groups(request_timeout=self._timeout).result(self._timeout * 2)
        return sorted(group.group_id for group in found.valid)

    def members(self, group: str) -> list[tuple[str, list[TopicPartition]]]:
        """The name of each member of a group, and what it owns of the topics that it has subscribed to."""
        found = self._of_group(
            f"group {group}", lambda client: client.describe_consumer_groups([group], request_timeout=COORDINATOR_TIMEOUT)
        )
        return [
            (
                member.group_instance_id or member.client_id,
                [TopicPartition(place.topic, place.partition) for place in member.assignment.topic_partitions],
            )
            for member in found[group].members
        ]


MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError._NOENT}
WITHOUT_LEADER = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
}


def _is_timeout(error: UnavailableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, TimeoutError) or (
        isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError._TIMED_OUT
    )


def config_of(spec: TopicSpec) -> dict[str, str]:
    """How a topic is kept, as the brokers call it."""
    policies = [*(["compact"] if spec.compacted else []), *(["delete"] if not spec.compacted or spec.retention else [])]
    return {
        "cleanup.policy": ",".join(policies),
        "retention.ms": FOREVER if spec.retention is None else str(spec.retention // MILLISECOND),
        "retention.bytes": FOREVER if spec.retention_bytes is None else str(spec.retention_bytes),
    }


def kept_as(config: Mapping[str, str]) -> dict[str, Any]:
    """What the settings of the brokers mean for a spec."""
    policies = config.get("cleanup.policy", "delete").split(",")
    retention, size = config.get("retention.ms", FOREVER), config.get("retention.bytes", FOREVER)
    kept_by_time = "delete" in policies and retention != FOREVER
    return {
        "compacted": "compact" in policies,
        "retention": int(retention) * MILLISECOND if kept_by_time else None,
        "retention_bytes": None if size == FOREVER else int(size),
    }
