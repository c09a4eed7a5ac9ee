"""Dead letters of a query: what one partition cannot use, written in the commit that goes past it, so that all others go on.

    unreadable   a record whose bytes are none of its topic            key and payload are its bytes
    event        an event that cannot be computed (a cast, say)        key and payload are its fields as JSON
    bar          a bar that does not fit its entity: it has no final   key is its group key as JSON, no payload

The topic of dead letters is created with the first one. Each says where it came from: topic, partition and offset of the record,
or, for a bar, the position in the events before which all of its events stand.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import polars as pl

from kandle.engine.failures import FailedBar, FailedEvent, named_rows, value_text
from kandle.errors import DataError
from kandle.log.port import TopicPartition
from kandle.log.records import HEADERS, Batch, Records, RejectedRecord, Write
from kandle.model.entity import EntityModel
from kandle.model.types import BooleanType, BytesType, DataType, FloatType, IntegerType, StringMapType
from kandle.runtime.state import TaskContext
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

REPORT_INTERVAL = MINUTE
"""The least time between two log lines about dead letters of one kind, in microseconds."""

Header = Mapping[str, str | None]
"""A header of a record: its name and its value."""


class LetterKind(Enum):
    """What a dead letter holds; the value is the text of the column `kind`."""

    UNREADABLE = "unreadable"
    EVENT = "event"
    BAR = "bar"


REPORTS = {
    LetterKind.UNREADABLE: "%d records of %s, partition %d, cannot be read and are in topic %s; the first, at offset %d: %s",
    LetterKind.EVENT: "%d events of %s, partition %d, cannot be computed and are in topic %s; the first, at offset %d: %s",
    LetterKind.BAR: "%d bars of %s, partition %d, do not fit and are named in topic %s; the first, before offset %d: %s",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record, event or bar that a query cannot use.

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
    """

    kind: LetterKind
    offset: int
    error: str
    time: int | None = None
    key: bytes | None = None
    payload: bytes | None = None
    headers: Sequence[Header] = ()
    entity: str | None = None
    field: str | None = None
    value: str | None = None
    timeframe: str | None = None
    start: int | None = None


def reject_letter(reject: RejectedRecord) -> DeadLetter:
    """Return a record that cannot be read."""
    return DeadLetter(
        LetterKind.UNREADABLE,
        reject.offset,
        reject.reason,
        time=reject.timestamp,
        key=reject.key,
        payload=reject.value,
        headers=reject.headers,
    )


def event_letters(source: EntityModel, batches: Sequence[Batch], failed: Sequence[FailedEvent]) -> Iterator[DeadLetter]:
    """Yield events that cannot be computed.

    Args:
        source: The entity of the events.
        batches: The batches of which they are.
        failed: The events, by their numbers among all records of the batches that are no tombstones.
    """
    ends = np.cumsum([_event_rows(batch).size for batch in batches])
    for event in failed:
        number = int(np.searchsorted(ends, event.row, side="right"))
        batch = batches[number]
        row = int(_event_rows(batch)[event.row - (ends[number - 1] if number else 0)])
        fields = named_rows(batch.records.frame.slice(row, 1))[0]
        keys = [part.name for part in source.keys]
        yield DeadLetter(
            LetterKind.EVENT,
            int(batch.offsets[row]),
            event.reason,
            time=int(batch.timestamps[row]),
            key=_json_text({name: _json_value(fields[name], source.field(name).type) for name in keys}) if keys else None,
            payload=_json_text({part.name: _json_value(fields[part.name], part.type) for part in source.fields}),
            headers=[] if batch.records.headers is None else batch.records.headers.slice(row, 1).to_list()[0] or [],
            entity=source.name,
            field=event.field or None,
            value=event.value,
        )


def _event_rows(batch: Batch) -> np.ndarray:
    """Return the numbers of the records that are no tombstones."""
    tombstones = batch.records.tombstones
    return np.arange(len(batch)) if tombstones is None else np.flatnonzero(~tombstones.to_numpy())


def row_letter(
    kind: LetterKind, entity: EntityModel, row: Mapping[str, Any], offset: int, reason: str, time: int | None = None
) -> DeadLetter:
    """Return the dead letter of a physical row that cannot be written to its topic."""
    values = {part.name: _json_value(row[part.name], part.type) for part in entity.fields}
    keys = {part.name: values[part.name] for part in entity.keys}
    return DeadLetter(kind, offset, reason, time, _json_text(keys) if keys else None, _json_text(values), entity=entity.name)


def bar_letter(target: EntityModel, bar: FailedBar, position: int) -> DeadLetter:
    """Return a bar that does not fit; `position` is the next offset of the events when its bucket was closed."""
    return DeadLetter(
        LetterKind.BAR,
        position,
        bar.reason,
        key=_json_text(bar.key),
        entity=target.name,
        field=bar.field,
        value=bar.value,
        timeframe=bar.timeframe,
        start=bar.start,
    )


def _json_text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, default=str).encode()


def _json_value(value: Any, kind: DataType) -> Any:
    """Return a physical value as JSON shows it: instants and decimals as text, bytes in base64."""
    if value is None or isinstance(kind, BooleanType | IntegerType | FloatType):
        return value
    if isinstance(kind, BytesType):
        return base64.b64encode(value).decode()
    if isinstance(kind, StringMapType):
        return {entry["key"]: entry["value"] for entry in value}
    return value_text(value, kind)


RefusedRows = Mapping[int, Mapping[int, str]]
"""By the number of a write, the reason by the number of each of its records that the log refuses."""

LetterOf = Callable[[Write, int, str], DeadLetter | None]
"""Returns the dead letter of a record of a write, given its number and the reason."""


def _shortened(write: Write, refused: Mapping[int, str]) -> Write:
    """Return dead letters without the bytes and headers of those that the log refuses: their records can be read where they are.

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


class _Report:
    """Counts dead letters of one kind, and logs them at most once a minute."""

    def __init__(self, kind: LetterKind) -> None:
        self._text = REPORTS[kind]
        self._first: DeadLetter | None = None
        self._count = 0
        self._reported_at: int | None = None

    def add(self, letters: Sequence[DeadLetter]) -> None:
        if letters and self._first is None:
            self._first = letters[0]
        self._count += len(letters)

    def log(self, now: int, source: TopicPartition, topic: str) -> None:
        """Log what has come since the last line, if that was long enough ago."""
        if self._first is None or (self._reported_at is not None and 0 <= now - self._reported_at < REPORT_INTERVAL):
            return
        logger.warning(self._text, self._count, *source, topic, self._first.offset, self._first.error)
        self._first, self._count, self._reported_at = None, 0, now


class DeadLetters:
    """The dead letters of one partition that wait for the next commit.

    Args:
        context: What the tasks of the query work with.
        source: The partition that they come from.
    """

    def __init__(self, context: TaskContext, source: TopicPartition) -> None:
        self._log, self._clock, self._counters = context.log, context.clock, context.counters
        self._spec = context.topics.dead_letters.spec
        self._source = source
        self._waiting: list[DeadLetter] = []
        self._reports = {kind: _Report(kind) for kind in LetterKind}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, *letters: DeadLetter) -> None:
        """Have dead letters written with the next commit."""
        self._waiting += letters

    def take(self, batches: Sequence[Batch], done_until: int = 0) -> None:
        """Have the unreadable records of these batches written with the next commit, except those before an offset."""
        for batch in batches:
            self.add(*(reject_letter(reject) for reject in batch.rejects if reject.offset >= done_until))

    def writes(self) -> list[Write]:
        """Return the dead letters; their topic is created with the first."""
        return self._writes(self._waiting)

    def _writes(self, letters: Sequence[DeadLetter]) -> list[Write]:
        if not letters:
            return []
        self._log.ensure(self._spec)
        frame = pl.DataFrame(list(map(self._row, letters)), schema=self._spec.schema, orient="row")
        headers = [list(letter.headers) for letter in letters]
        column = pl.Series("headers", headers, dtype=HEADERS) if any(headers) else None
        return [Write(self._spec.name, self._source.partition % self._spec.partitions, Records(frame, column))]

    def without(self, writes: Sequence[Write], refused: RefusedRows, letter_of: LetterOf) -> list[Write]:
        """Return writes without records that the log refuses: they become dead letters of the same commit.

        Args:
            writes: The writes of one part of a commit, of which these dead letters are one.
            refused: The records that the log refuses.
            letter_of: Returns the dead letter of a record, or None if it needs none.
        """
        kept: list[Write] = []
        letters: list[DeadLetter] = []
        for number, write in enumerate(writes):
            reasons = refused.get(number, {})
            if reasons and write.topic == self._spec.name:
                kept.append(_shortened(write, reasons))
                continue
            letters += [letter for row, why in reasons.items() if (letter := letter_of(write, row, why)) is not None]
            rows = pl.Series([row not in reasons for row in range(len(write.records))], dtype=pl.Boolean)
            kept.append(replace(write, records=write.records.filter(rows)) if reasons else write)
        self.add(*letters)
        # The last write is that of the state, whose offset is asked for.
        return [*self._writes(letters), *kept]

    def _row(self, letter: DeadLetter) -> tuple[Any, ...]:
        """Return a dead letter in the order of the columns of its topic."""
        record = (*self._source, letter.offset, letter.error, letter.key, letter.payload, letter.time, letter.kind.value)
        return (*record, letter.entity, letter.field, letter.value, letter.timeframe, letter.start)

    def committed(self) -> None:
        """Note that they are written: count them, and log them once a minute."""
        letters, self._waiting = self._waiting, []
        by_kind = {kind: [letter for letter in letters if letter.kind is kind] for kind in LetterKind}
        self._counters.dead_letters += len(letters)
        self._counters.rejected += len(by_kind[LetterKind.UNREADABLE])
        self._counters.failed += len(by_kind[LetterKind.EVENT])
        for letter in by_kind[LetterKind.BAR]:
            self._counters.timeframes[letter.timeframe or ""].failed += 1
        now = self._clock.steady()
        for kind, report in self._reports.items():
            report.add(by_kind[kind])
            report.log(now, self._source, self._spec.name)
