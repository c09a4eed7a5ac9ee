"""Writing records to their partitions, and single records in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from anyio import lowlevel, to_thread

from kandle.errors import DataError, LogError
from kandle.log.headers import HeaderPairs, column_of_pairs
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.log.versions import marked, version_headers
from kandle.model.columns import to_physical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.serde.keys import partition_numbers
from kandle.time.arrays import IntArray

if TYPE_CHECKING:
    import asyncio

ROWS_AT_ONCE = 50_000
"""Rows of one batch of `add_many`."""


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A record to be written; `values` are physical."""

    entity: EntityModel
    values: tuple[Any, ...]
    headers: HeaderPairs = ()
    is_tombstone: bool = False


class BatchingWriter:
    """Writes single records in batches: those that arrive during a write are written together after it.

    So a single record does not wait, and many that are added at the same time share a commit.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[tuple[str, PendingRow, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def write(self, topic: str, row: PendingRow) -> None:
        """Append a record, and return when it is stored."""
        import asyncio

        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((topic, row, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        # One turn of the loop, so that records which are added together are written together.
        await lowlevel.checkpoint()
        while self._waiting:
            taken, self._waiting = self._waiting, []
            errors: dict[int, Exception]
            try:
                errors = await to_thread.run_sync(self._append, [(topic, row) for topic, row, _ in taken])
            except Exception as error:
                errors = dict.fromkeys(range(len(taken)), error)
            # Errors go to those who wait for these records, not to the log of this task.
            for number, (_, _, done) in enumerate(taken):
                if done.done():
                    continue
                if number in errors:
                    done.set_exception(errors[number])
                else:
                    done.set_result(None)

    def _append(self, rows: Sequence[tuple[str, PendingRow]]) -> dict[int, Exception]:
        """Append rows, each for itself, and return the errors of those that were not stored, by their indices."""
        by_topic: dict[str, list[int]] = {}
        for index, (topic, _) in enumerate(rows):
            by_topic.setdefault(topic, []).append(index)
        errors: dict[int, Exception] = {}
        writes: list[Write] = []
        origins: list[IntArray] = []
        for topic, indices in by_topic.items():
            for write, origin in self._prepared(topic, rows, indices, errors):
                writes.append(write)
                origins.append(origin)
        for number, failed in self._log.append_each(writes).items():
            errors |= {int(origins[number][row]): error for row, error in failed.items()}
        return errors

    def _prepared(
        self, topic: str, rows: Sequence[tuple[str, PendingRow]], indices: Sequence[int], errors: dict[int, Exception]
    ) -> list[tuple[Write, IntArray]]:
        """Return the writes of rows of one topic, and where the records of each stand among all rows; note those that fail."""
        try:
            divided = _divided(self._log, topic, records_of([rows[index][1] for index in indices]))
        except Exception as error:
            if len(indices) == 1 or isinstance(error, LogError):
                errors |= dict.fromkeys(indices, error)
                return []
            return [write for index in indices for write in self._prepared(topic, rows, [index], errors)]
        return [(write, np.array(indices)[chosen]) for write, chosen in divided]


def writes_of_rows(log: Log, rows: Sequence[tuple[str, PendingRow]]) -> list[Write]:
    """Divide single records among their topics and partitions.

    Args:
        log: The log.
        rows: Records with the names of their topics.
    """
    topics: dict[str, list[PendingRow]] = {}
    for topic, row in rows:
        topics.setdefault(topic, []).append(row)
    return [write for topic, of_topic in topics.items() for write in writes_of(log, topic, records_of(of_topic))]


def records_of(rows: Sequence[PendingRow]) -> Records:
    """Return rows of one entity as records, with the version of its key."""
    frame = mapping(rows[0].entity).frame_of([row.values for row in rows])
    gone = pl.Series("tombstones", [row.is_tombstone for row in rows])
    records = Records(frame, column_of_pairs([row.headers for row in rows]), gone if gone.any() else None)
    return marked(records, version_headers(rows[0].entity))


def writes_of(log: Log, topic: str, records: Records) -> list[Write]:
    """Divide records among the partitions of their topic, by their key."""
    return [write for write, _ in _divided(log, topic, records)]


def _divided(log: Log, topic: str, records: Records) -> list[tuple[Write, IntArray]]:
    """Return the records of each partition, with their numbers."""
    spec = log.topic(topic)
    if spec.partitions == 1:
        return [(Write(topic, 0, records), np.arange(len(records)))]
    if spec.keys:
        numbers = partition_numbers(records.frame.select(spec.keys), spec.partitions)
    else:
        # Without a key any partition will do; whole batches stay together.
        ends = log.ends(topic)
        numbers = np.full(len(records), int(np.argmin(ends)))
    chosen = {int(number): np.flatnonzero(numbers == number) for number in np.unique(numbers)}
    return [(Write(topic, number, records.filter(pl.Series(numbers == number))), rows) for number, rows in chosen.items()]


def frames_of(entity: EntityModel, objects: Any) -> Iterator[pl.DataFrame]:
    """Yield physical frames of objects or of a frame, so many rows at a time."""
    if isinstance(objects, pl.LazyFrame):
        objects = objects.collect()
    if isinstance(objects, pl.DataFrame):
        first_row = 1
        for part in objects.iter_slices(ROWS_AT_ONCE):
            # Also where the types are the columns' own: an integer may be a decimal of the user, and each value is looked at.
            yield to_physical(entity, part, first_row=first_row, source="frame")
            first_row += part.height
        return
    if not isinstance(objects, Iterable):
        raise DataError(f"add_many takes objects of {entity.name} or a Polars frame, not a {type(objects).__name__}")
    rows: list[tuple[Any, ...]] = []
    whole = mapping(entity)
    for number, obj in enumerate(objects):
        rows.append(whole.row(obj, number))
        if len(rows) == ROWS_AT_ONCE:
            yield whole.frame_of(rows)
            rows = []
    if rows:
        yield whole.frame_of(rows)
