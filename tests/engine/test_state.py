"""Open buckets: counting them changes nothing, because any thread may count."""

from __future__ import annotations

import polars as pl

from kandle.engine.aggregates import FIRST_TIME, LAST_TIME
from kandle.engine.state import KEY, START, PartialBuffer


def rows(*buckets: tuple[int, int]) -> pl.DataFrame:
    numbers, starts = zip(*buckets, strict=True)
    return pl.DataFrame({KEY: numbers, START: starts, FIRST_TIME: starts, LAST_TIME: starts})


def test_buckets_are_counted_once_however_often_they_were_appended() -> None:
    buffer = PartialBuffer([])
    assert buffer.bucket_count == 0
    buffer.append(rows((0, 0), (1, 0)), in_order=True)
    buffer.append(rows((0, 0), (0, 60)), in_order=True)
    assert buffer.bucket_count == 3


def test_counting_leaves_the_frames_as_they_are() -> None:
    """A count that merged them would lose what another thread appends meanwhile."""
    buffer = PartialBuffer([])
    buffer.append(rows((0, 0)), in_order=True)
    buffer.append(rows((0, 0)), in_order=True)
    before = list(buffer._frames)
    assert buffer.bucket_count == 1
    assert [id(frame) for frame in buffer._frames] == [id(frame) for frame in before]
