"""Parquet, Arrow and Polars: frames of bounded size with only the columns that an entity needs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from kandle.backfill.text import ByteFile
from kandle.errors import InputError
from kandle.model.columns import source_columns
from kandle.model.entity import EntityModel

Frames = Iterator[tuple[pl.DataFrame, int]]

CONTINUATION = 0xFFFFFFFF
RECORD_BATCH = 3
BODY_LENGTH_SLOT = 10
HEADER_TYPE_SLOT = 6


def parquet_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """Frames of at most `rows` rows in the file's order, each with an estimate of the bytes read so far."""
    yield from _scanned(path, "a Parquet file", lambda: pl.scan_parquet(path, glob=False), entity, rows)


def arrow_file_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """The same of an Arrow IPC file."""
    yield from _scanned(path, "an Arrow IPC file", lambda: pl.scan_ipc(path), entity, rows)


def _scanned(path: Path, kind: str, scan: Callable[[], pl.LazyFrame], entity: EntityModel, rows: int) -> Frames:
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path}: the file is empty; it is not {kind}")
    with _as_input_error(f"{path}: cannot be read as {kind}"):
        lazy = scan()
        total = int(lazy.select(pl.len()).collect().item())
    read = 0
    for frame in lazy_frames(lazy, entity, rows, str(path), f"{path}: cannot be read as {kind}"):
        read += frame.height
        yield frame, size * read // max(total, 1)


def lazy_frames(lazy: pl.LazyFrame, entity: EntityModel, rows: int, source: str, wrong: str) -> Iterator[pl.DataFrame]:
    """The result of a lazy frame, streamed in frames of at most `rows` rows."""
    with _as_input_error(wrong):
        names = lazy.collect_schema().names()
    needed = source_columns(entity, names, source).values()
    with _as_input_error(wrong):
        batches = iter(lazy.select(needed).collect_batches(chunk_size=rows, maintain_order=True))
    while True:
        with _as_input_error(wrong):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def arrow_object_frames(stream: Any, entity: EntityModel, rows: int) -> Iterator[pl.DataFrame]:
    """An object that streams Arrow (`__arrow_c_stream__`), taken batch by batch."""
    with _as_input_error("the Arrow stream cannot be read"):
        lazy = pl.scan_arrow_c_stream(stream)
    yield from lazy_frames(lazy, entity, rows, "", "the Arrow stream cannot be read")


def arrow_stream_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """Record batches of an Arrow IPC stream file, one after the other."""
    wrong = f"{path}: cannot be read as an Arrow IPC stream"
    with ByteFile(path) as file:
        beginning, has_batches = b"", False
        for message, is_batch in _messages(file, wrong):
            if not is_batch:
                # The schema and the dictionaries, without which no batch can be read.
                beginning += message
                continue
            has_batches = True
            for part in _stream_frame(path, entity, beginning + message, wrong).iter_slices(rows):
                yield part, file.position
        if not beginning:
            raise InputError(f"{path}: the file is empty; it is not an Arrow IPC stream")
        if not has_batches:
            yield _stream_frame(path, entity, beginning, wrong), file.position


def _stream_frame(path: Path, entity: EntityModel, stream: bytes, wrong: str) -> pl.DataFrame:
    with _as_input_error(wrong):
        frame = pl.read_ipc_stream(stream)
    return frame.select(source_columns(entity, frame.columns, str(path)).values())


def _messages(file: ByteFile, wrong: str) -> Iterator[tuple[bytes, bool]]:
    """Encapsulated messages of the stream, whole, and whether each is a record batch."""
    while prefix := file.read(4):
        lengths = prefix + file.read(4)
        if len(lengths) < 8 or struct.unpack("<I", prefix)[0] != CONTINUATION:
            raise InputError(f"{wrong}: a message begins wrongly")
        length = struct.unpack_from("<i", lengths, 4)[0]
        if length == 0:
            return
        metadata = file.read(length)
        if len(metadata) < length:
            raise InputError(f"{wrong}: it ends too early")
        kind, body_length = _message_header(metadata, wrong)
        body = file.read(body_length)
        if len(body) < body_length:
            raise InputError(f"{wrong}: it ends too early")
        yield lengths + metadata + body, kind == RECORD_BATCH


def _message_header(metadata: bytes, wrong: str) -> tuple[int, int]:
    """Type and body length of a message, from its flatbuffer: a root table whose slots a table of offsets gives."""
    try:
        root = struct.unpack_from("<I", metadata, 0)[0]
        slots = root - struct.unpack_from("<i", metadata, root)[0]
        kind = struct.unpack_from("<B", metadata, root + _slot(metadata, slots, HEADER_TYPE_SLOT))[0]
        offset = _slot(metadata, slots, BODY_LENGTH_SLOT)
        return int(kind), int(struct.unpack_from("<q", metadata, root + offset)[0]) if offset else 0
    except struct.error as error:
        raise InputError(f"{wrong}: a message is damaged") from error


def _slot(metadata: bytes, slots: int, slot: int) -> int:
    size = struct.unpack_from("<H", metadata, slots)[0]
    return int(struct.unpack_from("<H", metadata, slots + slot)[0]) if slot < size else 0


@contextmanager
def _as_input_error(wrong: str) -> Iterator[None]:
    """Errors of the reading library as one line that says what was read."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        first = str(error).strip().splitlines()
        raise InputError(f"{wrong}: {first[0] if first else type(error).__name__}") from error
