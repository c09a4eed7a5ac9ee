"""Saves what can be saved of a damaged log into a sound one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kandle.errors import StorageError
from kandle.log.embedded.blobs import Stored
from kandle.log.embedded.database import FILE, Database, only_use
from kandle.log.schema import decode_spec

DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged page may raise: also names and messages that are no text any more."""

MOST_MISSES = 100_000
"""After so many numbers without a batch there are no more."""

SUFFIXES = ("", "-wal", "-shm")

COPIED = ("topic", "partition", "generation", "lease", "position")


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did: batches kept, what was lost in words, and where the damaged file is."""

    kept: int
    lost: tuple[str, ...]
    backup: Path

    def __str__(self) -> str:
        what = "; lost: " + "; ".join(self.lost) if self.lost else "; nothing was lost"
        return f"{self.kept} batches kept{what}; the damaged file is {self.backup}"


def repair(path: Path) -> Repair:
    """Write all sound batches of the log in this folder into a new file and put it in the place of the old one."""
    damaged = path / FILE
    if not damaged.exists():
        raise StorageError(f"there is no log in {path}")
    with only_use(path):
        backup = _free_name(damaged)
        fresh_folder = path / "repair"
        shutil.rmtree(fresh_folder, ignore_errors=True)
        fresh = Database(fresh_folder)
        try:
            kept, lost = _copied(_working_copy(damaged, fresh_folder), fresh)
        finally:
            fresh.close()
        # Both files are complete before the names change.
        for suffix in SUFFIXES:
            if (part := damaged.with_name(damaged.name + suffix)).exists():
                part.rename(backup.with_name(backup.name + suffix))
        (fresh_folder / FILE).rename(damaged)
        shutil.rmtree(fresh_folder)
    return Repair(kept, tuple(lost), backup)


def _working_copy(damaged: Path, folder: Path) -> Path:
    """A copy to read from, since SQLite changes what it opens; the damaged file stays as it is."""
    copy = folder / "damaged.db"
    for suffix in SUFFIXES:
        if (part := damaged.with_name(damaged.name + suffix)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + suffix))
    _tell_size(copy)
    return copy


def _free_name(damaged: Path) -> Path:
    number = 1
    while (backup := damaged.with_name(f"{damaged.name}.damaged-{number}")).exists():
        number += 1
    return backup


def _tell_size(copy: Path) -> None:
    """Write the number of pages that are there into the head: SQLite reads nothing of a file that is shorter than it says."""
    with copy.open("r+b") as file:
        header = file.read(100)
        if len(header) == 100 and header.startswith(b"SQLite format 3"):
            page = int.from_bytes(header[16:18], "big")
            pages = copy.stat().st_size // (65_536 if page == 1 else max(page, 512))
            if pages != int.from_bytes(header[28:32], "big"):
                file.seek(28)
                file.write(pages.to_bytes(4, "big"))


def _copied(damaged: Path, fresh: Database) -> tuple[int, list[str]]:
    source = sqlite3.connect(damaged)
    lost: list[str] = []
    kept = 0
    try:
        with fresh.transaction():
            for table in COPIED:
                rows = list(_rows(source, table, lost))
                _insert(fresh, table, [row for row in rows if table != "topic" or _is_topic(row, lost)])
            topics = dict(fresh.rows("SELECT id, name FROM topic"))
            for row in _batches(source, lost):
                place = f"topic {topics.get(row[1], row[1])}, partition {row[2]}, offsets {row[3]} to {row[4]}"
                if row[1] in topics and _is_sound(row):
                    _insert(fresh, "batch", [row])
                    kept += 1
                else:
                    lost.append(place)
            _mend_partitions(fresh)
    finally:
        source.close()
    return kept, lost


def _is_topic(row: tuple[Any, ...], lost: list[str]) -> bool:
    try:
        decode_spec(row[2], row[3])
    except StorageError:
        lost.append(f"topic {row[1]}")
        return False
    return True


def _is_sound(row: tuple[Any, ...]) -> bool:
    """Whether a row of the table of batches is as it was written."""
    _, topic, partition, first, last, count, appended, low, high, checksum, _, blob = row
    return isinstance(blob, bytes) and Stored(first, last, count, appended, low, high, checksum, blob).is_sound(topic, partition)


def _rows(source: sqlite3.Connection, table: str, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of a small table up to the first that cannot be read."""
    try:
        yield from source.execute(f"SELECT * FROM {table}")
    except DAMAGE as error:
        lost.append(f"a part of the table {table} ({error})")


def _batches(source: sqlite3.Connection, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """Batches one by one, so that one that cannot be read does not take the others along."""
    newest = _newest(source)
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


def _newest(source: sqlite3.Connection) -> int | None:
    """The greatest number of a batch; None if the page that says it is damaged."""
    try:
        return int(source.execute("SELECT max(id) FROM batch").fetchone()[0] or 0)
    except DAMAGE:
        return None


def _insert(fresh: Database, table: str, rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        marks = ", ".join("?" * len(row))
        fresh.run(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


def _mend_partitions(fresh: Database) -> None:
    """Partitions whose row was lost, and ends that lie behind their batches."""
    fresh.run(
        "INSERT OR IGNORE INTO partition (topic, number, first, next) "
        "SELECT topic, partition, min(first), max(last) + 1 FROM batch GROUP BY topic, partition"
    )
    fresh.run(
        "UPDATE partition SET next = max(next, coalesce((SELECT max(last) + 1 FROM batch b WHERE b.topic = partition.topic "
        "AND b.partition = partition.number), 0))"
    )
