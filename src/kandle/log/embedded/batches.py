"""The batches of the embedded log: appended records as rows of the table `batch`, and how they are read back.

A row holds the records of one append to one partition as an Arrow IPC stream, with the offsets and event times that it spans and
a checksum over all of it. Records of a batch have consecutive offsets and one timestamp, until a compaction leaves holes: then
offsets and timestamps are columns of the stream.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from kandle.errors import LogError, StorageError
from kandle.log.embedded.catalog import RESERVED, Catalog
from kandle.log.embedded.database import Database
from kandle.log.embedded.given_bytes import given_rejects, stored_records
from kandle.log.headers import stored_headers
from kandle.log.port import PartitionState, ReadPosition, TopicPartition
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records, decode_frame, encode_frame
from kandle.log.schema import check_records, header_columns, with_columns, with_headers
from kandle.plan.topics import TopicSpec
from kandle.time.arrays import IntArray
from kandle.time.clock import Clock

OFFSET = f"{RESERVED}offset"
TIMESTAMP = f"{RESERVED}timestamp"
HEADERS_COLUMN = f"{RESERVED}headers"
TOMBSTONE = f"{RESERVED}tombstone"
BYTES_COLUMN = f"{RESERVED}bytes"
"""Columns of a stored frame beside those of its topic; each is left out where its values are the usual ones."""

IN_SPAN = " AND (low IS NULL OR (low < ? AND high >= ?))"
"""The condition of batches that may have records in a span, of which the end is given first."""

MOST_BATCHES = 256
"""Most batches that one statement reads."""


class PartitionRow(NamedTuple):
    """A partition by the numbers of the tables."""

    topic: int
    partition: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A row of the table `batch`, without its own number and that of its partition.

    `first` and `last` are offsets, `appended` is an instant in microseconds of the log's clock, `low` and `high` are the
    earliest and latest instant of the topic's time column (None where it has none), `blob` is an Arrow IPC stream.
    """

    first: int
    last: int
    rows: int
    appended: int
    low: int | None
    high: int | None
    checksum: int
    blob: bytes

    @classmethod
    def of(cls, spec: TopicSpec, frame: pl.DataFrame) -> StoredBatch:
        """Return a frame as a batch without offsets and with the checksum of its bytes alone."""
        blob = encode_frame(frame)
        low, high = _span(spec, frame)
        return cls(0, 0, frame.height, 0, low, high, zlib.crc32(blob), blob)

    def sealed(self, row: PartitionRow) -> StoredBatch:
        """Return the batch with a checksum over everything, made from that of the bytes alone."""
        return replace(self, checksum=zlib.crc32(self._head(row), self.checksum))

    def is_sound(self, row: PartitionRow) -> bool:
        """Return whether the checksum fits the content."""
        return zlib.crc32(self._head(row), zlib.crc32(self.blob)) == self.checksum

    def _head(self, row: PartitionRow) -> bytes:
        return repr((*row, self.first, self.last, self.rows, self.appended, self.low, self.high)).encode()


COLUMNS = "first, last, rows, appended, low, high, checksum, blob"
"""Columns of the table in the order of the fields of `StoredBatch`."""

PreparedBatch = tuple[PartitionRow, StoredBatch]


def _span(spec: TopicSpec, frame: pl.DataFrame) -> tuple[int | None, int | None]:
    """Return the earliest and the latest instant of the topic's time column."""
    if spec.time is None or spec.time not in frame.columns or frame.is_empty():
        return None, None
    instants = frame[spec.time].to_physical()
    if instants.null_count():
        return None, None
    return int(instants.min()), int(instants.max())  # type: ignore[arg-type]


def decode_batch(spec: TopicSpec, row: PartitionRow, stored: StoredBatch) -> Batch:
    """Return the records of a stored batch; StorageError if its bytes have changed."""
    if not stored.is_sound(row):
        where = f"topic {spec.name}, partition {row.partition}, offsets {stored.first} to {stored.last}"
        raise StorageError(f"{where}: the stored bytes are damaged; stop all processes and run `kandle doctor --repair`")
    frame = decode_frame(stored.blob)
    offsets = _integers(frame, OFFSET, np.arange(stored.first, stored.first + stored.rows))
    timestamps = _integers(frame, TIMESTAMP, np.full(stored.rows, stored.appended))
    headers = stored_headers(frame[HEADERS_COLUMN]) if HEADERS_COLUMN in frame.columns else None
    tombstones = frame[TOMBSTONE] if TOMBSTONE in frame.columns else None
    records = Records(_in_schema(spec, frame), headers, tombstones)
    if BYTES_COLUMN not in frame.columns:
        return Batch(spec.name, row.partition, offsets, timestamps, records)
    given = frame[BYTES_COLUMN]
    rejects = given_rejects(spec, given, records, offsets, timestamps)
    rows = given.is_null()
    kept = rows.to_numpy()
    return Batch(
        spec.name, row.partition, offsets[kept], timestamps[kept], records.filter(rows), stored.last + 1, rejects
    )  # fmt: skip


def _integers(frame: pl.DataFrame, name: str, default: IntArray) -> IntArray:
    return frame[name].to_numpy() if name in frame.columns else default


def _in_schema(spec: TopicSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the topic's columns in their order; columns that are newer than the frame are NULL."""
    names = list(spec.schema)
    if frame.columns == names:
        return frame
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in spec.schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(names)


class BatchTable:
    """The tables `batch` and `partition` of one connection."""

    def __init__(self, database: Database, catalog: Catalog, clock: Clock) -> None:
        self._database = database
        self._catalog = catalog
        self._clock = clock

    def prepare(self, writes: Sequence[AnyWrite]) -> list[PreparedBatch]:
        """Check and encode records, before the transaction that inserts them begins."""
        return [self._prepare(write) for write in writes]

    def _prepare(self, write: AnyWrite) -> PreparedBatch:
        number, spec = self._catalog.known(write.topic)
        if not 0 <= write.partition < spec.partitions:
            raise LogError(f"topic {spec.name} has partitions 0 to {spec.partitions - 1}, not {write.partition}")
        given = None
        if isinstance(write, EncodedWrite):
            records, given = stored_records(spec, write, self._catalog.declared(write.topic))
        else:
            headers = header_columns(spec.columns)
            records = with_columns(with_headers(write.records, headers), headers)
            check_records(spec, records)
        marks = {HEADERS_COLUMN: records.headers, TOMBSTONE: records.tombstones, BYTES_COLUMN: given}
        columns = [series.alias(name) for name, series in marks.items() if series is not None]
        frame = records.frame.with_columns(columns) if columns else records.frame
        return PartitionRow(number, write.partition), StoredBatch.of(spec, frame)

    def append(self, prepared: Sequence[PreparedBatch]) -> list[int]:
        """Append batches inside the caller's transaction; return the offset of each one's first record."""
        return [self._append(row, stored) for row, stored in prepared]

    def _append(self, row: PartitionRow, stored: StoredBatch) -> int:
        if not stored.rows:
            return int(self._database.value("SELECT next FROM partition WHERE topic = ? AND number = ?", row))
        end = self._database.value(
            "UPDATE partition SET next = next + ? WHERE topic = ? AND number = ? RETURNING next", [stored.rows, *row]
        )
        first = int(end) - stored.rows
        self.insert(row, replace(stored, first=first, last=end - 1, appended=self._clock.now()))
        return first

    def insert(self, row: PartitionRow, stored: StoredBatch) -> None:
        """Insert a batch that has its offsets, inside the caller's transaction."""
        stored = stored.sealed(row)
        self._database.run(
            f"INSERT INTO batch (topic, partition, {COLUMNS}, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *(*row, stored.first, stored.last, stored.rows, stored.appended),
                *(stored.low, stored.high, stored.checksum, stored.blob, len(stored.blob)),
            ],
        )

    def read(
        self,
        partition: TopicPartition,
        offset: int,
        max_rows: int,
        span: tuple[int, int] | None = None,
        most_bytes: int | None = None,
    ) -> list[Batch]:
        """Return records from an offset on, about `max_rows`, or fewer if they take more than `most_bytes` in memory.

        With `span` they are those that may lie in `[start, end)`.
        """
        number, spec = self._catalog.known(partition.topic)
        row = PartitionRow(number, partition.partition)
        statement = f"SELECT {COLUMNS} FROM batch WHERE topic = ? AND partition = ? AND last >= ?"
        values = [*row, offset]
        if span is not None:
            statement += IN_SPAN
            values += [span[1], span[0]]
        batches: list[Batch] = []
        count = size = 0
        # Few batches at first, since one may be enough, then more.
        limit = 4
        while count < max_rows:
            chunk = self._database.rows(f"{statement} ORDER BY last LIMIT {limit}", values)
            for fields in chunk:
                batches.append(_from_offset(decode_batch(spec, row, StoredBatch(*fields)), offset))
                count += len(batches[-1]) + len(batches[-1].rejects)
                size += batches[-1].memory if most_bytes is not None else 0
                if count >= max_rows or (most_bytes is not None and size >= most_bytes):
                    return batches
            if len(chunk) < limit:
                return batches
            values[2] = batches[-1].next_offset
            limit = min(MOST_BATCHES, 4 * len(batches))
            if most_bytes is not None:
                limit = min(limit, max(1, (most_bytes - size) * len(batches) // max(1, size)))
        return batches

    def partitions(self, topic: str) -> list[PartitionState]:
        """Return where each partition begins and ends, and its size."""
        number, _ = self._catalog.known(topic)
        rows = self._database.rows(
            "SELECT p.first, p.next, coalesce(sum(b.rows), 0), coalesce(sum(b.bytes), 0) FROM partition p "
            "LEFT JOIN batch b ON b.topic = p.topic AND b.partition = p.number WHERE p.topic = ? "
            "GROUP BY p.number ORDER BY p.number",
            [number],
        )
        return [PartitionState(*row) for row in rows]

    def ends(self, topic: str) -> list[int]:
        """Return the next offset of each partition."""
        number, _ = self._catalog.known(topic)
        return [row[0] for row in self._database.rows("SELECT next FROM partition WHERE topic = ? ORDER BY number", [number])]

    def waiting(self, positions: Collection[ReadPosition]) -> dict[ReadPosition, int]:
        """Return how many records follow positions in partitions that there are."""
        known = set(self._catalog.names())
        existing = [position for position in positions if position.partition.topic in known]
        return {
            position: self._rows_from(*position)
            for position in existing
            if position.partition.partition < self._catalog.known(position.partition.topic)[1].partitions
        }

    def _rows_from(self, partition: TopicPartition, offset: int) -> int:
        number, spec = self._catalog.known(partition.topic)
        row = PartitionRow(number, partition.partition)
        where = "FROM batch WHERE topic = ? AND partition = ?"
        count = int(self._database.value(f"SELECT coalesce(sum(rows), 0) {where} AND first >= ?", [*row, offset]))
        for fields in self._database.rows(f"SELECT {COLUMNS} {where} AND first < ? AND last >= ?", [*row, offset, offset]):
            rest = _from_offset(decode_batch(spec, row, StoredBatch(*fields)), offset)
            count += len(rest) + len(rest.rejects)
        return count

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """Return the first offset that can still be read, and the next that is written."""
        number, _ = self._catalog.known(partition.topic)
        first, end = self._database.rows(
            "SELECT first, next FROM partition WHERE topic = ? AND number = ?", [number, partition.partition]
        )[0]
        return first, end

    def offset_at(self, partition: TopicPartition, instant: int) -> int:
        """Return the first offset of a record that was appended at an instant or later, or the next offset."""
        number, spec = self._catalog.known(partition.topic)
        row = PartitionRow(number, partition.partition)
        # Batches of a partition are appended one after the other, and a compacted one has the time of its newest record.
        rows = self._database.rows(
            f"SELECT {COLUMNS} FROM batch WHERE topic = ? AND partition = ? AND appended >= ? ORDER BY last LIMIT 1",
            [*row, instant],
        )
        if not rows:
            return self.bounds(partition)[1]
        batch = decode_batch(spec, row, StoredBatch(*rows[0]))
        rejects = [reject.offset for reject in batch.rejects if reject.timestamp is None or reject.timestamp >= instant]
        return int(min([*batch.offsets[batch.timestamps >= instant][:1].tolist(), *rejects[:1]]))

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        """Return the number of records of the batches that may have some in a span."""
        number, _ = self._catalog.known(topic)
        statement = f"SELECT coalesce(sum(rows), 0) FROM batch WHERE topic = ?{IN_SPAN}"
        return int(self._database.value(statement, [number, span[1], span[0]]))

    def all_bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the first offset of each partition that can still be read, and the next that is written."""
        number, _ = self._catalog.known(topic)
        rows = self._database.rows("SELECT number, first, next FROM partition WHERE topic = ? ORDER BY number", [number])
        return {partition: (first, end) for partition, first, end in rows}

    def truncate(self, partition: TopicPartition, before: int) -> None:
        """Delete whole batches below an offset."""
        number, _ = self._catalog.known(partition.topic)
        row = PartitionRow(number, partition.partition)
        with self._database.transaction():
            self._database.run("DELETE FROM batch WHERE topic = ? AND partition = ? AND last < ?", [*row, before])
            self.update_first(row)

    def update_first(self, row: PartitionRow) -> None:
        """Have a partition begin where its first batch does, inside the transaction that has deleted batches."""
        self._database.run(
            "UPDATE partition SET first = coalesce((SELECT min(first) FROM batch WHERE topic = ? AND partition = ?), next) "
            "WHERE topic = ? AND number = ?",
            [*row, *row],
        )


def _from_offset(batch: Batch, offset: int) -> Batch:
    """Return the records of a batch from an offset on."""
    if batch.rejects:
        batch = replace(batch, rejects=tuple(reject for reject in batch.rejects if reject.offset >= offset))
    before = int((batch.offsets < offset).sum())
    return batch.slice(before) if before else batch
