"""Sinks of a backfill: bars go into frames, or into files of a folder that appear together at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from kandle.backfill.writers import FORMATS, TableFile
from kandle.errors import OutputError
from kandle.model.columns import logical_schema, to_logical
from kandle.model.entity import EntityModel
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel


class TableWriter:
    """Writer of one table, whose file gets its final name, `path`, when its folder commits."""

    def __init__(self, path: Path, temporary: Path, table: TableFile) -> None:
        self.path = path
        self.temporary = temporary
        self._table = table
        self.rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows of the entity's logical columns."""
        with _writing(self.path):
            self._table.write(frame)
        self.rows += frame.height

    def finish(self) -> None:
        """Complete the file under its temporary name."""
        with _writing(self.path):
            self._table.finish()

    def close(self) -> None:
        """Close the file without completing it."""
        self._table.close()


class OutputFolder:
    """A folder into which tables of one format are written: all of them appear at `commit`, or none does.

    Temporary files are in a hidden folder inside of it, so that renaming them never crosses file systems.
    """

    def __init__(self, path: Path, format: str = "parquet") -> None:
        if format not in FORMATS:
            raise OutputError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
        self.path = path
        self.format = format
        self._writers: dict[str, TableWriter] = {}
        self._is_new = not path.exists()
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=".kandle-", dir=path))

    def writer(self, name: str, entity: EntityModel) -> TableWriter:
        """Return a writer of the table `<name>.<format>` with the entity's columns."""
        file_name = f"{name}.{self.format}"
        path, temporary = self.path / file_name, self._temporary / file_name
        if file_name in self._writers or path.is_dir():
            reason = "is written twice" if file_name in self._writers else "is a folder"
            self.abort()
            raise OutputError(f"{path} {reason}; choose another folder")
        with _writing(path):
            self._writers[file_name] = TableWriter(path, temporary, FORMATS[self.format](temporary, entity))
        return self._writers[file_name]

    def commit(self) -> None:
        """Complete all tables, then give them their final names; files of the same names are replaced."""
        try:
            for writer in self._writers.values():
                writer.finish()
            with _writing(self.path):
                for writer in self._writers.values():
                    writer.temporary.replace(writer.path)
        except BaseException:
            self.abort()
            raise
        shutil.rmtree(self._temporary, ignore_errors=True)

    def abort(self) -> None:
        """Remove what has been written; files that existed before stay as they were."""
        for writer in self._writers.values():
            writer.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if self._is_new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise errors of the system as one line that names the path."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(f"{path} cannot be written: {reason}") from error


class Sink(Protocol):
    """Where bars (physical columns) and late events go; nothing is visible before `commit`."""

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """The bars by timeframe, if they are kept in memory."""
        ...

    @property
    def late_events(self) -> pl.DataFrame | None:
        """The late events, if they are kept in memory."""
        ...

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None:
        """Add bars of a timeframe."""
        ...

    def late(self, events: pl.DataFrame) -> None:
        """Add late events."""
        ...

    def commit(self) -> dict[str, Path]:
        """Make everything visible and return the files by timeframe."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class MemorySink:
    """A sink that keeps all bars as logical frames."""

    def __init__(self, query: QueryModel, plan: Plan) -> None:
        self._query = query
        self._bars: dict[str, list[pl.DataFrame]] = {bar.name: [] for bar in plan.emitted}
        self._late: list[pl.DataFrame] = []

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        empty = pl.DataFrame(schema=logical_schema(self._query.target))
        return {name: pl.concat([empty, *frames]) for name, frames in self._bars.items()}

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
    """A sink that writes one file per timeframe, and one of late events if the query keeps them."""

    def __init__(self, query: QueryModel, plan: Plan, folder: Path, format: str) -> None:
        self._query = query
        self._folder = OutputFolder(folder, format)
        self._writers: dict[str, TableWriter] = {}
        for bar in plan.emitted:
            self._writers[bar.name] = self._folder.writer(bar.final_topic, query.target)
        self._late_writer: TableWriter | None = None
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
