"""Topics in memory: what partitions hold, and how it is read, removed and compacted, under the rules of either log.

A partition is a list of chunks, one for each append. A chunk is a batch as it is handed to readers, so that a read copies
nothing. Offsets that no chunk has are holes: a compaction leaves them, and the markers and aborted records of transactions.

    offsets    0 .. 9      10 .. 14   15       16 .. 19       20
               chunk       chunk      marker   chunk          end
                                               ^ unstable: its transaction is open, so committed records end here
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from kandle.log.port import PartitionState
from kandle.log.records import Batch, Records, RejectedRecord
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.arrays import IntArray

OVERHEAD = 64
"""Bytes of an append beside those of its values."""


@dataclass(slots=True)
class Chunk:
    """The records of one append.

    Attributes:
        batch: What readers are handed.
        columns: The columns of the topic when the records were appended.
        first: The first offset; records that cannot be read have one, too.
        last: The last offset.
        newest: The time of the newest record.
    """

    batch: Batch
    columns: tuple[TopicColumn, ...]
    first: int
    last: int
    newest: int
    _size: int | None = None
    _span: tuple[int, int] | None = None
    _has_span: bool = False

    @property
    def rows(self) -> int:
        """The number of records, those among them that cannot be read."""
        return len(self.batch) + len(self.batch.rejects)

    @property
    def size(self) -> int:
        """About how many bytes the records take."""
        if self._size is None:
            self._size = self.batch.memory + OVERHEAD
        return self._size

    def touches(self, time: str | None, span: tuple[int, int]) -> bool:
        """Return whether the records may have an instant in a span."""
        if not self._has_span:
            self._span, self._has_span = _span(self.batch.records.frame, time), True
        return self._span is None or (self._span[0] < span[1] and self._span[1] >= span[0])


def _span(frame: pl.DataFrame, time: str | None) -> tuple[int, int] | None:
    """Return the earliest and the latest instant of a column; None if not all rows have one."""
    if time is None or time not in frame.columns or frame.is_empty():
        return None
    instants = frame[time].to_physical()
    if instants.null_count():
        return None
    return int(instants.min()), int(instants.max())  # type: ignore[arg-type]


def _frozen(array: IntArray) -> IntArray:
    """Return an array that nobody can change, since all readers share it."""
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True)
class Prepared:
    """Checked records, to be appended; `rejects` are those that cannot be read, by their number among all."""

    partition: Partition
    columns: tuple[TopicColumn, ...]
    records: Records
    rejects: Mapping[int, RejectedRecord] = field(default_factory=dict)
    raw: tuple[Sequence[bytes | None], Sequence[bytes | None]] | None = None

    def __len__(self) -> int:
        return len(self.records) + len(self.rejects)


class Partition:
    """The records of one partition, and where it begins and ends."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic, self.number = topic, number
        self.first = 0
        self.end = 0
        self.compacted = 0
        """Where the records begin that no compaction has looked at."""
        self.unstable: list[int] = []
        """The first offset of each transaction of which readers do not know yet what has become of it."""
        self._chunks: list[Chunk] = []
        self._lasts: list[int] = []

    @property
    def stable(self) -> int:
        """Where the records end that readers may see."""
        return min(self.unstable) if self.unstable else self.end

    @property
    def rows(self) -> int:
        """The number of records."""
        return sum(chunk.rows for chunk in self._chunks)

    @property
    def size(self) -> int:
        """About how many bytes the records take."""
        return sum(chunk.size for chunk in self._chunks)

    def append(self, prepared: Prepared, time: int, *, is_stamped: bool = True) -> Chunk:
        """Append records.

        Args:
            prepared: At least one record.
            time: The time of all of them.
            is_stamped: Whether that is the time of the log's clock.
        """
        first, count = self.end, len(prepared)
        offsets = np.arange(first, first + count)
        rejects: tuple[RejectedRecord, ...] = ()
        keys, values = prepared.raw if prepared.raw is not None else (None, None)
        if prepared.rejects:
            readable = [row for row in range(count) if row not in prepared.rejects]
            rejects = tuple(
                replace(reject, offset=first + row, timestamp=time) for row, reject in sorted(prepared.rejects.items())
            )
            offsets = offsets[readable]
            keys, values = _picked(keys, readable), _picked(values, readable)
        times = np.full(len(offsets), time)
        batch = Batch(
            self.topic, self.number, _frozen(offsets), _frozen(times), prepared.records,
            first + count if rejects else None, rejects, is_stamped, keys, values,
        )  # fmt: skip
        chunk = Chunk(batch, prepared.columns, first, first + count - 1, time)
        self._chunks.append(chunk)
        self._lasts.append(chunk.last)
        self.end = first + count
        return chunk

    def mark(self) -> None:
        """Append the marker of a transaction, which readers pass over."""
        self.end += 1

    def remove(self, chunk: Chunk) -> None:
        """Remove the records of a transaction that was aborted."""
        at = bisect_left(self._lasts, chunk.last)
        if at < len(self._chunks) and self._chunks[at] is chunk:
            del self._chunks[at], self._lasts[at]

    def from_offset(self, offset: int, until: int) -> Iterable[Chunk]:
        """Return the chunks with records from an offset on, up to another one."""
        chunks = self._chunks
        for at in range(bisect_left(self._lasts, offset), len(chunks)):
            if chunks[at].first >= until:
                return
            yield chunks[at]

    def drop_before(self, offset: int) -> tuple[int, int]:
        """Drop whole chunks below an offset; return the numbers of records and bytes."""
        count = bisect_left(self._lasts, offset)
        rows = sum(chunk.rows for chunk in self._chunks[:count])
        size = sum(chunk.size for chunk in self._chunks[:count])
        del self._chunks[:count], self._lasts[:count]
        return rows, size

    @property
    def first_kept(self) -> int:
        """The offset of the first record, or the next one if there is none."""
        return self._chunks[0].first if self._chunks else self.end

    def due(self, spec: TopicSpec, now: int) -> int:
        """Return up to which offset the retention of a topic removes chunks."""
        offset = self.first
        if spec.retention is not None:
            for chunk in self._chunks:
                if chunk.newest >= now - spec.retention:
                    break
                offset = chunk.last + 1
        if spec.retention_bytes is not None:
            size = 0
            for chunk in reversed(self._chunks):
                size += chunk.size
                if size > spec.retention_bytes:
                    return max(offset, chunk.last + 1)
        return offset

    def dirty_rows(self) -> tuple[int, int]:
        """Return how many records a compaction has seen, and how many are new."""
        clean = sum(chunk.rows for chunk in self._chunks if chunk.last < self.compacted)
        return clean, self.rows - clean

    def compact(self, keys: Sequence[str], until: int, tombstones: int) -> tuple[int, int]:
        """Keep the newest record of each key.

        Args:
            keys: The columns of the key.
            until: The end of the chunks that are looked at.
            tombstones: Time before which tombstones are removed, too.

        Returns:
            How many records and bytes were removed.
        """
        chosen = [chunk for chunk in self._chunks if chunk.last < until]
        if not chosen or chosen[-1].last < self.compacted:
            return 0, 0
        newest: dict[tuple[Any, ...], int] = {}
        for chunk in chosen:
            records = zip(chunk.batch.records.frame.select(keys).rows(), chunk.batch.offsets.tolist(), strict=True)
            unreadable = ((reject.key_values, reject.offset) for reject in chunk.batch.rejects)
            keyed = ((key, offset) for key, offset in (*records, *unreadable) if key is not None)
            newest.update(sorted(keyed, key=lambda pair: pair[1]))
        kept = set(newest.values())
        rows = size = 0
        remaining: list[Chunk] = []
        for chunk in chosen:
            rest = _compacted(chunk, kept, tombstones)
            rows += chunk.rows - (0 if rest is None else rest.rows)
            size += chunk.size - (0 if rest is None else rest.size)
            if rest is not None:
                remaining.append(rest)
        self._chunks[: len(chosen)] = remaining
        self._lasts = [chunk.last for chunk in self._chunks]
        self.compacted = chosen[-1].last + 1
        return rows, size


def _picked(values: Sequence[bytes | None] | None, rows: Sequence[int]) -> list[bytes | None] | None:
    return None if values is None else [values[row] for row in rows]


def _compacted(chunk: Chunk, kept: set[int], tombstones: int) -> Chunk | None:
    """Return what stays of a chunk; the chunk itself if all of it does, None if nothing does."""
    batch = chunk.batch
    gone = batch.records.tombstones
    offsets, times = batch.offsets.tolist(), batch.timestamps.tolist()
    is_gone = [False] * len(offsets) if gone is None else gone.to_list()
    mask = [
        offset in kept and not (mark and time < tombstones)
        for offset, time, mark in zip(offsets, times, is_gone, strict=True)
    ]  # fmt: skip
    rejects = tuple(reject for reject in batch.rejects if reject.key_values is None or reject.offset in kept)
    if all(mask) and len(rejects) == len(batch.rejects):
        return chunk
    if not any(mask) and not rejects:
        return None
    chosen = np.array(mask, np.bool_)
    rows = [row for row, stays in enumerate(mask) if stays]
    smaller = replace(
        batch,
        offsets=_frozen(batch.offsets[chosen]),
        timestamps=_frozen(batch.timestamps[chosen]),
        records=batch.records.filter(pl.Series(chosen)),
        keys=_picked(batch.keys, rows),
        values=_picked(batch.values, rows),
        rejects=rejects,
    )
    places = [*smaller.offsets.tolist(), *(reject.offset for reject in rejects)]
    newest = max([*smaller.timestamps.tolist(), *(reject.timestamp or 0 for reject in rejects)])
    return Chunk(smaller, chunk.columns, min(places), max(places), newest)


class Topic:
    """A topic: its spec and its partitions.

    Attributes:
        number: Tells it from all other topics of its world.
        spec: The spec as it is stored.
        partitions: Its partitions by number.
    """

    def __init__(self, number: int, spec: TopicSpec) -> None:
        self.number = number
        self.spec = spec
        self.partitions = [Partition(spec.name, partition) for partition in range(spec.partitions)]

    def add_partitions(self, count: int) -> None:
        """Have so many partitions."""
        self.partitions += [Partition(self.spec.name, number) for number in range(len(self.partitions), count)]
        self.spec = replace(self.spec, partitions=len(self.partitions))

    def states(self) -> list[PartitionState]:
        """Return the extent of each partition."""
        return [PartitionState(part.first, part.end, part.rows, part.size) for part in self.partitions]

    def offset_at(self, partition: Partition, instant: int) -> int:
        """Return the first offset of a record with this time or a later one, or the next offset."""
        for chunk in partition.from_offset(partition.first, partition.end):
            if chunk.newest >= instant:
                late = np.flatnonzero(chunk.batch.timestamps >= instant)
                return int(chunk.batch.offsets[late[0]]) if len(late) else chunk.first
        return partition.end


def in_schema(records: Records, spec: TopicSpec) -> Records:
    """Return records with the columns of a spec in its order; those that the records do not have are NULL."""
    frame, schema = records.frame, spec.schema
    names = list(schema)
    if frame.columns == names:
        return records
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return replace(records, frame=frame.with_columns(missing).select(names))


def from_offset(batch: Batch, offset: int) -> Batch:
    """Return the records of a batch from an offset on."""
    before = int((batch.offsets < offset).sum())
    rest = batch if not before else batch.slice(before)
    if not rest.rejects or rest.rejects[0].offset >= offset:
        return rest
    return replace(rest, rejects=tuple(reject for reject in rest.rejects if reject.offset >= offset))
