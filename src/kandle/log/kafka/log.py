"""The Kafka log: the log port on a cluster of brokers.

`KafkaLog` puts the parts of this package together. Each module imports only modules above it in this list:

    settings       settings of the clients, their statistics
    failures       errors of the client library, translated into those of kandle
    connections    clients of the client library
    admin          topics, bounds of partitions, members of groups
    positions      committed positions of groups
    producer       appends, transactions, fencing
    assignment     partitions of a group member: rebalancing and takeover
    reading        messages become batches
    tail           reading on behind the end of a topic
    catalog        specs, schemas and codecs of topics
    takeover       claims to partitions, recovery of those of dead members
    consumer       members of groups, commits
    log            the log port

Beside it stand `registry`, the schema registry of a server, and `diagnosis`, which serves `kandle doctor`.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kandle.errors import LogError, UnknownTopicError
from kandle.forks import keep_in_children
from kandle.log.appending import RowErrors, append_each
from kandle.log.kafka.admin import EARLIEST, LATEST, ClusterAdmin, spec_settings
from kandle.log.kafka.catalog import (
    CATALOG_TOPIC,
    MAX_RECORD_BYTES,
    Declaration,
    Declarations,
    SchemaJournal,
    TopicCatalog,
    TopicCodecs,
)
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.consumer import KafkaConsumer, LogServices
from kandle.log.kafka.positions import GroupPositions
from kandle.log.kafka.producer import Appender, FencedProducers
from kandle.log.kafka.reading import WAIT_SLICE, PartitionReader, RecordCodec
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.kafka.tail import KafkaTail
from kandle.log.kafka.takeover import Claims
from kandle.log.port import (
    Consumer,
    Fence,
    GroupSpec,
    GroupState,
    Listener,
    Log,
    Maintenance,
    PartitionState,
    ReadPosition,
    TopicIdentity,
    TopicPartition,
    TopicState,
    TopicTail,
    moved_with_members,
)
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records, Write
from kandle.log.schema import differences, merged_columns
from kandle.plan.topics import TopicSpec, config_differences, missing_topics
from kandle.serde.compatibility import Compatibility
from kandle.serde.registry import EmbeddedRegistry, Registry
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

FEW_OFFSETS = 100
"""So many offsets, or fewer, are read to see which of them are records."""


@dataclass(slots=True)
class SharedParts:
    """What all connections of one log in a process share; the last one that closes closes it."""

    clients: Clients
    admin: ClusterAdmin
    positions: GroupPositions
    appender: Appender
    reader: PartitionReader
    catalog: TopicCatalog
    registry: Registry
    claims: Claims
    fenced: FencedProducers
    appended: threading.Condition = field(default_factory=threading.Condition)
    users: int = 1

    def close(self) -> None:
        """Close all connections."""
        self.fenced.close()
        with contextlib.suppress(LogError):
            self.appender.close()
        self.reader.close()
        self.positions.close()
        self.registry.close()


def _shared_parts(clients: Clients, declarations: Declarations, registry: Registry | None, rule: Compatibility) -> SharedParts:
    admin = ClusterAdmin(clients)
    appender = Appender(clients)
    reader = PartitionReader(clients, f"{clients.name}-shared")
    admin.check_reachable()
    if registry is None:
        registry = EmbeddedRegistry(SchemaJournal(clients, admin, reader, appender), rule)
    catalog = TopicCatalog(clients, admin, reader, appender, declarations)
    claims, fenced = Claims(clients, admin, reader, appender), FencedProducers(clients)
    return SharedParts(clients, admin, GroupPositions(clients), appender, reader, catalog, registry, claims, fenced)


def _time_difference(actual: TopicSpec, wanted: TopicSpec) -> list[str]:
    """Return in words that records of a topic do not have the time of the brokers' clock, though they should."""
    if actual.append_time or not wanted.append_time:
        return []
    return [
        f"topic {wanted.name}: message.timestamp.type is CreateTime, LogAppendTime is declared; with it, heartbeats of a process "
        "whose clock is wrong are recognized"
    ]


class KafkaLog(Log):
    """Topics, records and groups of a Kafka cluster; see `kandle.log.port.Log` for its methods.

    Args:
        settings: How the brokers are reached.
        clock: The time of records; None is that of the system.
        declarations: Formats and entity of a topic by its name.
        registry: The schema registry; None keeps schemas in a topic of the cluster.
        rule: What new schemas must be compatible with if `registry` is None.
        shared: The parts of another connection to the same log; see `connect`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        clock: Clock | None = None,
        declarations: Declarations = lambda topic: Declaration(),
        registry: Registry | None = None,
        rule: Compatibility = Compatibility.BACKWARD,
        shared: SharedParts | None = None,
    ) -> None:
        name = f"kandle-{uuid.uuid4().hex[:8]}"
        if shared is None:
            clients = Clients(settings, clock if clock is not None else SystemClock(), name)
            self._reader = PartitionReader(clients, name)
            shared = _shared_parts(clients, declarations, registry, rule)
        else:
            self._reader = PartitionReader(shared.clients, name)
        self._shared = shared
        self._declarations = declarations
        self.settings = settings
        self.clock: Clock = shared.clients.clock
        self.codecs = TopicCodecs(shared.catalog, shared.registry, declarations, self._max_record_bytes)
        self._is_closed = False
        keep_in_children(self)

    def _max_record_bytes(self, topic: str) -> int:
        return int(self.settings.producer_of(topic).get("message.max.bytes", MAX_RECORD_BYTES))

    @property
    def clients(self) -> Clients:
        """The clients of all connections of this log."""
        return self._shared.clients

    @property
    def admin(self) -> ClusterAdmin:
        """The administration of the cluster."""
        return self._shared.admin

    @property
    def positions(self) -> GroupPositions:
        """The positions of groups."""
        return self._shared.positions

    @property
    def has_own_clock(self) -> bool:
        return not self.clock.is_simulated

    def ensure(self, spec: TopicSpec) -> TopicState:
        if spec.replication is None:
            spec = replace(spec, replication=self.settings.replication)
        size = self.admin.topic_size(spec.name)
        exists = size is not None
        if not exists and not spec.is_created:
            raise UnknownTopicError(missing_topics([spec]))
        known = self._shared.catalog.find(spec.name) if exists else None
        merged = spec if known is None else replace(spec, columns=merged_columns(known, spec))
        # Schemas are checked before anything is created.
        self.codecs.create(merged)
        partitions, replication = size if size is not None else self.admin.create(merged)
        actual = replace(merged, partitions=partitions, replication=replication)
        others: list[str] = []
        if exists:
            time = spec.time if known is None else known.time
            config = self.admin.config(spec.name)
            actual = replace(actual, time=time, **spec_settings(config))
            others = config_differences(config, spec)
        if known is None or (known.columns, known.partitions) != (actual.columns, actual.partitions):
            self._shared.catalog.put(actual)
        return TopicState(actual, (*differences(actual, spec), *_time_difference(actual, spec), *others))

    def topic(self, name: str) -> TopicSpec:
        [spec] = self._shared.catalog.configured([self._shared.catalog.get(name)])
        return spec

    def topics(self) -> list[TopicSpec]:
        existing = self.admin.partition_counts()
        specs = self._shared.catalog.all()
        names = [name for name in sorted(specs) if name in existing and name != CATALOG_TOPIC]
        return self._shared.catalog.configured([replace(specs[name], partitions=existing[name]) for name in names])

    def codec(self, topic: str) -> RecordCodec:
        """Return what encodes and decodes the records of a topic."""
        return self.codecs.codec(topic)

    def partition_count(self, topic: str) -> int:
        return self._shared.catalog.current(topic).partitions

    def _partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.partition_count(topic))]

    def partitions(self, topic: str) -> list[PartitionState]:
        # Kafka does not say how many bytes a partition takes.
        bounds = self.admin.bounds(self._partitions(topic))
        return [PartitionState(first, end, end - first, 0) for first, end in bounds.values()]

    def ends(self, topic: str) -> list[int]:
        partitions = self._partitions(topic)
        offsets = self.admin.offsets(partitions, LATEST)
        return [offsets[partition] for partition in partitions]

    def first(self, partition: TopicPartition) -> int:
        self._shared.catalog.get(partition.topic)
        return self.admin.offsets([partition], EARLIEST)[partition]

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        encoded = self.codecs.encode(writes)
        if fence is not None:
            first = self._shared.fenced.transactions(fence).commit(encoded, self.clients.record_timestamp)
        else:
            first = self._shared.appender.append(encoded, self.clients.record_timestamp)
        with self._shared.appended:
            self._shared.appended.notify_all()
        offsets = self._with_unknown_offsets(first, writes)
        self.clients.note_appended(offsets, writes)
        return offsets

    def append_each(self, writes: Sequence[Write]) -> RowErrors:
        def sent(part: Sequence[Write]) -> RowErrors:
            errors = self._shared.appender.append_each(self.codecs.encode(part), self.clients.record_timestamp)
            with self._shared.appended:
                self._shared.appended.notify_all()
            return errors

        return append_each(sent, writes)

    def _with_unknown_offsets(self, first: Sequence[int], writes: Sequence[AnyWrite]) -> list[int]:
        """Return the first offset of each write; where it is -1, it is counted back from what stands behind it."""
        offsets, following = list(first), dict[tuple[str, int], int]()
        for number, write in reversed(list(enumerate(writes))):
            partition = (write.topic, write.partition)
            if offsets[number] < 0:
                if partition not in following:
                    following[partition] = self.ends(write.topic)[write.partition]
                offsets[number] = following[partition] - len(write)
            following[partition] = offsets[number]
        return offsets

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        # The brokers cannot select by event time, so `span` leaves nothing out.
        codec = self.codec(partition.topic)
        first, end = self.admin.bounds([partition])[partition]
        return self._reader.read(codec, partition, max(offset, first), end, max_rows)

    def decoded(self, write: EncodedWrite) -> Records:
        return self.codecs.decode(write)

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        # The brokers cannot select by event time.
        return sum(state.rows for state in self.partitions(topic))

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        starts = {number: positions.get(number, -1) for number in range(self.partition_count(topic))}
        return KafkaTail(self.clients, self.admin, topic, starts, lambda: self.codec(topic))

    def identity(self, topic: str) -> TopicIdentity:
        return self.admin.identity(topic)

    def truncate(self, partition: TopicPartition, before: int) -> None:
        self._shared.catalog.get(partition.topic)
        first, end = self.admin.bounds([partition])[partition]
        if first < before <= end:
            self.admin.truncate(partition, before)

    def wait(self, timeout: int) -> bool:
        # Appends of other processes are not reported, so after a short wait there may be one.
        with self._shared.appended:
            self._shared.appended.wait(min(timeout, WAIT_SLICE) / SECOND)
        return timeout > WAIT_SLICE

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        shared = self._shared
        services = LogServices(
            shared.clients, shared.admin, shared.positions, shared.claims, shared.fenced, shared.catalog, self.codecs
        )
        return KafkaConsumer(services, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        positions = self.positions.settled(group, self._partitions(topic))
        return {partition.partition: following for partition, following in positions.items()}

    def set_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        if self.has_members(group):
            raise moved_with_members(group)
        for topic in {partition.topic for partition in positions}:
            self._shared.catalog.get(topic)
        self.admin.alter_positions(group, positions)

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        self._shared.catalog.get(partition.topic)
        # Milliseconds, rounded up: nothing before the instant may come along.
        offset = self.admin.offsets_at([partition], -(-instant // MILLISECOND))[partition]
        return self.ends(partition.topic)[partition.partition] if offset is None else offset

    def has_members(self, group: str) -> bool:
        return self.admin.has_members(group)

    def groups(self, prefix: str = "") -> list[GroupState]:
        known = {TopicPartition(spec.name, number) for spec in self.topics() for number in range(spec.partitions)}
        names = [name for name in self.admin.groups() if name.startswith(prefix)]
        members, positions = self.admin.members(names), self.admin.positions(names)
        states = []
        for name in names:
            owners: dict[TopicPartition, str | None] = {}
            for member, owned in members[name]:
                owners |= dict.fromkeys(owned, member)
            committed = {partition: offset for partition, offset in positions[name].items() if partition in known}
            states.append(GroupState(name, owners, committed, bool(members[name])))
        return states

    def waiting(self, positions: Collection[ReadPosition]) -> dict[ReadPosition, int]:
        counts = self.admin.partition_counts()
        existing = [position for position in positions if position.partition.partition < counts.get(position.partition.topic, 0)]
        partitions = sorted({position.partition for position in existing})
        bounds = self.admin.bounds(partitions) if partitions else {}
        offsets = {
            position: bounds[position.partition][1] - max(bounds[position.partition][0], position.offset) for position in existing
        }
        # Offsets behind the last record are marks of transactions.
        few = {position for position, count in offsets.items() if 0 < count <= FEW_OFFSETS}
        starts: dict[TopicPartition, int] = {}
        for partition, offset in few:
            starts[partition] = min(offset, starts.get(partition, offset))
        offsets_read = self._reader.offsets_from(starts) if starts else {}
        return {
            position: sum(offset >= position.offset for offset in offsets_read[position.partition])
            if position in few
            else max(0, count)
            for position, count in offsets.items()
        }

    def maintain(self) -> Maintenance:
        # The brokers apply retention and compaction by themselves.
        return Maintenance()

    def connect(self) -> KafkaLog:
        self._shared.users += 1
        return KafkaLog(self.settings, self.clock, self._declarations, shared=self._shared)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._reader.close()
        self._shared.users -= 1
        if self._shared.users == 0:
            self._shared.close()
