"""Parquet, Arrow and Polars: frames of bounded size with only the columns that an entity needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from kandle.errors import InputError, OptionalImport
from kandle.model.columns import source_columns
from kandle.model.entity import EntityModel

Frames = Iterator[tuple[pl.DataFrame, int]]

LARGEST_WHOLE_STREAM = 256 * 1024 * 1024
"""Bytes of an Arrow IPC stream file up to which Polars reads it whole, where pyarrow is not installed."""


def parquet_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """Yield frames of at most `rows` rows of a Parquet file, each with about the bytes read so far."""
    yield from _scanned(path, "a Parquet file", lambda: pl.scan_parquet(path, glob=False), entity, rows)


def arrow_file_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """Yield frames of at most `rows` rows of an Arrow IPC file, each with the bytes read so far."""
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
    """Yield the result of a lazy frame, streamed in frames of at most `rows` rows."""
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
    """Yield the batches of an object that streams Arrow (`__arrow_c_stream__`)."""
    with _as_input_error("the Arrow stream cannot be read"):
        lazy = pl.scan_arrow_c_stream(stream)
    yield from lazy_frames(lazy, entity, rows, "", "the Arrow stream cannot be read")


def arrow_stream_frames(path: Path, entity: EntityModel, rows: int) -> Frames:
    """Return the record batches of an Arrow IPC stream file, one after the other.

    pyarrow reads one batch at a time. Polars can only read the whole file, so it stands in for pyarrow while
    the file is small.

    Args:
        path: The file.
        entity: Whose columns are wanted.
        rows: The greatest number of rows of a frame.

    Raises:
        InputError: The file is empty, damaged or not an Arrow IPC stream.
        MissingExtraError: The file is large and pyarrow is not installed.
    """
    wrong = f"{path}: cannot be read as an Arrow IPC stream"
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path}: the file is empty; it is not an Arrow IPC stream")
    read = _whole_stream if size <= LARGEST_WHOLE_STREAM and find_spec("pyarrow") is None else _stream_batches
    for frame, position in read(path, wrong):
        chosen = frame.select(source_columns(entity, frame.columns, str(path)).values())
        for part in chosen.iter_slices(rows) if frame.height else [chosen]:
            yield part, position


def _whole_stream(path: Path, wrong: str) -> Frames:
    with _as_input_error(wrong):
        frame = pl.read_ipc_stream(path)
    yield frame, path.stat().st_size


def _stream_batches(path: Path, wrong: str) -> Frames:
    """Return the batches of a stream, and an empty frame if it has none."""
    with OptionalImport(f"An Arrow stream of more than {LARGEST_WHOLE_STREAM >> 20} MiB ({path})", "arrow"):
        import pyarrow
        import pyarrow.ipc
    with _as_input_error(wrong), pyarrow.OSFile(str(path)) as file:
        reader = pyarrow.ipc.open_stream(file)
        yield pl.DataFrame(reader.schema.empty_table()), 0
        for batch in reader:
            # A damaged batch would end the process.
            batch.validate(full=True)
            yield pl.DataFrame(batch), file.tell()


# Polars panics on some damage, pyarrow takes a damaged length for one.
_LIBRARY_ERRORS = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    ValueError,
    LookupError,
    NotImplementedError,
    MemoryError,
)


@contextmanager
def _as_input_error(wrong: str) -> Iterator[None]:
    """Raise errors of the reading library as one line that names the input."""
    try:
        yield
    except _LIBRARY_ERRORS as error:
        if isinstance(error, InputError):
            raise
        first = str(error).strip().splitlines()
        raise InputError(f"{wrong}: {first[0] if first else type(error).__name__}") from error
