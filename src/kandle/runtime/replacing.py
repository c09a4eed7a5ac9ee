"""Where the tasks of a declaration begin that has replaced another one, and which finals they may not make again.

The state of the former declaration is of no use to the new one, so a task begins with an empty state. It reads back as far as
some bucket was open where the former declaration stood, so that every bar that it makes has all its events:

    buckets 1m   | 30 final | 31 final | 32 open
    buckets 5m   | 30 open ...
                 ^ events are read from here: 30 and 31 (1m) are there already and are not made again, 30 (5m) is made whole
                                          ^ the former declaration stood here: late events and dead letters before are not written
                                            again

It may be told to begin at another instant. Then bars of buckets that began before it are not made, since events are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from kandle.engine.bars import Finals
from kandle.engine.operator import UNSEEN
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.plan.declaration import QueryDeclaration
from kandle.plan.plan import Plan
from kandle.query.nodes import WindowBound
from kandle.runtime.generations import Generation
from kandle.time.buckets import buckets
from kandle.time.timeframe import DAY, MINUTE, parse_duration

FINALS = "_finals/"
"""The beginning of the names of frames that hold, by key, the newest final of a timeframe."""

BEGIN = "_begin"
START = "_start"

ROWS_AT_ONCE = 100_000

CLOCK_MARGIN = MINUTE
"""How much earlier events are read, since their records may have the time of their producers' clocks."""

FAR_BACK = -(2**62)


@dataclass(frozen=True, slots=True)
class FinalGuard:
    """Keeps a task from making what a former declaration has made, and what it could make only in part.

    Attributes:
        plan: The plan of the query.
        whole_from: The instant from which on all events are read; buckets that began before are left out.
        done_until: The offset of the first event that the former declaration had not processed.
        newest_finals: By timeframe, the newest start of a final of each key.
    """

    plan: Plan
    whole_from: int
    done_until: int
    newest_finals: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def allowed(self, timeframe: str, bars: pl.DataFrame) -> pl.Series:
        """Return which bars of a timeframe may be written."""
        names = _Columns.of(self.plan)
        starts = bars[names.start].to_physical()
        mask: pl.Series = starts >= self.whole_from
        finals = self.newest_finals.get(timeframe)
        if finals is None or finals.is_empty():
            return mask
        if not names.keys:
            after: pl.Series = starts > int(finals[START][0])
            return mask & after
        newest = bars.select(names.keys).join(finals, on=list(names.keys), how="left", maintain_order="left", nulls_equal=True)
        later: pl.Series = starts > newest[START].fill_null(FAR_BACK)
        return mask & later

    def finals(self, finals: Finals) -> Finals:
        """Return those finals that may be written."""
        mask = self.allowed(finals.plan.name, finals.bars)
        if mask.all():
            return finals
        columns = (column.filter(mask) for column in (finals.gaps, finals.starts, finals.complete))
        return Finals(finals.plan, finals.bars.filter(mask), *columns)

    def frames(self) -> dict[str, pl.DataFrame]:
        """Return it as frames of a snapshot."""
        numbers = pl.DataFrame({"whole_from": [self.whole_from], "done_until": [self.done_until]})
        return {BEGIN: numbers} | {f"{FINALS}{name}": frame for name, frame in self.newest_finals.items()}

    @classmethod
    def of(cls, plan: Plan, frames: Mapping[str, pl.DataFrame]) -> FinalGuard | None:
        """Return what `frames` has put into a snapshot; None if there is nothing."""
        if BEGIN not in frames:
            return None
        finals = {name.removeprefix(FINALS): frame for name, frame in frames.items() if name.startswith(FINALS)}
        return cls(plan, **frames[BEGIN].row(0, named=True), newest_finals=finals)

    def is_passed(self, closed: int) -> bool:
        """Return whether all buckets are closed that it keeps back, so that it is needed no more."""
        bars = {bar.name: bar for bar in self.plan.emitted}
        longest = max(2 * bar.timeframe.nominal + bar.grace for bar in bars.values())
        newest = [int(frame[START].max()) for frame in self.newest_finals.values() if frame.height]  # type: ignore[arg-type]
        return closed != UNSEEN and closed > max([self.whole_from, *newest]) + longest


@dataclass(frozen=True, slots=True)
class _Columns:
    """The fields of a bar that tell it apart: the start of its bucket, and those of the group key."""

    start: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> _Columns:
        query = plan.query
        start = next(item.field for item in query.projection if item.expression == WindowBound("start"))
        return cls(start, tuple(item.field for item in query.projection if item.expression in query.group_by))


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where a task begins.

    Attributes:
        events: The first event to read.
        heartbeats: The first heartbeat to read.
        guard: What it may not make.
    """

    events: int
    heartbeats: int
    guard: FinalGuard


def starting_point(
    log: Log,
    plan: Plan,
    generation: Generation,
    events: tuple[TopicPartition, int | None],
    heartbeats: TopicPartition,
    closed: int,
) -> StartingPoint:
    """Return where a task of a new declaration begins.

    Args:
        log: The log.
        plan: The plan of the query.
        generation: The new declaration.
        events: The partition of the events, and the position of the former declaration in it.
        heartbeats: The partition of the heartbeats.
        closed: The instant up to which the former declaration had closed buckets; `UNSEEN` if it had closed none.
    """
    partition, position = events
    whole_from = generation.begin if generation.begin is not None else _oldest_open(plan, generation.former, closed)
    first_event = log.first(partition) if whole_from is None else offset_at(log, partition, whole_from - CLOCK_MARGIN)
    first_beat = log.first(heartbeats) if whole_from is None else offset_at(log, heartbeats, whole_from)
    if generation.begin is None and position is not None:
        first_event = min(first_event, max(position, log.first(partition)))
    since = FAR_BACK if whole_from is None else whole_from
    guard = FinalGuard(plan, since, position or 0, _newest_finals(log, plan, partition.partition, whole_from))
    return StartingPoint(first_event, first_beat, guard)


def start_after_copies(log: Log, plan: Plan, events: TopicPartition, heartbeats: TopicPartition) -> StartingPoint | None:
    """Return where a new query begins whose finals up to some time were copied from bars with an earlier version of their key.

    It reads all events that there are, and does not make these finals again.

    Args:
        log: The log.
        plan: The plan of the query.
        events: The partition of the events.
        heartbeats: The partition of the heartbeats.

    Returns:
        None if there are none.
    """
    newest = _newest_finals(log, plan, events.partition, None) if plan.query.target.former else {}
    if not newest:
        return None
    return StartingPoint(log.first(events), log.first(heartbeats), FinalGuard(plan, FAR_BACK, 0, newest))


def _oldest_open(plan: Plan, former: QueryDeclaration | None, closed: int) -> int | None:
    """Return the start of the oldest bucket that can have been open by an instant; None if all were."""
    if closed == UNSEEN:
        return None
    graces = [bar.grace for bar in plan.bars]
    known = {} if former is None else former.content.get("timeframes", {})
    graces += [parse_duration(timeframe["grace"]) for timeframe in known.values()]
    starts = []
    for bar in plan.emitted:
        start = int(buckets(bar.timeframe, plan.zone).floor(np.array([closed - max(graces)]))[0])
        # Where days are those of trading, a bucket may begin on the evening before, in any time zone.
        starts.append(start - 2 * DAY if plan.by_trading_day and not bar.timeframe.is_fixed else start)
    return min(starts)


def _newest_finals(log: Log, plan: Plan, partition: int, whole_from: int | None) -> dict[str, pl.DataFrame]:
    """Return by timeframe the newest final of each key, as far as one can be made again."""
    existing = {spec.name for spec in log.topics()}
    names = _Columns.of(plan)
    newest_finals = {}
    for bar in plan.emitted:
        if bar.final_topic not in existing:
            continue
        finals = TopicPartition(bar.final_topic, partition)
        # A final is written after its bucket has begun.
        offset = log.first(finals) if whole_from is None else offset_at(log, finals, whole_from - CLOCK_MARGIN)
        newest: pl.DataFrame | None = None
        while batches := log.read(finals, offset, ROWS_AT_ONCE):
            frames = [
                batch.records.frame.select(*names.keys, pl.col(names.start).to_physical().alias(START)) for batch in batches
            ]
            rows = pl.concat([*frames, *([] if newest is None else [newest])])
            newest = rows.group_by(list(names.keys), maintain_order=True).agg(pl.col(START).max()) if names.keys else rows.max()
            offset = batches[-1].next_offset
        if newest is not None:
            newest_finals[bar.name] = newest
    return newest_finals


def before(batches: Sequence[Batch], position: int) -> list[Batch]:
    """Return the records below an offset."""
    parts = []
    for batch in batches:
        count = int(np.searchsorted(batch.offsets, position))
        if count:
            parts.append(batch if count == len(batch) else batch.slice(0, count))
    return parts


def following(batches: Sequence[Batch], position: int) -> list[Batch]:
    """Return the records from an offset on."""
    parts = []
    for batch in batches:
        count = int(np.searchsorted(batch.offsets, position))
        if count < len(batch):
            parts.append(batch.slice(count) if count else batch)
    return parts


def offset_at(log: Log, partition: TopicPartition, instant: int) -> int:
    """Return the first offset of a partition whose record was appended at an instant or later; the end if there is none."""
    low, high = log.first(partition), log.ends(partition.topic)[partition.partition]
    while low < high:
        middle = (low + high) // 2
        records = next((batch for batch in log.read(partition, middle, 1) if len(batch)), None)
        if records is None or int(records.offsets[0]) >= high or int(records.timestamps[0]) >= instant:
            # What cannot be read is read again: it does no harm to begin too early.
            high = middle
        else:
            low = int(records.offsets[0]) + 1
    return low
