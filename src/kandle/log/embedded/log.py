"""The embedded log: one SQLite file in WAL mode for one machine, any number of processes, no server.

A row per appended batch holds an Arrow IPC stream; one SQL transaction is the atomic commit of records and offsets. Everything
of a log is in one file, so that a power loss can only take away the newest transactions as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kandle.log.appending import RowErrors, append_each
from kandle.log.embedded.catalog import NO_ENTITIES
from kandle.log.embedded.compaction import TOMBSTONE_RETENTION, Maintainer
from kandle.log.embedded.connection import Connection
from kandle.log.embedded.consumer import EmbeddedConsumer
from kandle.log.embedded.database import Durability
from kandle.log.embedded.given_bytes import decoded_records
from kandle.log.embedded.membership import check_fence, group_states, has_members, write_position
from kandle.log.embedded.notification import Waiting
from kandle.log.embedded.repair import find_damage
from kandle.log.port import (
    Consumer,
    Fence,
    GroupSpec,
    GroupState,
    Listener,
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
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec
from kandle.time.clock import Clock, ScaledClock, SystemClock


class EmbeddedTail:
    """A reader of all partitions of a topic, with a connection of its own.

    Args:
        log: The log, which is asked for bounds.
        topic: Name of the topic.
        positions: The next offset to read by number of partition; a partition without one is read from its first record.
    """

    def __init__(self, log: EmbeddedLog, topic: str, positions: Mapping[int, int]) -> None:
        self._log, self._topic = log, topic
        self._reading = log.connect()
        self._positions = {number: positions.get(number, 0) for number in range(log.partition_count(topic))}

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        if batches := self._read(max_rows):
            return batches
        self._reading.wait(timeout)
        return self._read(max_rows)

    def _read(self, max_rows: int) -> list[Batch]:
        batches: list[Batch] = []
        for number, position in self._positions.items():
            fresh = self._reading.read(TopicPartition(self._topic, number), position, max_rows)
            if fresh:
                self._positions[number] = fresh[-1].next_offset
                batches += fresh
        return batches

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        return self._log.bounds(self._topic)

    def close(self) -> None:
        self._reading.close()


class EmbeddedLog:
    """A log in a folder or in memory, as the port `Log` describes it; one connection, which threads take turns to use.

    Args:
        path: The folder, which is created if it is missing; None keeps everything in memory.
        clock: Gives timestamps of records if it is simulated, and the time of leases; the system's clock by default.
        durability: "full" waits until the disk has each commit; "normal" survives the end of any process.
        waiting: How readers wait for commits of other processes: on named pipes ("pipe"), or by asking the database every
            2 ms ("poll"). By default on pipes where the system has them.
        declared: The entities of topics by name: who reads a topic that lacks one of their nullable columns gets NULL.

    Raises:
        StorageError: The folder cannot be used, or holds something else.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Clock | None = None,
        durability: Durability = "normal",
        waiting: Waiting | None = None,
        declared: Mapping[str, EntityModel] = NO_ENTITIES,
    ) -> None:
        self.path = path
        self._declared = declared
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._durability: Durability = durability
        self._waiting: Waiting | None = waiting
        # A clock that is wrong, and not simulated, must not pass for that of the log, which is that of the machine.
        is_wrong = isinstance(self.clock, ScaledClock) and not self.clock.is_simulated
        self._stamps: Clock = SystemClock() if is_wrong else self.clock
        self._connection = Connection(path, self._stamps, durability, waiting, declared)
        self.database, self.catalog = self._connection.database, self._connection.catalog
        self._batches, self._notifier = self._connection.batches, self._connection.notifier
        self._users = 1

    @property
    def has_own_clock(self) -> bool:
        return self._stamps is not self.clock

    def ensure(self, spec: TopicSpec) -> TopicState:
        return self.catalog.ensure(spec)

    def topic(self, name: str) -> TopicSpec:
        return self.catalog.known(name)[1]

    def topics(self) -> list[TopicSpec]:
        return self.catalog.all()

    def partition_count(self, topic: str) -> int:
        return self.topic(topic).partitions

    def partitions(self, topic: str) -> list[PartitionState]:
        return self._batches.partitions(topic)

    def ends(self, topic: str) -> list[int]:
        return self._batches.ends(topic)

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the first and the next offset of each partition."""
        return self._batches.all_bounds(topic)

    def first(self, partition: TopicPartition) -> int:
        return self._batches.bounds(partition)[0]

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        prepared = self._batches.prepare(writes)
        with self.database.transaction():
            if fence is not None:
                check_fence(self.database, fence)
            first = self._batches.append(prepared)
            pipes = self._notifier.pipes()
        self._notifier.notify(pipes)
        return first

    def decoded(self, write: EncodedWrite) -> Records:
        return decoded_records(self.topic(write.topic), write, self.catalog.declared(write.topic))

    def append_each(self, writes: Sequence[Write]) -> RowErrors:
        def whole(part: Sequence[Write]) -> RowErrors:
            self.append(part)
            return {}

        return append_each(whole, writes)

    def wait(self, timeout: int) -> bool:
        return self._notifier.wait(timeout)

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        return self._batches.read(partition, offset, max_rows, span)

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        return self._batches.rows_in(topic, span)

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        return EmbeddedTail(self, topic, positions)

    def identity(self, topic: str) -> TopicIdentity:
        return TopicIdentity(f"{self.database.identity}-{self.catalog.known(topic)[0]}", TOMBSTONE_RETENTION)

    def truncate(self, partition: TopicPartition, before: int) -> None:
        self._batches.truncate(partition, before)

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        for topic in spec.topics:
            self.catalog.known(topic)
        return EmbeddedConsumer(self._connection, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict(self.database.rows("SELECT partition, next FROM position WHERE name = ? AND topic = ?", [group, topic]))

    def set_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        with self.database.transaction():
            if self.has_members(group):
                raise moved_with_members(group)
            for partition, offset in positions.items():
                self.catalog.known(partition.topic)
                write_position(self.database, group, partition, offset)

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        return self._batches.offset_at(partition, instant)

    def has_members(self, group: str) -> bool:
        return has_members(self.database, group, self.clock.steady())

    def groups(self, prefix: str = "") -> list[GroupState]:
        return group_states(self.database, prefix, self.clock.steady())

    def waiting(self, positions: Collection[ReadPosition]) -> dict[ReadPosition, int]:
        return self._batches.waiting(positions)

    def maintain(self) -> Maintenance:
        return Maintainer(self._connection).run()

    def check(self) -> list[str]:
        """Return what is wrong with the file, a sentence for each problem; nothing if it is sound."""
        return find_damage(self._connection)

    def connect(self) -> EmbeddedLog:
        """Return another connection to the file; a log in memory has only one, which is closed with its last user."""
        if self.path is None:
            self._users += 1
            return self
        return EmbeddedLog(self.path, self.clock, self._durability, self._waiting, self._declared)

    def close(self) -> None:
        self._users -= 1
        if not self._users:
            self._connection.close()
