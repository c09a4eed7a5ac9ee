"""Records as the bytes that the embedded log keeps: one Arrow IPC stream per batch."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from kandle.errors import StorageError
from kandle.log.records import HEADERS, Batch, Records, decode_frame
from kandle.plan.topics import TopicSpec
from kandle.time.timeframe import IntArray

RESERVED = "__"
"""Columns of users must not begin so."""

OFFSET = "__offset"
TIMESTAMP = "__timestamp"
HEADER = "__headers"
TOMBSTONE = "__tombstone"

STORED = "first, last, rows, appended, low, high, checksum, blob"
"""Columns of a batch in the order of `Stored`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of the table of batches, without its number."""

    first: int
    last: int
    rows: int
    appended: int
    low: int | None
    high: int | None
    checksum: int
    blob: bytes

    def sealed(self, topic: int, partition: int) -> Stored:
        """The same with a checksum over everything; so far it is that of the bytes alone."""
        return replace(self, checksum=zlib.crc32(self._place(topic, partition), self.checksum))

    def is_sound(self, topic: int, partition: int) -> bool:
        """Whether the checksum fits what is there."""
        return zlib.crc32(self._place(topic, partition), zlib.crc32(self.blob)) == self.checksum

    def _place(self, topic: int, partition: int) -> bytes:
        return repr((topic, partition, self.first, self.last, self.rows, self.appended, self.low, self.high)).encode()


def stored_frame(records: Records) -> pl.DataFrame:
    """Return the records as one frame, with columns for headers and tombstones where there are any."""
    extra = {HEADER: records.headers, TOMBSTONE: records.tombstones}
    columns = [series.alias(name) for name, series in extra.items() if series is not None]
    return records.frame.with_columns(columns) if columns else records.frame


def span_of(spec: TopicSpec, frame: pl.DataFrame) -> tuple[int | None, int | None]:
    """Least and greatest instant of the topic's time column."""
    if spec.time is None or spec.time not in frame.columns or frame.is_empty():
        return None, None
    instants = frame[spec.time].to_physical()
    if instants.null_count():
        return None, None
    return int(instants.min()), int(instants.max())  # type: ignore[arg-type]


def batch_of(spec: TopicSpec, place: tuple[int, int], stored: Stored) -> Batch:
    """The batch of a stored row at (topic number, partition); StorageError if its bytes have changed."""
    topic, partition = place
    if not stored.is_sound(topic, partition):
        where = f"topic {spec.name}, partition {partition}, offsets {stored.first} to {stored.last}"
        raise StorageError(f"{where}: the stored bytes are damaged; stop all processes and run `kandle doctor --repair`")
    frame = decode_frame(stored.blob)
    offsets = _numbers(frame, OFFSET, np.arange(stored.first, stored.first + stored.rows))
    timestamps = _numbers(frame, TIMESTAMP, np.full(stored.rows, stored.appended))
    headers = frame[HEADER] if HEADER in frame.columns else None
    tombstones = frame[TOMBSTONE] if TOMBSTONE in frame.columns else None
    return Batch(spec.name, partition, offsets, timestamps, Records(_completed(spec, frame), headers, tombstones))


def _numbers(frame: pl.DataFrame, name: str, usual: IntArray) -> IntArray:
    return frame[name].to_numpy() if name in frame.columns else usual


def _completed(spec: TopicSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """The topic's columns in their order; those that came later are NULL."""
    names = list(spec.schema)
    if frame.columns == names:
        return frame
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in spec.schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(names)


def whole(batches: Iterable[Batch]) -> pl.DataFrame:
    """Batches as one frame that also holds offsets, timestamps, headers and tombstones."""
    frames = []
    for batch in batches:
        rows = batch.records
        columns = [
            pl.Series(OFFSET, batch.offsets),
            pl.Series(TIMESTAMP, batch.timestamps),
            pl.lit(None, dtype=HEADERS).alias(HEADER) if rows.headers is None else rows.headers.alias(HEADER),
            pl.lit(False).alias(TOMBSTONE) if rows.tombstones is None else rows.tombstones.alias(TOMBSTONE),
        ]
        frames.append(rows.frame.with_columns(columns))
    return pl.concat(frames)
