"""Events by group key: a task per source partition copies them to the partition that their group key belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.expressions import evaluate
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.plan.topics import QueryTopics
from kandle.runtime.counters import Counters
from kandle.runtime.dead_letters import DeadLetters
from kandle.serde.keys import partition_numbers
from kandle.time.clock import Clock


class Repartitioner:
    """One source partition."""

    def __init__(self, topics: QueryTopics, partition: int, counters: Counters, log: Log, clock: Clock) -> None:
        self._topics = topics
        self._query = CompiledQuery(topics.plan.query)
        self._counters = counters
        self.source = TopicPartition(topics.source, partition)
        self._position: int | None = None
        self._pending: list[Write] = []
        self._dead = DeadLetters(log, clock, topics, counters, self.source)

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return self._position is not None

    def take(self, batches: Sequence[Batch]) -> None:
        """Have these events copied with the next commit."""
        self._dead.take(batches)
        for batch in batches:
            if len(batch):
                self._pending += self._split(batch)
            self._position = batch.next_offset
            self._counters.repartitioned += len(batch)

    def _split(self, batch: Batch) -> list[Write]:
        records = batch.records
        if self._topics.plan.query.group_by:
            numbers = partition_numbers(evaluate(records.frame, self._query.keys), self._topics.partitions)
        else:
            # All events are of one key.
            numbers = np.zeros(len(records), np.int64)
        return [
            Write(self._topics.events, int(number), records.filter(pl.Series(numbers == number))) for number in np.unique(numbers)
        ]

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to be committed."""
        return {} if self._position is None else {self.source: self._position}

    def writes(self, *, live: bool = True) -> list[Write]:
        """Events by partition, those of a partition in one write."""
        by_partition: dict[int, list[Records]] = {}
        for write in self._pending:
            by_partition.setdefault(write.partition, []).append(write.records)
        copies = [Write(self._topics.events, number, joined(every)) for number, every in by_partition.items()]
        return [*copies, *self._dead.writes()]

    def committed(self, offsets: Sequence[int]) -> None:
        """The commit was made."""
        self._pending.clear()
        self._dead.committed()
        self._position = None


def joined(every: Sequence[Records]) -> Records:
    """Several runs of records as one, if none has headers or tombstones that others lack."""
    if len(every) == 1:
        return every[0]
    frame = pl.concat([records.frame for records in every])
    headers = _joined([(records.headers, len(records)) for records in every])
    tombstones = _joined([(records.tombstones, len(records)) for records in every])
    return Records(frame, headers, None if tombstones is None else tombstones.fill_null(False))


def _joined(columns: Sequence[tuple[pl.Series | None, int]]) -> pl.Series | None:
    known = next((column for column, _ in columns if column is not None), None)
    if known is None:
        return None
    return pl.concat([pl.Series([None] * length, dtype=known.dtype) if column is None else column for column, length in columns])
