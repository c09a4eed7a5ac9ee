"""Events by group key: one repartitioner per partition of the source copies them to the partition of their group key.

    source, by the producer's own key          repartition topic, by group key
    partition 0:  A B A C            ──────▶   partition 0:  A A A     the task of partition 0 has all events of A
    partition 1:  B A C C            ──────▶   partition 1:  B C B C C

The copies and the position in the source are in one commit, so each event is copied once. The order of events of one source
partition is kept; events of different source partitions come in the order in which they are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.failures import RowFailure, evaluate_rows, failed_events
from kandle.log.letters import Letter, LetterKind
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.model.texts import named_rows
from kandle.runtime.dead_letters import DeadLetters, RefusedRows, event_letters, row_letter
from kandle.runtime.state import TaskContext
from kandle.serde.keys import partition_numbers
from kandle.time.arrays import IntArray


class Repartitioner:
    """Copies the events of one partition of the source.

    Args:
        context: What the tasks of the query work with.
        source: The partition of the source, or of an earlier version of its key.
    """

    def __init__(self, context: TaskContext, source: TopicPartition) -> None:
        self._topics, self._counters = context.topics, context.counters
        self._query = CompiledQuery(context.topics.plan.query)
        self.source = source
        self._fields = [field.name for field in context.topics.plan.query.source.fields]
        self._position: int | None = None
        self._copied = 0
        self._done = 0
        self._pending: list[tuple[Write, IntArray]] = []
        self._dead = DeadLetters(context, self.source)

    def start_at(self, position: int) -> None:
        """Set the position from which the group reads."""
        self._done = position

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return self._position is not None

    def lag(self, end: int) -> int:
        """Return how many events are not copied yet, given the next offset of the partition."""
        return max(0, end - self._done)

    def commit_soon(self, position: int) -> None:
        """Have the next commit write the position from which this reads, even if nothing was copied since."""
        self._position = position

    def take(self, batches: Sequence[Batch]) -> None:
        """Have these events copied with the next commit."""
        self._dead.take(batches)
        for batch in batches:
            if len(batch):
                self._pending += self._split(self._of_source(batch))
            self._position = batch.next_offset
            self._copied += len(batch)

    def _of_source(self, batch: Batch) -> Batch:
        """Return records with the same columns in the same order, whichever version of the source's key they are of."""
        if not self._topics.former:
            return batch
        return replace(batch, records=replace(batch.records, frame=batch.records.frame.select(self._fields)))

    def _split(self, batch: Batch) -> list[tuple[Write, IntArray]]:
        """Return the records of a batch, with their offsets, by partition of their group key.

        Those whose key cannot be computed are left out.
        """
        records, offsets = batch.records, batch.offsets
        if self._topics.plan.query.group_by:
            keys = evaluate_rows(records.frame, self._query.keys, self._query.event_labels)
            if keys.failures:
                self._leave_out(batch, keys.failures)
                good = keys.rows(len(batch))
                records = records.filter(pl.Series(np.isin(np.arange(len(batch)), good)))
                offsets = offsets[good]
            numbers = partition_numbers(keys.frame, self._topics.partitions)
        else:
            # All events are of one key.
            numbers = np.zeros(len(records), np.int64)
        return [
            (Write(self._topics.events, int(number), records.filter(pl.Series(numbers == number))), offsets[numbers == number])
            for number in np.unique(numbers)
        ]

    def _leave_out(self, batch: Batch, failures: Sequence[RowFailure]) -> None:
        failed = failed_events(self._query, batch.records.frame, failures)
        # The records were numbered with tombstones.
        whole = replace(batch, records=replace(batch.records, tombstones=None))
        self._dead.add(*event_letters(self._topics.plan.query.source, [whole], failed))

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset, to be committed."""
        return {} if self._position is None else {self.source: self._position}

    def writes(self, *, live: bool = True) -> list[Write]:
        """Return the copies, those of a partition in one write, and dead letters; `live` makes no difference here."""
        by_partition: dict[int, list[Records]] = {}
        for write, _ in self._pending:
            by_partition.setdefault(write.partition, []).append(write.records)
        copies = [Write(self._topics.events, number, join_records(parts)) for number, parts in by_partition.items()]
        return [*copies, *self._dead.writes()]

    def without(self, writes: Sequence[Write], refused: RefusedRows) -> list[Write]:
        """Return what `writes` has returned without records that the log refuses: they become dead letters."""
        source = self._topics.plan.query.source

        def letter_of(write: Write, row: int, reason: str) -> Letter:
            offset = int(np.concatenate([offsets for copy, offsets in self._pending if copy.partition == write.partition])[row])
            return row_letter(LetterKind.EVENT, source, named_rows(write.records.frame.slice(row, 1))[0], offset, reason)

        return self._dead.without(writes, refused, letter_of)

    def committed(self, offsets: Sequence[int]) -> None:
        """Note that the commit was made."""
        self._pending.clear()
        self._counters.repartitioned += self._copied
        self._copied = 0
        self._dead.committed()
        if self._position is not None:
            self._done = self._position
        self._position = None


def join_records(parts: Sequence[Records]) -> Records:
    """Return several runs of records as one; where only some have headers or tombstones, the others get none."""
    if len(parts) == 1:
        return parts[0]
    frame = pl.concat([records.frame for records in parts])
    headers = _join_columns([(records.headers, len(records)) for records in parts])
    tombstones = _join_columns([(records.tombstones, len(records)) for records in parts])
    return Records(frame, headers, None if tombstones is None else tombstones.fill_null(False))


def _join_columns(columns: Sequence[tuple[pl.Series | None, int]]) -> pl.Series | None:
    known = next((column for column, _ in columns if column is not None), None)
    if known is None:
        return None
    return pl.concat([pl.Series([None] * length, dtype=known.dtype) if column is None else column for column, length in columns])
