"""Tables written into a folder in bounded memory, under temporary names until all of them are whole."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import polars as pl

from kandle.errors import DataError, OutputError
from kandle.model.columns import logical_schema, to_logical
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import BytesType, DateType, FloatType, StringMapType, StringType, TimestampType, UuidType
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel

MILLISECONDS, MICROSECONDS = "%Y-%m-%dT%H:%M:%S%.3fZ", "%Y-%m-%dT%H:%M:%S%.6fZ"


def csv_values(entity: EntityModel, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with instants, bytes and maps as text; all else is written right as it is."""
    return frame.select(_TEXTS.get(type(found.type), _itself)(pl.col(found.name)) for found in entity.fields)


def ndjson_lines(entity: EntityModel, frame: pl.DataFrame) -> pl.Series:
    """One JSON object per row, in the order of the fields."""
    for found in entity.fields:
        if isinstance(found.type, FloatType) and not frame[found.name].is_finite().all():
            raise DataError(f"{entity.name}.{found.name} is infinite or no number, which JSON cannot say; use csv or parquet")
    parts: list[pl.Expr] = []
    for position, found in enumerate(entity.fields):
        start = "{" if position == 0 else ","
        parts += [pl.lit(f"{start}{json.dumps(found.name)}:"), _json_value(found).fill_null("null")]
    return frame.select(line=pl.concat_str([*parts, pl.lit("}")])).to_series()


def _json_value(found: FieldModel) -> pl.Expr:
    column = pl.col(found.name)
    text = _TEXTS.get(type(found.type), _itself)(column)
    if isinstance(found.type, StringType | UuidType):
        return _json_text(text)
    if isinstance(found.type, TimestampType | DateType | BytesType):
        return pl.concat_str(pl.lit('"'), text.cast(pl.String), pl.lit('"'))
    return text.cast(pl.String)


def _json_text(column: pl.Expr) -> pl.Expr:
    """Text with quotes and escapes, by way of an object that holds nothing else."""
    encoded = pl.struct(column.alias("v")).struct.json_encode()
    return pl.when(column.is_not_null()).then(encoded.str.strip_prefix('{"v":').str.strip_suffix("}"))


def _instant(column: pl.Expr) -> pl.Expr:
    """Milliseconds where they are enough, else microseconds."""
    is_coarse = column.dt.timestamp("us") % 1000 == 0
    return pl.when(is_coarse).then(column.dt.strftime(MILLISECONDS)).otherwise(column.dt.strftime(MICROSECONDS))


def _base64(column: pl.Expr) -> pl.Expr:
    return column.bin.encode("base64")


def _map(column: pl.Expr) -> pl.Expr:
    return column.map_elements(_json_object, return_dtype=pl.String)


def _json_object(entries: pl.Series) -> str:
    return json.dumps({entry["key"]: entry["value"] for entry in entries}, ensure_ascii=False)


def _itself(column: pl.Expr) -> pl.Expr:
    return column


_TEXTS: dict[type, Callable[[pl.Expr], pl.Expr]] = {
    TimestampType: _instant,
    BytesType: _base64,
    StringMapType: _map,
}


PART_ROWS = 250_000
"""Rows that are gathered before a part of a Parquet file is written."""


class TableFile(Protocol):
    """One file that grows by frames of the entity's logical columns."""

    def write(self, frame: pl.DataFrame) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class CsvFile:
    """A CSV file: a line of names, then rows; NULL is an empty field."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._entity = entity
        self._file: BinaryIO = path.open("wb")
        self.write(pl.DataFrame(schema=logical_schema(entity)), include_header=True)

    def write(self, frame: pl.DataFrame, *, include_header: bool = False) -> None:
        csv_values(self._entity, frame).write_csv(self._file, include_header=include_header)

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class NdjsonFile:
    """An NDJSON file: one object a line, decimals as numbers with all their digits."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._entity = entity
        self._file: BinaryIO = path.open("wb")

    def write(self, frame: pl.DataFrame) -> None:
        if frame.height:
            lines = ndjson_lines(self._entity, frame)
            self._file.write(lines.str.join("\n").item().encode())
            self._file.write(b"\n")

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class ParquetFile:
    """A Parquet file, written in parts that are joined at the end, since a Parquet file cannot grow."""

    def __init__(self, path: Path, entity: EntityModel) -> None:
        self._path = path
        self._parts: list[Path] = []
        self._waiting = [pl.DataFrame(schema=logical_schema(entity))]
        self._rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        self._waiting.append(frame)
        self._rows += frame.height
        if self._rows >= PART_ROWS:
            self._write_part()

    def _write_part(self) -> None:
        part = self._path.with_name(f"{self._path.name}.{len(self._parts)}")
        pl.concat(self._waiting).write_parquet(part, compression="lz4", statistics=False)
        self._parts.append(part)
        self._waiting = [self._waiting[0].clear()]
        self._rows = 0

    def finish(self) -> None:
        if not self._parts:
            pl.concat(self._waiting).write_parquet(self._path)
            return
        self._write_part()
        pl.scan_parquet(self._parts, glob=False).sink_parquet(self._path, maintain_order=True)
        for part in self._parts:
            part.unlink()

    def close(self) -> None:
        self._waiting.clear()


FORMATS: dict[str, type[CsvFile] | type[NdjsonFile] | type[ParquetFile]] = {
    "parquet": ParquetFile,
    "csv": CsvFile,
    "ndjson": NdjsonFile,
}


class FinalWriter:
    """Writes one table; `path` is the file's final name, under which it appears when its folder commits."""

    def __init__(self, path: Path, temporary: Path, table: TableFile) -> None:
        self.path = path
        self.temporary = temporary
        self._table = table
        self.rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows of the entity's logical columns."""
        with writing(self.path):
            self._table.write(frame)
        self.rows += frame.height

    def finish(self) -> None:
        """Complete the file under its temporary name."""
        with writing(self.path):
            self._table.finish()

    def close(self) -> None:
        """Let go of the file without completing it."""
        self._table.close()


class OutputFolder:
    """A folder into which tables of one format are written: all of them appear at `commit`, or none does.

    Temporary files are in a hidden folder inside, so that renaming them never crosses file systems.
    """

    def __init__(self, path: Path, format: str = "parquet") -> None:
        if format not in FORMATS:
            raise OutputError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
        self.path = path
        self.format = format
        self._writers: dict[str, FinalWriter] = {}
        self._is_new = not path.exists()
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=".kandle-", dir=path))

    def writer(self, name: str, entity: EntityModel) -> FinalWriter:
        """A writer of the table `<name>.<format>` with the entity's columns."""
        file_name = f"{name}.{self.format}"
        path, temporary = self.path / file_name, self._temporary / file_name
        if file_name in self._writers or path.is_dir():
            reason = "is written already" if file_name in self._writers else "is a folder"
            self.abort()
            raise OutputError(f"{path} {reason}; choose another folder")
        with writing(path):
            self._writers[file_name] = FinalWriter(path, temporary, FORMATS[self.format](temporary, entity))
        return self._writers[file_name]

    def commit(self) -> None:
        """Complete all tables, then give them their final names in the place of what had these names."""
        try:
            for each in self._writers.values():
                each.finish()
            with writing(self.path):
                for each in self._writers.values():
                    each.temporary.replace(each.path)
        except BaseException:
            self.abort()
            raise
        shutil.rmtree(self._temporary, ignore_errors=True)

    def abort(self) -> None:
        """Remove what has been written; files that were there before stay as they were."""
        for each in self._writers.values():
            each.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if self._is_new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system as one line that names the path."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(f"{path} cannot be written: {reason}") from error


class Sink(Protocol):
    """Takes bars (physical columns) and late events; `commit` makes them visible and gives the files by timeframe."""

    @property
    def frames(self) -> dict[str, pl.DataFrame]: ...

    @property
    def late_events(self) -> pl.DataFrame | None: ...

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None: ...

    def late(self, events: pl.DataFrame) -> None: ...

    def commit(self) -> dict[str, Path]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class MemorySink:
    """Keeps all bars as logical frames."""

    def __init__(self, query: QueryModel, plan: Plan) -> None:
        self._query = query
        self._bars: dict[str, list[pl.DataFrame]] = {bar.name: [] for bar in plan.emitted}
        self._late: list[pl.DataFrame] = []

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        empty = pl.DataFrame(schema=logical_schema(self._query.target))
        return {name: pl.concat([empty, *found]) for name, found in self._bars.items()}

    @property
    def late_events(self) -> pl.DataFrame | None:
        return pl.concat(self._late) if self._late else None

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None:
        self._bars[bar.name].append(to_logical(self._query.target, bars))

    def late(self, events: pl.DataFrame) -> None:
        self._late.append(to_logical(self._query.source, events))

    def commit(self) -> dict[str, Path]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class FolderSink:
    """Writes one file per timeframe, and one of late events if the query keeps them."""

    def __init__(self, query: QueryModel, plan: Plan, folder: Path, format: str) -> None:
        self._query = query
        self._folder = OutputFolder(folder, format)
        self._writers: dict[str, FinalWriter] = {}
        for bar in plan.emitted:
            self._writers[bar.name] = self._folder.writer(bar.final_topic, query.target)
        self._late_writer: FinalWriter | None = None
        if query.late is Late.TOPIC:
            self._late_writer = self._folder.writer(f"{query.target.topic}_late", query.source)

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        return {}

    @property
    def late_events(self) -> pl.DataFrame | None:
        return None

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None:
        self._writers[bar.name].write(to_logical(self._query.target, bars))

    def late(self, events: pl.DataFrame) -> None:
        assert self._late_writer is not None
        self._late_writer.write(to_logical(self._query.source, events))

    def commit(self) -> dict[str, Path]:
        self._folder.commit()
        return {name: writer.path for name, writer in self._writers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._folder.abort()
