"""Dead letters of a query: what one partition cannot use, written in the commit that goes past it, so that all others go on.

`kandle.log.letters` says what they hold. Each says where it came from: topic, partition and offset of the record, or, for a bar,
the position in the events before which all of its events stand. Each bar has its own, since finals and dead letters of bars
together are as many as the buckets; of records and events, the user may limit the rate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from kandle.engine.failures import FailedBar, FailedEvent
from kandle.errors import DataError
from kandle.log.headers import raw_header_rows
from kandle.log.letters import (
    Letter,
    LetterKind,
    LetterReport,
    RateLimit,
    letter_write,
    reject_letter,
    summary_letter,
    without_bytes,
)
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Write
from kandle.model.entity import EntityModel
from kandle.model.texts import json_row, named_rows
from kandle.runtime.state import TaskContext

REPORTS = {
    LetterKind.UNREADABLE: "%d records of %s, partition %d, cannot be read and are in topic %s; the first, at offset %d: %s",
    LetterKind.EVENT: "%d events of %s, partition %d, cannot be computed and are in topic %s; the first, at offset %d: %s",
    LetterKind.BAR: "%d bars of %s, partition %d, do not fit and are named in topic %s; the first, before offset %d: %s",
}


def event_letters(source: EntityModel, batches: Sequence[Batch], failed: Sequence[FailedEvent]) -> Iterator[Letter]:
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
        yield Letter(
            LetterKind.EVENT,
            int(batch.offsets[row]),
            event.reason,
            time=int(batch.timestamps[row]),
            key=json_row(source.keys, fields) if source.keys else None,
            payload=json_row(source.fields, fields),
            headers=raw_header_rows(batch.records.slice(row, 1))[0],
            entity=source.name,
            field=event.field or None,
            value=event.value,
            error_class=DataError.__name__,
            is_json=True,
        )


def _event_rows(batch: Batch) -> np.ndarray:
    """Return the numbers of the records that are no tombstones."""
    tombstones = batch.records.tombstones
    return np.arange(len(batch)) if tombstones is None else np.flatnonzero(~tombstones.to_numpy())


def row_letter(
    kind: LetterKind, entity: EntityModel, row: Mapping[str, Any], offset: int, reason: str, time: int | None = None
) -> Letter:
    """Return the dead letter of a physical row that cannot be written to its topic."""
    return Letter(
        kind,
        offset,
        reason,
        time,
        key=json_row(entity.keys, row) if entity.keys else None,
        payload=json_row(entity.fields, row),
        entity=entity.name,
        error_class=DataError.__name__,
        is_json=True,
    )


def bar_letter(target: EntityModel, bar: FailedBar, position: int) -> Letter:
    """Return a bar that does not fit; `position` is the next offset of the events when its bucket was closed."""
    return Letter(
        LetterKind.BAR,
        position,
        bar.reason,
        key=json.dumps(bar.key, ensure_ascii=False).encode(),
        entity=target.name,
        field=bar.field,
        value=bar.value,
        timeframe=bar.timeframe,
        start=bar.start,
        error_class=DataError.__name__,
        is_json=True,
    )


RefusedRows = Mapping[int, Mapping[int, str]]
"""By the number of a write, the reason by the number of each of its records that the log refuses."""

LetterOf = Callable[[Write, int, str], Letter | None]
"""Returns the dead letter of a record of a write, given its number and the reason."""


class DeadLetters:
    """The dead letters of one partition that wait for the next commit.

    Args:
        context: What the tasks of the query work with.
        source: The partition that they come from.
    """

    def __init__(self, context: TaskContext, source: TopicPartition) -> None:
        self._clock, self._counters = context.clock, context.counters
        self._topic, self._name = context.letters, context.topics.dead_letters.spec.name
        self._source = source
        self._limit = RateLimit(context.letter_rate, context.clock)
        self._waiting: list[Letter] = []
        self._left_out: list[Letter] = []
        self._reports = {kind: LetterReport(text) for kind, text in REPORTS.items()}

    def __bool__(self) -> bool:
        return bool(self._waiting or self._left_out)

    def add(self, *letters: Letter) -> None:
        """Have dead letters written with the next commit, those of records and events beyond the limit summed up."""
        for letter in letters:
            (self._waiting if letter.kind is LetterKind.BAR or self._limit.take() else self._left_out).append(letter)

    def take(self, batches: Sequence[Batch], done_until: int = 0) -> None:
        """Have the unreadable records of these batches written with the next commit, except those before an offset."""
        for batch in batches:
            self.add(*(reject_letter(reject) for reject in batch.rejects if reject.offset >= done_until))

    def writes(self) -> list[Write]:
        """Return the dead letters; their topic is created with the first."""
        kinds = dict.fromkeys(letter.kind for letter in self._left_out)
        by_kind = ([letter for letter in self._left_out if letter.kind is kind] for kind in kinds)
        return self._writes([*self._waiting, *(summary_letter(letters, self._limit.rate) for letters in by_kind)])

    def _writes(self, letters: Sequence[Letter]) -> list[Write]:
        if not letters:
            return []
        return [letter_write(self._topic.spec(), self._source, letters)]

    def without(self, writes: Sequence[Write], refused: RefusedRows, letter_of: LetterOf) -> list[Write]:
        """Return writes without records that the log refuses: they become dead letters of the same commit.

        Args:
            writes: The writes of one part of a commit, of which these dead letters are one.
            refused: The records that the log refuses.
            letter_of: Returns the dead letter of a record, or None if it needs none.
        """
        kept: list[Write] = []
        letters: list[Letter] = []
        for number, write in enumerate(writes):
            reasons = refused.get(number, {})
            if reasons and write.topic == self._name:
                kept.append(without_bytes(write, reasons))
                continue
            letters += [letter for row, why in reasons.items() if (letter := letter_of(write, row, why)) is not None]
            rows = pl.Series([row not in reasons for row in range(len(write.records))], dtype=pl.Boolean)
            kept.append(replace(write, records=write.records.filter(rows)) if reasons else write)
        self._waiting += letters
        # The last write is that of the state, whose offset is asked for.
        return [*self._writes(letters), *kept]

    def committed(self) -> None:
        """Note that they are written: count them, and log them once a minute."""
        letters = [*self._waiting, *self._left_out]
        self._waiting, self._left_out = [], []
        by_kind = {kind: [letter for letter in letters if letter.kind is kind] for kind in REPORTS}
        self._counters.dead_letters += len(letters)
        self._counters.rejected += len(by_kind[LetterKind.UNREADABLE])
        self._counters.failed += len(by_kind[LetterKind.EVENT])
        for letter in by_kind[LetterKind.BAR]:
            self._counters.timeframes[letter.timeframe or ""].failed += 1
        now = self._clock.steady()
        for kind, report in self._reports.items():
            report.add(self._source, by_kind[kind])
            report.log(now, self._name)
