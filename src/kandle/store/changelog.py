"""State of tasks in the log: a whole snapshot now and then, and between snapshots what each commit has changed.

A changelog is a topic with as many partitions as there are tasks. Its records are written in the same commit as the outputs and
offsets that belong to them, so that state and outputs never disagree:

    commit      1          2        3        4          5        6
    records     snapshot   change   change   snapshot   change   change
    kept                                     [ ------------------------
    restored = snapshot of commit 4 + changes of commits 5 and 6

What is before the newest snapshot of a partition is not needed any more and is truncated. Logs bound the size of a record, so
larger content is cut into pieces, each a record of its own.

A local store may keep a copy, so that a start reads only what is newer from the topic. The copy is trusted only if it belongs to
this very topic: each record has a checksum over itself and all records before it (`chain`), which tells one changelog from any
other, and the last record of the copy must be the same in the topic. If it is not, the copy is written again from the topic.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, Write, decode_frame, encode_frame
from kandle.store.port import Store

SNAPSHOT = "snapshot"
CHANGE = "change"
READ_ROWS = 1_000
PIECE = 1 << 19
"""Most bytes of one record."""

COLUMNS = {"kind": pl.String, "chain": pl.Int64, "more": pl.Boolean, "content": pl.Binary}

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """One record of a changelog.

    Args:
        kind: `SNAPSHOT` or `CHANGE`.
        chain: Checksum over the content of this entry and of all before it.
        more: Whether the content continues in the next entry.
        content: Frames in bytes, or a piece of them.
    """

    kind: str
    chain: int
    more: bool
    content: bytes

    def to_bytes(self) -> bytes:
        """Return the entry as a local store keeps it."""
        return f"{self.kind} {self.chain} {self.more:d}\n".encode() + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> ChangelogEntry:
        """Return the entry that `to_bytes` has written."""
        head, _, content = data.partition(b"\n")
        kind, chain, more = head.decode().split()
        return cls(kind, int(chain), more == "1", content)


PlacedEntry = tuple[int, ChangelogEntry]
"""An entry after its offset."""


@dataclass(frozen=True, slots=True)
class RestoredState:
    """A partition's newest snapshot (None if there never was one) and the changes since then, oldest first."""

    snapshot: Frames | None = None
    changes: tuple[Frames, ...] = ()


class Changelog:
    """The changelog of one partition.

    Args:
        log: The log that has the topic.
        partition: The partition of the topic.
        store: Keeps a copy on this machine; None reads everything from the topic.
    """

    def __init__(self, log: Log, partition: TopicPartition, store: Store | None = None) -> None:
        self.log = log
        self.partition = partition
        self._store = store
        self._pending: list[ChangelogEntry] = []
        self._next = 0
        self._chain = uuid.uuid4().int & 0xFFFFFFFF
        self._last: PlacedEntry | None = None
        self._incomplete: list[PlacedEntry] = []

    def record(self, kind: str, frames: Frames) -> int:
        """Add a snapshot or a change to the next commit.

        Args:
            kind: `SNAPSHOT` or `CHANGE`.
            frames: The state, or what has changed of it.

        Returns:
            Size in bytes.
        """
        content = encode_frames(frames)
        for begin in range(0, len(content), PIECE):
            piece = content[begin : begin + PIECE]
            self._chain = zlib.crc32(piece, self._chain)
            self._pending.append(ChangelogEntry(kind, self._chain, begin + PIECE < len(content), piece))
        return len(content)

    def writes(self) -> list[Write]:
        """Return what the next commit has to append."""
        if not self._pending:
            return []
        rows = [(entry.kind, entry.chain, entry.more, entry.content) for entry in self._pending]
        frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
        return [Write(self.partition.topic, self.partition.partition, Records(frame))]

    def is_of_another_topic(self, first: int) -> bool:
        """Return whether the first record of a commit lies before records that are known already: the topic was created anew."""
        return bool(self._pending) and first < self._next

    def committed(self, first: int) -> None:
        """Update the copy after a commit, and truncate what a snapshot has made superfluous.

        Args:
            first: Offset of the first record that the commit has appended.
        """
        fresh = list(enumerate(self._pending, first))
        self._pending.clear()
        if not fresh:
            return
        self._next = fresh[-1][0] + 1
        newest = self._update_copy(fresh)
        if newest is not None:
            self.log.truncate(self.partition, fresh[newest][0])

    def _update_copy(self, fresh: Sequence[PlacedEntry]) -> int | None:
        """Add new entries to the copy; return where the newest snapshot begins among them, None if there is none."""
        newest = _newest_snapshot(fresh)
        if self._store is not None and fresh:
            old = [key for key, _ in self._store.scan(self._key("record"))] if newest is not None else []
            self._store.write(self._puts(fresh[newest or 0 :]), old)
        return newest

    def _puts(self, records: Sequence[PlacedEntry]) -> dict[bytes, bytes]:
        puts = {self._key(f"record/{offset:020d}"): entry.to_bytes() for offset, entry in records}
        return puts | {self._key("next"): str(records[-1][0] + 1).encode()}

    def _key(self, name: str) -> bytes:
        return f"{self.partition.topic}/{self.partition.partition}/{name}".encode()

    def restore(self) -> RestoredState:
        """Return the state as of the last commit, from the copy and what the topic has beyond it."""
        self._pending.clear()
        self._incomplete.clear()
        records = self._read_all()
        self._last = records[-1] if records else None
        if records:
            self._chain = records[-1][1].chain
        return _restored(records)

    def _read_all(self) -> list[PlacedEntry]:
        """Read all entries that are needed.

        While they are read, another process may write a snapshot and truncate what is before it: then they are read again.
        """
        while True:
            first = self.log.first(self.partition)
            records = self._read_copy(first)
            fresh = list(self._read(self._next))
            if self.log.first(self.partition) == first:
                break
        if fresh:
            self._next = fresh[-1][0] + 1
            records += fresh
            self._replace_copy(records)
        return records

    @property
    def is_whole(self) -> bool:
        """Whether all pieces of the last snapshot or change that `follow` was given have come."""
        return not self._incomplete

    def beyond(self, most: int | None = None) -> Iterator[PlacedEntry]:
        """Return the last known entry and those after it, for `follow`.

        It changes nothing, so that it can be called without holding up others, however long the log takes.

        Args:
            most: About how many entries to read at most; None reads all.

        Returns:
            Entries with their offsets, ascending.
        """
        offset = self.log.first(self.partition) if self._last is None else self._last[0]
        return self._read(offset) if most is None else _placed(self.log.read(self.partition, offset, most))

    def follow(self, records: Sequence[PlacedEntry]) -> RestoredState | None:
        """Take what others have committed.

        Args:
            records: What `beyond` has returned.

        Returns:
            The new changes, after a snapshot if there is a new one; None if the entries do not continue what is known, so that
            `restore` is due.
        """
        if self._last is None or not records or records[0] != self._last:
            return None
        fresh = list(records[1:])
        if not fresh:
            return RestoredState()
        self._last, self._next, self._chain = fresh[-1], fresh[-1][0] + 1, fresh[-1][1].chain
        fresh, self._incomplete = _split_complete(self._incomplete + fresh)
        self._update_copy(fresh)
        return _restored(fresh)

    def _read_copy(self, first: int) -> list[PlacedEntry]:
        """Read the copy; return nothing if it is not a copy of this very topic, or too old."""
        self._next = first
        if self._store is None:
            return []
        stored = self._store.get(self._key("next"))
        records = [(_offset(key), ChangelogEntry.from_bytes(value)) for key, value in self._store.scan(self._key("record"))]
        following = int(stored) if stored is not None else -1
        if not records or not self._next < following <= self.log.ends(self.partition.topic)[self.partition.partition]:
            return []
        if records[0][1].kind != SNAPSHOT and records[0][0] != self._next:
            return []
        if records[-1][0] + 1 != following or not _is_unbroken(records) or next(self._read(records[-1][0]), None) != records[-1]:
            return []
        self._next = following
        return records

    def _replace_copy(self, records: Sequence[PlacedEntry]) -> None:
        if self._store is None:
            return
        puts = self._puts(records[_newest_snapshot(records) or 0 :])
        old = [key for key, _ in self._store.scan(self._key("record")) if key not in puts]
        self._store.write(puts, old)

    def _read(self, offset: int) -> Iterator[PlacedEntry]:
        while batches := self.log.read(self.partition, offset, READ_ROWS):
            yield from _placed(batches)
            offset = batches[-1].next_offset


def _placed(batches: Sequence[Batch]) -> Iterator[PlacedEntry]:
    for batch in batches:
        rows = batch.records.frame.select("kind", "chain", "more", "content").iter_rows()
        yield from zip(batch.offsets.tolist(), (ChangelogEntry(*row) for row in rows), strict=True)


def _split_complete(records: list[PlacedEntry]) -> tuple[list[PlacedEntry], list[PlacedEntry]]:
    """Split off the pieces at the end whose rest is still to come."""
    end = max((number for number, (_, entry) in enumerate(records, 1) if not entry.more), default=0)
    return records[:end], records[end:]


def _is_unbroken(records: Sequence[PlacedEntry]) -> bool:
    """Return whether each entry is followed by the one that was written after it."""
    return all(zlib.crc32(after.content, before.chain) == after.chain for (_, before), (_, after) in pairwise(records))


def _offset(key: bytes) -> int:
    return int(key.rpartition(b"/")[2])


def _newest_snapshot(records: Sequence[PlacedEntry]) -> int | None:
    """Return where the newest snapshot begins in a run of entries, None if it has none."""
    begins = [
        position
        for position, (_, entry) in enumerate(records)
        if entry.kind == SNAPSHOT and (position == 0 or not records[position - 1][1].more)
    ]
    return begins[-1] if begins else None


def _restored(records: Sequence[PlacedEntry]) -> RestoredState:
    contents: list[tuple[str, bytes]] = []
    pieces: list[bytes] = []
    for _, entry in records[_newest_snapshot(records) or 0 :]:
        pieces.append(entry.content)
        if not entry.more:
            contents.append((entry.kind, b"".join(pieces)))
            pieces = []
    snapshot = decode_frames(contents.pop(0)[1]) if contents and contents[0][0] == SNAPSHOT else None
    return RestoredState(snapshot, tuple(decode_frames(content) for _, content in contents))


def encode_frames(frames: Frames) -> bytes:
    """Return named frames as bytes: a line of JSON with names and lengths, then the frames."""
    parts = {name: encode_frame(frame) for name, frame in frames.items()}
    index = json.dumps([[name, len(part)] for name, part in parts.items()])
    return index.encode() + b"\n" + b"".join(parts.values())


def decode_frames(content: bytes) -> dict[str, pl.DataFrame]:
    """Return the frames that `encode_frames` has written."""
    head, _, body = content.partition(b"\n")
    frames: dict[str, pl.DataFrame] = {}
    begin = 0
    for name, length, *_ in json.loads(head):
        frames[name] = decode_frame(body[begin : begin + length])
        begin += length
    return frames
