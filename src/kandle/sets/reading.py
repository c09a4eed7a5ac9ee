"""Reading topics as frames: the events of a stream, the bars of a timeframe. Tables are read from copies (`sets.copies`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from kandle.errors import DataError
from kandle.log.port import Log, TopicPartition
from kandle.log.versions import PER_VERSION, Adapt, adapter_of, adapters, existing_topic
from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.plan.plan import BarPlan
from kandle.sets.keys import Span, bar_key_fields
from kandle.store.follower import UnreadableRecord, unreadable_records
from kandle.store.ordering import following, in_order, ordered_key, ordered_prefix
from kandle.store.runs import OFFSET as COPIED_OFFSET
from kandle.store.runs import PARTITION as COPIED_PARTITION
from kandle.time.timeframe import parse_instant, to_instant

if TYPE_CHECKING:
    from kandle.sets.copies import Check, Copy
    from kandle.sets.skipping import SkipCounter
    from kandle.store.runs import SortedRuns

logger = logging.getLogger("kandle")

ROWS_AT_ONCE = 200_000
FAR = 2**62
OFFSET = "__offset"
IS_TOMBSTONE = "__tombstone"
APPENDED = "__appended"

Instant = datetime | str
"""An aware datetime or an ISO 8601 text."""

Unreadable = Literal["refuse", "skip"]
"""What reading does with records that cannot be read: raise an error that names them, or leave them out and count them."""


@dataclass(frozen=True, slots=True)
class UnreadablePolicy:
    """What a read does with records that cannot be read.

    Attributes:
        choice: Whether they are an error, or left out.
        left_out: Counts those that are left out; None if they are an error.
    """

    choice: Unreadable = "refuse"
    left_out: SkipCounter | None = None

    def report(self, topic: str, count: int, message: str, way: str, cause: Exception | None = None) -> None:
        """Report records that cannot be read.

        Args:
            topic: Their topic.
            count: How many they are.
            message: What is wrong with them.
            way: What can be corrected.
            cause: The first error.

        Raises:
            DataError: They are an error.
        """
        if self.choice == "refuse" or self.left_out is None:
            raise DataError(f'{message}; {way}, or leave such records out with unreadable="skip"') from cause
        if self.left_out.add(topic, count) is not None:
            logger.warning("%s; left out", message)


REFUSING = UnreadablePolicy()
"""The policy where nothing else is said."""


def report_unreadable(unreadable: Sequence[UnreadableRecord], policy: UnreadablePolicy) -> None:
    """Report records that cannot be read, and of which a result would have to say something.

    Args:
        unreadable: The records.
        policy: Whether they are an error, or left out.

    Raises:
        DataError: There are such records, and they are an error; names the first one.
    """
    if not unreadable:
        return
    first = min(unreadable, key=lambda record: (record.partition, record.offset))
    count = "1 record" if len(unreadable) == 1 else f"{len(unreadable)} records"
    message = (
        f"{count} of topic {first.topic} cannot be read; the first, in partition {first.partition % PER_VERSION} at offset "
        f"{first.offset}: {first.reason}"
    )
    policy.report(first.topic, len(unreadable), message, "correct its schema, format or upgrade")


def objects_of(entity: EntityModel, columns: Sequence[Sequence[Any]], policy: UnreadablePolicy) -> list[Any]:
    """Build the objects of rows.

    Args:
        entity: The entity.
        columns: Stored values, column by column in the order of the fields.
        policy: What to do about rows of which the class of the entity makes no object.

    Returns:
        The objects.

    Raises:
        DataError: The class makes no object of a row, which is named, and such rows are an error.
    """
    whole = mapping(entity)
    try:
        return whole.objects(columns)
    except Exception as error:
        logger.debug("rows of %s are made into objects one by one: %s", entity.name, error)
    objects: list[Any] = []
    wrong: list[tuple[tuple[Any, ...], Exception]] = []
    for row in zip(*columns, strict=True):
        try:
            objects += whole.objects([[value] for value in row])
        except Exception as error:
            wrong.append((row, error))
    names = [part.name for part in entity.fields]
    row, reason = wrong[0]
    shown = ", ".join(f"{name}={value!r}" for name, value in zip(names, row, strict=True) if entity.field(name) in entity.keys)
    count = "1 row" if len(wrong) == 1 else f"{len(wrong)} rows"
    message = f"of {count} of topic {entity.topic} no {entity.name} can be made; the first, of {shown or 'no key'}: {reason}"
    policy.report(entity.topic, len(wrong), message, "correct the class", reason)
    return objects


def rows(
    log: Log,
    topic: str,
    span: Span | None = None,
    unreadable: list[UnreadableRecord] | None = None,
    parts: Sequence[str] = (),
    adapt: Adapt | None = None,
) -> Iterator[pl.DataFrame]:
    """Read all records of a topic, partition by partition.

    Args:
        log: The log.
        topic: The name of the topic.
        span: Only records whose event time is in it, as far as the log can tell; None reads all.
        unreadable: Takes the records that cannot be read; None makes the first of them an error.
        parts: The names of the parts of the key, in the order in which they are asked for.
        adapt: Makes the records those of the entity that is read; None leaves them as they are.

    Yields:
        Frames with the columns of the topic, the offset, the time of the append, and whether the record is a tombstone.

    Raises:
        DataError: A record cannot be read, and there is nothing that takes it.
    """
    spec = log.topic(topic)
    for number in range(spec.partitions):
        partition = TopicPartition(topic, number)
        end = log.ends(topic)[number]
        offset = log.first(partition)
        while offset < end and (batches := log.read(partition, offset, ROWS_AT_ONCE, span)):
            for batch in batches if adapt is None else map(adapt, batches):
                rejects = unreadable_records(batch, spec.keys, spec.schema, parts or spec.keys)
                if unreadable is None:
                    report_unreadable(rejects, REFUSING)
                else:
                    unreadable += rejects
                tombstones = batch.records.tombstones
                mark = pl.lit(False).alias(IS_TOMBSTONE) if tombstones is None else tombstones.alias(IS_TOMBSTONE)
                offsets, times = pl.Series(OFFSET, batch.offsets), pl.Series(APPENDED, batch.timestamps)
                yield batch.records.frame.with_columns(offsets, times, mark)
            offset = batches[-1].next_offset


def entity_rows(
    log: Log, entity: EntityModel, unreadable: list[UnreadableRecord], span: Span | None = None
) -> Iterator[pl.DataFrame]:
    """Read all records of an entity, those of earlier versions of its key first.

    Args:
        log: The log.
        entity: The entity.
        unreadable: Takes the records that cannot be read.
        span: Only records whose event time is in it, as far as the log can tell; None reads all.

    Yields:
        Frames as `rows` does; of an entity with earlier versions, each of the entity's own columns.
    """
    topics = adapters(log, entity)
    names = [field.name for field in entity.keys]
    columns = [*(field.name for field in entity.fields), OFFSET, APPENDED, IS_TOMBSTONE]
    for topic, adapt in topics.items():
        is_own = topic == entity.topic
        # An upgrade may give events another time.
        for frame in rows(log, topic, span if is_own else None, unreadable, names if is_own else (), adapt):
            yield frame if len(topics) == 1 else frame.select(columns)


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


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events of a stream are read.

    Attributes:
        key: Physical values of the key's first parts by name.
        span: The bounds of the events' times, or without a timestamp of their appends; None for all.
        limit: How many of the newest events, by their event time or else by the time of the append; None for all.
        policy: What to do about events that cannot be read.
    """

    key: Mapping[str, Any]
    span: Span | None = None
    limit: int | None = None
    policy: UnreadablePolicy = REFUSING


def event_rows(log: Log, entity: EntityModel, wanted: EventSelection) -> pl.DataFrame:
    """Return events in the order of each partition.

    Args:
        log: The log.
        entity: The entity of the stream.
        wanted: Which events.

    Returns:
        Rows with physical columns.

    Raises:
        DataError: An event cannot be read. With a span that may be one whose time is outside of it.
    """
    prefix = ordered_prefix(wanted.key, physical_schema(entity))
    time = APPENDED if entity.timestamp is None else entity.timestamp.name
    # The log knows in which batches to look for event times only.
    span = None if entity.timestamp is None else wanted.span
    unreadable: list[UnreadableRecord] = []
    frames = []
    for frame in entity_rows(log, entity, unreadable, span):
        events = with_key(frame, wanted.key)
        if wanted.span is not None:
            instants = pl.col(time).to_physical()
            events = events.filter((instants >= wanted.span[0]) & (instants < wanted.span[1]))
        frames.append(events)
    report_unreadable([bad for bad in unreadable if bad.key is None or bad.key.startswith(prefix)], wanted.policy)
    if not frames:
        return pl.DataFrame(schema=log.topic(entity.topic).schema)
    events = pl.concat(frames).filter(~pl.col(IS_TOMBSTONE))
    if wanted.limit is not None:
        events = events.sort(time, maintain_order=True).tail(wanted.limit)
    return events.drop(OFFSET, APPENDED, IS_TOMBSTONE)


def newest_row(log: Log, entity: EntityModel, key: Mapping[str, Any]) -> pl.DataFrame:
    """Return the row of a key of a table; no row if it has none.

    Args:
        log: The log.
        entity: The entity of the table.
        key: Physical values of all parts of the key by name.

    Returns:
        At most one row, with physical columns.
    """
    frames = [with_key(frame, key) for frame in entity_rows(log, entity, [])]
    if not frames:
        return pl.DataFrame(schema=physical_schema(entity))
    newest = pl.concat(frames).sort(APPENDED, maintain_order=True).tail(1)
    return newest.filter(~pl.col(IS_TOMBSTONE)).select(list(physical_schema(entity)))


class BarReader:
    """Reads the bars of one timeframe from its topics.

    Args:
        log: The log.
        entity: The entity of the bars.
        bar: The timeframe.
        key: Physical values of the key's first parts by name.
        span: The bounds of the bars' starts.
        policy: What to do about bars that cannot be read.
    """

    def __init__(
        self, log: Log, entity: EntityModel, bar: BarPlan, key: Mapping[str, Any], span: Span, policy: UnreadablePolicy = REFUSING
    ) -> None:
        assert entity.timestamp is not None
        self._log = log
        self._entity = entity
        self._bar = bar
        self._key, self._span, self._policy = key, span, policy
        self._time = entity.timestamp.name
        self._schema = physical_schema(entity)
        self._prefix = ordered_prefix(key, self._schema)
        self._order = [field.name for field in bar_key_fields(entity)]
        self._group = [name for name in self._order if name != self._time]

    def finals(self) -> pl.DataFrame:
        """Return final bars, read from the log.

        Returns:
            Rows with physical columns, ordered by key and start.
        """
        finals = self._rows(self._bar.final_topic, self._span)
        return in_order(finals.filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, IS_TOMBSTONE), self._order)

    def with_former(self, finals: pl.DataFrame) -> pl.DataFrame:
        """Return final bars, with those of earlier versions of their key where the query has made none.

        Args:
            finals: The final bars.

        Returns:
            Rows with physical columns, ordered by key and start.
        """
        for former, topic in reversed([*zip(self._entity.former, self._bar.former_topics, strict=True)]):
            if existing_topic(self._log, topic):
                rows = self._rows(topic, self._span, adapter_of(self._log, self._entity, former))
                older = rows.filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, IS_TOMBSTONE)
                finals = pl.concat([finals, older.join(finals, on=self._order, how="anti")]).sort(self._order)
        return finals

    def finals_of(self, copy: Copy[SortedRuns], check: Check) -> pl.DataFrame:
        """Return final bars, read from the copy of their topic.

        Args:
            copy: The copy.
            check: Is called now and then, and raises an error to end the read.

        Returns:
            Rows with physical columns, ordered by key and start.
        """
        self._report(copy.unreadable(self._prefix))
        first, end = self._prefix, following(self._prefix)
        if len(self._key) == len(self._group):
            # All of the group key is given, so that the start is the next part.
            kind = self._schema[self._time]
            bounds = [max(min(instant, LAST_INSTANT), -LAST_INSTANT) for instant in self._span]
            first, end = (self._prefix + ordered_key([instant], [kind]) for instant in bounds)
        runs = copy.view.read(first, end, self._span, check)
        removed = {number: start for number, (start, _) in (copy.follower.bounds() or {}).items() if start}
        frames = [frame for run in runs for frame in run]
        if not frames:
            return pl.DataFrame(schema=self._schema)
        bars = pl.concat(frames)
        conditions = [*self._conditions(self._span), *_kept(removed)]
        bars = bars.filter(*conditions) if conditions else bars
        return (bars if len(runs) == 1 else in_order(bars, self._order)).select(list(self._schema))

    def with_live(self, finals: pl.DataFrame) -> pl.DataFrame:
        """Return final bars, and the bars of open buckets as they are now.

        Args:
            finals: The final bars.

        Returns:
            Rows with physical columns, ordered by key and start.
        """
        live = self._rows(self._bar.live_topic, self._open_span(finals))
        # A tombstone says that the bar does not fit its entity any more.
        newest = live.sort(OFFSET).unique(self._order, keep="last").filter(~pl.col(IS_TOMBSTONE)).drop(OFFSET, IS_TOMBSTONE)
        return pl.concat([finals, newest.join(finals, on=self._order, how="anti")]).sort(self._order)

    def _open_span(self, finals: pl.DataFrame) -> Span:
        """Return where open bars may start: those that are older than their key's newest final are final."""
        if finals.is_empty():
            return self._span
        newest = finals.group_by(self._group or pl.lit(0)).agg(pl.col(self._time).max())[self._time].min()
        return max(self._span[0], to_instant(newest)), self._span[1]  # type: ignore[arg-type]

    def _conditions(self, span: Span) -> list[pl.Expr]:
        """Return the conditions that rows meet."""
        time = pl.col(self._time).to_physical()
        conditions = [pl.col(name) == pl.lit(value, dtype=self._schema[name]) for name, value in self._key.items()]
        conditions += [time >= span[0]] if span[0] > -FAR else []
        return conditions + ([time < span[1]] if span[1] < FAR else [])

    def _rows(self, topic: str, span: Span, adapt: Adapt | None = None) -> pl.DataFrame:
        # Topics that others fill may have more columns.
        columns = [*self._schema, OFFSET, IS_TOMBSTONE]
        unreadable: list[UnreadableRecord] = []
        conditions = self._conditions(span)
        frames = [
            (frame.filter(*conditions) if conditions else frame).select(columns)
            for frame in rows(self._log, topic, span, unreadable, () if adapt else self._order, adapt)
        ]
        self._report(unreadable)
        return pl.concat(frames) if frames else pl.DataFrame(schema=self._schema | {OFFSET: pl.Int64, IS_TOMBSTONE: pl.Boolean})

    def _report(self, unreadable: Sequence[UnreadableRecord]) -> None:
        report_unreadable([bad for bad in unreadable if bad.key is None or bad.key.startswith(self._prefix)], self._policy)


LAST_INSTANT = 2**63 - 1


def _kept(first: Mapping[int, int]) -> list[pl.Expr]:
    """Return the condition that rows of a copy are in the log still, given the first offset of partitions."""
    return [(pl.col(COPIED_PARTITION) != number) | (pl.col(COPIED_OFFSET) >= start) for number, start in first.items()]


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
