"""Maintenance of the embedded log: retention deletes old batches, compaction all but the newest record of each key.

A compaction works beside readers and writers and never holds a long transaction. It lists the batches of a partition once,
learns the newest offset of each key from all of them, and then rewrites them in chunks, each in a transaction of its own:

    batches listed     [0..99] [100..199] [200..299]      [300..   ] is appended meanwhile and not touched
    newest of keys     a -> 120   b -> 250   c -> 260
    chunk 1            [0..99] [100..199]   becomes  [120]
    chunk 2            [200..299]           becomes  [250, 260]
    mark               partition.compacted = 300

Records keep their offsets, so readers need not know. Each chunk is rewritten only if all its batches are still there: whoever
else compacts or deletes at the same time has changed some of them, and then this round ends without a mark. Since a chunk only
loses records that a listed, newer one has replaced, a process that dies between two chunks leaves a sound partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from kandle.log.embedded.batches import (
    BYTES_COLUMN,
    COLUMNS,
    HEADERS_COLUMN,
    OFFSET,
    TIMESTAMP,
    TOMBSTONE,
    PartitionRow,
    StoredBatch,
    decode_batch,
)
from kandle.log.embedded.connection import Connection
from kandle.log.embedded.given_bytes import BYTES, key_rows
from kandle.log.headers import HEADERS, column_of_pairs
from kandle.log.port import Maintenance
from kandle.log.records import Batch, RejectedRecord
from kandle.plan.topics import TopicSpec
from kandle.time.timeframe import DAY

CHUNK_ROWS = 200_000
"""Rows that one transaction rewrites."""

MOST_ROWS = 1_000_000
"""Partitions with more rows are compacted chunk by chunk, since the newest offsets of so many keys do not fit into memory."""

BATCH_ROWS = 20_000
SMALL_BATCH_ROWS = 5_000
"""Batches with fewer rows than this are joined even if none of them is to be removed."""

LEAST_ROWS = 1_000
"""Fewer new records than this are not worth a compaction."""

TOMBSTONE_RETENTION = DAY
"""How long readers can still learn from its tombstone that a key is gone, in microseconds."""

BatchSizes = list[tuple[int, int]]
"""Numbers of batches with their rows, as they were when the work began."""

NOTHING = Maintenance()


class Maintainer:
    """Applies retention and compaction to the topics of a log."""

    def __init__(self, connection: Connection) -> None:
        self._database = connection.database
        self._catalog = connection.catalog
        self._batches = connection.batches
        self._clock = connection.clock

    def run(self) -> Maintenance:
        """Do one round over all topics."""
        rows = 0
        size = 0
        for name in self._catalog.names():
            number, spec = self._catalog.known(name)
            for partition in range(spec.partitions):
                row = PartitionRow(number, partition)
                for removed in (self._expire(spec, row), self._shrink(spec, row), self._compact(spec, row)):
                    rows += removed.rows
                    size += removed.bytes
        return Maintenance(rows, size)

    def _expire(self, spec: TopicSpec, row: PartitionRow) -> Maintenance:
        """Delete batches that are older than the retention."""
        if spec.retention is None:
            return NOTHING
        oldest = self._clock.now() - spec.retention
        last = self._database.value(
            "SELECT max(last) FROM batch WHERE topic = ? AND partition = ? AND appended < ? AND last < "
            "coalesce((SELECT min(last) FROM batch WHERE topic = ? AND partition = ? AND appended >= ?), 9223372036854775807)",
            [*row, oldest, *row, oldest],
        )
        return self._delete(row, last)

    def _shrink(self, spec: TopicSpec, row: PartitionRow) -> Maintenance:
        """Delete the oldest batches of a partition that has outgrown its size."""
        if spec.retention_bytes is None:
            return NOTHING
        last = self._database.value(
            "SELECT max(last) FROM (SELECT last, sum(bytes) OVER (ORDER BY last DESC) AS size FROM batch "
            "WHERE topic = ? AND partition = ?) WHERE size > ?",
            [*row, spec.retention_bytes],
        )
        return self._delete(row, last)

    def _delete(self, row: PartitionRow, last: int | None) -> Maintenance:
        """Delete batches up to the one that ends at an offset."""
        if last is None:
            return NOTHING
        where = "FROM batch WHERE topic = ? AND partition = ? AND last <= ?"
        with self._database.transaction():
            rows, size = self._database.rows(f"SELECT coalesce(sum(rows), 0), coalesce(sum(bytes), 0) {where}", [*row, last])[0]
            self._database.run(f"DELETE {where}", [*row, last])
            self._batches.update_first(row)
        return Maintenance(rows, size)

    def _compact(self, spec: TopicSpec, row: PartitionRow) -> Maintenance:
        """Compact a partition once enough of its records are new."""
        if not spec.compacted or not spec.keys:
            return NOTHING
        clean, dirty = self._database.rows(
            "SELECT coalesce(sum(rows) FILTER (WHERE last < p.compacted), 0), "
            "coalesce(sum(rows) FILTER (WHERE last >= p.compacted), 0) FROM batch b "
            "JOIN partition p ON p.topic = b.topic AND p.number = b.partition WHERE b.topic = ? AND b.partition = ?",
            row,
        )[0]
        if dirty < max(LEAST_ROWS, clean // 2):
            return NOTHING
        is_whole = clean + dirty <= MOST_ROWS
        listed = self._database.rows(
            "SELECT b.id, b.rows, b.last FROM batch b JOIN partition p ON p.topic = b.topic AND p.number = b.partition "
            "WHERE b.topic = ? AND b.partition = ? AND (? OR b.last >= p.compacted) ORDER BY b.last",
            [*row, is_whole],
        )
        removed = self._rewrite_all(spec, row, [(number, rows) for number, rows, _ in listed], is_whole=is_whole)
        if removed is None:
            # Others have changed the batches; the next round sees what is left to do.
            return NOTHING
        self._database.run("UPDATE partition SET compacted = ? WHERE topic = ? AND number = ?", [listed[-1][2] + 1, *row])
        return removed

    def _rewrite_all(self, spec: TopicSpec, row: PartitionRow, sizes: BatchSizes, *, is_whole: bool) -> Maintenance | None:
        """Rewrite batches chunk by chunk; return None if others have changed them meanwhile.

        Where there are too many rows to know the newest of each key (`is_whole` is false), each chunk keeps its own newest ones.
        """
        removed = NOTHING
        newest = self._newest(spec, row, sizes) if is_whole else None
        for chunk in self._chunks(spec, row, sizes):
            if len(chunk.batches) < len(chunk.numbers):
                return None
            rows = _as_frame(spec, chunk.batches)
            remaining = self._remaining(spec, rows, _newest_offsets(spec, rows) if newest is None else newest)
            if remaining.height == rows.height >= SMALL_BATCH_ROWS * len(chunk.batches):
                # As of bars of a long absence, each of which has a key of its own: to write them again would gain nothing.
                continue
            after = self._rewrite(spec, row, chunk.numbers, remaining)
            if after is None:
                return None
            removed = Maintenance(removed.rows + after.rows, removed.bytes + after.bytes)
        return removed

    def _chunks(self, spec: TopicSpec, row: PartitionRow, sizes: BatchSizes) -> Iterator[_Chunk]:
        """Read batches, so many at a time that they can be rewritten in one transaction."""
        for numbers in _split(sizes):
            marks = ", ".join("?" * len(numbers))
            rows = self._database.rows(f"SELECT {COLUMNS} FROM batch WHERE id IN ({marks}) ORDER BY last", numbers)
            yield _Chunk(numbers, [decode_batch(spec, row, StoredBatch(*fields)) for fields in rows])

    def _newest(self, spec: TopicSpec, row: PartitionRow, sizes: BatchSizes) -> pl.DataFrame | None:
        """Return the greatest offset of each key; None if others have deleted all batches meanwhile."""
        keys = list(spec.keys)
        newest: pl.DataFrame | None = None
        for chunk in self._chunks(spec, row, sizes):
            if not chunk.batches:
                continue
            of_chunk = _newest_offsets(spec, _as_frame(spec, chunk.batches))
            newest = of_chunk if newest is None else pl.concat([newest, of_chunk]).group_by(keys).agg(pl.col(OFFSET).max())
        return newest

    def _remaining(self, spec: TopicSpec, frame: pl.DataFrame, newest: pl.DataFrame) -> pl.DataFrame:
        """Return the records that stay: the newest of each key, without tombstones that all readers have had time to see.

        A record whose key cannot be read stays, since nobody knows what has replaced it.
        """
        remaining = frame.join(newest, on=OFFSET, how="semi", maintain_order="left")
        if _has_given(frame):
            remaining = pl.concat([remaining, frame.filter(_is_without_key(spec))]).sort(OFFSET)
        is_old = pl.col(TIMESTAMP) < self._clock.now() - TOMBSTONE_RETENTION
        return remaining.filter(~(pl.col(TOMBSTONE) & is_old))

    def _rewrite(self, spec: TopicSpec, row: PartitionRow, numbers: list[int], frame: pl.DataFrame) -> Maintenance | None:
        """Replace batches by the records that stay of them; return None if some of the batches are gone."""
        stored = [_with_holes(spec, part) for part in frame.iter_slices(BATCH_ROWS)] if frame.height else []
        marks = ", ".join("?" * len(numbers))
        with self._database.transaction():
            count, rows, size = self._database.rows(
                f"SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM batch WHERE id IN ({marks})", numbers
            )[0]
            if count < len(numbers):
                return None
            self._database.run(f"DELETE FROM batch WHERE id IN ({marks})", numbers)
            for batch in stored:
                self._batches.insert(row, batch)
            self._batches.update_first(row)
        return Maintenance(rows - frame.height, size - sum(len(batch.blob) for batch in stored))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Batches that are rewritten in one transaction; those that are gone by now are only among `numbers`."""

    numbers: list[int]
    batches: list[Batch]


def _split(sizes: BatchSizes) -> Iterator[list[int]]:
    """Split batches into runs of at most `CHUNK_ROWS` rows, at least one batch each."""
    numbers: list[int] = []
    rows = 0
    for number, count in sizes:
        if numbers and rows + count > CHUNK_ROWS:
            yield numbers
            numbers, rows = [], 0
        numbers.append(number)
        rows += count
    if numbers:
        yield numbers


def _as_frame(spec: TopicSpec, batches: list[Batch]) -> pl.DataFrame:
    """Return batches as one frame that also holds offsets, timestamps, headers, tombstones, and what is no row."""
    frames = []
    for batch in batches:
        records = batch.records
        columns = [
            pl.Series(OFFSET, batch.offsets),
            pl.Series(TIMESTAMP, batch.timestamps),
            _or_constant(records.headers, None, HEADERS).alias(HEADERS_COLUMN),
            _or_constant(records.tombstones, False, pl.Boolean()).alias(TOMBSTONE),
            pl.lit(None, dtype=BYTES).alias(BYTES_COLUMN),
        ]
        frames.append(records.frame.with_columns(columns))
        if batch.rejects:
            frames.append(_reject_frame(spec, batch.rejects))
    frame = pl.concat(frames)
    return frame.sort(OFFSET) if _has_given(frame) else frame


def _reject_frame(spec: TopicSpec, rejects: Sequence[RejectedRecord]) -> pl.DataFrame:
    """Return records that are no rows, in the columns of `_as_frame`."""
    headers = column_of_pairs([reject.headers for reject in rejects])
    given = [{"key": reject.key, "value": reject.value, "reason": reject.reason} for reject in rejects]
    return key_rows(spec, [reject.key_values for reject in rejects]).with_columns(
        pl.Series(OFFSET, [reject.offset for reject in rejects], dtype=pl.Int64),
        pl.Series(TIMESTAMP, [reject.timestamp for reject in rejects], dtype=pl.Int64),
        _or_constant(headers, None, HEADERS).alias(HEADERS_COLUMN),
        pl.lit(value=False).alias(TOMBSTONE),
        pl.Series(BYTES_COLUMN, given, dtype=BYTES),
    )


def _has_given(frame: pl.DataFrame) -> bool:
    """Return whether some of the records are no rows."""
    return frame[BYTES_COLUMN].null_count() < frame.height


def _is_without_key(spec: TopicSpec) -> pl.Expr:
    """Return an expression that is true for records whose key cannot be read."""
    return pl.col(BYTES_COLUMN).is_not_null() & pl.any_horizontal(pl.col(name).is_null() for name in spec.keys)


def _newest_offsets(spec: TopicSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the greatest offset of each key."""
    keyed = frame.filter(~_is_without_key(spec)) if _has_given(frame) else frame
    return keyed.group_by(list(spec.keys)).agg(pl.col(OFFSET).max())


def _or_constant(series: pl.Series | None, value: bool | None, dtype: pl.DataType) -> pl.Expr | pl.Series:
    return pl.lit(value, dtype=dtype) if series is None else series


def _with_holes(spec: TopicSpec, frame: pl.DataFrame) -> StoredBatch:
    """Return records whose offsets have holes as a batch."""
    absent = [HEADERS_COLUMN] if frame[HEADERS_COLUMN].null_count() == frame.height else []
    absent += [] if frame[TOMBSTONE].any() else [TOMBSTONE]
    absent += [] if _has_given(frame) else [BYTES_COLUMN]
    stored = StoredBatch.of(spec, frame.drop(absent))
    offsets, newest = frame[OFFSET], frame[TIMESTAMP].max()
    assert isinstance(newest, int)
    return replace(stored, first=int(offsets[0]), last=int(offsets[-1]), appended=newest)
