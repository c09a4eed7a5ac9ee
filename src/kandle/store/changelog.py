"""State of tasks in the log: whole snapshots now and then, between them what every commit changed.

A changelog is a topic with the partitions of the tasks. Its records are written in the same commit as the outputs and offsets
that belong to them. What stands before a partition's newest snapshot is not needed any more and is forgotten.
A local store may keep a copy, so that only what is newer has to be read from the topic.
What is large is cut into pieces, because logs bound the size of a record.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, Write, decode_frame, encode_frame
from kandle.store.port import Store

SNAPSHOT = "snapshot"
CHANGE = "change"
ROWS_AT_ONCE = 1_000
PIECE = 1 << 19
"""Most bytes of one record."""

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: `chain` is a checksum over it and all before it, so that it tells one changelog from every other.

    With `more` the content goes on in the next record.
    """

    kind: str
    chain: int
    more: bool
    content: bytes

    def packed(self) -> bytes:
        """As bytes."""
        return f"{self.kind} {self.chain} {self.more:d}\n".encode() + self.content


def entry_of(packed: bytes) -> Entry:
    """The entry of bytes that `packed` gave."""
    head, _, content = packed.partition(b"\n")
    kind, chain, more = head.decode().split()
    return Entry(kind, int(chain), more == "1", content)


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
    _last: Placed | None = None
    _open: list[Placed] = field(default_factory=list)

    def record(self, kind: str, frames: Frames) -> int:
        """Have a snapshot or a change written with the next commit; gives its size in bytes."""
        content = encoded(frames)
        for begin in range(0, len(content), PIECE):
            piece = content[begin : begin + PIECE]
            self._chain = zlib.crc32(piece, self._chain)
            self._pending.append(Entry(kind, self._chain, begin + PIECE < len(content), piece))
        return len(content)

    def writes(self) -> list[Write]:
        """What the next commit has to append."""
        if not self._pending:
            return []
        rows = [(entry.kind, entry.chain, entry.more, entry.content) for entry in self._pending]
        schema = {"kind": pl.String, "chain": pl.Int64, "more": pl.Boolean, "content": pl.Binary}
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        return [Write(self.partition.topic, self.partition.partition, Records(frame))]

    def is_of_another_topic(self, first: int) -> bool:
        """Whether the commit was made, but its first record came to lie before those that are known."""
        return bool(self._pending) and first < self._next

    def committed(self, first: int) -> None:
        """The commit was made, and this is the offset of its first record: keep the copy up to date, forget what is needless."""
        fresh = list(enumerate(self._pending, first))
        self._pending.clear()
        if not fresh:
            return
        self._next = fresh[-1][0] + 1
        newest = self._copy(fresh)
        if newest is not None:
            self.log.truncate(self.partition, fresh[newest][0])

    def _copy(self, fresh: Sequence[Placed]) -> int | None:
        """Keep the copy up to date; gives where a snapshot begins that makes all before it needless."""
        newest = newest_snapshot(fresh)
        if self.store is not None and fresh:
            old = [key for key, _ in self.store.scan(self._key("record"))] if newest is not None else []
            self.store.write(self._puts(fresh[newest or 0 :]), old)
        return newest

    def _puts(self, records: Sequence[Placed]) -> dict[bytes, bytes]:
        puts = {self._key(f"record/{offset:020d}"): entry.packed() for offset, entry in records}
        return puts | {self._key("next"): str(records[-1][0] + 1).encode()}

    def _key(self, name: str) -> bytes:
        return f"{self.partition.topic}/{self.partition.partition}/{name}".encode()

    def restore(self) -> Restored:
        """The state as of the last commit, from the copy and what the topic has beyond it."""
        self._pending.clear()
        self._open.clear()
        records = self._whole()
        self._last = records[-1] if records else None
        if records:
            self._chain = records[-1][1].chain
        return _restored(records)

    def _whole(self) -> list[Placed]:
        """All records that are needed.

        While they are read, another process may write a snapshot and have what is before it forgotten: then once more.
        """
        while True:
            first = self.log.first(self.partition)
            records = self._copied(first)
            fresh = list(self._read(self._next))
            if self.log.first(self.partition) == first:
                break
        if fresh:
            self._next = fresh[-1][0] + 1
            records += fresh
            self._recopy(records)
        return records

    @property
    def is_whole(self) -> bool:
        """Whether no record is known of which only the first pieces were read."""
        return not self._open

    def beyond(self, most: int | None = None) -> Iterator[Placed]:
        """The last record that is known and, from about `most` of them, those after it; this changes nothing, and may wait."""
        offset = self.log.first(self.partition) if self._last is None else self._last[0]
        return self._read(offset) if most is None else _placed(self.log.read(self.partition, offset, most))

    def follow(self, records: Sequence[Placed]) -> Restored | None:
        """What others have committed, as `beyond` gave it; None if it is not the sequel of what is known, so `restore` is due."""
        if self._last is None or not records or records[0] != self._last:
            return None
        fresh = list(records[1:])
        if not fresh:
            return Restored()
        self._last, self._next, self._chain = fresh[-1], fresh[-1][0] + 1, fresh[-1][1].chain
        fresh, self._open = _cut(self._open + fresh)
        self._copy(fresh)
        return _restored(fresh)

    def _copied(self, first: int) -> list[Placed]:
        """The records of the copy, if it is a copy of this very topic and not too old."""
        self._next = first
        if self.store is None:
            return []
        stored = self.store.get(self._key("next"))
        records = [(_offset(key), entry_of(value)) for key, value in self.store.scan(self._key("record"))]
        following = int(stored) if stored is not None else -1
        if not records or not self._next < following <= self.log.ends(self.partition.topic)[self.partition.partition]:
            return []
        if records[0][1].kind != SNAPSHOT and records[0][0] != self._next:
            return []
        if records[-1][0] + 1 != following or not _is_unbroken(records) or next(self._read(records[-1][0]), None) != records[-1]:
            return []
        self._next = following
        return records

    def _recopy(self, records: Sequence[Placed]) -> None:
        if self.store is None:
            return
        puts = self._puts(records[newest_snapshot(records) or 0 :])
        old = [key for key, _ in self.store.scan(self._key("record")) if key not in puts]
        self.store.write(puts, old)

    def _read(self, offset: int) -> Iterator[Placed]:
        while batches := self.log.read(self.partition, offset, ROWS_AT_ONCE):
            yield from _placed(batches)
            offset = batches[-1].next_offset


Placed = tuple[int, Entry]
"""An entry with its offset."""


def _placed(batches: Sequence[Batch]) -> Iterator[Placed]:
    for batch in batches:
        rows = batch.records.frame.select("kind", "chain", "more", "content").iter_rows()
        yield from zip(batch.offsets.tolist(), (Entry(*row) for row in rows), strict=True)


def _cut(records: list[Placed]) -> tuple[list[Placed], list[Placed]]:
    """Those that are whole, and the pieces of one whose rest is still to come."""
    end = max((number for number, (_, entry) in enumerate(records, 1) if not entry.more), default=0)
    return records[:end], records[end:]


def _is_unbroken(records: Sequence[Placed]) -> bool:
    """Whether every record is followed by the one that was written after it."""
    return all(zlib.crc32(after.content, before.chain) == after.chain for (_, before), (_, after) in pairwise(records))


def _offset(key: bytes) -> int:
    return int(key.rpartition(b"/")[2])


def newest_snapshot(records: Sequence[Placed]) -> int | None:
    """Where the newest snapshot begins in these records."""
    begins = [
        position
        for position, (_, entry) in enumerate(records)
        if entry.kind == SNAPSHOT and (position == 0 or not records[position - 1][1].more)
    ]
    return begins[-1] if begins else None


def _restored(records: Sequence[Placed]) -> Restored:
    wholes: list[tuple[str, bytes]] = []
    pieces: list[bytes] = []
    for _, entry in records[newest_snapshot(records) or 0 :]:
        pieces.append(entry.content)
        if not entry.more:
            wholes.append((entry.kind, b"".join(pieces)))
            pieces = []
    snapshot = decoded(wholes.pop(0)[1]) if wholes and wholes[0][0] == SNAPSHOT else None
    return Restored(snapshot, tuple(decoded(content) for _, content in wholes))


def encoded(frames: Frames) -> bytes:
    """Named frames as bytes: a line of JSON with names and lengths, then the frames."""
    parts = {name: encode_frame(frame) for name, frame in frames.items()}
    index = json.dumps([[name, len(part)] for name, part in parts.items()])
    return index.encode() + b"\n" + b"".join(parts.values())


def decoded(content: bytes) -> dict[str, pl.DataFrame]:
    """The frames that `encoded` was given."""
    head, _, body = content.partition(b"\n")
    frames: dict[str, pl.DataFrame] = {}
    begin = 0
    for name, length in json.loads(head):
        frames[name] = decode_frame(body[begin : begin + length])
        begin += length
    return frames
