"""What the tests of the log write, and how they read it back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import header_rows
from kandle.log.port import Consumer, Log, TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.waiting import LIMIT, result_of, wait_until

INSTANT = pl.Datetime("us", "UTC")
START = datetime(2024, 3, 1, tzinfo=UTC)
COLUMNS = (
    TopicColumn("symbol", "string", pl.String()),
    TopicColumn("number", "int", pl.Int64()),
    TopicColumn("time", "instant", INSTANT),
)

LONG = 2 * LIMIT * SECOND
"""A timeout of polls that no test waits for: one that ends within `LIMIT` was woken."""


def topic_spec(name: str, **settings: Any) -> TopicSpec:
    """Return a topic of numbers with a symbol and a time."""
    return TopicSpec(**{"name": name, "columns": COLUMNS, "keys": ("symbol",), "time": "time", "replication": 1, **settings})


def instant(number: int) -> int:
    """Return the time of a number in microseconds: one second after that of the number before."""
    return round(START.timestamp()) * SECOND + number * SECOND


def records(numbers: Iterable[int], symbols: Sequence[str] | None = None) -> Records:
    """Return records of these numbers, of symbol `A` unless given."""
    values = list(numbers)
    columns = {"symbol": symbols or ["A"] * len(values), "number": values, "time": [START + timedelta(seconds=n) for n in values]}
    return Records(pl.DataFrame(columns, schema={column.name: column.physical for column in COLUMNS}))


def write(topic: str, numbers: Iterable[int], partition: int = 0, symbols: Sequence[str] | None = None) -> Write:
    """Return records of these numbers for one partition."""
    return Write(topic, partition, records(numbers, symbols))


def numbers_of(batches: Iterable[Batch]) -> list[int]:
    """Return the numbers in the order in which they were read."""
    return [number for batch in batches for number in batch.records.frame["number"].to_list()]


def offsets_of(batches: Iterable[Batch]) -> list[int]:
    """Return the offsets in the order in which they were read."""
    return [int(offset) for batch in batches for offset in batch.offsets]


def headers_of(batches: Iterable[Batch]) -> list[dict[str, str]]:
    """Return the headers of each record."""
    return [headers for batch in batches for headers in header_rows(batch.records)]


def tombstones_of(batches: Iterable[Batch]) -> list[bool]:
    """Return whether each record is a tombstone."""
    tombstones: list[bool] = []
    for batch in batches:
        marks = batch.records.tombstones
        tombstones += [False] * len(batch) if marks is None else marks.to_list()
    return tombstones


def table_of(batches: Iterable[Batch]) -> dict[str, int]:
    """Return the latest number of each symbol that has not ended with a tombstone."""
    table: dict[str, int] = {}
    for batch in batches:
        frame = batch.records.frame
        for symbol, number, gone in zip(frame["symbol"], frame["number"], tombstones_of([batch]), strict=True):
            if gone:
                table.pop(symbol, None)
            else:
                table[symbol] = number
    return table


def frame_of(batches: Sequence[Batch]) -> pl.DataFrame:
    """Return all rows in one frame."""
    return pl.concat([batch.records.frame for batch in batches])


def read_all(
    log: Log, topic: str, partition: int = 0, offset: int = 0, max_rows: int = 1_000_000, span: tuple[int, int] | None = None
) -> list[Batch]:
    """Return everything from an offset on, read step by step until nothing more comes."""
    result: list[Batch] = []
    while batches := log.read(TopicPartition(topic, partition), offset, max_rows, span):
        following = batches[-1].next_offset
        assert following > offset, f"a read at {offset} does not lead on: {batches}"
        result, offset = result + batches, following
    return result


def maintain_fully(log: Log) -> int:
    """Maintain the log until there is nothing left to do, and return the number of removed rows."""
    removed = 0
    while (done := log.maintain()).rows:
        removed += done.rows
    return removed


def drop_topic(log: EmbeddedLog, topic: str) -> None:
    """Take a topic away behind kandle's back, as an administrator of a cluster can."""
    with log.database.transaction():
        ((number,),) = log.database.rows("SELECT id FROM topic WHERE name = ?", [topic])
        for table in ("batch", "partition"):
            log.database.run(f"DELETE FROM {table} WHERE topic = ?", [number])
        log.database.run("DELETE FROM topic WHERE id = ?", [number])
        log.catalog.invalidate()


class MovedClock(SystemClock):
    """The system's clock, set forward by hand."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead

    def steady(self) -> int:
        return super().steady() + self.ahead


Event = tuple[str, str, frozenset[TopicPartition]]


@dataclass
class Recorder:
    """A listener that records its calls; `before_revoked` is called before partitions go."""

    member: str = ""
    events: list[Event] = field(default_factory=list)
    before_revoked: Callable[[Collection[TopicPartition]], None] | None = None

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._note("assigned", partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        if self.before_revoked is not None:
            self.before_revoked(partitions)
        self._note("revoked", partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self._note("lost", partitions)

    def heard(self, kind: str) -> set[TopicPartition]:
        """Return all partitions of one kind of event."""
        return {partition for event, _, partitions in self.events if event == kind for partition in partitions}

    def _note(self, kind: str, partitions: Collection[TopicPartition]) -> None:
        if partitions:
            self.events.append((kind, self.member, frozenset(partitions)))


def partitions_of(topic: str, count: int) -> set[TopicPartition]:
    """Return all partitions of a topic."""
    return {TopicPartition(topic, number) for number in range(count)}


def owned(*consumers: Consumer) -> list[TopicPartition]:
    """Return the partitions of the members, one after the other."""
    return [partition for consumer in consumers for partition in consumer.assignment]


def settle(
    consumers: Sequence[Consumer], done: Callable[[], bool], timeout: int = 10_000, max_rows: int = 1_000_000
) -> list[Batch]:
    """Poll in turn until `done`, check at each step that no partition is owned by two, and return the batches."""
    batches: list[Batch] = []

    def poll_all() -> None:
        for consumer in consumers:
            batches.extend(consumer.poll(timeout, max_rows))
            partitions = owned(*consumers)
            assert len(partitions) == len(set(partitions)), f"owned by two: {partitions}"

    wait_until(
        done, "rest of the group", seen=lambda: [dict(consumer.assignment) for consumer in consumers], check=poll_all, pause=0
    )
    return batches


def settle_on(consumers: Sequence[Consumer], partitions: Collection[TopicPartition]) -> list[Batch]:
    """Poll in turn until all these partitions are owned, each member has its share, and another round changes nothing."""

    def shared() -> bool:
        shares = [len(consumer.assignment) for consumer in consumers]
        return set(owned(*consumers)) == set(partitions) and min(shares) > 0

    return settle(consumers, shared)


def poll_until(consumer: Consumer, count: int, timeout: int = 100_000, max_rows: int = 1_000_000) -> list[Batch]:
    """Poll until so many records have come, and return the batches."""
    batches: list[Batch] = []
    wait_until(
        lambda: len(numbers_of(batches)) >= count,
        f"{count} records",
        seen=lambda: numbers_of(batches),
        check=lambda: batches.extend(consumer.poll(timeout, max_rows)),
        pause=0,
    )
    return batches


def woken(consumer: Consumer, waiting: Future[list[Batch]]) -> list[Batch]:
    """Wake a poll in another thread and return its batches."""
    consumer.wake()
    return result_of(waiting, "the end of the poll")


def positions_of(batches: Iterable[Batch]) -> dict[TopicPartition, int]:
    """Return the offsets after these batches, as they are committed."""
    return {TopicPartition(batch.topic, batch.partition): batch.next_offset for batch in batches}
