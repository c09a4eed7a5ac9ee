"""Administration of the cluster: topics and their settings, the bounds of partitions, members of groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType
from confluent_kafka.cimpl import NewTopic

from kandle.errors import AccessError, LogError, OptionsError, UnavailableError, UnknownTopicError
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import ALLOW, UNKNOWN_TOPIC, code_of, error_for, translate_errors
from kandle.log.port import TopicIdentity, TopicPartition
from kandle.plan.topics import APPEND_TIME, NO_LIMIT, TopicSpec, broker_config, missing_topics
from kandle.time.timeframe import MILLISECOND, SECOND, duration_text

# The library does not annotate these.
EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]

CHECK_INTERVAL = 20 * MILLISECOND
COORDINATOR_TIMEOUT = 2.0
"""Seconds for one question to the coordinator of a group."""

GROUPS_AT_ONCE = 200
"""Groups that are asked for at the same time."""

TOMBSTONES, DEFAULT_TOMBSTONES = "delete.retention.ms", "86400000"
DEFAULT_REPLICATION = -1
"""Has the brokers take their `default.replication.factor`."""

WITHOUT_LEADER = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
}


class ClusterAdmin:
    """Asks and changes what concerns the cluster as a whole. May be used by several threads."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._clock = clients.clock
        self._client = clients.admin()
        self._stuck: list[AdminClient] = []
        """Clients that wait for a lost coordinator; releasing them may end the process, so they are kept."""

    @property
    def _timeout(self) -> float:
        return self._settings.request / SECOND

    def _results(self, action: str, futures: Mapping[Any, Any]) -> dict[Any, Any]:
        with translate_errors(action):
            return {key: future.result(self._timeout * 2) for key, future in futures.items()}

    def _ask_coordinator(self, action: str, ask: Callable[[AdminClient], Mapping[Any, Any]]) -> dict[Any, Any]:
        """Return what the coordinator of a group answers.

        A client that has lost its coordinator in an outage may wait for it for ever (librdkafka's issue
        5511), a new client does not. It is not asked while brokers cannot be reached, since the library may
        end the process when such a question is given up.
        """
        deadline = self._clock.steady() + self._settings.request
        while True:
            # The reference is kept until the answer has come: a client that is garbage collected gives none.
            client = self._client
            with translate_errors(action):
                client.list_topics(timeout=COORDINATOR_TIMEOUT)
            try:
                return self._results(action, ask(client))
            except UnavailableError as error:
                if not _is_timeout(error):
                    raise
                self._stuck.append(client)
                self._client = self._clients.admin()
                if self._clock.steady() > deadline:
                    raise

    def check_reachable(self) -> None:
        """Raise UnavailableError if no broker answers in time, AccessError if they refuse this user."""
        action = f"Kafka at {self._settings.bootstrap}"
        try:
            with translate_errors(action):
                self._client.list_topics(timeout=min(self._settings.request, self._settings.patience) / SECOND)
        except UnavailableError as error:
            # Why the brokers close the connection is reported to the error callback only.
            self._client.poll(0)
            if (refusal := self._clients.errors.refusal) is not None:
                raise error_for(refusal, action) from error
            raise

    def partition_counts(self) -> dict[str, int]:
        """Return the number of partitions of every topic."""
        with translate_errors(f"topics of Kafka at {self._settings.bootstrap}"):
            topics = self._client.list_topics(timeout=self._timeout).topics
        return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}

    def topic_size(self, name: str, patience: int | None = None) -> tuple[int, int] | None:
        """Return the numbers of partitions and of replicas of a topic, or None if it does not exist.

        Args:
            name: Name of the topic.
            patience: Longest wait for the answer in microseconds; None is that of the settings.
        """
        timeout = self._timeout if patience is None else patience / SECOND
        with translate_errors(f"topic {name}"):
            topic = self._client.list_topics(name, timeout=timeout).topics.get(name)
        if topic is None or (topic.error is not None and topic.error.code() in UNKNOWN_TOPIC):
            return None
        if topic.error is not None:
            raise error_for(topic.error, f"topic {name}") from KafkaException(topic.error)
        if not topic.partitions:
            return None
        return len(topic.partitions), len(topic.partitions[0].replicas)

    def create(self, spec: TopicSpec) -> tuple[int, int]:
        """Create a topic and wait until the brokers show it.

        A topic that another process has created meanwhile is taken as it is.

        Args:
            spec: What the topic should be.

        Returns:
            The numbers of partitions and of replicas that it has.

        Raises:
            UnknownTopicError: Others have to create the topic.
            OptionsError: The brokers refuse a setting.
        """
        if not spec.is_created:
            raise UnknownTopicError(missing_topics([spec]))
        replication = DEFAULT_REPLICATION if spec.replication is None else spec.replication
        topic = NewTopic(spec.name, spec.partitions, replication, config=broker_config(spec))
        try:
            self._client.create_topics([topic], operation_timeout=self._timeout)[spec.name].result(self._timeout * 2)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.INVALID_CONFIG:
                raise OptionsError(
                    f"topic {spec.name}: the brokers refuse a setting: {error.args[0].str()}; look at configs in its section"
                ) from error
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                copies = "the default replication" if spec.replication is None else f"replication {replication}"
                action = f"creation of topic {spec.name} ({spec.partitions} partitions, {copies})"
                with translate_errors(action, f"{ALLOW} Create on the topic, or create it yourself"):
                    raise
        deadline = self._clock.steady() + self._settings.patience
        while (size := self.topic_size(spec.name)) is None:
            if self._clock.steady() > deadline:
                raise UnavailableError(f"topic {spec.name} was created, but the brokers do not show it")
            self._clock.pause(CHECK_INTERVAL)
        return size

    def config(self, name: str) -> dict[str, str]:
        """Return the settings of a topic by their names on the brokers."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        deadline = self._clock.steady() + self._settings.patience
        while True:
            try:
                results = self._results(f"settings of topic {name}", self._client.describe_configs([resource]))
            except UnknownTopicError:
                # Of a topic that was created just now some brokers hear later than others.
                if self.topic_size(name) is None or self._clock.steady() > deadline:
                    raise
                self._clock.pause(CHECK_INTERVAL)
            else:
                return {entry.name: entry.value for entry in next(iter(results.values())).values()}

    def configs(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the settings of topics by their names on the brokers, without topics that are gone or not shown to this user."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        configs = {}
        for resource, future in self._client.describe_configs(resources).items() if resources else ():
            with suppress(AccessError, UnknownTopicError), translate_errors(f"settings of topic {resource.name}"):
                entries = future.result(self._timeout * 2)
                configs[resource.name] = {entry.name: entry.value for entry in entries.values()}
        return configs

    def identity(self, name: str) -> TopicIdentity:
        """Return the number that the cluster has given a topic, and how long the topic keeps its tombstones."""
        futures = self._client.describe_topics(TopicCollection([name]), request_timeout=self._timeout)
        description = self._results(f"topic {name}", futures)[name]
        tombstones = self.config(name).get(TOMBSTONES, DEFAULT_TOMBSTONES)
        return TopicIdentity(str(description.topic_id), int(tombstones) * MILLISECOND)

    def offsets(
        self, partitions: Collection[TopicPartition], spec: OffsetSpec, patience: int | None = None
    ) -> dict[TopicPartition, int]:
        """Return an offset of each partition: the first with `EARLIEST`, the next one with `LATEST`.

        Open transactions are included. A partition that has no leader for a moment is waited for, as long as `patience`
        says in microseconds; None is the patience of the settings.
        """
        patience = self._settings.patience if patience is None else patience
        action = f"offsets of {', '.join(sorted({partition.topic for partition in partitions}))}"
        request = {ClientPartition(*partition): spec for partition in partitions}
        deadline = self._clock.steady() + patience
        timeout = min(self._timeout, max(patience, SECOND) / SECOND)
        while True:
            try:
                results = self._results(action, self._client.list_offsets(request, request_timeout=timeout))
            except (UnavailableError, UnknownTopicError) as error:
                if not self._is_without_leader(error, partitions):
                    raise
                if self._clock.steady() > deadline:
                    raise UnavailableError(f"{action}: partitions have had no leader for {duration_text(patience)}") from error
                self._clock.pause(CHECK_INTERVAL)
                self._refresh_leaders(partitions)
            else:
                offsets = {TopicPartition(key.topic, key.partition): result.offset for key, result in results.items()}
                if min(offsets.values(), default=0) >= 0:
                    return offsets
                # Not known, says the library without an error.
                if self._clock.steady() > deadline:
                    raise UnavailableError(f"{action}: the brokers do not know them yet: {offsets}")
                self._clock.pause(CHECK_INTERVAL)

    def _is_without_leader(self, error: LogError, partitions: Collection[TopicPartition]) -> bool:
        """Return whether partitions exist without a leader, or one that has not heard of them; a missing topic looks alike."""
        if code_of(error) in (KafkaError._NOENT, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return all(self.topic_size(topic) is not None for topic in {partition.topic for partition in partitions})
        return code_of(error) in WITHOUT_LEADER

    def _refresh_leaders(self, partitions: Collection[TopicPartition]) -> None:
        """Have the client ask for the leaders again: it would go on asking a broker that led before."""
        with suppress(UnavailableError):
            for topic in {partition.topic for partition in partitions}:
                self.topic_size(topic)

    def offsets_at(self, partitions: Collection[TopicPartition], milliseconds: int) -> dict[TopicPartition, int | None]:
        """Return the first offset of each partition of a record with this time or a later one; None if there is none."""
        action = f"offsets of {', '.join(sorted({partition.topic for partition in partitions}))} by time"
        spec = OffsetSpec.for_timestamp(milliseconds)
        request = {ClientPartition(*partition): spec for partition in partitions}
        results = self._results(action, self._client.list_offsets(request, request_timeout=self._timeout))
        return {
            TopicPartition(key.topic, key.partition): result.offset if result.offset >= 0 else None
            for key, result in results.items()
        }

    def alter_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Commit positions of a group without members.

        Commands ask this, workers never do: it is a question to the group's coordinator (`members`).
        """
        request = ConsumerGroupTopicPartitions(
            group, [ClientPartition(*partition, offset) for partition, offset in positions.items()]
        )
        action = f"positions of group {group}"
        results = self._ask_coordinator(
            action, lambda client: client.alter_consumer_group_offsets([request], request_timeout=COORDINATOR_TIMEOUT)
        )
        for answer in results[group].topic_partitions:
            if answer.error is not None:
                raise error_for(answer.error, action)

    def bounds(self, partitions: Sequence[TopicPartition], patience: int | None = None) -> dict[TopicPartition, tuple[int, int]]:
        """Return the first and the next offset of each partition as `offsets` does."""
        first, ends = (self.offsets(partitions, side, patience) for side in (EARLIEST, LATEST))
        return {partition: (first[partition], ends[partition]) for partition in partitions}

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Have the brokers delete the records before an offset, without waiting until they have."""
        self._client.delete_records([ClientPartition(*partition, before)])

    def groups(self) -> list[str]:
        """Return the names of all groups."""
        return sorted(group.group_id for group in self._listed_groups().valid)

    def has_members(self, group: str) -> bool:
        """Return whether a group has members.

        The brokers list their groups for that: to ask the coordinator of the group may end the process in an outage.
        """
        listed = self._listed_groups()
        states = {listing.group_id: listing.state for listing in listed.valid}
        if group not in states and listed.errors:
            raise error_for(listed.errors[0].args[0], "groups") from listed.errors[0]
        return states.get(group, ConsumerGroupState.EMPTY) not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

    def _listed_groups(self) -> Any:
        with translate_errors("groups"):
            return self._client.list_consumer_groups(request_timeout=self._timeout).result(self._timeout * 2)

    def members(self, groups: Sequence[str]) -> dict[str, list[tuple[str, list[TopicPartition]]]]:
        """Return for each group the names of its members, each with its partitions of subscribed topics.

        Commands ask this, workers never do: the library ends the process if the group's coordinator goes away
        before it has answered.
        """
        members: dict[str, list[tuple[str, list[TopicPartition]]]] = {}
        for part in _portions(groups):
            results = self._ask_coordinator(_groups_text(part), partial(_asked_members, part))
            for group, description in results.items():
                members[group] = [
                    (
                        member.group_instance_id or member.client_id,
                        [TopicPartition(owned.topic, owned.partition) for owned in member.assignment.topic_partitions],
                    )
                    for member in description.members
                ]
        return members

    def positions(self, groups: Sequence[str]) -> dict[str, dict[TopicPartition, int]]:
        """Return for each group its committed positions, without waiting for open transactions; commands ask this, as `members`.

        A request is for one group, but they are all under way at the same time.
        """
        positions: dict[str, dict[TopicPartition, int]] = {}
        for part in _portions(groups):
            results = self._ask_coordinator(f"positions of {_groups_text(part)}", partial(_asked_positions, part))
            for group, answer in results.items():
                positions[group] = {
                    TopicPartition(owned.topic, owned.partition): owned.offset
                    for owned in answer.topic_partitions
                    if owned.error is None and owned.offset >= 0
                }
        return positions


def _portions(groups: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield so many groups as are asked for at the same time."""
    for begin in range(0, len(groups), GROUPS_AT_ONCE):
        yield groups[begin : begin + GROUPS_AT_ONCE]


def _asked_members(groups: Sequence[str], client: AdminClient) -> Mapping[str, Any]:
    """Ask for the members of groups, and return what the answers come in."""
    return client.describe_consumer_groups(list(groups), request_timeout=COORDINATOR_TIMEOUT)


def _asked_positions(groups: Sequence[str], client: AdminClient) -> dict[str, Any]:
    """Ask for the positions of groups, and return what the answers come in."""
    futures: dict[str, Any] = {}
    for group in groups:
        futures |= client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=COORDINATOR_TIMEOUT)
    return futures


def _groups_text(groups: Sequence[str]) -> str:
    return f"group {groups[0]}" if len(groups) == 1 else f"groups {groups[0]} to {groups[-1]}"


def _is_timeout(error: UnavailableError) -> bool:
    return isinstance(error.__cause__, TimeoutError) or code_of(error) == KafkaError._TIMED_OUT


def spec_settings(config: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes of a `TopicSpec` that the settings of the brokers mean."""
    policies = config.get("cleanup.policy", "delete").split(",")
    retention, size = config.get("retention.ms", NO_LIMIT), config.get("retention.bytes", NO_LIMIT)
    is_kept_by_time = "delete" in policies and retention != NO_LIMIT
    return {
        "compacted": "compact" in policies,
        "retention": int(retention) * MILLISECOND if is_kept_by_time else None,
        "retention_bytes": None if size == NO_LIMIT else int(size),
        "append_time": config.get(APPEND_TIME[0]) == APPEND_TIME[1],
    }
