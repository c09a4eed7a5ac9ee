"""The Kafka log: the log port on a real cluster."""

from __future__ import annotations

import contextlib
import difflib
import threading
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from kandle.errors import LogError, UnknownTopicError
from kandle.log.kafka.admin import EARLIEST, LATEST, Admin, kept_as
from kandle.log.kafka.catalog import CATALOG, Catalog
from kandle.log.kafka.claims import Claims
from kandle.log.kafka.codecs import Declarations, Declared, SchemaJournal, codecs_of
from kandle.log.kafka.failures import Told
from kandle.log.kafka.member import KafkaConsumer
from kandle.log.kafka.positions import Positions
from kandle.log.kafka.reading import SLICE, Codec, Reader
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.kafka.writing import Appender, Encoded
from kandle.log.port import (
    Consumer,
    Fence,
    GroupSpec,
    GroupState,
    Listener,
    Maintenance,
    PartitionState,
    TopicPartition,
    TopicState,
)
from kandle.log.records import Batch, Write, header_rows
from kandle.log.schema import check_records, differences, merged_columns, with_headers
from kandle.plan.topics import TopicSpec
from kandle.serde.registry import Compatibility, Registry
from kandle.serde.registry_embedded import EmbeddedRegistry
from kandle.time.clock import Clock, SystemClock
from kandle.time.timeframe import MILLISECOND

MOST_BYTES = 1_000_000
"""Largest record of a broker and of the client library as they are set up by default."""

MOST_NAMED = 10
"""Clusters have thousands of topics: so many of them are named where one is not there."""


@dataclass(slots=True)
class Shared:
    """What all connections of one log in a process share."""

    told: Told
    admin: Admin
    positions: Positions
    appender: Appender
    reader: Reader
    catalog: Catalog
    registry: Registry
    claims: Claims
    rung: threading.Condition = field(default_factory=threading.Condition)
    users: int = 1


class KafkaLog:
    """Topics, records and groups of a Kafka cluster; `declarations` say how the records of a topic are bytes.

    Schemas are kept in a topic of the cluster, and are compatible as `rule` says, if no registry is given.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        clock: Clock | None = None,
        declarations: Declarations = lambda topic: Declared(),
        registry: Registry | None = None,
        rule: Compatibility = Compatibility.BACKWARD,
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._declarations = declarations
        self._codecs: dict[str, tuple[TopicSpec, Codec]] = {}
        self._name = f"kandle-{uuid.uuid4().hex[:8]}"
        told = shared.told if shared is not None else Told(settings.bootstrap, self.clock)
        self._reader = Reader(settings, self._name, self.clock, told)
        self._shared = shared if shared is not None else self._made(told, registry, rule)
        self._make_codec = codecs_of(declarations, self._shared.registry)
        self._is_closed = False

    def _made(self, told: Told, registry: Registry | None, rule: Compatibility) -> Shared:
        admin = Admin(self.settings, self._name, self.clock, told)
        appender = Appender(self.settings, self._name, told)
        reader = Reader(self.settings, f"{self._name}-shared", self.clock, told)
        admin.reached()
        if registry is None:
            registry = EmbeddedRegistry(SchemaJournal(admin, reader, appender, self.settings.replication), rule)
        catalog = Catalog(admin, reader, appender, self.clock, self.settings.replication)
        return Shared(
            told,
            admin,
            Positions(self.settings, self._name, self.clock, told),
            appender,
            reader,
            catalog,
            registry,
            Claims(self.settings, self._name, told),
        )

    @property
    def told(self) -> Told:
        return self._shared.told

    @property
    def admin(self) -> Admin:
        return self._shared.admin

    @property
    def positions(self) -> Positions:
        return self._shared.positions

    @property
    def claims(self) -> Claims:
        return self._shared.claims

    @property
    def timestamp(self) -> int | None:
        """Now, as records say it (milliseconds); None is the present time of the system."""
        return None if type(self.clock) is SystemClock else self.clock.now() // MILLISECOND

    def ensure(self, spec: TopicSpec) -> TopicState:
        """Create the topic if it is missing, else compare it and add new nullable columns."""
        spec = replace(spec, replication=max(spec.replication, self.settings.replication))
        is_there = self.admin.state(spec.name) is not None
        known = self._shared.catalog.get(spec.name) if is_there else None
        merged = spec if known is None else replace(spec, columns=merged_columns(known, spec))
        # Schemas are checked before anything is made.
        self._make_codec(merged)
        if not is_there:
            self.admin.create(merged)
        there = self._as_kept(merged) if is_there else merged
        if known is None or (known.columns, known.partitions) != (there.columns, there.partitions):
            self._shared.catalog.put(there)
        return TopicState(there, differences(there, spec))

    def _as_kept(self, spec: TopicSpec) -> TopicSpec:
        """A spec with the settings that the brokers have."""
        found = self.admin.state(spec.name)
        if found is None:
            raise UnknownTopicError(self._unknown(spec.name))
        known = self._shared.catalog.get(spec.name)
        time = spec.time if known is None else known.time
        return replace(spec, partitions=found[0], replication=found[1], time=time, **kept_as(self.admin.config(spec.name)))

    def _unknown(self, name: str) -> str:
        every = [topic for topic in sorted(self.admin.partitions()) if not topic.startswith("_")]
        close = difflib.get_close_matches(name, every, MOST_NAMED, cutoff=0.5)
        named = [*close, *(topic for topic in every if topic not in close)][:MOST_NAMED]
        more = f" and {len(every) - len(named)} more" if len(every) > len(named) else ""
        return f"there is no topic {name!r} of kandle's; there are {', '.join(named) or 'none'}{more}"

    def topic(self, name: str) -> TopicSpec:
        """A topic as it was declared, with its real number of partitions."""
        found = self._shared.catalog.get(name)
        if found is None:
            raise UnknownTopicError(self._unknown(name))
        return found

    def topics(self) -> list[TopicSpec]:
        """Topics whose columns are known, by name."""
        there = self.admin.partitions()
        every = self._shared.catalog.all()
        return [every[name] for name in sorted(every) if name in there and name != CATALOG]

    def codec(self, topic: str) -> Codec:
        """How the records of a topic are bytes."""
        spec = self.topic(topic)
        if topic not in self._codecs or self._codecs[topic][0] is not spec:
            self._codecs[topic] = (spec, self._make_codec(spec))
        return self._codecs[topic][1]

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.topic(topic).partitions)]

    def partitions(self, topic: str) -> list[PartitionState]:
        """Where each partition begins and ends; Kafka does not tell how many bytes they take."""
        bounds = self.admin.bounds(self._places(topic))
        return [PartitionState(first, end, end - first, 0) for first, end in bounds.values()]

    def ends(self, topic: str) -> list[int]:
        """The next offset of each partition, open transactions included."""
        places = self._places(topic)
        found = self.admin.offsets(places, LATEST)
        return [found[place] for place in places]

    def first(self, partition: TopicPartition) -> int:
        """The least offset that can still be read."""
        self.topic(partition.topic)
        return self.admin.offsets([partition], EARLIEST)[partition]

    def encoded(self, writes: Sequence[Write]) -> list[Encoded]:
        """Writes as bytes, all of them checked before anything is sent."""
        return [self._encoded(write) for write in writes]

    def _encoded(self, write: Write) -> Encoded:
        spec = self.topic(write.topic)
        if not 0 <= write.partition < spec.partitions:
            raise LogError(f"topic {spec.name} has partitions 0 to {spec.partitions - 1}, not {write.partition}")
        check_records(spec, write.records)
        codec = self.codec(write.topic)
        records = with_headers(write.records, codec.headers)
        keys, values = codec.encode(records.frame, records.tombstones)
        headers = None if records.headers is None else [list(row.items()) for row in header_rows(records)]
        encoded = Encoded(write.topic, write.partition, keys, values, headers)
        encoded.check(int(self.settings.producer.get("message.max.bytes", MOST_BYTES)))
        return encoded

    def append(self, writes: Sequence[Write], fence: Fence | None = None) -> list[int]:
        """Append records; with a claim in a transaction that the next owner of the partition fences."""
        encoded = self.encoded(writes)
        if fence is not None:
            first = self.claims.transactions(fence).commit(encoded, self.timestamp)
        else:
            first = self._shared.appender.append(encoded, self.timestamp)
        with self._shared.rung:
            self._shared.rung.notify_all()
        return [each if each >= 0 else self.ends(write.topic)[write.partition] for each, write in zip(first, writes, strict=True)]

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        """Records from an offset on; the broker does not know of a span of event time, so nothing is left out for it."""
        codec = self.codec(partition.topic)
        first, end = self.admin.bounds([partition])[partition]
        return self._reader.read(codec, partition, max(offset, first), end, max_rows)

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Have the brokers forget the records below an offset."""
        self.topic(partition.topic)
        first, end = self.admin.bounds([partition])[partition]
        if first < before <= end:
            self.admin.truncate(partition, before)

    def wait(self, timeout: int) -> bool:
        """Wait a little: what other processes append is not heard of, so it may be that something has come."""
        with self._shared.rung:
            self._shared.rung.wait(min(timeout, SLICE) / 1_000_000)
        return timeout > SLICE

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        """Join a group."""
        return KafkaConsumer(self, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's next offset by partition."""
        return {place.partition: at for place, at in self.positions.settled(group, self._places(topic)).items()}

    def groups(self, prefix: str = "") -> list[GroupState]:
        """Groups whose names begin so, with their members and positions."""
        places = [TopicPartition(spec.name, number) for spec in self.topics() for number in range(spec.partitions)]
        return [self._group(name, places) for name in self.admin.groups() if name.startswith(prefix)]

    def _group(self, name: str, places: Collection[TopicPartition]) -> GroupState:
        positions = {place: at for place, (at, _) in self.positions.committed(name, places).items()}
        owners: dict[TopicPartition, str | None] = {}
        for member, places in self.admin.members(name):
            owners |= dict.fromkeys(places, member)
        return GroupState(name, owners, positions)

    def maintain(self) -> Maintenance:
        """Nothing: the brokers apply retention and compaction by themselves."""
        return Maintenance()

    def connect(self) -> KafkaLog:
        """Another connection, for another thread."""
        self._shared.users += 1
        return KafkaLog(self.settings, self.clock, self._declarations, shared=self._shared)

    def close(self) -> None:
        """Let go of the connections."""
        if self._is_closed:
            return
        self._is_closed = True
        self._reader.close()
        self._shared.users -= 1
        if self._shared.users == 0:
            self._shared.claims.close()
            with contextlib.suppress(LogError):
                self._shared.appender.close()
            self._shared.reader.close()
            self._shared.positions.close()
            self._shared.registry.close()
