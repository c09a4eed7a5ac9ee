"""State of tasks in the log: whole snapshots now and then, between them what every commit changed.

A changelog is a topic with the partitions of the tasks. Its records are written in the same commit as the outputs and offsets
that belong to them. What stands before a partition's newest snapshot is not needed any more and is forgotten.
A local store may keep a copy, so that only what is newer has to be read from the topic.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from kandle.log.blobs import packed, unpacked
from kandle.log.port import Column, Log, TopicPartition, TopicSpec
from kandle.log.records import Records, Write
from kandle.store.port import Store

SNAPSHOT = "snapshot"
CHANGE = "change"
ROWS_AT_ONCE = 1_000

Frames = Mapping[str, pl.DataFrame]


def changelog_topic(name: str, partitions: int, replication: int = 1) -> TopicSpec:
    """The topic of a changelog."""
    columns = (
        Column("kind", "string", pl.String()),
        Column("chain", "int", pl.Int64()),
        Column("content", "bytes", pl.Binary()),
    )
    return TopicSpec(name, columns, partitions=partitions, replication=replication)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: `chain` is a checksum over it and all before it, so that it tells one changelog from every other."""

    kind: str
    chain: int
    content: bytes

    def packed(self) -> bytes:
        """As bytes."""
        return f"{self.kind} {self.chain}\n".encode() + self.content


def entry_of(packed: bytes) -> Entry:
    """The entry of bytes that `packed` gave."""
    head, _, content = packed.partition(b"\n")
    kind, chain = head.decode().split()
    return Entry(kind, int(chain), content)


@dataclass(frozen=True, slots=True)
class Restored:
    """A partition's newest snapshot (None if there never was one) and the changes since, oldest first."""

    snapshot: Frames | None = None
    changes: tuple[Frames, ...] = ()


@dataclass(slots=True)
class Changelog:
    """The changelog of one partition, and its copy in a store if there is one."""

    log: Log
    partition: TopicPartition
    store: Store | None = None
    _pending: list[Entry] = field(default_factory=list)
    _next: int = 0
    _chain: int = field(default_factory=lambda: uuid.uuid4().int & 0xFFFFFFFF)

    def record(self, kind: str, frames: Frames) -> int:
        """Have a snapshot or a change written with the next commit; gives its size in bytes."""
        content = encoded(frames)
        self._chain = zlib.crc32(content, self._chain)
        self._pending.append(Entry(kind, self._chain, content))
        return len(content)

    def writes(self) -> list[Write]:
        """What the next commit has to append."""
        if not self._pending:
            return []
        rows = [(entry.kind, entry.chain, entry.content) for entry in self._pending]
        schema = {"kind": pl.String, "chain": pl.Int64, "content": pl.Binary}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        return [Write(self.partition.topic, self.partition.partition, Records(frame))]

    def committed(self) -> None:
        """The commit was made: keep the copy up to date, and forget what a snapshot has made needless."""
        first = self._next
        self._next += len(self._pending)
        newest = max((position for position, entry in enumerate(self._pending) if entry.kind == SNAPSHOT), default=None)
        self._copy(first)
        self._pending.clear()
        if newest is not None:
            self.log.truncate(self.partition, first + newest)

    def _copy(self, first: int) -> None:
        if self.store is None or not self._pending:
            return
        puts: dict[bytes, bytes] = {}
        deletes: list[bytes] = []
        for offset, entry in enumerate(self._pending, first):
            if entry.kind == SNAPSHOT:
                deletes += [key for key, _ in self.store.scan(self._key("record"))]
                puts = {}
            puts[self._key(f"record/{offset:020d}")] = entry.packed()
        puts[self._key("next")] = str(self._next).encode()
        self.store.write(puts, deletes)

    def _key(self, name: str) -> bytes:
        return f"{self.partition.topic}/{self.partition.partition}/{name}".encode()

    def restore(self) -> Restored:
        """The state as of the last commit, from the copy and what the topic has beyond it."""
        self._pending.clear()
        records = self._copied()
        fresh = list(self._read(self._next))
        self._next += len(fresh)
        records += fresh
        if fresh:
            self._recopy(records)
        if records:
            self._chain = records[-1].chain
        return _restored(records)

    def _copied(self) -> list[Entry]:
        """The records of the copy, if it is a copy of this very topic and not too old."""
        self._next = self.log.first(self.partition)
        if self.store is None:
            return []
        stored = self.store.get(self._key("next"))
        records = [entry_of(value) for _, value in self.store.scan(self._key("record"))]
        following = int(stored) if stored is not None else -1
        if not records or not self._next < following <= self.log.ends(self.partition.topic)[self.partition.partition]:
            return []
        if next(self._read(following - 1), None) != records[-1]:
            return []
        self._next = following
        return records

    def _recopy(self, records: list[Entry]) -> None:
        if self.store is None:
            return
        old = [key for key, _ in self.store.scan(self._key("record"))]
        first = self._next - len(records)
        puts = {self._key(f"record/{offset:020d}"): entry.packed() for offset, entry in enumerate(records, first)}
        self.store.write(puts | {self._key("next"): str(self._next).encode()}, [key for key in old if key not in puts])

    def _read(self, offset: int) -> Iterator[Entry]:
        while batches := self.log.read(self.partition, offset, ROWS_AT_ONCE):
            for batch in batches:
                yield from (Entry(*row) for row in batch.records.frame.select("kind", "chain", "content").iter_rows())
            offset = batches[-1].next_offset


def _restored(records: list[Entry]) -> Restored:
    newest = max((position for position, entry in enumerate(records) if entry.kind == SNAPSHOT), default=-1)
    snapshot = decoded(records[newest].content) if newest >= 0 else None
    return Restored(snapshot, tuple(decoded(entry.content) for entry in records[newest + 1 :]))


def encoded(frames: Frames) -> bytes:
    """Named frames as bytes: a line of JSON with names and lengths, then the frames."""
    parts = {name: packed(frame) for name, frame in frames.items()}
    index = json.dumps([[name, len(part)] for name, part in parts.items()])
    return index.encode() + b"\n" + b"".join(parts.values())


def decoded(content: bytes) -> dict[str, pl.DataFrame]:
    """The frames that `encoded` was given."""
    head, _, body = content.partition(b"\n")
    frames: dict[str, pl.DataFrame] = {}
    begin = 0
    for name, length in json.loads(head):
        frames[name] = unpacked(body[begin : begin + length])
        begin += length
    return frames
