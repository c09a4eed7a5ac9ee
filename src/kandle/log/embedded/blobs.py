"""Records as the bytes that the embedded log keeps: one Arrow IPC stream per batch."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from kandle.errors import SchemaError, StorageError
from kandle.log.port import Column, TopicSpec
from kandle.log.records import HEADERS, Batch, Records
from kandle.time.timeframe import IntArray

RESERVED = "__"
"""Columns of users must not begin so."""

OFFSET = "__offset"
TIMESTAMP = "__timestamp"
HEADER = "__headers"
TOMBSTONE = "__tombstone"

COMPRESSED_ROWS = 500
"""Smaller batches are not worth the time of a compressor."""

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


def packed(frame: pl.DataFrame) -> bytes:
    """A frame as bytes."""
    target = io.BytesIO()
    compression: Literal["lz4", "uncompressed"] = "lz4" if frame.height >= COMPRESSED_ROWS else "uncompressed"
    # Polars locks the frame while it writes and takes Python's lock inside; a thread that looks at the very same frame meanwhile
    # takes them in the other order, and both would wait for ever. A clone costs nothing and is nobody else's.
    frame.clone().write_ipc_stream(target, compression=compression)
    return target.getvalue()


def unpacked(blob: bytes) -> pl.DataFrame:
    """The frame of bytes that `packed` gave."""
    # Given bytes or a BytesIO, Polars 2.1 keeps one small object of every read for ever: 1 MiB an hour at ten reads a second.
    return pl.read_ipc_stream(io.BufferedReader(io.BytesIO(blob)))


def check(spec: TopicSpec, records: Records) -> pl.DataFrame:
    """The records as one frame; SchemaError names a column that does not fit the topic."""
    frame = records.frame
    schema = spec.schema
    for name, kind in frame.schema.items():
        if name not in schema:
            raise SchemaError(f"topic {spec.name} has no column {name!r}; it has {', '.join(schema)}")
        if kind != schema[name]:
            raise SchemaError(f"topic {spec.name}, column {name}: a column of {kind} does not fit {schema[name]}")
    for column in spec.columns:
        if not column.nullable:
            _check_present(spec, column, records)
    extra = {HEADER: records.headers, TOMBSTONE: records.tombstones}
    found = [series.alias(name) for name, series in extra.items() if series is not None]
    return frame.with_columns(found) if found else frame


def _check_present(spec: TopicSpec, column: Column, records: Records) -> None:
    gone = records.tombstones
    if column.name not in records.frame.columns:
        if gone is not None and gone.all() and column.name not in spec.keys:
            return
        raise SchemaError(f"topic {spec.name}: the column {column.name} is missing")
    values = records.frame[column.name]
    if not values.null_count():
        return
    alive = values if gone is None or column.name in spec.keys else values.filter(~gone)
    if alive.null_count():
        raise SchemaError(f"topic {spec.name}, column {column.name}: there is no value in record {values.is_null().arg_max()}")


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
    frame = unpacked(stored.blob)
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


def spec_text(spec: TopicSpec) -> tuple[str, bytes]:
    """A spec as text, and its column types as an empty batch."""
    content = asdict(spec)
    content["columns"] = [_column_text(each) for each in spec.columns]
    empty = packed(pl.DataFrame(schema=spec.schema))
    return json.dumps(content | {"checksum": _checksum(content, empty)}), empty


def _column_text(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"name": column.name, "kind": column.kind, "nullable": column.nullable}
    return found if column.header is None else found | {"header": column.header}


def _checksum(content: dict[str, Any], empty: bytes) -> int:
    return zlib.crc32(json.dumps(content).encode(), zlib.crc32(empty))


def spec_of(text: str, empty: bytes) -> TopicSpec:
    """The spec that `spec_text` wrote."""
    try:
        content = json.loads(text)
        if content.pop("checksum") != _checksum(content, empty):
            raise ValueError("the checksum does not fit")
        schema = unpacked(empty).schema
        columns = tuple(Column(physical=schema[each["name"]], **each) for each in content.pop("columns"))
        return TopicSpec(columns=columns, keys=tuple(content.pop("keys")), **content)
    except (ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError, OSError) as error:
        raise StorageError(
            "the description of a topic is damaged; stop all processes and run `kandle doctor --repair`"
        ) from error


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
