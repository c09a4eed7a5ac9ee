"""Dead letters: the one envelope in which queries and consumers leave what they cannot use, and how it is written.

    unreadable   a record whose bytes are none of its topic               key and payload are its bytes
    handler      a record that the handler of a consumer cannot handle    key and payload are its bytes, or its fields as JSON
    event        an event that a query cannot compute (a cast, say)       key and payload are its fields as JSON
    bar          a bar that does not fit its entity: it has no final      key is its group key as JSON, no payload
    left out     records beyond the limit of letters                      payload is where they are, as JSON
    replayed     no letter: says that one of this partition was replayed
    dropped      no letter: says that one of this partition was dropped

A letter is written in the commit that goes past its record, to the topic `<topic>_dlq`, which is created with the first one. Its
headers are those of the record. The embedded log has no bytes of records, so that letters of it hold their fields.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum

import polars as pl

from kandle.errors import DataError, UnknownTopicError
from kandle.log.headers import column_of_pairs, raw_header_rows
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord, Write
from kandle.model.texts import json_row, named_rows
from kandle.plan.topics import TopicSpec, dead_letter_name, dead_letter_topic
from kandle.serde.port import RecordField, column_fields
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE, duration_text, parse_duration

logger = logging.getLogger("kandle")

LONGEST_ERROR = 4_000
"""Characters of an error in a letter; longer ones lose their end."""

LONGEST_TRACEBACK = 16_000
"""Characters of a traceback in a letter; longer ones lose their beginning."""

MOST_RANGES = 1_000
"""Ranges of offsets that a letter names for those that have none; further ones widen the last."""

REPORT_INTERVAL = MINUTE
"""The least time between two log lines about dead letters of one kind, in microseconds."""


class LetterKind(Enum):
    """What a dead letter holds; the value is the text of the column `kind`."""

    UNREADABLE = "unreadable"
    HANDLER = "handler"
    EVENT = "event"
    BAR = "bar"
    LEFT_OUT = "left out"
    REPLAYED = "replayed"
    DROPPED = "dropped"


MARKS = frozenset({LetterKind.REPLAYED, LetterKind.DROPPED})
"""Kinds that say what became of a letter."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it is written.

    Attributes:
        kind: What it is.
        offset: The offset of the record; of a bar, the next offset of the events when its bucket was closed.
        error: What is wrong, as a sentence.
        time: When the record was appended, in microseconds.
        key: The key in bytes, or as JSON.
        payload: The record in bytes, or as JSON.
        headers: The headers of the record.
        entity: The entity with the field that is wrong.
        field: The field that is wrong, or several.
        value: Its value as text.
        timeframe: Name of the timeframe of a bar.
        start: Start of the bucket of a bar, in microseconds.
        error_class: The class of the error.
        traceback: Where the error was raised.
        attempts: How often the record was tried.
        group: The consumer group that could not use the record.
        is_json: Whether key and payload are the fields of the record as JSON, and not its bytes.
        count: How many records a letter stands for; None for one.
        letter: The offset of the letter that a mark is about.
    """

    kind: LetterKind
    offset: int
    error: str
    time: int | None = None
    key: bytes | None = None
    payload: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    entity: str | None = None
    field: str | None = None
    value: str | None = None
    timeframe: str | None = None
    start: int | None = None
    error_class: str | None = None
    traceback: str | None = None
    attempts: int | None = None
    group: str | None = None
    is_json: bool | None = None
    count: int | None = None
    letter: int | None = None


def letter_records(spec: TopicSpec, letters: Sequence[tuple[TopicPartition, Letter]]) -> Records:
    """Return letters, each with the partition of its record, as records of their topic."""
    rows = [
        {
            "topic": source.topic,
            "partition": source.partition,
            "offset": letter.offset,
            "error": letter.error[:LONGEST_ERROR],
            "key": letter.key,
            "payload": letter.payload,
            "time": letter.time,
            "kind": letter.kind.value,
            "entity": letter.entity,
            "field": letter.field,
            "value": letter.value,
            "timeframe": letter.timeframe,
            "start": letter.start,
            "error_class": letter.error_class,
            "traceback": letter.traceback,
            "attempts": letter.attempts,
            "group": letter.group,
            "is_json": letter.is_json,
            "count": letter.count,
            "letter": letter.letter,
        }
        for source, letter in letters
    ]
    headers = column_of_pairs([letter.headers for _, letter in letters])
    return Records(pl.DataFrame(rows, schema=spec.schema), headers)


def letter_write(spec: TopicSpec, source: TopicPartition, letters: Sequence[Letter]) -> Write:
    """Return letters of one partition as a write to the topic of the letters."""
    return Write(spec.name, source.partition % spec.partitions, letter_records(spec, [(source, letter) for letter in letters]))


def reject_letter(reject: RejectedRecord) -> Letter:
    """Return the letter of a record that cannot be read."""
    return Letter(
        LetterKind.UNREADABLE,
        reject.offset,
        reject.reason,
        time=reject.timestamp,
        key=reject.key,
        payload=reject.value,
        headers=reject.headers,
        error_class=DataError.__name__,
        is_json=reject.is_json,
    )


def class_name(error: BaseException) -> str:
    """Return the name of an error's class, with its module unless that is Python's or kandle's own."""
    kind = type(error)
    is_known = kind.__module__ == "builtins" or kind.__module__.startswith("kandle.")
    return kind.__qualname__ if is_known else f"{kind.__module__}.{kind.__qualname__}"


def error_text(error: BaseException) -> str:
    """Return what an error says, or the name of its class if it says nothing."""
    return (str(error) or class_name(error))[:LONGEST_ERROR]


def failed_letter(batch: Batch, row: int, fields: Sequence[RecordField], keys: Sequence[str], error: BaseException) -> Letter:
    """Return the letter of a record that a handler could not handle.

    Args:
        batch: The batch of the record.
        row: Its number in the batch.
        fields: The fields of the topic's columns.
        keys: The names of the key's columns.
        error: What the handler has raised.
    """
    records = batch.records
    letter = Letter(
        LetterKind.HANDLER,
        int(batch.offsets[row]),
        error_text(error),
        time=int(batch.timestamps[row]),
        headers=raw_header_rows(records.slice(row, 1))[0],
        error_class=class_name(error),
        traceback="".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:],
    )
    if batch.keys is not None and batch.values is not None:
        return replace(letter, key=batch.keys[row], payload=batch.values[row], is_json=False)
    values = named_rows(records.frame.slice(row, 1))[0]
    is_gone = records.tombstones is not None and bool(records.tombstones[row])
    key_fields = [part for part in fields if part.name in keys]
    return replace(
        letter,
        key=json_row(key_fields, values) if key_fields else None,
        payload=None if is_gone else json_row(fields, values),
        is_json=True,
    )


def without_bytes(write: Write, refused: Mapping[int, str]) -> Write:
    """Return letters without the bytes and headers of those that the log refuses: their records can be read where they are.

    Args:
        write: Letters.
        refused: The reason by the number of each letter that the log refuses.

    Raises:
        DataError: One has neither.
    """
    records = write.records
    for row, reason in refused.items():
        if records.frame[row, "payload"] is None and records.frame[row, "key"] is None:
            raise DataError(reason)
    rows = pl.Series([row in refused for row in range(len(records))])
    note = pl.format("{} (key, payload and headers of the dead letter are left out: it would be too large)", "error")
    emptied = [pl.when(rows).then(None).otherwise(pl.col(name)).alias(name) for name in ("key", "payload")]
    frame = records.frame.with_columns(pl.when(rows).then(note).otherwise(pl.col("error")).alias("error"), *emptied)
    headers = records.headers
    if headers is not None:
        headers = headers.to_frame("headers").select(pl.when(~rows).then(pl.col("headers")))["headers"]
    return replace(write, records=Records(frame, headers))


class LetterReport:
    """Counts dead letters of one kind, and logs them at most once a minute.

    Args:
        text: The line of the log: takes the count, topic and partition of the source, the topic of the letters, and offset and
            error of the first letter.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._first: tuple[TopicPartition, Letter] | None = None
        self._count = 0
        self._reported_at: int | None = None

    def add(self, source: TopicPartition, letters: Sequence[Letter]) -> None:
        """Count letters of a partition."""
        if letters and self._first is None:
            self._first = (source, letters[0])
        self._count += sum(1 if letter.count is None else letter.count for letter in letters)

    def log(self, now: int, topic: str) -> None:
        """Log what has come since the last line, if that was long enough ago."""
        if self._first is None or (self._reported_at is not None and 0 <= now - self._reported_at < REPORT_INTERVAL):
            return
        source, letter = self._first
        logger.warning(self._text, self._count, *source, topic, letter.offset, letter.error)
        self._first, self._count, self._reported_at = None, 0, now


HANDLER_REPORT = "%d records of %s, partition %d, are dead letters in topic %s; the first, at offset %d: %s"


@dataclass(frozen=True, slots=True)
class LetterRate:
    """How many letters may be written within a time, in microseconds; further ones are summed up."""

    count: int
    per: int = MINUTE

    def __str__(self) -> str:
        return f"{self.count} in {duration_text(self.per)}"

    @classmethod
    def parse(cls, text: str) -> LetterRate:
        """Return the rate of a text such as `1000/1m`; ValueError for any other."""
        count, _, duration = text.partition("/")
        if not count.isdecimal():
            raise ValueError("write a number of letters and a duration, such as 1000/1m")
        return cls(int(count), parse_duration(duration))


class RateLimit:
    """Says for each letter whether there is room for it.

    Args:
        rate: How many there may be within a time; None for no limit.
        clock: Tells when the time is over.
    """

    def __init__(self, rate: LetterRate | None, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._begin: int | None = None
        self._count = 0

    def take(self) -> bool:
        """Take the room of one letter; return False if there is none left."""
        if self.rate is None:
            return True
        now = self._clock.steady()
        if self._begin is None or not 0 <= now - self._begin < self.rate.per:
            self._begin, self._count = now, 0
        self._count += 1
        return self._count <= self.rate.count


class LetterTopic:
    """The topic of dead letters of a process: created or compared with its first letter, and again if it was deleted since.

    Args:
        log: The log.
        wanted: Returns what the topic should be.
    """

    def __init__(self, log: Log, wanted: Callable[[], TopicSpec]) -> None:
        self._log, self._wanted = log, wanted
        self._spec: TopicSpec | None = None

    def spec(self) -> TopicSpec:
        """Return the topic as it is.

        Raises:
            UnknownTopicError: It is missing, and others have to create it.
        """
        if self._spec is not None:
            with suppress(UnknownTopicError):
                # A log that has to be asked for it remembers the topic; then a commit that fails says that it is gone.
                self._log.topic(self._spec.name)
                return self._spec
        self._spec = self._log.ensure(self._wanted()).spec
        return self._spec

    def forget(self) -> None:
        """Have the topic compared or created again before the next letter: a commit has failed, maybe because it is gone."""
        self._spec = None


class LetterBox:
    """The dead letters of one consumer of a topic that wait for the commits of their records.

        box.add(batch, row, error, attempts=3)
        consumer.commit(positions, box.writes(positions))
        box.committed(positions)

    Args:
        log: The log.
        topic: The topic that is consumed.
        group: The consumer group.
        clock: Tells when the time of the rate is over.
        rate: How many letters may be written within a time; None for no limit.
        counts: Counts the records that have become letters, by the topic of the letters.
        wanted: Returns what the topic of the letters should be, given that of the records.
    """

    def __init__(  # noqa: PLR0913 - the last three may be left out
        self,
        log: Log,
        topic: str,
        group: str,
        clock: Clock,
        rate: LetterRate | None = None,
        counts: Counter[str] | None = None,
        wanted: Callable[[TopicSpec], TopicSpec] | None = None,
    ) -> None:
        self._log, self._topic, self._group, self._clock = log, topic, group, clock
        self._counts: Counter[str] = Counter() if counts is None else counts
        self._limit = RateLimit(rate, clock)
        of_topic = letters_of_topic if wanted is None else wanted
        self._letters = LetterTopic(log, lambda: of_topic(log.topic(topic)))
        self._is_tried = False
        """Whether letters were given to a commit that has not been made."""
        self._sources: dict[str, tuple[Sequence[RecordField], Sequence[str]]] = {}
        """By topic the fields of its columns, and the names of those of its key."""
        self._waiting: dict[TopicPartition, list[Letter]] = {}
        self._left_out: dict[TopicPartition, list[Letter]] = {}
        self._report = LetterReport(HANDLER_REPORT)

    @property
    def topic(self) -> str:
        """The topic of the letters."""
        return dead_letter_name(self._topic)

    def add(self, batch: Batch, row: int, error: BaseException, attempts: int = 1) -> None:
        """Have a letter written for a record that could not be handled.

        Args:
            batch: The batch of the record, as `poll` has returned it, or a part of it.
            row: The number of the record in the batch.
            error: What the handler has raised.
            attempts: How often it was called for the record.
        """
        partition, offset = TopicPartition(batch.topic, batch.partition), int(batch.offsets[row])
        if not self._limit.take():
            text = error_text(error)
            time = int(batch.timestamps[row])
            self._leave_out(partition, Letter(LetterKind.HANDLER, offset, text, time, error_class=class_name(error)))
            return
        if batch.original is not None:
            # A letter holds what stands in the topic.
            batch = replace(batch, records=batch.original)
        if batch.topic not in self._sources:
            source = self._log.topic(batch.topic)
            self._sources[batch.topic] = (column_fields(source.columns), source.keys)
        letter = failed_letter(batch, row, *self._sources[batch.topic], error)
        self._waiting.setdefault(partition, []).append(replace(letter, attempts=attempts, group=self._group))

    def add_reject(self, partition: TopicPartition, reject: RejectedRecord) -> None:
        """Have a letter written for a record that cannot be read.

        Args:
            partition: The partition of the record.
            reject: The record.
        """
        letter = reject_letter(reject)
        if self._limit.take():
            self._waiting.setdefault(partition, []).append(replace(letter, group=self._group))
        else:
            self._leave_out(partition, replace(letter, key=None, payload=None, headers=()))

    def _leave_out(self, partition: TopicPartition, letter: Letter) -> None:
        self._left_out.setdefault(partition, []).append(replace(letter, group=self._group))

    def writes(self, positions: Mapping[TopicPartition, int]) -> list[Write]:
        """Return the letters of records before these positions; their topic is created with the first.

        Args:
            positions: The next offset of each partition, as it is committed.
        """
        letters = self._before(positions)
        if not letters:
            return []
        if self._is_tried:
            self._letters.forget()
        spec, self._is_tried = self._letters.spec(), True
        return [letter_write(spec, partition, waiting) for partition, waiting in letters.items()]

    def _before(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, list[Letter]]:
        letters: dict[TopicPartition, list[Letter]] = {}
        for partition, position in positions.items():
            waiting = [letter for letter in self._waiting.get(partition, ()) if letter.offset < position]
            left_out = [letter for letter in self._left_out.get(partition, ()) if letter.offset < position]
            if left_out:
                waiting.append(summary_letter(left_out, self._limit.rate))
            if waiting:
                letters[partition] = waiting
        return letters

    def without(self, writes: Sequence[Write], refused: Mapping[int, Mapping[int, str]]) -> list[Write]:
        """Return the letters without key, payload and headers of those that the log refuses since they are too large.

        Args:
            writes: What `writes` has returned.
            refused: By the number of a write, the reason by the number of each letter that is refused (`UnwritableError.rows`).
        """
        return [without_bytes(write, refused[number]) if number in refused else write for number, write in enumerate(writes)]

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that the letters before these positions are written: forget them, and log them once a minute."""
        self._is_tried = False
        for partition, letters in self._before(positions).items():
            self._report.add(partition, letters)
            self._counts[self.topic] += sum(1 if letter.count is None else letter.count for letter in letters)
        self._report.log(self._clock.steady(), self.topic)
        for letters_by_partition in (self._waiting, self._left_out):
            for partition, position in positions.items():
                later = [letter for letter in letters_by_partition.pop(partition, ()) if letter.offset >= position]
                if later:
                    letters_by_partition[partition] = later

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget the letters of partitions that another member owns by now."""
        for partition in partitions:
            self._waiting.pop(partition, None)
            self._left_out.pop(partition, None)


def letters_of_topic(source: TopicSpec) -> TopicSpec:
    """Return the topic of the dead letters of another one's records."""
    return dead_letter_topic(dead_letter_name(source.name), source.partitions, source.replication)


def summary_letter(letters: Sequence[Letter], rate: LetterRate | None) -> Letter:
    """Return a letter that says which records of a partition have none of their own.

    Args:
        letters: Those that are not written.
        rate: The limit that they are beyond.
    """
    ranges: list[list[int]] = []
    for letter in letters:
        if ranges and (letter.offset == ranges[-1][1] + 1 or len(ranges) == MOST_RANGES):
            ranges[-1][1] = letter.offset
        else:
            ranges.append([letter.offset, letter.offset])
    first = letters[0]
    return replace(
        first,
        kind=LetterKind.LEFT_OUT,
        error=(
            f"{len(letters)} records from offset {first.offset} to {letters[-1].offset} have no letters of their own, because "
            f"there were more than {rate}; the first: {first.error}"
        ),
        key=None,
        payload=json.dumps({"offsets": ranges}).encode(),
        headers=(),
        is_json=True,
        attempts=None,
        count=len(letters),
    )
