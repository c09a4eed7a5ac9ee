"""How what a task reads comes into its pipeline: as events, or as base buckets that ksqlDB has aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.expressions import evaluate
from kandle.engine.pipeline import Pipeline, Processed
from kandle.engine.state import START
from kandle.errors import DataError
from kandle.log.records import Batch
from kandle.plan.plan import Plan
from kandle.plan.topics import AggregatedTable, QueryTopics
from kandle.query.nodes import Column
from kandle.query.query import QueryModel, over_one_row
from kandle.serde.keys import partition_numbers
from kandle.time.buckets import buckets
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, SECOND
from kandle.time.watermark import Watermark


class Intake(Protocol):
    """Takes batches of one partition in."""

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Take them in; the watermark moves on as far as they prove that time has passed."""


class EventIntake:
    """Events of the source as they stand there."""

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        frame, times = _events(batches)
        return pipeline.process(frame, watermark, times)


class CopiedIntake:
    """Events of the source that were copied to the partition of their group key.

    Behind those of one partition of the source stand those of another, which may be older by as much as was waiting there to
    be copied. So they prove nothing of time: buckets close by heartbeats alone, which wait for what is not copied yet.
    """

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        frame, _ = _events(batches)
        return pipeline.process(frame)


def _events(batches: Sequence[Batch]) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows, and when each was appended; a stream's tombstones are no events."""
    frame = pl.concat([batch.records.frame for batch in batches])
    times = np.concatenate([batch.timestamps for batch in batches])
    gone = [batch.records.tombstones for batch in batches]
    if all(mask is None for mask in gone):
        return frame, times
    kept = pl.concat(
        [pl.Series([True] * len(batch)) if mask is None else ~mask for batch, mask in zip(batches, gone, strict=True)]
    )
    return frame.filter(kept), times[kept.to_numpy()]


TIME = "_time"
"""The end of the names of partials that are instants: the table has them in milliseconds."""


class AggregatedIntake:
    """Rows of a windowed table of ksqlDB: each is its bucket so far.

    They come in the order in which ksqlDB made them, which says nothing of time: buckets close by heartbeats alone.
    """

    def __init__(self, query: QueryModel, table: AggregatedTable) -> None:
        self._table = table
        self._key_names = CompiledQuery(query).key_names
        self._types = _partial_types(query)

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        # ksqlDB takes windows away when it forgets them, which says nothing of their bars.
        alive = [
            batch.records if (gone := batch.records.tombstones) is None else batch.records.filter(~gone) for batch in batches
        ]
        return pipeline.put(self.rows(pl.concat([records.frame for records in alive])))

    def rows(self, frame: pl.DataFrame) -> pl.DataFrame:
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
    """Return the engine's types of the partials of a query, by name."""
    types = {part.name: part.type.physical for part in query.source.fields}
    if query.join is not None:
        other = query.join.entity
        types |= {f"{other.name}.{part.name}": part.type.physical for part in other.fields}
    source = pl.DataFrame(schema=types)
    compiled = CompiledQuery(over_one_row(query))
    events = source.select(compiled.time.alias(TIME), *compiled.arguments, pl.lit(0, dtype=pl.Int64).alias("_offset"))
    return compiled.collected(events.with_columns(pl.lit(0).alias(START)), [START]).schema


def intake_of(topics: QueryTopics) -> Intake:
    """The intake of what tasks read."""
    if topics.table is not None:
        return AggregatedIntake(topics.plan.query, topics.table)
    return CopiedIntake() if topics.is_repartitioned else EventIntake()


LONGEST = SECOND
"""Heartbeats are not on their way for longer. None comes where nobody leads, or outside of sessions."""


class Holding:
    """The batches of one partition that wait, in their order."""

    def __init__(self, plan: Plan, event_time: pl.Expr, clock: Clock, heard: int) -> None:
        self._buckets = buckets(plan.base.timeframe, plan.zone)
        self._grace = plan.base.grace
        self._event_time = event_time
        self._clock = clock
        self._heard = heard
        self._held: list[Batch] = []
        self._since: int | None = None

    def heard(self, instant: int) -> None:
        """A heartbeat was read: what is over by it is known."""
        self._heard = max(self._heard, instant)

    def ready(self, batches: Sequence[Batch]) -> list[Batch]:
        """Those of the held and the new batches that may be processed; the others are held."""
        every = [*self._held, *batches]
        count = next((at for at, batch in enumerate(every) if self._is_waiting(batch)), len(every))
        self._held = every[count:]
        if not self._held:
            self._since = None
        return every[:count]

    def _is_waiting(self, batch: Batch) -> bool:
        """Whether some event's bucket is over by the clock, but no heartbeat has said so yet."""
        now = self._clock.now()
        if not len(batch) or self._heard >= now:
            return False
        times = evaluate(batch.records.frame, [self._event_time.alias("time")])["time"].drop_nulls().to_numpy()
        over = self._buckets.next(times) + self._grace
        return bool(((over <= now) & (over > self._heard)).any()) and not self._is_enough(now)

    def _is_enough(self, now: int) -> bool:
        """Whether it was waited for long enough; then what is over by now is not waited for again."""
        steady = self._clock.steady()
        if self._since is None:
            self._since = steady
        if 0 <= steady - self._since < LONGEST:
            return False
        self._heard = now
        return True


class Placement:
    """Looks at each new group key of one partition, once."""

    def __init__(self, topics: QueryTopics, partition: int) -> None:
        self._topics = topics
        self._partition = partition
        query = topics.plan.query
        grouped = [node.name if isinstance(node, Column) else None for node in query.group_by]
        self._is_needed = topics.partitions > 1 and topics.events == topics.source
        self._parts = [grouped.index(key.name) for key in query.source.keys] if self._is_needed else []
        self._checked = 0

    def skip(self, keys: pl.DataFrame | None) -> None:
        """These were looked at before."""
        self._checked = 0 if keys is None else keys.height

    def check(self, keys: pl.DataFrame | None) -> None:
        """DataError for a key that belongs to another partition."""
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
