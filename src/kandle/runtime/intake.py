"""How what a task reads comes into its pipeline: as events, or as base buckets that ksqlDB has aggregated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from kandle.engine.pipeline import Pipeline, Processed
from kandle.log.records import Batch
from kandle.runtime.ksqldb.aggregated import Aggregated
from kandle.runtime.topics import QueryTopics
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


class AggregatedIntake:
    """Rows of a windowed table of ksqlDB: each is its bucket so far.

    They come in the order in which ksqlDB made them, which says nothing of time: buckets close by heartbeats alone.
    """

    def __init__(self, aggregated: Aggregated) -> None:
        self._aggregated = aggregated

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        # ksqlDB takes windows away when it forgets them, which says nothing of their bars.
        alive = [
            batch.records if (gone := batch.records.tombstones) is None else batch.records.filter(~gone) for batch in batches
        ]
        return pipeline.put(self._aggregated.rows(pl.concat([records.frame for records in alive])))


def intake_of(topics: QueryTopics) -> Intake:
    """The intake of what tasks read."""
    if topics.aggregated is not None:
        return AggregatedIntake(topics.aggregated)
    return CopiedIntake() if topics.is_repartitioned else EventIntake()
