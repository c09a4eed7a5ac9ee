"""Tables written into a folder in bounded memory, under temporary names until all of them are whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import polars as pl

from kandle.backfill.text_values import csv_values, ndjson_lines
from kandle.errors import OutputError
from kandle.model.columns import logical_schema
from kandle.model.entity import EntityModel

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
