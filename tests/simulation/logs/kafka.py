"""The log under the rules of a cluster, as `kandle.log.kafka` uses it.

Where it differs from the real one:

- Records are kept as rows. They have bytes where somebody asks for them or gives them: Avro, whatever format is declared. Values
  that Avro cannot hold and records that are too large for brokers are not refused.
- Columns that another process adds are known at once, not within a second. Settings of a topic are not changed by others, and a
  topic is not deleted.
- A poll gives the records of a partition as a batch for each append, not as one.
- Nothing waits: where the adapter would wait for somebody else (an open transaction, in front of committed positions or of the
  records of `read`), UnavailableError is raised at once, as if its patience were over. Markers that are only late are waited for.
- A rebalance takes no time but that until the polls of the members. Commits during one are refused by chance (`refused_commits`).
- What a dead member has left open is aborted at once by who takes its partitions over, not a moment later by a thread.
- The protocol `consumer` (KIP-848), ACLs and the schema registry are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kandle.errors import DataError, UnavailableError
from kandle.log.headers import column_of_pairs
from kandle.log.kafka.catalog import COUNT_INTERVAL
from kandle.log.kafka.tail import ASK_INTERVAL
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
    TopicTail,
    moved_with_members,
)
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records, RejectedRecord
from kandle.log.schema import with_columns
from kandle.plan.topics import TopicSpec
from kandle.time.timeframe import MILLISECOND
from tests.simulation.logs.brokers import BrokerState
from tests.simulation.logs.log import Limits, SimulatedLog, bounds
from tests.simulation.logs.members import KafkaRulesConsumer, believed, read_committed
from tests.simulation.logs.producers import FencedProducers, Stamps, lose_answer
from tests.simulation.logs.state import Process
from tests.simulation.logs.storage import Prepared, in_schema
from tests.simulation.logs.topics import TopicViews, checked


class SharedParts:
    """What all connections of one process share."""

    def __init__(self, state: BrokerState, process: Process) -> None:
        self.fenced = FencedProducers(state, process)
        self.stamps = Stamps(state, process)
        self.appended: dict[TopicPartition, int] = {}
        """The next offset of each partition after what this process has appended."""
        self.counts: dict[str, tuple[int, int]] = {}
        """When each topic's partitions were counted, and how many there were."""


class KafkaRules(SimulatedLog):
    """A log of one process under the rules of a cluster."""

    state: BrokerState

    def __init__(self, state: BrokerState, process: Process, views: TopicViews, shared: SharedParts | None = None) -> None:
        super().__init__(state, process, views)
        self._shared = SharedParts(state, process) if shared is None else shared

    @property
    def has_own_clock(self) -> bool:
        return True

    @property
    def fenced(self) -> FencedProducers:
        """The fenced producers of this process."""
        return self._shared.fenced

    def _kept(self, spec: TopicSpec) -> TopicSpec:
        return replace(
            spec, configs=(), is_created=True, is_growing=False, replication=1 if spec.replication is None else spec.replication
        )

    def ensure(self, spec: TopicSpec) -> TopicState:
        return super().ensure(replace(spec, replication=1) if spec.replication is None else spec)

    def topic(self, name: str) -> TopicSpec:
        self.state.at(self.process, "topic")
        return self._known(name)

    def _known(self, name: str) -> TopicSpec:
        """Return a topic with the partitions that it had when they were counted last."""
        spec, now = self.reader_spec(name), self.state.clock.steady()
        at, count = self._shared.counts.get(name, (now - COUNT_INTERVAL, 0))
        if now - at >= COUNT_INTERVAL:
            count = self.counted(name)
        return spec if count == spec.partitions else replace(spec, partitions=count)

    def counted(self, topic: str) -> int:
        """Return the number of partitions, asked for anew; brokers may give an old one."""
        count, now = self.state.topics.get(topic).spec.partitions, self.state.clock.steady()
        if now < self.state.faults.metadata_held.get(self.process.name, 0):
            count = self._shared.counts.get(topic, (now, count))[1]
        self._shared.counts[topic] = (now, count)
        return count

    def reader_spec(self, topic: str) -> TopicSpec:
        """Return a topic as the process sees it, with the partitions that it really has."""
        return self.views.spec(topic)

    def partition_count(self, topic: str) -> int:
        self.state.at(self.process, "partition_count")
        return self.counted(topic)

    def partitions(self, topic: str) -> list[PartitionState]:
        states = super().partitions(topic)[: self.counted(topic)]
        return [PartitionState(one.start, one.end, one.end - one.start, 0) for one in states]

    def ends(self, topic: str) -> list[int]:
        return super().ends(topic)[: self.counted(topic)]

    def prepare(self, writes: Sequence[AnyWrite]) -> list[Prepared]:
        """Check records, before anything is written."""
        return [self._prepare(write) for write in writes]

    def _prepare(self, write: AnyWrite) -> Prepared:
        spec = self._known(write.topic)
        if isinstance(write, EncodedWrite):
            return self._decode(spec, write)
        records = checked(spec, write)
        return Prepared(self.state.topics.get(write.topic).partitions[write.partition], spec.columns, records)

    def _decode(self, spec: TopicSpec, write: EncodedWrite) -> Prepared:
        """Return records that are given as bytes; those that cannot be read become rejects."""
        codec = self.state.codec(spec)
        decoded = codec.decode(write.keys, write.values)
        pairs = [tuple(row or ()) for row in write.headers] if write.headers is not None else [()] * len(write)
        key_values = decoded.reject_keys or [None] * len(decoded.rejects)
        rejects = {
            row: RejectedRecord(0, write.keys[row], write.values[row], reason, None, pairs[row], values)
            for (row, reason), values in zip(decoded.rejects, key_values, strict=True)
        }
        headers = column_of_pairs([row for number, row in enumerate(pairs) if number not in rejects])
        records = with_columns(Records(decoded.frame, headers, decoded.tombstones), codec.headers)
        partition = self.state.topics.get(write.topic).partitions[write.partition]
        return Prepared(partition, spec.columns, in_schema(records, spec), rejects, (list(write.keys), list(write.values)))

    def decoded(self, write: EncodedWrite) -> Records:
        prepared = self._decode(self._known(write.topic), write)
        if prepared.rejects:
            raise DataError(next(iter(prepared.rejects.values())).reason)
        return prepared.records

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        prepared = self.prepare(writes)
        partitions = [TopicPartition(write.topic, write.partition) for write in writes]
        self.state.at(self.process, "append", partitions=partitions, is_write=True)
        first = self._append(prepared, partitions) if fence is None else self.fenced.transactions(fence).commit(prepared)
        first = [
            write.partition.end if offset < 0 else offset for offset, write in zip(first, prepared, strict=True)
        ]  # fmt: skip
        self.note_appended(first, writes)
        return first

    def _append(self, prepared: Sequence[Prepared], partitions: Sequence[TopicPartition]) -> list[int]:
        """Append records outside of a transaction: a process that is killed meanwhile has written some of them."""
        first = [-1] * len(prepared)
        for number, write in enumerate(prepared):
            if len(write):
                time, is_stamped = self._shared.stamps.of(write.partition.topic)
                first[number] = write.partition.append(write, time, is_stamped=is_stamped).first
                self.state.at(self.process, "append", "written", [partitions[number]])
        self.state.at(self.process, "append", "after", partitions)
        lose_answer(self.state, self.process, "append")
        return first

    def note_appended(self, first: Sequence[int], writes: Sequence[AnyWrite]) -> None:
        """Note where records stand that this process has appended."""
        for offset, write in zip(first, writes, strict=True):
            if offset >= 0:
                partition = TopicPartition(write.topic, write.partition)
                self._shared.appended[partition] = max(self._shared.appended.get(partition, 0), offset + len(write))

    def appended(self, partition: TopicPartition) -> int:
        """Return the next offset of a partition after what this process has appended."""
        return self._shared.appended.get(partition, 0)

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        self.state.at(self.process, "read", partitions=[partition])
        spec, kept = self.reader_spec(partition.topic), self.state.topics.partition(partition)
        if offset >= kept.end:
            return []
        if kept.stable < kept.end:
            self.state.write_markers()
        batches, _ = read_committed(self.state, spec, partition, max(offset, kept.first), Limits(0, max_rows, is_exact=True))
        batches = [believed(batch, self.clock.now()) for batch in batches if len(batch) or batch.rejects]
        if not batches and kept.stable < kept.end:
            raise UnavailableError(
                f"read of {partition.topic}, partition {partition.partition}: nothing was read, though there are records up to "
                f"{kept.end}; a transaction of another process is open"
            )
        return batches

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        return sum(state.rows for state in self.partitions(topic))

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        return KafkaRulesTail(self, topic, {number: positions.get(number, -1) for number in range(self.partition_count(topic))})

    def truncate(self, partition: TopicPartition, before: int) -> None:
        self.state.at(self.process, "truncate", partitions=[partition])
        kept = self.state.topics.partition(partition)
        if kept.first < before <= kept.end:
            kept.drop_before(before)
            kept.first = before

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        for topic in spec.topics:
            self.state.topics.get(topic)
        self.state.at(self.process, "join")
        return KafkaRulesConsumer(self, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        self.state.at(self.process, "committed")
        partitions = [TopicPartition(topic, number) for number in range(self.counted(topic))]
        return {partition.partition: offset for partition, offset in self.state.settled(group, partitions).items()}

    def set_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        if self.has_members(group):
            raise moved_with_members(group)
        self.state.at(self.process, "set_positions")
        for partition in positions:
            self.state.topics.get(partition.topic)
        self.state.positions.setdefault(group, {}).update(positions)

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        # Milliseconds, rounded up: nothing before the instant may come along.
        return super().offset_at(partition, -(-instant // MILLISECOND) * MILLISECOND)

    def has_members(self, group: str) -> bool:
        self.state.at(self.process, "has_members")
        return bool(self.state.group(group).members)

    def groups(self, prefix: str = "") -> list[GroupState]:
        self.state.at(self.process, "groups")
        groups, positions = self.state.groups, self.state.positions
        names = sorted(
            {name for name, group in groups.items() if group.members} | {name for name in positions if positions[name]}
        )
        return [
            GroupState(
                name,
                dict(sorted(self.state.group(name).owners.items())),
                dict(sorted(positions.get(name, {}).items())),
                bool(self.state.group(name).members),
            )
            for name in names
            if name.startswith(prefix)
        ]

    def maintain(self) -> Maintenance:
        """Do nothing: brokers do it by themselves (`BrokerState.clean`)."""
        return Maintenance()

    def connect(self) -> KafkaRules:
        return KafkaRules(self.state, self.process, self.views, self._shared)


class KafkaRulesTail:
    """A reader of all partitions of a topic that asks for bounds once a second."""

    def __init__(self, log: KafkaRules, topic: str, positions: Mapping[int, int]) -> None:
        self._log, self._topic = log, topic
        self._ask()
        self._positions = {number: max(at, self._bounds[number][0]) for number, at in positions.items()}

    def _ask(self) -> None:
        self._bounds = bounds(self._log.state, self._topic)
        self._asked = self._log.state.clock.steady()

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        log, state = self._log, self._log.state
        state.at(log.process, "tail")
        if state.clock.steady() - self._asked >= ASK_INTERVAL:
            self._ask()
        spec = log.reader_spec(self._topic)
        batches: list[Batch] = []
        for number, position in self._positions.items():
            partition, left = TopicPartition(self._topic, number), max_rows - sum(map(len, batches))
            if left <= 0:
                break
            if state.is_away(partition):
                continue
            begin = max(position, state.topics.partition(partition).first)
            fresh, self._positions[number] = read_committed(state, spec, partition, begin, Limits(0, left, is_exact=True))
            batches += [believed(batch, log.clock.now()) for batch in fresh]
        return batches

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        return {
            number: (first, max(end, self._positions[number], self._log.appended(TopicPartition(self._topic, number))))
            for number, (first, end) in self._bounds.items()
            if number in self._positions
        }

    def close(self) -> None:
        """Do nothing: it holds nothing."""
