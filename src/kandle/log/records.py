"""Records in columns: what is written to a partition of a topic, and what is read from it.

The rows of a topic are a Polars frame with the columns of its `TopicSpec`. Beside the frame, records can have
headers (pairs of a name and bytes) and be tombstones: a tombstone says that its key is gone, and its value
columns are ignored.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from kandle.errors import DataError
from kandle.time.arrays import IntArray


@dataclass(frozen=True, slots=True)
class Records:
    """Rows in the order of the log, with their headers and tombstones.

    Attributes:
        frame: One row for each record, with the columns of the topic.
        headers: A list of name and value for each record (type `kandle.log.headers.HEADERS`); None if no record has headers.
        tombstones: Whether each record is a tombstone; None if none is.
    """

    frame: pl.DataFrame
    headers: pl.Series | None = None
    tombstones: pl.Series | None = None

    def __post_init__(self) -> None:
        for name, column in (("headers", self.headers), ("tombstones", self.tombstones)):
            if column is not None and len(column) != self.frame.height:
                raise DataError(f"{self.frame.height} records have {len(column)} {name}; give one for each record")

    def __len__(self) -> int:
        return self.frame.height

    def filter(self, mask: pl.Series) -> Records:
        """Return the rows where a mask is true."""
        return Records(
            self.frame.filter(mask),
            None if self.headers is None else self.headers.filter(mask),
            None if self.tombstones is None else self.tombstones.filter(mask),
        )

    def slice(self, offset: int, length: int | None = None) -> Records:
        """Return `length` rows from the row `offset` on, or all if `length` is None."""
        return Records(
            self.frame.slice(offset, length),
            None if self.headers is None else self.headers.slice(offset, length),
            None if self.tombstones is None else self.tombstones.slice(offset, length),
        )


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that cannot be read as a row of its topic.

    Attributes:
        offset: Its offset.
        key: The bytes of its key.
        value: The bytes of its value.
        reason: Why it cannot be read.
        timestamp: When it was appended, in microseconds of the log's clock; None if that is not known.
        headers: Its headers, pairs of name and bytes.
        key_values: The values of the key columns, where the key can be read.
        is_json: Whether key and value are the fields of the record as JSON, since there are no bytes.
    """

    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    timestamp: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    key_values: tuple[Any, ...] | None = None
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Records read from one partition.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        offsets: Offset of each record, ascending; compaction leaves gaps.
        timestamps: When each record was appended, in microseconds of the log's clock; if not `has_append_times`, what
            its producer says.
        records: The records.
        end: The next offset to read, where it is known that there is nothing between the last record and it.
            A batch without records says only this.
        rejects: Records that stood among the others, but cannot be read.
        has_append_times: Whether `timestamps` are of the log's clock.
        keys: The keys of the records as bytes, where they were asked for and the log has them.
        values: The values of the records as bytes, likewise; None for a tombstone.
        original: The same records as they stand in the topic, where these are what has become of them.
    """

    topic: str
    partition: int
    offsets: IntArray
    timestamps: IntArray
    records: Records
    end: int | None = None
    rejects: tuple[RejectedRecord, ...] = ()
    has_append_times: bool = True
    keys: Sequence[bytes | None] | None = None
    values: Sequence[bytes | None] | None = None
    original: Records | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def next_offset(self) -> int:
        """The next offset to read."""
        return int(self.offsets[-1]) + 1 if self.end is None else self.end

    @property
    def memory(self) -> int:
        """About how many bytes the rows and the rejects take in memory."""
        rejects = sum(len(reject.key or b"") + len(reject.value or b"") for reject in self.rejects)
        return int(self.records.frame.estimated_size()) + rejects

    def slice(self, offset: int, length: int | None = None) -> Batch:
        """Return `length` records from the record number `offset` on, or all if `length` is None.

        Rejects go with the record that follows them, and those behind the last record with the rest of the batch.
        """
        stop = len(self) if length is None else min(offset + length, len(self))
        after = int(self.offsets[offset - 1]) if offset else -1
        is_rest = stop == len(self)
        last = None if is_rest else int(self.offsets[stop - 1]) if stop else -1
        rejects = tuple(reject for reject in self.rejects if reject.offset > after and (last is None or reject.offset < last))
        rows = self.records.slice(offset, stop - offset)
        end = self.end if is_rest else None
        return replace(
            self,
            offsets=self.offsets[offset:stop],
            timestamps=self.timestamps[offset:stop],
            records=rows,
            end=end,
            rejects=rejects,
            keys=None if self.keys is None else self.keys[offset:stop],
            values=None if self.values is None else self.values[offset:stop],
            original=None if self.original is None else self.original.slice(offset, stop - offset),
        )


@dataclass(frozen=True, slots=True)
class Write:
    """Records to append to one partition."""

    topic: str
    partition: int
    records: Records

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True)
class EncodedWrite:
    """Records to append to one partition, as bytes; `headers` are given if any record has some."""

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[tuple[str, bytes | None]] | None] | None = None

    def __len__(self) -> int:
        return len(self.values)


AnyWrite = Write | EncodedWrite
"""Records to append: as rows, or as the bytes that another record had."""


COMPRESSED_ROWS = 500
"""Frames with fewer rows are not compressed: it would cost more time than it saves."""


def encode_frame(frame: pl.DataFrame) -> bytes:
    """Return a frame as an Arrow IPC stream, compressed with LZ4 from `COMPRESSED_ROWS` rows on."""
    target = io.BytesIO()
    compression: Literal["lz4", "uncompressed"] = "lz4" if frame.height >= COMPRESSED_ROWS else "uncompressed"
    # Polars locks the frame while it writes and takes Python's lock inside; a thread that looks at the very
    # same frame meanwhile takes them in the other order, and both would wait for ever. A clone costs nothing
    # and belongs to no one else.
    frame.clone().write_ipc_stream(target, compression=compression)
    return target.getvalue()


def decode_frame(blob: bytes) -> pl.DataFrame:
    """Return the frame of bytes that `encode_frame` returned."""
    # Given bytes or a BytesIO, Polars 2.1 keeps one small object of each read for ever: 1 MiB an hour at ten
    # reads a second.
    return pl.read_ipc_stream(io.BufferedReader(io.BytesIO(blob)))
