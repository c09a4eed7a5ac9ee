"""The part of a simulated log that is the same under the rules of either log: topics, and what is read at any offset."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from kandle.log.appending import RowErrors, append_each
from kandle.log.embedded.compaction import TOMBSTONE_RETENTION
from kandle.log.port import Log, PartitionState, ReadPosition, TopicIdentity, TopicPartition, TopicState
from kandle.log.records import Batch, Write
from kandle.plan.topics import TopicSpec
from tests.simulation.logs.state import Process, WorldState
from tests.simulation.logs.storage import from_offset, in_schema
from tests.simulation.logs.topics import TopicViews


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a read stops.

    Attributes:
        until: The first offset that is not read.
        rows: Number of records after which it stops.
        size: Number of bytes of records after which it stops; None if they do not count.
        is_exact: Whether it stops in the middle of an append.
        span: Appends without an instant in this span are left out; None leaves out none.
    """

    until: int
    rows: int
    size: int | None = None
    is_exact: bool = False
    span: tuple[int, int] | None = None


def read(state: WorldState, spec: TopicSpec, partition: TopicPartition, offset: int, limits: Limits) -> tuple[list[Batch], bool]:
    """Return batches from an offset on, and whether they are all that there is up to the limit."""
    batches: list[Batch] = []
    count = size = 0
    for chunk in state.topics.partition(partition).from_offset(offset, limits.until):
        if limits.span is not None and not chunk.touches(spec.time, limits.span):
            continue
        if count >= limits.rows or (limits.size is not None and size >= limits.size):
            return batches, False
        batch = chunk.batch
        if chunk.columns is not spec.columns:
            batch = replace(batch, records=in_schema(batch.records, spec))
        if chunk.first < offset:
            batch = from_offset(batch, offset)
        left = limits.rows - count
        if limits.is_exact and len(batch) > left:
            batches.append(batch.slice(0, left))
            return batches, False
        batches.append(batch)
        count += len(batch)
        size += chunk.size if limits.size is not None else 0
    return batches, True


class SimulatedLog(Log):
    """A log of one process; the subclasses know the rules.

    Args:
        state: What all processes share.
        process: The process.
        views: The topics as the process sees them.
    """

    def __init__(self, state: WorldState, process: Process, views: TopicViews) -> None:
        self.state, self.process, self.views = state, process, views
        self.clock = process.clock

    def _kept(self, spec: TopicSpec) -> TopicSpec:
        """Return what the log keeps of a spec."""
        raise NotImplementedError

    def ensure(self, spec: TopicSpec) -> TopicState:
        self.state.at(self.process, "ensure", is_write=True)
        return self.state.topics.ensure(spec, self._kept(spec))

    def topic(self, name: str) -> TopicSpec:
        self.state.at(self.process, "topic")
        return self.views.spec(name)

    def topics(self) -> list[TopicSpec]:
        self.state.at(self.process, "topics")
        return [self.state.topics.get(name).spec for name in self.state.topics.names()]

    def partition_count(self, topic: str) -> int:
        return self.topic(topic).partitions

    def partitions(self, topic: str) -> list[PartitionState]:
        self.state.at(self.process, "partitions")
        return self.state.topics.get(topic).states()

    def ends(self, topic: str) -> list[int]:
        self.state.at(self.process, "ends")
        return [partition.end for partition in self.state.topics.get(topic).partitions]

    def first(self, partition: TopicPartition) -> int:
        self.state.at(self.process, "first", partitions=[partition])
        return self.state.topics.partition(partition).first

    def append_each(self, writes: Sequence[Write]) -> RowErrors:
        def whole(part: Sequence[Write]) -> RowErrors:
            self.append(part)
            return {}

        return append_each(whole, writes)

    def identity(self, topic: str) -> TopicIdentity:
        self.state.at(self.process, "identity")
        return TopicIdentity(f"topic-{self.state.topics.get(topic).number}", TOMBSTONE_RETENTION)

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        self.state.at(self.process, "offset_at", partitions=[partition])
        topic = self.state.topics.get(partition.topic)
        return topic.offset_at(topic.partitions[partition.partition], instant)

    def waiting(self, positions: Collection[ReadPosition]) -> dict[ReadPosition, int]:
        self.state.at(self.process, "waiting")
        by_name = self.state.topics.by_name
        counts: dict[ReadPosition, int] = {}
        for position in positions:
            (topic, number), offset = position
            if topic in by_name and number < len(by_name[topic].partitions):
                kept = by_name[topic].partitions[number]
                rest = [from_offset(chunk.batch, offset) for chunk in kept.from_offset(offset, kept.end)]
                counts[position] = sum(len(batch) + len(batch.rejects) for batch in rest)
        return counts

    def wait(self, timeout: int) -> bool:
        """Return at once: the scheduler decides who runs next."""
        self.state.at(self.process, "wait")
        return False

    def close(self) -> None:
        """Do nothing: a process may end at any moment."""


def bounds(state: WorldState, topic: str) -> Mapping[int, tuple[int, int]]:
    """Return the first and the next offset of each partition."""
    return {partition.number: (partition.first, partition.end) for partition in state.topics.get(topic).partitions}
