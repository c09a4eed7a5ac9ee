"""How records come into the pipeline of a task: as events, or as base buckets that ksqlDB has aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.pipeline import Pipeline, Processed
from kandle.engine.state import START
from kandle.errors import DataError
from kandle.log.records import Batch
from kandle.plan.query_topics import AggregatedTable, QueryTopics
from kandle.query.nodes import Column
from kandle.query.query import QueryModel, over_one_row
from kandle.serde.keys import partition_numbers
from kandle.time.timeframe import MILLISECOND
from kandle.time.watermark import BEFORE_ALL, Watermark


class RecordReader(Protocol):
    """Takes batches of one partition into a pipeline."""

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Process batches; the watermark moves on as far as they prove that time has passed.

        Args:
            pipeline: The pipeline of the partition.
            watermark: The newest event time of the partition.
            batches: Batches in the order of the log, none of them empty.

        Returns:
            What became of the records.
        """


class EventReader:
    """Reads events from the topic of the source.

    Where the log knows when they were appended, events that were appended soon after their time prove that it has passed. A
    producer's own timestamp proves nothing, since its clock may be wrong.
    """

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Process events."""
        frame, appended = _events(batches)
        return pipeline.process(frame, watermark, appended)


class CopiedEventReader:
    """Reads events that were copied to the partition of their group key.

    A copy mixes several partitions of the source: after the events of one partition come those of another, which are older by
    as much as was waiting there to be copied. So their times prove nothing, and buckets close by heartbeats alone, which wait
    for what is not copied yet.
    """

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Process events without moving the watermark."""
        frame, _ = _events(batches)
        return pipeline.process(frame)


def _events(batches: Sequence[Batch]) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the rows, and when each was appended, `BEFORE_ALL` if that is not known; tombstones of a stream are no events."""
    frame = pl.concat([batch.records.frame for batch in batches])
    times = np.concatenate([batch.timestamps if batch.has_append_times else np.full(len(batch), BEFORE_ALL) for batch in batches])
    tombstones = [batch.records.tombstones for batch in batches]
    if all(mask is None for mask in tombstones):
        return frame, times
    is_event = pl.concat(
        [pl.Series([True] * len(batch)) if mask is None else ~mask for batch, mask in zip(batches, tombstones, strict=True)]
    )
    return frame.filter(is_event), times[is_event.to_numpy()]


TIME = "_time"
"""The end of the names of partials that are instants: the table has them in milliseconds."""


class AggregatedRowReader:
    """Reads rows of a windowed table of ksqlDB, each of which is its base bucket so far.

    They come in the order in which ksqlDB made them, which proves nothing of time: buckets close by heartbeats alone.

    Args:
        query: The query whose base bars ksqlDB aggregates.
        table: The table, and which of its columns hold the partial aggregates.
    """

    def __init__(self, query: QueryModel, table: AggregatedTable) -> None:
        self._table = table
        self._key_names = CompiledQuery(query).key_names
        self._types = _partial_types(query)

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Process rows; a tombstone says that ksqlDB forgets a window, which is of no interest here."""
        frames = []
        for batch in batches:
            tombstones = batch.records.tombstones
            frames.append(batch.records.frame if tombstones is None else batch.records.frame.filter(~tombstones))
        return pipeline.put(self._rows(pl.concat(frames)))

    def _rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows of the topic as `Pipeline.put` takes them."""
        *group, start = self._table.topic.keys
        keys = [pl.col(name).alias(key) for name, key in zip(group, self._key_names, strict=True)]
        partials = [self._partial(name, kind) for name, kind in self._types.items() if name != START]
        return frame.select(*keys, pl.col(start).cast(pl.Int64).alias(START), *partials)

    def _partial(self, name: str, kind: pl.DataType) -> pl.Expr:
        column = pl.col(self._table.columns[name])
        if name.endswith(TIME):
            column = column * MILLISECOND
        return column.cast(kind).alias(name)


def _partial_types(query: QueryModel) -> Mapping[str, pl.DataType]:
    """Return the engine's types of the partial aggregates of a query, by name."""
    types = {part.name: part.type.physical for part in query.source.fields}
    if query.join is not None:
        other = query.join.entity
        types |= {f"{other.name}.{part.name}": part.type.physical for part in other.fields}
    source = pl.DataFrame(schema=types)
    compiled = CompiledQuery(over_one_row(query))
    events = source.select(compiled.time.alias(TIME), *compiled.arguments, pl.lit(0, dtype=pl.Int64).alias("_offset"))
    return compiled.collect(events.with_columns(pl.lit(0).alias(START)), [START]).schema


def record_reader(topics: QueryTopics) -> RecordReader:
    """Return the reader of what the tasks of a query read."""
    if topics.table is not None:
        return AggregatedRowReader(topics.plan.query, topics.table)
    return CopiedEventReader() if topics.is_repartitioned else EventReader()


class KeyPlacement:
    """Checks that the group keys of a task belong to its partition, each key once.

    A producer that places keys otherwise would bring one key to two tasks, and each would make bars of half its events.

    Args:
        topics: The topics of the query; copies by group key need no check.
        partition: The partition of the task.
    """

    def __init__(self, topics: QueryTopics, partition: int) -> None:
        self._topics = topics
        self._partition = partition
        query = topics.plan.query
        grouped = [node.name if isinstance(node, Column) else None for node in query.group_by]
        self._is_needed = topics.partitions > 1 and topics.events == topics.source
        self._parts = [grouped.index(key.name) for key in query.source.keys] if self._is_needed else []
        self._checked = 0

    def skip(self, keys: pl.DataFrame | None) -> None:
        """Take these keys for checked: they are from a restored state."""
        self._checked = 0 if keys is None else keys.height

    def check(self, keys: pl.DataFrame | None) -> None:
        """Check the keys that are new.

        Args:
            keys: All keys of the task, in the order in which they came.

        Raises:
            DataError: A key belongs to another partition.
        """
        if not self._is_needed or keys is None or keys.height == self._checked:
            return
        fresh = keys.slice(self._checked).select(keys.columns[part] for part in self._parts)
        numbers = partition_numbers(fresh, self._topics.partitions)
        wrong = np.flatnonzero(numbers != self._partition)
        if len(wrong):
            key = ", ".join(str(part) for part in fresh.row(int(wrong[0])))
            source = self._topics.plan.query.source
            raise DataError(
                f"topic {source.topic}: the key {key} is in partition {self._partition}, but by murmur2 of its values it belongs "
                f"to partition {numbers[wrong[0]]}; if its producer chooses otherwise (as most do with keys in Avro or JSON, "
                f'whose bytes they hash), say partitioner="other" in @kandle.{source.kind} or in [topics.{source.topic}], and '
                "events of a key are brought together first"
            )
        self._checked = keys.height
