"""Reading topics as frames: the rows of a table, the events of a stream, the bars of a timeframe."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import polars as pl

from kandle.errors import DataError
from kandle.log.port import Log, TopicPartition
from kandle.log.records import RejectedRecord
from kandle.model.entity import EntityModel
from kandle.plan.plan import BarPlan
from kandle.sets.keys import bar_key_fields
from kandle.time.timeframe import parse_instant, to_instant

logger = logging.getLogger("kandle")

ROWS_AT_ONCE = 200_000
FAR = 2**62
OFFSET = "__offset"
IS_TOMBSTONE = "__tombstone"
APPENDED = "__appended"

Instant = datetime | str
"""An aware datetime or an ISO 8601 text."""

Span = tuple[int, int]
"""Instants in microseconds since the epoch, `[start, end)`."""


Unreadable = Literal["refuse", "skip"]
"""What reading does with records that cannot be read: raise an error that names them, or log a warning that does."""


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record of a topic that cannot be read."""

    partition: TopicPartition
    record: RejectedRecord

    def has_key(self, key: Mapping[str, Any], names: Sequence[str]) -> bool:
        """Return whether the record may be of a key; one whose key cannot be read may be of any.

        Args:
            key: Physical values of the key's first parts by name.
            names: The names of all parts of the key.

        Returns:
            Whether the record may be of it.
        """
        values = self.record.key_values
        return values is None or all(dict(zip(names, values, strict=True))[name] == value for name, value in key.items())


def report_unreadable(unreadable: Sequence[UnreadableRecord], policy: Unreadable) -> None:
    """Report records that cannot be read, and of which a result would have to say something.

    Args:
        unreadable: The records.
        policy: Whether they are an error or a warning.

    Raises:
        DataError: There are such records, and they are an error; names the first one.
    """
    if not unreadable:
        return
    first = unreadable[0]
    count = "1 record" if len(unreadable) == 1 else f"{len(unreadable)} records"
    message = (
        f"{count} of topic {first.partition.topic} cannot be read; the first, in partition {first.partition.partition} at offset "
        f"{first.record.offset}: {first.record.reason}"
    )
    if policy == "refuse":
        raise DataError(f'{message}; correct its schema or format, or leave such records out with unreadable="skip"')
    logger.warning("%s; left out", message)


def rows(
    log: Log, topic: str, span: Span | None = None, unreadable: list[UnreadableRecord] | None = None
) -> Iterator[pl.DataFrame]:
    """Read all records of a topic, partition by partition.

    Args:
        log: The log.
        topic: The name of the topic.
        span: Only records whose event time is in it, as far as the log can tell; None reads all.
        unreadable: Takes the records that cannot be read; None makes the first of them an error.

    Yields:
        Frames with the columns of the topic, the offset, the time of the append, and whether the record is a tombstone.

    Raises:
        DataError: A record cannot be read, and there is nothing that takes it.
    """
    for number in range(log.topic(topic).partitions):
        partition = TopicPartition(topic, number)
        end = log.ends(topic)[number]
        offset = log.first(partition)
        while offset < end and (batches := log.read(partition, offset, ROWS_AT_ONCE, span)):
            for batch in batches:
                rejects = [UnreadableRecord(partition, record) for record in batch.rejects]
                if unreadable is None:
                    report_unreadable(rejects, "refuse")
                else:
                    unreadable += rejects
                tombstones = batch.records.tombstones
                mark = pl.lit(False).alias(IS_TOMBSTONE) if tombstones is None else tombstones.alias(IS_TOMBSTONE)
                offsets, times = pl.Series(OFFSET, batch.offsets), pl.Series(APPENDED, batch.timestamps)
                yield batch.records.frame.with_columns(offsets, times, mark)
            offset = batches[-1].next_offset


def with_key(frame: pl.DataFrame, key: Mapping[str, Any]) -> pl.DataFrame:
    """Return the rows whose key fields have these values.

    Args:
        frame: Rows of a topic.
        key: Physical values by name.

    Returns:
        The rows in their order.
    """
    for name, value in key.items():
        frame = frame.filter(pl.col(name) == pl.lit(value, dtype=frame.schema[name]))
    return frame


def table_rows(
    log: Log, entity: EntityModel, key: Mapping[str, Any], limit: int | None = None, policy: Unreadable = "refuse"
) -> pl.DataFrame:
    """Return the newest row of each key that begins with the given parts, removed ones left out, ordered by key.

    Args:
        log: The log.
        entity: The entity of the table.
        key: Physical values of the key's first parts by name.
        limit: How many of the rows that were written last to return; None returns all.
        policy: What to do about a key whose newest row cannot be read.

    Returns:
        Rows with physical columns.

    Raises:
        DataError: The newest row of a key cannot be read, or may be one that cannot.
    """
    names = [field.name for field in entity.keys]
    unreadable: list[UnreadableRecord] = []
    # All rows of a key are in one partition, so the last one read is the newest.
    frames = [with_key(frame, key) for frame in rows(log, entity.topic, unreadable=unreadable)]
    if not frames:
        report_unreadable(unreadable, policy)
        return pl.DataFrame(schema=log.topic(entity.topic).schema)
    newest = pl.concat(frames).unique(names, keep="last", maintain_order=True)
    if unreadable:
        offsets = dict(zip(newest.select(names).rows(), newest[OFFSET].to_list(), strict=True))
        # A row that was written again since is not missed.
        missed = [
            bad
            for bad in unreadable
            if bad.has_key(key, names)
            and (bad.record.key_values is None or offsets.get(bad.record.key_values, -1) < bad.record.offset)
        ]
        report_unreadable(missed, policy)
    alive = newest.filter(~pl.col(IS_TOMBSTONE))
    if limit is not None:
        alive = alive.sort(APPENDED, OFFSET, maintain_order=True).tail(limit)
    return alive.drop(OFFSET, APPENDED, IS_TOMBSTONE).sort(names)


def event_rows(
    log: Log, entity: EntityModel, key: Mapping[str, Any], limit: int | None, policy: Unreadable = "refuse"
) -> pl.DataFrame:
    """Return the events of a key in the order of each partition.

    Args:
        log: The log.
        entity: The entity of the stream.
        key: Physical values of the key's first parts by name.
        limit: How many of the newest events to return; None returns all.
        policy: What to do about events that cannot be read.

    Returns:
        Rows with physical columns.

    Raises:
        DataError: An event cannot be read.
    """
    names = [field.name for field in entity.keys]
    unreadable: list[UnreadableRecord] = []
    frames = [with_key(frame, key) for frame in rows(log, entity.topic, unreadable=unreadable)]
    report_unreadable([bad for bad in unreadable if bad.has_key(key, names)], policy)
    if not frames:
        return pl.DataFrame(schema=log.topic(entity.topic).schema)
    events = pl.concat(frames).filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, APPENDED, IS_TOMBSTONE)
    if limit is None:
        return events
    time = entity.timestamp
    return (events if time is None else events.sort(time.name, maintain_order=True)).tail(limit)


class BarReader:
    """Reads the bars of one timeframe from its topics."""

    def __init__(self, log: Log, entity: EntityModel, bar: BarPlan) -> None:
        assert entity.timestamp is not None
        self._log = log
        self._entity = entity
        self._bar = bar
        self._time = entity.timestamp.name
        group = [field.name for field in bar_key_fields(entity) if field.name != self._time]
        self._group = group
        self._order = [*group, self._time]

    def finals(self, key: Mapping[str, Any], span: Span) -> pl.DataFrame:
        """Return final bars, ordered by key and start.

        Args:
            key: Physical values of the key's first parts by name.
            span: The bounds of the bars' starts.

        Returns:
            Rows with physical columns.
        """
        finals = self._rows(self._bar.final_topic, key, span)
        return finals.filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, IS_TOMBSTONE).sort(self._order)

    def finals_and_live(self, key: Mapping[str, Any], span: Span) -> pl.DataFrame:
        """Return final bars, and the bars of open buckets as they are now, ordered by key and start.

        Args:
            key: Physical values of the key's first parts by name.
            span: The bounds of the bars' starts.

        Returns:
            Rows with physical columns.
        """
        finals = self.finals(key, span)
        live = self._rows(self._bar.live_topic, key, self._open_span(finals, span))
        # A tombstone says that the bar does not fit its entity any more.
        newest = live.sort(OFFSET).unique(self._order, keep="last").filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, IS_TOMBSTONE)
        return pl.concat([finals, newest.join(finals, on=self._order, how="anti")]).sort(self._order)

    def _open_span(self, finals: pl.DataFrame, span: Span) -> Span:
        """Return where open bars may start: those that are older than their key's newest final are final."""
        if finals.is_empty():
            return span
        newest = finals.group_by(self._group or pl.lit(0)).agg(pl.col(self._time).max())[self._time].min()
        return max(span[0], to_instant(newest)), span[1]  # type: ignore[arg-type]

    def _rows(self, topic: str, key: Mapping[str, Any], span: Span) -> pl.DataFrame:
        time = pl.col(self._time).to_physical()
        # Topics that others fill may have more columns.
        columns = [*(field.name for field in self._entity.fields), OFFSET, IS_TOMBSTONE]
        frames = [
            with_key(frame, key).filter((time >= span[0]) & (time < span[1])).select(columns)
            for frame in rows(self._log, topic, span)
        ]
        if frames:
            return pl.concat(frames)
        schema = {field.name: field.type.physical for field in self._entity.fields}
        return pl.DataFrame(schema=schema | {OFFSET: pl.Int64, IS_TOMBSTONE: pl.Boolean})


def span_of(start: Instant | None, end: Instant | None) -> Span:
    """Convert bounds to microseconds.

    Args:
        start: The first instant; None for no bound.
        end: The instant behind the last one; None for no bound.

    Returns:
        Both bounds.
    """
    return (-FAR if start is None else instant_of(start), FAR if end is None else instant_of(end))


def instant_of(instant: Instant) -> int:
    """Convert an instant to microseconds.

    Args:
        instant: An aware datetime or an ISO 8601 text.

    Returns:
        Microseconds since the epoch.
    """
    return parse_instant(instant) if isinstance(instant, str) else to_instant(instant)
