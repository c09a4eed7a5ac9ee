"""Schedules from their topic: loaded before anything else starts, and kept up to date while it runs.

Rows are judged key by key. A key whose rows are wrong keeps the sessions that it had, and has none if it never had any, until
its rows are right again; all other keys go on with their newest rows:

    offset  0: A 09:30-16:00   1: B 09:30-16:00   2: A 16:00-09:30 (wrong)   3: B 09:30-13:00   4: A 09:30-13:00
    A          until 16:00 ......................................................................until 13:00
    B                             until 16:00 ................................until 13:00

What a task has processed depends on the rows that it knew, so each commit names them: the next offsets of the topic's partitions,
and the sessions that were kept for keys whose rows were wrong (`ScheduleVersion`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
import polars as pl

from kandle.engine.schedules import CLOSE, OPEN, TRADING_DAY, ScheduleFault, judged_sessions, schedule_keys
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.log.versions import PER_VERSION, Adapt, adapters
from kandle.plan.plan import Plan
from kandle.time.clock import Clock
from kandle.time.sessions import SessionCalendar, SessionRows
from kandle.time.timeframe import SECOND, from_instant, to_instant

logger = logging.getLogger("kandle")

ROWS_AT_ONCE = 100_000

SCHEDULE_INTERVAL = SECOND
"""How often new schedule rows are looked for, in microseconds."""

MOST_NAMED = 5
"""How many keys with wrong rows `problem` names."""

OFFSET = "__offset"
APPENDED = "__appended"
PARTITION = "__partition"
GONE = "__gone"
UNREADABLE = "__unreadable"

Positions = Mapping[int, int]
"""Next offset of each partition of the schedule's topic, and of those of earlier versions of its key, by their numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleVersion:
    """A calendar, and what it takes to make it again from the topic.

    `kept` are the sessions of keys whose newest rows are wrong (the group key, then open, close and trading date); None if there
    are none.
    """

    calendar: SessionCalendar
    positions: Positions
    kept: pl.DataFrame | None = None


class ScheduleProvider:
    """The rows of a query's schedule, newest of each key, and the calendar that they make.

    Args:
        log: The log with the topic of the schedule.
        plan: The plan of a query that is based on a schedule.
        clock: The clock.
        refresh_at: The time of the day, in UTC, at which all rows are read again.
        retry: The least time between two warnings about missing rows, in microseconds.
    """

    def __init__(self, log: Log, plan: Plan, clock: Clock, *, refresh_at: time = time(0, 5), retry: int = 10 * SECOND) -> None:
        assert plan.query.schedule is not None
        self._log = log
        self._plan = plan
        self._query = plan.query
        self._schedule = plan.query.schedule
        self._clock = clock
        self.topic = self._schedule.entity.topic
        self._refresh_at = refresh_at
        self._retry = retry
        self._known_adapters: dict[str, Adapt | None] = {}
        self._forget()
        self._next_refresh = 0
        self._next_warning = 0
        self._refreshed_at: int | None = None
        self._logged: set[str] = set()
        self.version: ScheduleVersion | None = None
        self.faults: tuple[str, ...] = ()
        """What is wrong with rows, a sentence for each key."""
        self.problem: str | None = None

    def _forget(self) -> None:
        """Have the next reading begin with the first row."""
        self._rows: list[pl.DataFrame] = []
        self._illegible: list[tuple[int, int, str]] = []
        self._positions: dict[int, int] = {}
        self._firsts: dict[int, int] = {}

    @property
    def calendar(self) -> SessionCalendar | None:
        """The sessions that are known now; None as long as the topic never had a row."""
        return None if self.version is None else self.version.calendar

    def refresh_if_due(self) -> None:
        """Refresh, unless that was done less than a second ago."""
        now = self._clock.steady()
        if self._refreshed_at is None or not 0 <= now - self._refreshed_at < SCHEDULE_INTERVAL:
            self._refreshed_at = now
            self.refresh()

    def refresh(self) -> bool:
        """Take in new rows, and forget those that are not in the topic any more; once a day, read all of them again.

        Returns:
            Whether the calendar is a new one.
        """
        now = self._clock.now()
        ends = self._ends()
        firsts = {number: self._log.first(self._source(number)) for number in ends}
        is_due = now >= self._next_refresh
        if is_due or self._are_rows_gone(firsts, ends):
            self._forget()
        if is_due:
            self._next_refresh = _next_time(now, self._refresh_at)
        self._firsts = firsts
        if ends == self._positions and self.version is not None:
            return False
        self._read(ends)
        return self._build(now)

    def check(self) -> tuple[str, ...]:
        """Read all rows and return what is wrong with them, a sentence for each key; nothing is logged or kept."""
        self._forget()
        self._read(self._ends())
        _, texts = self._judge(self._positions, None)
        return (*texts, *self._illegible_texts())

    @property
    def _adapters(self) -> dict[str, Adapt | None]:
        """How the rows of each version of the key become those of the schedule, by topic, the oldest first."""
        if not self._known_adapters:
            self._known_adapters = adapters(self._log, self._schedule.entity)
        return self._known_adapters

    def _ends(self) -> dict[int, int]:
        """Return the next offset of each partition by its number, those of earlier versions of the key among them."""
        numbered = enumerate(reversed(self._adapters))
        ends = ((age * PER_VERSION, self._log.ends(topic)) for age, topic in numbered)
        return {first + number: end for first, of_topic in ends for number, end in enumerate(of_topic)}

    def _source(self, number: int) -> TopicPartition:
        """Return the partition of a number."""
        age, partition = divmod(number, PER_VERSION)
        return TopicPartition([*reversed(self._adapters)][age], partition)

    def _are_rows_gone(self, firsts: Positions, ends: Positions) -> bool:
        """Return whether records that were read have been removed by retention, or the topic was created anew."""
        is_shorter = any(ends.get(number, 0) < position for number, position in self._positions.items())
        return is_shorter or any(first > self._firsts.get(number, first) for number, first in firsts.items())

    def _read(self, ends: Positions) -> None:
        for number, end in ends.items():
            source = self._source(number)
            adapt = self._adapters[source.topic]
            offset = self._positions.get(number, 0)
            while batches := self._log.read(source, offset, ROWS_AT_ONCE):
                for batch in batches:
                    self._take(batch if adapt is None else adapt(batch), number)
                offset = batches[-1].next_offset
            self._positions[number] = max(offset, end)

    def _take(self, batch: Batch, number: int) -> None:
        """Keep the rows of a batch; a record that cannot be read is a row without values if its key can be read."""
        records = batch.records
        present = pl.Series(GONE, [False]).new_from_index(0, len(batch))
        marks = [
            pl.Series(OFFSET, batch.offsets, dtype=pl.Int64),
            pl.Series(APPENDED, batch.timestamps, dtype=pl.Int64),
            pl.Series(PARTITION, [number], dtype=pl.Int32).new_from_index(0, len(batch)),
            present if records.tombstones is None else records.tombstones.alias(GONE),
            pl.Series(UNREADABLE, [None], dtype=pl.String).new_from_index(0, len(batch)),
        ]
        # The topic may have more columns by now than the first rows had.
        frame = records.frame.select(field.name for field in self._schedule.entity.fields).with_columns(marks)
        keyed = [reject for reject in batch.rejects if reject.key_values is not None]
        if keyed:
            rows = [
                dict(zip(self._keys, reject.key_values or (), strict=True))
                | {OFFSET: reject.offset, APPENDED: reject.timestamp, PARTITION: number, GONE: False, UNREADABLE: reject.reason}
                for reject in keyed
            ]
            frame = pl.concat([frame, pl.DataFrame(rows, schema=frame.schema)]).sort(OFFSET)
        self._illegible += [(number, reject.offset, reject.reason) for reject in batch.rejects if reject.key_values is None]
        self._rows.append(frame)

    @property
    def _keys(self) -> list[str]:
        return [part.name for part in self._schedule.entity.keys]

    def _build(self, now: int) -> bool:
        name = self._query.target.name
        if not any(self._positions.values()):
            self._warn(now, f"{name} waits for rows of its schedule in topic {self.topic}")
            return False
        before = self.version
        version = self._judged(self._positions, None if before is None else before.calendar)
        if before is not None and before.positions == version.positions and before.calendar.has_same_sessions(version.calendar):
            return False
        self.version = version
        logger.info("schedule of %s: sessions of %d keys in topic %s", name, len(version.calendar.keys), self.topic)
        return True

    def _judged(self, positions: Positions, kept: SessionCalendar | None) -> ScheduleVersion:
        """Return the version of the newest rows, and say what is wrong with them."""
        version, texts = self._judge(positions, kept)
        self.faults = (*texts, *self._illegible_texts())
        self._report(version.calendar)
        return version

    def _judge(self, positions: Positions, kept: SessionCalendar | None) -> tuple[ScheduleVersion, tuple[str, ...]]:
        """Return the calendar of the rows before these offsets, and what is wrong with rows.

        Args:
            positions: The next offset of each partition.
            kept: Sessions of which those of keys with wrong rows go on.
        """
        rows = self._newest(positions)
        if rows is None:
            return ScheduleVersion(SessionCalendar(_NO_SESSIONS), dict(positions)), ()
        reasons = rows[UNREADABLE]
        unreadable = {row: str(reasons[row]) for row in np.flatnonzero(reasons.is_not_null().to_numpy()).tolist()}
        judged = judged_sessions(self._query, rows, unreadable, self._plan.base.timeframe)
        sessions, frame = judged.rows, None
        if kept is not None and judged.faults:
            going_on = kept.rows_of([fault.key for fault in judged.faults])
            if len(going_on.opens):
                frame = _kept_frame(going_on, rows.select(schedule_keys(self._query)).schema)
                sessions = _joined(sessions, going_on)
        calendar = SessionCalendar(sessions)
        texts = tuple(self._fault_text(fault, rows) for fault in judged.faults)
        return ScheduleVersion(calendar, dict(positions), frame), texts

    def _newest(self, positions: Positions) -> pl.DataFrame | None:
        """Return the newest row of each key before these offsets, without removed ones; None if no record was read."""
        if not self._rows:
            return None
        rows = pl.concat(self._rows)
        limits = pl.DataFrame(
            {PARTITION: list(positions), "__limit": list(positions.values())}, schema={PARTITION: pl.Int32, "__limit": pl.Int64}
        )
        rows = rows.join(limits, on=PARTITION, how="inner", maintain_order="left").filter(pl.col(OFFSET) < pl.col("__limit"))
        if len(self._adapters) > 1:
            # Rows of one key may be in a topic of each version.
            rows = rows.sort(APPENDED, maintain_order=True)
        newest = rows.unique(self._keys, keep="last", maintain_order=True)
        return newest.filter(~pl.col(GONE))

    def _fault_text(self, fault: ScheduleFault, rows: pl.DataFrame) -> str:
        sources = [self._source(rows[PARTITION][row]) for row in fault.rows[:2]]
        offsets = [rows[OFFSET][row] for row in fault.rows[:2]]
        records = [f"partition {one.partition}, offset {offset}" for one, offset in zip(sources, offsets, strict=True)]
        source = f"{' and '.join(records)} of topic {sources[0].topic if sources else self.topic}"
        return f"{fault.reason} ({source}); until that is corrected the key has only the sessions that it had before"

    def _illegible_texts(self) -> tuple[str, ...]:
        """Return a text for each record whose key cannot be read, so that it can stop no key."""
        return tuple(
            f"partition {source.partition}, offset {offset} of topic {source.topic} cannot be read, so it is left out: {reason}"
            for source, offset, reason in [(self._source(number), offset, reason) for number, offset, reason in self._illegible]
        )

    def _report(self, calendar: SessionCalendar) -> None:
        """Say in words what is wrong, and log what was not logged yet."""
        name = self._query.target.name
        texts = [f"the schedule of {name}: {text}" for text in self.faults]
        if not calendar.keys and not texts:
            texts = [f"the schedule of {name}: topic {self.topic} has no rows any more, so no key is in a session"]
        for text in texts:
            if text not in self._logged:
                logger.warning("%s", text)
        if self._logged and not texts:
            logger.info("the schedule of %s: all rows are right again", name)
        self._logged = set(texts)
        more = f"; and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
        self.problem = "; ".join(texts[:MOST_NAMED]) + more if texts else None

    def _warn(self, now: int, problem: str) -> None:
        self.problem = problem
        if now >= self._next_warning:
            logger.warning(problem)
            self._next_warning = now + self._retry

    def calendar_at(self, positions: Positions, kept: pl.DataFrame | None = None) -> SessionCalendar | None:
        """Return the calendar of an earlier version; None if the topic has none of its rows any more.

        Args:
            positions: The next offset of each partition.
            kept: The sessions of the version that were kept.
        """
        rows = self._newest(positions)
        if (rows is None or rows.is_empty()) and kept is None:
            return None
        return self._judge(positions, None if kept is None else self._kept_calendar(kept))[0].calendar

    def keep(self, kept: pl.DataFrame) -> None:
        """Take over sessions that another process has kept for keys whose rows are wrong, and that are not known here.

        Args:
            kept: The sessions of a version that was committed.
        """
        if self.version is None:
            return
        known, others = self.version.calendar, self._kept_calendar(kept)
        unknown = others.rows_of([key for key in others.keys if key not in known.keys])
        version = self._judged(self.version.positions, SessionCalendar(_joined(known.rows_of(known.keys), unknown)))
        if not version.calendar.has_same_sessions(known):
            self.version = version

    def _kept_calendar(self, kept: pl.DataFrame) -> SessionCalendar:
        keys = kept.select(schedule_keys(self._query)).rows()
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return SessionCalendar(
            SessionRows(
                keys=list(numbers),
                key_ids=np.array([numbers[key] for key in keys], np.int64),
                opens=kept[OPEN].to_numpy(),
                closes=kept[CLOSE].to_numpy(),
                days=None if self._schedule.day is None else kept[TRADING_DAY].to_numpy(),
            )
        )


_NOTHING = np.empty(0, np.int64)
_NO_SESSIONS = SessionRows((), _NOTHING, _NOTHING, _NOTHING, _NOTHING)


def _joined(left: SessionRows, right: SessionRows) -> SessionRows:
    """Return the sessions of both, whose keys differ."""
    return SessionRows(
        keys=[*left.keys, *right.keys],
        key_ids=np.concatenate([left.key_ids, right.key_ids + len(left.keys)]),
        opens=np.concatenate([left.opens, right.opens]),
        closes=np.concatenate([left.closes, right.closes]),
        days=None if left.days is None or right.days is None else np.concatenate([left.days, right.days]),
    )


def _kept_frame(sessions: SessionRows, keys: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return sessions as a frame for a state: the group key, then open, close and trading date."""
    rows = [sessions.keys[number] for number in sessions.key_ids.tolist()]
    times = {OPEN: sessions.opens, CLOSE: sessions.closes, TRADING_DAY: sessions.days}
    columns = [pl.Series(name, values, dtype=pl.Int64) for name, values in times.items() if values is not None]
    return pl.DataFrame(rows, schema=dict(keys), orient="row").with_columns(columns)


def _next_time(now: int, at: time) -> int:
    """Return the next instant at which it is this time of the day in UTC."""
    moment = from_instant(now)
    today = datetime.combine(moment.date(), at, UTC)
    return to_instant(today if today > moment else today + timedelta(days=1))
