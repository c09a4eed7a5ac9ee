"""The embedded log: one SQLite file in WAL mode for one machine, any number of processes, no server.

A row per appended batch holds an Arrow IPC stream; one SQL transaction is the atomic commit of records and offsets. Everything
of a log is in one file, so that a power loss can only take away the newest transactions as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kandle.errors import FencedError, LogError, StorageError
from kandle.log.embedded.bell import Bells
from kandle.log.embedded.blobs import STORED, Stored, batch_of, span_of, stored_frame
from kandle.log.embedded.catalog import Catalog
from kandle.log.embedded.compaction import maintain, set_first
from kandle.log.embedded.database import Database, Durability
from kandle.log.embedded.group import EmbeddedConsumer
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
from kandle.log.records import Batch, Write, encode_frame
from kandle.log.schema import check_records, header_columns, with_columns, with_headers
from kandle.plan.topics import TopicSpec
from kandle.time.clock import Clock, SystemClock

BATCHES_AT_ONCE = 256


class EmbeddedLog:
    """A log in a folder, or in memory (path None); one connection, which threads take turns to use."""

    def __init__(self, path: Path | None, clock: Clock | None = None, durability: Durability = "normal") -> None:
        self.path = path
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.database = Database(path, durability)
        self._durability: Durability = durability
        self.catalog = Catalog(self.database)
        self.bells = Bells(self.database)
        self._users = 1

    def ensure(self, spec: TopicSpec) -> TopicState:
        """Create the topic if it is missing, else compare it and add new nullable columns."""
        return self.catalog.ensure(spec)

    def topic(self, name: str) -> TopicSpec:
        """A topic as it is now."""
        return self.catalog.known(name)[1]

    def topics(self) -> list[TopicSpec]:
        """All topics, by name."""
        return self.catalog.all()

    def partitions(self, topic: str) -> list[PartitionState]:
        """Where each partition begins and ends."""
        number, _ = self.catalog.known(topic)
        found = self.database.rows(
            "SELECT p.first, p.next, coalesce(sum(b.rows), 0), coalesce(sum(b.bytes), 0) FROM partition p "
            "LEFT JOIN batch b ON b.topic = p.topic AND b.partition = p.number WHERE p.topic = ? "
            "GROUP BY p.number ORDER BY p.number",
            [number],
        )
        return [PartitionState(*row) for row in found]

    def ends(self, topic: str) -> list[int]:
        """The next offset of each partition."""
        number, _ = self.catalog.known(topic)
        return [row[0] for row in self.database.rows("SELECT next FROM partition WHERE topic = ? ORDER BY number", [number])]

    def first(self, partition: TopicPartition) -> int:
        """The least offset that can still be read."""
        number, _ = self.catalog.known(partition.topic)
        place = [number, partition.partition]
        return int(self.database.value("SELECT first FROM partition WHERE topic = ? AND number = ?", place))

    def append(self, writes: Sequence[Write], fence: Fence | None = None) -> list[int]:
        """Append all or nothing; gives the offset of each write's first record."""
        prepared = self.prepare(writes)
        with self.database.transaction():
            if fence is not None:
                self._check_fence(fence)
            first = self.write(prepared)
            bells = self.bells.listed()
        self.bells.ring(bells)
        return first

    def write(self, prepared: Sequence[tuple[tuple[int, int], Stored]]) -> list[int]:
        """Insert prepared batches inside of the caller's transaction; gives the offset of each one's first record."""
        return [self._insert(place, stored) for place, stored in prepared]

    def prepare(self, writes: Sequence[Write]) -> list[tuple[tuple[int, int], Stored]]:
        """Check and pack writes, before a transaction begins."""
        return [self._prepared(write) for write in writes]

    def _prepared(self, write: Write) -> tuple[tuple[int, int], Stored]:
        number, spec = self.catalog.known(write.topic)
        if not 0 <= write.partition < spec.partitions:
            raise LogError(f"topic {spec.name} has partitions 0 to {spec.partitions - 1}, not {write.partition}")
        headers = header_columns(spec.columns)
        records = with_columns(with_headers(write.records, headers), headers)
        check_records(spec, records)
        frame = stored_frame(records)
        blob = encode_frame(frame)
        low, high = span_of(spec, frame)
        return (number, write.partition), Stored(0, 0, frame.height, 0, low, high, zlib.crc32(blob), blob)

    def _insert(self, place: tuple[int, int], stored: Stored) -> int:
        topic, partition = place
        if not stored.rows:
            return int(self.database.value("SELECT next FROM partition WHERE topic = ? AND number = ?", place))
        end = self.database.value(
            "UPDATE partition SET next = next + ? WHERE topic = ? AND number = ? RETURNING next", [stored.rows, topic, partition]
        )
        first = int(end) - stored.rows
        stored = replace(stored, first=first, last=end - 1, appended=self.clock.now()).sealed(topic, partition)
        self.database.run(
            "INSERT INTO batch (topic, partition, first, last, rows, appended, low, high, checksum, bytes, blob) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *(topic, partition, first, stored.last, stored.rows, stored.appended),
                *(stored.low, stored.high, stored.checksum, len(stored.blob), stored.blob),
            ],
        )
        return first

    def _check_fence(self, fence: Fence) -> None:
        topic, partition = fence.partition
        epoch = self.database.value(
            "SELECT epoch FROM lease WHERE name = ? AND topic = ? AND partition = ? AND owner IS NOT NULL",
            [fence.group, topic, partition],
        )
        if epoch != fence.epoch:
            raise FencedError(f"partition {partition} of {topic} belongs to another member of group {fence.group} by now")

    def wait(self, timeout: int) -> bool:
        """Wait for the next append in any process; a thread's first call returns at once, since it may have missed one."""
        return self.bells.wait(timeout)

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        """Records from an offset on, about `max_rows`."""
        number, spec = self.catalog.known(partition.topic)
        statement = f"SELECT {STORED} FROM batch WHERE topic = ? AND partition = ? AND last >= ?"
        values = [number, partition.partition, offset]
        if span is not None:
            statement += " AND (low IS NULL OR (low < ? AND high >= ?))"
            values += [span[1], span[0]]
        batches: list[Batch] = []
        found = 0
        while found < max_rows:
            chunk = self.database.rows(f"{statement} ORDER BY last LIMIT {self._limit(batches)}", values)
            for row in chunk:
                batches.append(self._batch(spec, (number, partition.partition), Stored(*row), offset))
                found += len(batches[-1])
                if found >= max_rows:
                    return batches
            if len(chunk) < self._limit(batches[: -len(chunk)] if chunk else batches):
                return batches
            values[2] = int(batches[-1].offsets[-1]) + 1
        return batches

    @staticmethod
    def _limit(before: list[Batch]) -> int:
        """Few batches at first, since one may be enough, then more."""
        return min(BATCHES_AT_ONCE, 4 * max(1, len(before)))

    def _batch(self, spec: TopicSpec, place: tuple[int, int], stored: Stored, offset: int) -> Batch:
        batch = batch_of(spec, place, stored)
        return batch if stored.first >= offset else batch.slice(int((batch.offsets < offset).sum()))

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Forget whole batches below an offset."""
        number, _ = self.catalog.known(partition.topic)
        place = (number, partition.partition)
        with self.database.transaction():
            self.database.run("DELETE FROM batch WHERE topic = ? AND partition = ? AND last < ?", [*place, before])
            set_first(self, place)

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        """Join a group."""
        for topic in spec.topics:
            self.catalog.known(topic)
        return EmbeddedConsumer(self, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's next offset by partition."""
        return dict(self.database.rows("SELECT partition, next FROM position WHERE name = ? AND topic = ?", [group, topic]))

    def groups(self, prefix: str = "") -> list[GroupState]:
        """Groups whose names begin so, with owners and positions."""
        owners = self.database.rows("SELECT name, topic, partition, owner FROM lease ORDER BY name, topic, partition")
        positions = self.database.rows("SELECT name, topic, partition, next FROM position ORDER BY name, topic, partition")
        return [
            GroupState(
                name,
                {TopicPartition(topic, number): owner for group, topic, number, owner in owners if group == name},
                {TopicPartition(topic, number): following for group, topic, number, following in positions if group == name},
            )
            for name in sorted({row[0] for row in [*owners, *positions]})
            if name.startswith(prefix)
        ]

    def maintain(self) -> Maintenance:
        """Apply retention and compaction."""
        return maintain(self)

    def check(self) -> list[str]:
        """What is wrong with the file, in words; nothing if it is sound."""
        problems = self._said(lambda: [row[0] for row in self.database.rows("PRAGMA integrity_check") if row[0] != "ok"])
        for name in self.catalog.names():
            problems += self._said(partial(self._damaged, name))
        return problems

    @staticmethod
    def _said(look: Callable[[], list[str]]) -> list[str]:
        """What a look finds, or the error that ends it."""
        try:
            return look()
        except StorageError as error:
            return [str(error)]

    def _damaged(self, name: str) -> list[str]:
        """Batches of a topic whose bytes have changed."""
        number, _ = self.catalog.known(name)
        problems = []
        statement = f"SELECT partition, {STORED} FROM batch WHERE topic = ? ORDER BY partition, last"
        with self.database.translated():
            for row in self.database.run(statement, [number]):
                stored = Stored(*row[1:])
                if not stored.is_sound(number, row[0]):
                    place = f"topic {name}, partition {row[0]}, offsets {stored.first} to {stored.last}"
                    problems.append(f"{place}: damaged bytes")
        return problems

    def connect(self) -> EmbeddedLog:
        """Another connection to the file; a log in memory has only one."""
        if self.path is None:
            self._users += 1
            return self
        return EmbeddedLog(self.path, self.clock, self._durability)

    def close(self) -> None:
        """Close the connection."""
        self._users -= 1
        if self._users:
            return
        self.bells.close()
        self.database.close()
