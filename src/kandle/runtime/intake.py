"""How what a task reads comes into its pipeline: as events, or as base buckets that ksqlDB has aggregated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import polars as pl

from kandle.engine.pipeline import Pipeline, Processed
from kandle.log.records import Batch
from kandle.runtime.ksqldb.aggregated import Aggregated
from kandle.time.watermark import Watermark


class Intake(Protocol):
    """Takes batches of one partition in."""

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        """Take them in; the watermark moves on as far as they prove that time has passed."""


class EventIntake:
    """Events of the source."""

    def take(self, pipeline: Pipeline, watermark: Watermark, batches: Sequence[Batch]) -> Processed:
        frames = [batch.records.frame for batch in batches]
        times = np.concatenate([batch.timestamps for batch in batches])
        return pipeline.process(*_without_tombstones(batches, pl.concat(frames), watermark, times))


def _without_tombstones(
    batches: Sequence[Batch], frame: pl.DataFrame, watermark: Watermark, times: np.ndarray
) -> tuple[pl.DataFrame, Watermark, np.ndarray]:
    """A stream's tombstones are no events."""
    gone = [batch.records.tombstones for batch in batches]
    if all(mask is None for mask in gone):
        return frame, watermark, times
    kept = pl.concat(
        [pl.Series([True] * len(batch)) if mask is None else ~mask for batch, mask in zip(batches, gone, strict=True)]
    )
    return frame.filter(kept), watermark, times[kept.to_numpy()]


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


def intake_of(aggregated: Aggregated | None) -> Intake:
    """The intake of what tasks read."""
    return EventIntake() if aggregated is None else AggregatedIntake(aggregated)
