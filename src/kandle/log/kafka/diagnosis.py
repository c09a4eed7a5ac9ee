"""What `kandle doctor` asks of a cluster: brokers, access of this user, partitions, times of records."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, OffsetSpec, ResourceType

from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import REFUSED, error_for, translate_settings_errors
from kandle.log.kafka.producer import Transactions
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from kandle.plan.topics import APPEND_TIME
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

NAME = "kandle-doctor"
PATIENCE = 5 * SECOND
REQUEST_TIMEOUT = PATIENCE / SECOND
ANSWER_TIMEOUT = 2 * REQUEST_TIMEOUT

TOPIC_OPERATIONS = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
GROUP_OPERATIONS = (AclOperation.READ, AclOperation.DESCRIBE)


@dataclass(frozen=True, slots=True)
class TopicAccess:
    """What this user may not do with a topic, and what its partitions lack.

    Attributes:
        topic: Name of the topic.
        refusal: Why the brokers do not even describe it.
        missing: Operations that kandle needs and the user may not do, as access rules call them.
        leaderless: Partitions without a leader.
        lagging: Brokers that should have replicas of the topic, but are down or behind.
    """

    topic: str
    refusal: str | None = None
    missing: tuple[str, ...] = ()
    leaderless: tuple[int, ...] = ()
    lagging: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupAccess:
    """What this user may not do with a group; the attributes are those of `TopicAccess`."""

    group: str
    refusal: str | None = None
    missing: tuple[str, ...] = ()


class ClusterDiagnosis:
    """Asks a cluster for what may be wrong; nothing is changed, except that transactional ids are opened."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = replace(settings, patience=PATIENCE)

    def _client(self, errors: list[KafkaError] | None = None) -> AdminClient:
        """Return a client that adds what it meets in the background to a list, instead of printing it."""
        collected: list[KafkaError] = [] if errors is None else errors
        settings: dict[str, Any] = self._settings.for_client(NAME) | {"error_cb": collected.append}
        with translate_settings_errors(self._settings):
            return AdminClient(settings)

    @property
    def libraries(self) -> str:
        """The client libraries with their versions."""
        return f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"

    def brokers(self) -> list[str]:
        """Return the addresses of all brokers.

        Raises:
            KandleError: The brokers cannot be reached, refuse this user, or the settings are wrong.
        """
        errors: list[KafkaError] = []
        # The reference is kept until the answer has come: a client that is garbage collected gives none.
        client = self._client(errors)
        try:
            cluster = client.describe_cluster(request_timeout=REQUEST_TIMEOUT).result(ANSWER_TIMEOUT)
        except KafkaException as error:
            # Why they cannot be reached is reported in the background only, with their addresses.
            client.poll(0)
            refusal = next((other for other in errors if other.code() in REFUSED), None)
            reason = refusal or next(iter(errors), error.args[0])
            raise error_for(reason, f"Kafka at {self._settings.bootstrap}") from error
        return [f"{node.host}:{node.port}" for node in cluster.nodes]

    def topic_access(self, topics: Collection[str]) -> list[TopicAccess]:
        """Return what this user may not do with topics; those that do not exist are left out."""
        if not topics:
            return []
        client = self._client()
        futures = client.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT
        )
        answers = [_topic_access(name, future) for name, future in futures.items()]
        return [answer for answer in answers if answer is not None]

    def group_access(self, group: str) -> GroupAccess:
        """Return what this user may not do with a group, which need not exist."""
        client = self._client()
        futures = client.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT)
        try:
            description = futures[group].result(ANSWER_TIMEOUT)
        except KafkaException as error:
            return GroupAccess(group, _refusal(error, f"group {group}"))
        return GroupAccess(group, missing=_missing(description.authorized_operations, GROUP_OPERATIONS))

    def check_transactions(self, group: str) -> None:
        """Open a transactional id that begins with the group's name and that nobody else uses.

        Raises:
            KandleError: This user may not use such ids, or the brokers give no answer.
        """
        clients = Clients(self._settings, SystemClock(), NAME)
        transactions = Transactions(clients, NAME, f"{group}-{NAME}")
        try:
            transactions.open()
        finally:
            transactions.close()

    def latest_timestamps(self, partitions: Iterable[TopicPartition]) -> dict[str, int]:
        """Return the latest timestamp of the records in some partitions of each topic.

        Reading the records would not tell: timestamps that lie in the future are replaced then.

        Args:
            partitions: The partitions to look at. Those that cannot be asked are left out.

        Returns:
            Microseconds since the epoch by topic, as producers or brokers have set them; topics without
            records are left out.
        """
        newest: OffsetSpec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
        request = {ClientPartition(*partition): newest for partition in partitions}
        if not request:
            return {}
        client = self._client()
        latest: dict[str, int] = {}
        for partition, future in client.list_offsets(request, request_timeout=REQUEST_TIMEOUT).items():
            try:
                time = future.result(ANSWER_TIMEOUT).timestamp * MILLISECOND
            except KafkaException:
                continue
            if time >= 0:
                latest[partition.topic] = max(time, latest.get(partition.topic, time))
        return latest

    def stamped_by_brokers(self, topics: Iterable[str]) -> dict[str, bool]:
        """Return whether records of each topic have the time of the brokers' clock, instead of what their producers say.

        Args:
            topics: The topics to look at. Those that cannot be asked are left out.
        """
        name, value = APPEND_TIME
        return {topic: config[name] == value for topic, config in self.configs(topics).items()}

    def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the settings of topics by their names on the brokers.

        Args:
            topics: The topics to look at. Those that cannot be asked are left out.
        """
        client = self._client()
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        configs: dict[str, dict[str, str]] = {}
        if not resources:
            return configs
        for resource, future in client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT).items():
            try:
                configs[resource.name] = {name: entry.value for name, entry in future.result(ANSWER_TIMEOUT).items()}
            except KafkaException:
                continue
        return configs


def _topic_access(name: str, future: Any) -> TopicAccess | None:
    try:
        topic = future.result(ANSWER_TIMEOUT)
    except KafkaException as error:
        refusal = _refusal(error, f"topic {name}")
        return None if refusal is None else TopicAccess(name, refusal)
    lagging = {broker for partition in topic.partitions for broker in _ids(partition.replicas) - _ids(partition.isr)}
    leaderless = [partition.id for partition in topic.partitions if partition.leader is None or partition.leader.id < 0]
    missing = _missing(topic.authorized_operations, TOPIC_OPERATIONS)
    return TopicAccess(name, None, missing, tuple(leaderless), tuple(sorted(lagging)))


def _refusal(error: KafkaException, action: str) -> str | None:
    """Return why the brokers refuse a question, or None if the error has another reason."""
    return str(error_for(error.args[0], action)) if error.args[0].code() in REFUSED else None


def _ids(nodes: Iterable[Any]) -> set[int]:
    return {node.id for node in nodes}


def _missing(allowed: Collection[AclOperation] | None, needed: Collection[AclOperation]) -> tuple[str, ...]:
    """Return the needed operations that are not allowed; brokers without access rules list none."""
    return tuple(operation.name.title().replace("_", "") for operation in needed if operation not in (allowed or needed))
