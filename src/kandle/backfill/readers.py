"""Events of one entity from files, frames or Arrow streams, in physical batches of bounded size."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kandle.backfill.columnar import (
    arrow_file_frames,
    arrow_object_frames,
    arrow_stream_frames,
    lazy_frames,
    parquet_frames,
)
from kandle.backfill.text import csv_frames, ndjson_frames
from kandle.errors import InputError
from kandle.model.columns import physical_schema, to_logical, to_physical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping

BATCH_ROWS = 500_000

Frames = Iterator[tuple[pl.DataFrame, int]]
"""Frames as they are in the input, each with the bytes read of it so far."""

TEXT_READERS: dict[str, Callable[[Path, EntityModel], Frames]] = {
    ".csv": csv_frames,
    ".ndjson": ndjson_frames,
    ".jsonl": ndjson_frames,
}
"""By ending of the file name; files of text may be packed (`.csv.gz`)."""

PHYSICAL_READERS = (ndjson_frames,)
"""Readers whose frames have the physical types of the entity already."""

COLUMNAR_READERS: dict[str, Callable[[Path, EntityModel, int], Frames]] = {
    ".parquet": parquet_frames,
    ".arrow": arrow_file_frames,
    ".ipc": arrow_file_frames,
    ".feather": arrow_file_frames,
    ".arrows": arrow_stream_frames,
}


@dataclass(frozen=True, slots=True)
class TickBatch:
    """Some events as a physical frame, the number of rows before it, and the bytes read up to its end.

    The frame begins with the row `first_row` of the input `source`.
    """

    frame: pl.DataFrame
    rows_before: int
    bytes_read: int
    source: str
    first_row: int = 1


@dataclass(frozen=True, slots=True)
class Input:
    """One file or object: its name for messages, its size where it is known, and its frames.

    `convert` makes physical frames of them; its arguments are the entity, a frame, and by name `first_row`
    and `source`.
    """

    name: str
    size: int | None
    frames: Callable[[EntityModel, int], Frames]
    convert: Callable[..., pl.DataFrame] = to_physical


@dataclass(frozen=True, slots=True)
class TickSource:
    """The events of an entity, from one or several inputs in their order."""

    name: str
    entity: EntityModel
    inputs: tuple[Input, ...]
    batch_rows: int = BATCH_ROWS

    @property
    def total_bytes(self) -> int | None:
        """Size of all inputs together, None if one of them has no size."""
        sizes = [source.size for source in self.inputs]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def batches(self) -> Iterator[TickBatch]:
        """Yield physical frames of at most `batch_rows` rows; errors name input, row and column."""
        rows_before = bytes_before = 0
        for source in self.inputs:
            first_row = 1
            for frame, bytes_read in source.frames(self.entity, self.batch_rows):
                # A frame without rows counts too: it shows whether the columns are right.
                for part in frame.iter_slices(self.batch_rows) if frame.height else [frame]:
                    physical = source.convert(self.entity, part, first_row=first_row, source=source.name)
                    yield TickBatch(physical, rows_before, bytes_before + bytes_read, source.name, first_row)
                    first_row += part.height
                    rows_before += part.height
            bytes_before += source.size or 0
        if not rows_before:
            yield TickBatch(pl.DataFrame(schema=physical_schema(self.entity)), 0, bytes_before, self.name)


def open_ticks(source: Any, entity: EntityModel, *, batch_rows: int = BATCH_ROWS) -> TickSource:
    """Return the events in files, a Polars frame or lazy frame, an Arrow stream, or a list of objects."""
    if batch_rows < 1:
        raise InputError(f"batch_rows = {batch_rows}; give 1 or more")
    inputs = tuple(_inputs(source, entity))
    name = inputs[0].name if len(inputs) == 1 else f"{len(inputs)} inputs from {inputs[0].name}"
    return TickSource(name, entity, inputs, batch_rows)


def input_size(paths: Sequence[str | Path]) -> int:
    """Return the bytes of all files that the paths and globs name; InputError for one that cannot be read."""
    return sum(_file(path).size or 0 for pattern in paths for path in _paths(pattern))


def _inputs(source: Any, entity: EntityModel) -> Iterator[Input]:
    if isinstance(source, str | Path):
        yield from map(_file, _paths(source))
    elif isinstance(source, pl.DataFrame):
        yield Input("frame", None, lambda entity, rows: _without_size(iter([source])))
    elif isinstance(source, pl.LazyFrame):
        yield Input("lazy frame", None, lambda entity, rows: _without_size(_lazy(source, entity, rows)))
    elif hasattr(source, "__arrow_c_stream__"):
        yield Input("Arrow stream", None, lambda entity, rows: _without_size(arrow_object_frames(source, entity, rows)))
    elif isinstance(source, Sequence) and source:
        yield from _several(source, entity)
    else:
        given = "an empty list" if isinstance(source, Sequence) else f"a {type(source).__name__}"
        valid = "a path, a list of paths, a glob, a Polars frame or lazy frame, or anything that streams Arrow"
        raise InputError(f"{entity.name} cannot be read from {given}; give {valid}, or a list of {entity.name} objects")


def _several(source: Sequence[Any], entity: EntityModel) -> Iterator[Input]:
    if all(isinstance(item, entity.cls) for item in source):
        yield Input(f"list of {entity.name}", None, lambda entity, rows: _without_size(_objects(source, entity, rows)))
        return
    for item in source:
        yield from _inputs(item, entity)


def _lazy(source: pl.LazyFrame, entity: EntityModel, rows: int) -> Iterator[pl.DataFrame]:
    return lazy_frames(source, entity, rows, "lazy frame", "the lazy frame cannot be computed")


def _objects(source: Sequence[Any], entity: EntityModel, rows: int) -> Iterator[pl.DataFrame]:
    for first in range(0, len(source), rows):
        yield to_logical(entity, mapping(entity).to_frame(source[first : first + rows]))


def _without_size(frames: Iterator[pl.DataFrame]) -> Frames:
    return ((frame, 0) for frame in frames)


def _paths(source: str | Path) -> list[Path]:
    """Return the file of that name, or else all files that the glob matches, ordered by name."""
    path = Path(source)
    if path.exists() or not glob.has_magic(str(source)):
        return [path]
    paths = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
    if not paths:
        raise InputError(f"no file matches {source}")
    return paths


def _unchanged(entity: EntityModel, frame: pl.DataFrame, *, first_row: int, source: str) -> pl.DataFrame:
    return frame


def _file(path: Path) -> Input:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it, or all of a kind by a glob such as '{path}/*.parquet'")
    if not path.exists():
        raise InputError(f"no such file: {path}")
    suffix = path.suffix.lower()
    is_packed = suffix == ".gz"
    inner = Path(path.stem).suffix.lower() if is_packed else suffix
    if inner in TEXT_READERS:
        read_text = TEXT_READERS[inner]
        convert = _unchanged if read_text in PHYSICAL_READERS else to_physical
        return Input(str(path), path.stat().st_size, lambda entity, rows: read_text(path, entity), convert)
    if inner in COLUMNAR_READERS and not is_packed:
        read = COLUMNAR_READERS[inner]
        return Input(str(path), path.stat().st_size, lambda entity, rows: read(path, entity, rows))
    text = ", ".join(f"{ending}, {ending}.gz" for ending in TEXT_READERS)
    columnar = ", ".join(COLUMNAR_READERS)
    raise InputError(f"{path}: the format is not known by the ending of the name; the name must end with {text}, {columnar}")
