"""Damage of the embedded log: finding it, and saving what is sound into a new file.

A repair copies all sound rows of the damaged file into a new one, and then gives the new file the name of the old one. The
damaged file is kept under another name; it is only read, from a copy, since SQLite changes what it opens.

    log.db                              damaged
    log.db -> repair/damaged.db         working copy, which SQLite may change
    repair/damaged.db -> repair/log.db  sound rows, in one transaction
    log.db -> log.db.damaged-1          renamed with its -wal and -shm
    repair/log.db -> log.db             complete before it gets the name
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandle.errors import StorageError
from kandle.log.embedded.batches import COLUMNS, PartitionRow, StoredBatch
from kandle.log.embedded.connection import Connection
from kandle.log.embedded.database import FILE, Database, exclusive_use, log_file
from kandle.log.schema import decode_spec

DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged page may raise; also names and messages that are no text any more."""

MOST_MISSES = 100_000
"""After so many numbers without a batch the search for batches ends."""

SUFFIXES = ("", "-wal", "-shm")

HEAD_BYTES = 1 << 18
"""As much of a file is looked at to tell whether it is a log."""

CREATED = ("topic", "partition", "batch", "bell", "generation", "member", "lease", "position")
"""The tables of a log, as `database.TABLES` creates them."""

COPIED = ("topic", "partition", "generation", "lease", "position")


def find_damage(connection: Connection) -> list[str]:
    """Return what is wrong with a log that can be opened, a sentence for each problem; nothing if it is sound."""
    try:
        integrity = connection.database.rows("PRAGMA integrity_check")
        problems = [row[0] for row in integrity if row[0] != "ok"]
    except StorageError as error:
        problems = [str(error)]
    for name in connection.catalog.names():
        try:
            problems += _damaged_batches(connection, name)
        except StorageError as error:
            problems.append(str(error))
    return problems


def _damaged_batches(connection: Connection, name: str) -> Iterator[str]:
    number, _ = connection.catalog.known(name)
    statement = f"SELECT partition, {COLUMNS} FROM batch WHERE topic = ? ORDER BY partition, last"
    with connection.database.translated():
        for partition, *fields in connection.database.run(statement, [number]):
            stored = StoredBatch(*fields)
            if not stored.is_sound(PartitionRow(number, partition)):
                yield f"topic {name}, partition {partition}, offsets {stored.first} to {stored.last}: damaged bytes"


@dataclass(frozen=True, slots=True)
class Repair:
    """Result of a repair: the number of batches that were kept, what was lost in words, and where the damaged file is now."""

    kept: int
    lost: tuple[str, ...]
    backup: Path

    def __str__(self) -> str:
        lost = f"lost: {'; '.join(self.lost)}" if self.lost else "nothing was lost"
        return f"{self.kept} batches kept; {lost}; the damaged file is {self.backup}"


def repair(folder: Path) -> Repair:
    """Save all sound batches of the log in a folder into a new file that takes its place.

    Args:
        folder: The folder of the log. No process may use it.

    Returns:
        What was kept and what was lost.

    Raises:
        StorageError: The folder has no log, or a process uses it.
    """
    damaged = log_file(folder)
    if not damaged.exists():
        raise StorageError(f"there is no log in {folder}")
    _check_is_log(damaged)
    with exclusive_use(folder):
        backup = _free_name(damaged)
        fresh_folder = folder / "repair"
        shutil.rmtree(fresh_folder, ignore_errors=True)
        fresh = Database(fresh_folder)
        try:
            kept, lost = _copy_sound_rows(_working_copy(damaged, fresh_folder), fresh)
        finally:
            fresh.close()
        # Both files are complete before the names change.
        for suffix in SUFFIXES:
            if (part := _with_suffix(damaged, suffix)).exists():
                part.rename(_with_suffix(backup, suffix))
        (fresh_folder / FILE).rename(damaged)
        shutil.rmtree(fresh_folder)
    return Repair(kept, tuple(lost), backup)


def _check_is_log(damaged: Path) -> None:
    """Raise StorageError for a file that is not a damaged log, but something else: it is not touched.

    SQLite keeps the statements that have created its tables as text, in the first page or, before the first checkpoint, in the
    journal. They are looked for as bytes, since SQLite might change a file that it opens, and may not read one that is damaged.
    """
    heads = []
    for suffix in ("", "-wal"):
        if (part := _with_suffix(damaged, suffix)).exists():
            with part.open("rb") as file:
                heads.append(file.read(HEAD_BYTES))
    known = {name for name in CREATED if any(f"CREATE TABLE {name} ".encode() in head for head in heads)}
    if len(known) < len(CREATED) / 2:
        content = "is empty" if not any(heads) else "is not a log of kandle"
        raise StorageError(f"{damaged} {content}, so there is nothing to repair, and it is left as it is; name another folder")


def _with_suffix(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _working_copy(damaged: Path, folder: Path) -> Path:
    copy = folder / "damaged.db"
    for suffix in SUFFIXES:
        if (part := _with_suffix(damaged, suffix)).exists():
            shutil.copyfile(part, _with_suffix(copy, suffix))
    _correct_size(copy)
    return copy


def _free_name(damaged: Path) -> Path:
    number = 1
    while (backup := damaged.with_name(f"{damaged.name}.damaged-{number}")).exists():
        number += 1
    return backup


def _correct_size(copy: Path) -> None:
    """Write the actual number of pages into the header: SQLite reads nothing of a file that is shorter than it says."""
    with copy.open("r+b") as file:
        header = file.read(100)
        if len(header) == 100 and header.startswith(b"SQLite format 3"):
            page = int.from_bytes(header[16:18], "big")
            pages = copy.stat().st_size // (65_536 if page == 1 else max(page, 512))
            if pages != int.from_bytes(header[28:32], "big"):
                file.seek(28)
                file.write(pages.to_bytes(4, "big"))


def _copy_sound_rows(damaged: Path, fresh: Database) -> tuple[int, list[str]]:
    """Copy what is sound; return the number of batches and what was lost."""
    source = sqlite3.connect(damaged)
    lost: list[str] = []
    kept = 0
    try:
        with fresh.transaction():
            for table in COPIED:
                rows = list(_rows(source, table, lost))
                _insert(fresh, table, [row for row in rows if table != "topic" or _is_sound_topic(row, lost)])
            topics = dict(fresh.rows("SELECT id, name FROM topic"))
            for row in _batch_rows(source, lost):
                if row[1] in topics and _is_sound_batch(row):
                    _insert(fresh, "batch", [row])
                    kept += 1
                else:
                    lost.append(f"topic {topics.get(row[1], row[1])}, partition {row[2]}, offsets {row[3]} to {row[4]}")
            _restore_partitions(fresh)
    finally:
        source.close()
    return kept, lost


def _is_sound_topic(row: tuple[Any, ...], lost: list[str]) -> bool:
    try:
        decode_spec(row[2], row[3])
    except StorageError:
        lost.append(f"topic {row[1]}")
        return False
    return True


def _is_sound_batch(row: tuple[Any, ...]) -> bool:
    """Return whether a row of the table of batches is as it was written."""
    _, topic, partition, first, last, count, appended, low, high, checksum, _, blob = row
    stored = StoredBatch(first, last, count, appended, low, high, checksum, blob)
    return isinstance(blob, bytes) and stored.is_sound(PartitionRow(topic, partition))


def _rows(source: sqlite3.Connection, table: str, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a small table up to the first that cannot be read."""
    try:
        yield from source.execute(f"SELECT * FROM {table}")
    except DAMAGE as error:
        lost.append(f"a part of the table {table} ({error})")


def _batch_rows(source: sqlite3.Connection, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield batches one by one, so that one that cannot be read does not take the others along."""
    newest = _newest_batch(source)
    number, misses = 0, 0
    broken: list[int] = []
    while (newest is None and misses < MOST_MISSES) or (newest is not None and number < newest):
        number += 1
        try:
            row = source.execute("SELECT * FROM batch WHERE id = ?", [number]).fetchone()
        except DAMAGE:
            broken.append(number)
            misses += 1
            continue
        if row is None:
            misses += 1
        else:
            misses = 0
            yield row
    if broken:
        lost.append(f"what was on damaged pages, about batches {broken[0]} to {broken[-1] if newest else 'the newest'}")


def _newest_batch(source: sqlite3.Connection) -> int | None:
    """Return the greatest number of a batch; None if the page that says it is damaged."""
    try:
        return int(source.execute("SELECT max(id) FROM batch").fetchone()[0] or 0)
    except DAMAGE:
        return None


def _insert(fresh: Database, table: str, rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        fresh.run(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


def _restore_partitions(fresh: Database) -> None:
    """Restore partitions whose row was lost, and ends that lie before the end of the batches."""
    fresh.run(
        "INSERT OR IGNORE INTO partition (topic, number, first, next) "
        "SELECT topic, partition, min(first), max(last) + 1 FROM batch GROUP BY topic, partition"
    )
    fresh.run(
        "UPDATE partition SET next = max(next, coalesce((SELECT max(last) + 1 FROM batch b WHERE b.topic = partition.topic "
        "AND b.partition = partition.number), 0))"
    )
