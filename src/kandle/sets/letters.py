"""Dead letters as they are read: objects, the choice of some of them, and what became of each.

A topic of letters is only ever appended to. That a letter was replayed or dropped is a record of its own, a *mark*, behind it in
the same partition:

    offset    0         1         2         3                  4
    record    letter    letter    letter    replayed: 1        dropped: 0
    state     dropped   replayed  open
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import DataError, UnknownTopicError
from kandle.log.headers import HeaderPairs, header_texts, raw_header_rows
from kandle.log.letters import MARKS, LetterKind
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, EncodedWrite
from kandle.model.texts import value_text
from kandle.plan.topics import dead_letter_topic, has_letters
from kandle.serde.port import column_fields
from kandle.time.arrays import IntArray
from kandle.time.timeframe import from_instant

ROWS_AT_ONCE = 20_000
OFFSET = "__offset"
WRITTEN = "__written"

SCHEMA = dead_letter_topic("", 1, None).schema

OPEN = "open"
"""The state of a letter that was neither replayed nor dropped."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record, an event or a bar that could not be used, and why.

    Attributes:
        topic: The topic of the record; of a bar, that of its events.
        partition: Its partition.
        offset: Its offset; of a bar, the next offset of the events when its bucket was closed.
        kind: `handler`, `unreadable`, `event`, `bar`, or `left out` for the sum of those beyond a limit.
        error: What is wrong, as a sentence.
        error_class: The class of the error.
        traceback: Where the handler has raised it.
        attempts: How often the handler was called.
        group: The consumer group of the handler; None for queries.
        time: When the record was appended.
        key: Its key: bytes as they were, or its fields as JSON.
        payload: The record: bytes as they were, or its fields as JSON; None for a tombstone.
        is_json: Whether key and payload are fields as JSON.
        headers: The headers of the record that are text.
        raw_headers: All headers of the record, as they are.
        entity: The entity with the field that is wrong.
        field: The field that is wrong, or several.
        value: Its value as text.
        timeframe: The timeframe of a bar.
        start: The start of the bucket of a bar.
        count: The number of records that it stands for.
        state: `open`, `replayed` or `dropped`.
        written: When the letter was written.
        letter_topic: The topic of the letter itself.
        letter_partition: Its own partition.
        letter_offset: Its own offset.
    """

    topic: str
    partition: int
    offset: int
    kind: str
    error: str
    error_class: str | None
    traceback: str | None
    attempts: int | None
    group: str | None
    time: datetime | None
    key: bytes | None = dataclasses.field(repr=False)
    payload: bytes | None = dataclasses.field(repr=False)
    is_json: bool = dataclasses.field(repr=False)
    headers: dict[str, str] = dataclasses.field(repr=False)
    raw_headers: HeaderPairs = dataclasses.field(repr=False)
    entity: str | None
    field: str | None
    value: str | None
    timeframe: str | None
    start: datetime | None
    count: int
    state: str
    written: datetime
    letter_topic: str
    letter_partition: int
    letter_offset: int

    @property
    def source(self) -> TopicPartition:
        """The partition of the record."""
        return TopicPartition(self.topic, self.partition)

    @property
    def id(self) -> str:
        """The place of the letter in its topic, as `partition:offset`."""
        return f"{self.letter_partition}:{self.letter_offset}"


@dataclasses.dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; what is None or empty means all.

    Attributes:
        kinds: Kinds of letters.
        error_class: The class of the error, with its module or without.
        group: The consumer group.
        partition: The partition of the record.
        key: The first parts of the key, as text.
        since: The first instant, in microseconds, at which letters were written.
        until: The instant behind the last one.
        timeframe: The timeframe of bars; letters that are about no bar are meant as well.
        ids: Single letters, by partition and offset in their own topic.
        is_done: Whether letters are meant as well that were replayed or dropped.
    """

    kinds: tuple[str, ...] = ()
    error_class: str | None = None
    group: str | None = None
    partition: int | None = None
    key: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    timeframe: str | None = None
    ids: frozenset[tuple[int, int]] = frozenset()
    is_done: bool = False

    def rows(self, letter_partition: int) -> pl.Expr:
        """Return an expression that is true for the rows that are meant; the key is looked at elsewhere."""
        conditions = [pl.lit(value=True)]
        if self.kinds:
            conditions.append(pl.col("kind").is_in(self.kinds))
        if self.error_class is not None:
            name = pl.col("error_class")
            conditions.append((name == self.error_class) | name.str.ends_with(f".{self.error_class}"))
        if self.group is not None:
            conditions.append(pl.col("group") == self.group)
        if self.partition is not None:
            conditions.append(pl.col("partition") == self.partition)
        if self.since is not None:
            conditions.append(pl.col(WRITTEN) >= self.since)
        if self.until is not None:
            conditions.append(pl.col(WRITTEN) < self.until)
        if self.timeframe is not None:
            conditions.append(pl.col("timeframe").is_null() | (pl.col("timeframe") == self.timeframe))
        if self.ids:
            offsets = [offset for partition, offset in self.ids if partition == letter_partition]
            conditions.append(pl.col(OFFSET).is_in(offsets))
        return pl.all_horizontal([condition.fill_null(value=False) for condition in conditions])


@dataclasses.dataclass(frozen=True, slots=True)
class LetterStates:
    """What became of the letters of one partition.

    Attributes:
        done: By the offset of a letter whether it was replayed or dropped; open ones are not in it.
        open: The offsets of all others, ascending.
        end: The next offset.
    """

    done: Mapping[int, str]
    open: IntArray
    end: int


def letter_states(log: Log, partition: TopicPartition) -> LetterStates:
    """Return what became of the letters of one partition of their topic.

    Args:
        log: The log.
        partition: The partition.
    """
    end = log.ends(partition.topic)[partition.partition]
    done: dict[int, str] = {}
    letters = [np.empty(0, np.int64)]
    for batch in _batches(log, partition, end):
        frame = _letter_frame(batch)
        is_mark = frame["kind"].is_in([kind.value for kind in MARKS])
        done |= dict(frame.filter(is_mark).select("letter", "kind").rows())
        letters.append(frame.filter(~is_mark)[OFFSET].to_numpy())
    offsets = np.concatenate(letters)
    return LetterStates(done, offsets[~np.isin(offsets, list(done))], end)


def read_letters(
    log: Log, partition: TopicPartition, chosen: LetterFilter, states: LetterStates | None = None
) -> Iterator[DeadLetter]:
    """Yield the letters of one partition that are meant, oldest first.

    Args:
        log: The log.
        partition: A partition of a topic of letters.
        chosen: Which letters are meant.
        states: What became of them; None looks it up.
    """
    states = letter_states(log, partition) if states is None else states
    for batch in _batches(log, partition, states.end):
        frame = _letter_frame(batch)
        is_mark = frame["kind"].is_in([kind.value for kind in MARKS])
        wanted = ~is_mark & frame.select(chosen.rows(partition.partition)).to_series()
        if not chosen.is_done:
            wanted &= frame[OFFSET].is_in(pl.Series(states.open).implode())
        if wanted.any():
            headers = raw_header_rows(batch.records.filter(wanted))
            for letter in _letters(partition, frame.filter(wanted), headers, states.done):
                if _has_key(log, letter, chosen.key):
                    yield letter


def _batches(log: Log, partition: TopicPartition, end: int) -> Iterator[Batch]:
    offset = log.first(partition)
    while offset < end and (batches := log.read(partition, offset, ROWS_AT_ONCE)):
        yield from batches
        offset = batches[-1].next_offset


def newest_letters(log: Log, topic: str, chosen: LetterFilter, count: int | None = None) -> list[DeadLetter]:
    """Return the letters of a topic that are meant, oldest first.

    Args:
        log: The log.
        topic: A topic of letters.
        chosen: Which letters are meant.
        count: How many of the newest to return; None returns all.
    """
    letters: list[DeadLetter] = []
    for number in range(log.partition_count(topic)):
        letters += deque(read_letters(log, TopicPartition(topic, number), chosen), maxlen=count)
    letters.sort(key=lambda letter: (letter.written, letter.letter_partition, letter.letter_offset))
    return letters if count is None else letters[-count:]


def every_letter(log: Log, topic: str, chosen: LetterFilter) -> Iterator[DeadLetter]:
    """Yield the letters of a topic that are meant, partition after partition.

    Args:
        log: The log.
        topic: A topic of letters.
        chosen: Which letters are meant.
    """
    for number in range(log.partition_count(topic)):
        yield from read_letters(log, TopicPartition(topic, number), chosen)


def _letter_frame(batch: Batch) -> pl.DataFrame:
    frame = batch.records.frame
    # Former versions have written fewer columns, and no kind where there was one only.
    missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in SCHEMA.items() if name not in frame.columns]
    frame = frame.with_columns(missing, pl.Series(OFFSET, batch.offsets), pl.Series(WRITTEN, batch.timestamps))
    return frame.with_columns(pl.col("kind").fill_null(LetterKind.UNREADABLE.value))


def _letters(
    partition: TopicPartition, frame: pl.DataFrame, headers: Sequence[HeaderPairs], states: Mapping[int, str]
) -> Iterator[DeadLetter]:
    for row, pairs in zip(frame.iter_rows(named=True), headers, strict=True):
        is_json = row["is_json"]
        yield DeadLetter(
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            kind=row["kind"],
            error=row["error"],
            error_class=row["error_class"],
            traceback=row["traceback"],
            attempts=row["attempts"],
            group=row["group"],
            time=row["time"],
            key=row["key"],
            payload=row["payload"],
            is_json=row["kind"] != LetterKind.UNREADABLE.value if is_json is None else is_json,
            headers=header_texts(pairs),
            raw_headers=pairs,
            entity=row["entity"],
            field=row["field"],
            value=row["value"],
            timeframe=row["timeframe"],
            start=row["start"],
            count=1 if row["count"] is None else row["count"],
            state=states.get(row[OFFSET], OPEN),
            written=from_instant(row[WRITTEN]),
            letter_topic=partition.topic,
            letter_partition=partition.partition,
            letter_offset=row[OFFSET],
        )


def _has_key(log: Log, letter: DeadLetter, parts: Sequence[str]) -> bool:
    return not parts or key_texts(log, letter)[: len(parts)] == tuple(parts)


def key_texts(log: Log, letter: DeadLetter) -> tuple[str, ...]:
    """Return the parts of a letter's key as text; bytes that cannot be read as the topic's key are one part.

    Args:
        log: The log.
        letter: The letter.
    """
    if letter.key is None:
        return ()
    if letter.is_json:
        return tuple(str(value) for value in json.loads(letter.key).values())
    try:
        spec = log.topic(letter.topic)
        frame = log.decoded(EncodedWrite(letter.topic, letter.partition, [letter.key], [None])).frame
    except (DataError, UnknownTopicError):
        return (letter.key.decode(errors="replace"),)
    fields = column_fields(spec.key_columns)
    row: dict[str, Any] = frame.select(pl.all().to_physical()).row(0, named=True)
    return tuple(value_text(row[part.name], part.type) or "" for part in fields)


def letter_topics(log: Log) -> list[str]:
    """Return the topics of the log that have dead letters."""
    return [spec.name for spec in log.topics() if has_letters(spec)]
