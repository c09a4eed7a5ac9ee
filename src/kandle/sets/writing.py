"""Writing records to their partitions, and single records in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from anyio import lowlevel, to_thread

from kandle.errors import DataError
from kandle.log.headers import HeaderPairs, column_of_pairs
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.model.columns import to_physical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.serde.keys import partition_numbers

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
            try:
                await to_thread.run_sync(self._append, [(topic, row) for topic, row, _ in taken])
            except Exception as error:
                # The error goes to those who wait for these records, not to the log of this task.
                for _, _, done in taken:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, _, done in taken:
                    if not done.done():
                        done.set_result(None)

    def _append(self, rows: Sequence[tuple[str, PendingRow]]) -> None:
        self._log.append(writes_of_rows(self._log, rows))


def writes_of_rows(log: Log, rows: Sequence[tuple[str, PendingRow]]) -> list[Write]:
    """Divide single records among their topics and partitions.

    Args:
        log: The log.
        rows: Records with the names of their topics.
    """
    topics: dict[str, list[PendingRow]] = {}
    for topic, row in rows:
        topics.setdefault(topic, []).append(row)
    return [write for topic, of_topic in topics.items() for write in writes_of(log, topic, _records(of_topic))]


def _records(rows: Sequence[PendingRow]) -> Records:
    frame = mapping(rows[0].entity).frame_of([row.values for row in rows])
    gone = pl.Series("tombstones", [row.is_tombstone for row in rows])
    return Records(frame, column_of_pairs([row.headers for row in rows]), gone if gone.any() else None)


def writes_of(log: Log, topic: str, records: Records) -> list[Write]:
    """Divide records among the partitions of their topic, by their key."""
    spec = log.topic(topic)
    if spec.partitions == 1:
        return [Write(topic, 0, records)]
    if spec.keys:
        numbers = partition_numbers(records.frame.select(spec.keys), spec.partitions)
    else:
        # Without a key any partition will do; whole batches stay together.
        ends = log.ends(topic)
        numbers = np.full(len(records), int(np.argmin(ends)))
    return [Write(topic, int(number), records.filter(pl.Series(numbers == number))) for number in np.unique(numbers)]


def append_frame(log: Log, topic: str, frame: pl.DataFrame) -> None:
    """Append the rows of a physical frame to their partitions."""
    log.append(writes_of(log, topic, Records(frame)))


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
