"""Reads what is at the end of topics, and what comes after it, without joining a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from kandle.cli.values import iso_instant, logical
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, header_rows
from kandle.time.timeframe import SECOND

ROWS_AT_ONCE = 20_000


class Tail:
    """Positions in the partitions of some topics, from which new records are read on."""

    def __init__(self, log: Log, positions: dict[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    @classmethod
    def at_end(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Begin with what is appended from now on."""
        return cls(log, {place: end for topic in topics for place, _, end in bounds(log, topic)})

    @classmethod
    def at_start(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Begin with the oldest record that is there."""
        return cls(log, {place: start for topic in topics for place, start, _ in bounds(log, topic)})

    def read(self) -> list[Batch]:
        """All records that have come since the last time."""
        return [batch for place in list(self._positions) for batch in self._read(place)]

    def _read(self, place: TopicPartition) -> Iterator[Batch]:
        while batches := self._log.read(place, self._positions[place], ROWS_AT_ONCE):
            yield from batches
            self._positions[place] = batches[-1].next_offset

    def follow(self, patience: int = SECOND) -> Iterator[list[Batch]]:
        """What is there already and then whatever comes, for ever; wakes up with each append."""
        while True:
            if batches := self.read():
                yield batches
            self._log.wait(patience)


def bounds(log: Log, topic: str) -> list[tuple[TopicPartition, int, int]]:
    """Each partition of a topic with its offsets `[start, end)`."""
    return [(TopicPartition(topic, number), state.start, state.end) for number, state in enumerate(log.partitions(topic))]


def newest(log: Log, topic: str, count: int) -> list[Batch]:
    """The last `count` records of a topic at least, in the order in which they were appended within each partition."""
    return [batch for place, start, end in bounds(log, topic) for batch in _newest(log, place, start, end, count)]


def _newest(log: Log, place: TopicPartition, start: int, end: int, count: int) -> list[Batch]:
    """The last records of one partition; looks further back while offsets that compaction took away leave too few."""
    reach = max(count, 1)
    while True:
        begin = max(start, end - reach)
        batches = Tail(log, {place: begin}).read()
        if begin == start or sum(map(len, batches)) >= count:
            return batches
        reach *= 8


def records(log: Log, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Partition, offset, timestamp, headers and value of each record, in the order of the timestamps."""
    rows = [row for batch in batches for row in _records(log, batch)]
    return sorted(rows, key=lambda row: (row["timestamp"], row["partition"], row["offset"]))


def _records(log: Log, batch: Batch) -> Iterator[dict[str, Any]]:
    frame = logical(log.topic(batch.topic), batch.records.frame)
    removed = batch.records.tombstones
    gone = [False] * len(batch) if removed is None else removed.to_list()
    columns = (batch.offsets.tolist(), batch.timestamps.tolist(), header_rows(batch.records), gone, frame.iter_rows(named=True))
    keys = log.topic(batch.topic).keys
    for offset, timestamp, headers, is_gone, value in zip(*columns, strict=True):
        yield {
            "partition": batch.partition,
            "offset": offset,
            "timestamp": iso_instant(timestamp),
            "headers": headers,
            "tombstone": is_gone,
            "value": {name: value[name] for name in keys} if is_gone else value,
        }


def whole(log: Log, topic: str) -> pl.DataFrame:
    """Every record of a topic with its values as users see them, and `_partition`, `_offset` and `_appended` (microseconds)."""
    spec = log.topic(topic)
    parts = [_marked(batch) for batch in Tail.at_start(log, [topic]).read()]
    schema = spec.schema | {"_partition": pl.Int64(), "_offset": pl.Int64(), "_appended": pl.Int64()}
    return logical(spec, pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=schema))


def _marked(batch: Batch) -> pl.DataFrame:
    return batch.records.frame.with_columns(
        pl.lit(batch.partition, dtype=pl.Int64).alias("_partition"),
        pl.Series("_offset", batch.offsets, dtype=pl.Int64),
        pl.Series("_appended", batch.timestamps, dtype=pl.Int64),
    )
