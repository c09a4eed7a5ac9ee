"""Records in columns: what is written to a topic partition and what is read back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from kandle.errors import DataError
from kandle.time.timeframe import IntArray

HEADERS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
"""Type of a column of headers."""


@dataclass(frozen=True, slots=True)
class Records:
    """Rows in the order of the log: columns of the topic's schema, and beside each row its headers and whether it is a tombstone.

    `headers` (a list of name and value) and `tombstones` (booleans) are None where no row has any. The value columns of a
    tombstone are not looked at: it says that its key is gone.
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
        """The rows where the mask is true."""
        return Records(
            self.frame.filter(mask),
            None if self.headers is None else self.headers.filter(mask),
            None if self.tombstones is None else self.tombstones.filter(mask),
        )

    def slice(self, offset: int, length: int | None = None) -> Records:
        """A run of rows."""
        return Records(
            self.frame.slice(offset, length),
            None if self.headers is None else self.headers.slice(offset, length),
            None if self.tombstones is None else self.tombstones.slice(offset, length),
        )


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that cannot be read as what its topic should hold: its raw bytes, and why."""

    offset: int
    key: bytes | None
    value: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Records read from one partition, in ascending order of their offsets, which may have holes after a compaction.

    `timestamps` say when each record was appended, in microseconds of the log's clock. `end` is given where more is known
    than the records say: that there is nothing between the last of them and it. A batch without records only says that.
    `rejects` stood among the records, but cannot be read.
    """

    topic: str
    partition: int
    offsets: IntArray
    timestamps: IntArray
    records: Records
    end: int | None = None
    rejects: tuple[RejectedRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def next_offset(self) -> int:
        """Where to read on."""
        return int(self.offsets[-1]) + 1 if self.end is None else self.end

    def slice(self, offset: int, length: int | None = None) -> Batch:
        """A run of records."""
        end = None if length is None else offset + length
        rows = self.records.slice(offset, length)
        return Batch(self.topic, self.partition, self.offsets[offset:end], self.timestamps[offset:end], rows)


@dataclass(frozen=True, slots=True)
class Write:
    """Records to be appended to one partition."""

    topic: str
    partition: int
    records: Records


def header_column(rows: Sequence[Mapping[str, str] | None]) -> pl.Series | None:
    """A column of headers, or None if no row has any."""
    if not any(rows):
        return None
    lists = [[{"name": name, "value": value} for name, value in (row or {}).items()] for row in rows]
    return pl.Series("headers", lists, dtype=HEADERS)


def header_rows(records: Records) -> list[dict[str, str]]:
    """The headers of each record as a dictionary."""
    if records.headers is None:
        return [{} for _ in range(len(records))]
    return [{each["name"]: each["value"] for each in row or ()} for row in records.headers.to_list()]


COMPRESSED_ROWS = 500
"""Frames with fewer rows are not compressed: it would cost more time than it saves."""


def encode_frame(frame: pl.DataFrame) -> bytes:
    """Return a frame as an Arrow IPC stream, compressed with LZ4 from `COMPRESSED_ROWS` rows on."""
    target = io.BytesIO()
    compression: Literal["lz4", "uncompressed"] = "lz4" if frame.height >= COMPRESSED_ROWS else "uncompressed"
    # Polars locks the frame while it writes and takes Python's lock inside; a thread that looks at the very same frame
    # meanwhile takes them in the other order, and both would wait for ever. A clone costs nothing and belongs to no one else.
    frame.clone().write_ipc_stream(target, compression=compression)
    return target.getvalue()


def decode_frame(blob: bytes) -> pl.DataFrame:
    """Return the frame of bytes that `encode_frame` returned."""
    # Given bytes or a BytesIO, Polars 2.1 keeps one small object of each read for ever: 1 MiB an hour at ten reads a second.
    return pl.read_ipc_stream(io.BufferedReader(io.BytesIO(blob)))
