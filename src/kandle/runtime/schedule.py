"""Schedules from their topic: loaded before anything else starts, and kept up to date while it runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta

import polars as pl

from kandle.engine.compiled import session_calendar
from kandle.errors import OptionsError, ScheduleError
from kandle.log.port import Log, TopicPartition
from kandle.plan.plan import Plan
from kandle.query.query import QueryModel
from kandle.serde.keys import key_text
from kandle.time.clock import Clock
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import SECOND, from_instant, to_instant

logger = logging.getLogger("kandle")

ROWS_AT_ONCE = 100_000

SCHEDULE_INTERVAL = SECOND
"""How often new schedule rows are looked for, in microseconds."""

OFFSET = "__offset"
PARTITION = "__partition"
GONE = "__gone"

Positions = Mapping[int, int]
"""Next offset of each partition of the schedule's topic."""


class ScheduleProvider:
    """The rows of a query's schedule, newest of each key, and the calendar that they make.

    Args:
        log: The log with the topic of the schedule.
        query: A query that is based on a schedule.
        clock: The clock.
        refresh_at: The time of the day, in UTC, at which all rows are read again.
        retry: The least time between two warnings about missing or contradicting rows, in microseconds.
    """

    def __init__(
        self, log: Log, query: QueryModel, clock: Clock, *, refresh_at: time = time(0, 5), retry: int = 10 * SECOND
    ) -> None:
        assert query.schedule is not None
        self._log = log
        self._query = query
        self._clock = clock
        self._topic = query.schedule.entity.topic
        self._refresh_at = refresh_at
        self._retry = retry
        self._rows: list[pl.DataFrame] = []
        self._positions: dict[int, int] = {}
        self._next_refresh = 0
        self._next_warning = 0
        self._refreshed_at: int | None = None
        self.calendar: SessionCalendar | None = None
        self.positions: Positions = {}
        self.problem: str | None = None

    @property
    def version(self) -> tuple[tuple[int, int], ...]:
        """What identifies the rows that the calendar holds: partitions with their next offsets."""
        return tuple(sorted(self.positions.items()))

    def refresh_if_due(self) -> None:
        """Refresh, unless that was done less than a second ago."""
        now = self._clock.steady()
        if self._refreshed_at is None or not 0 <= now - self._refreshed_at < SCHEDULE_INTERVAL:
            self._refreshed_at = now
            self.refresh()

    def refresh(self) -> bool:
        """Take in new rows; once a day, at a fixed time in UTC, read all of them again.

        Returns:
            Whether the calendar is a new one.
        """
        now = self._clock.now()
        if now >= self._next_refresh:
            self._rows, self._positions = [], {}
            self._next_refresh = _next_time(now, self._refresh_at)
        ends = dict(enumerate(self._log.ends(self._topic)))
        if ends == self._positions and self.calendar is not None:
            return False
        self._read(ends)
        return self._build(now)

    def _read(self, ends: Positions) -> None:
        for partition, end in ends.items():
            source = TopicPartition(self._topic, partition)
            offset = self._positions.get(partition, 0)
            while batches := self._log.read(source, offset, ROWS_AT_ONCE):
                for batch in batches:
                    gone = batch.records.tombstones
                    columns = [
                        pl.Series(OFFSET, batch.offsets),
                        pl.lit(partition).alias(PARTITION),
                        pl.lit(False).alias(GONE) if gone is None else gone.alias(GONE),
                    ]
                    self._rows.append(batch.records.frame.with_columns(columns))
                offset = batches[-1].next_offset
            self._positions[partition] = max(offset, end)

    def _build(self, now: int) -> bool:
        try:
            calendar = self.calendar_at(self._positions)
        except ScheduleError as error:
            # New rows that contradict each other must not stop what runs; the calendar stays as it was.
            self._warn(now, f"the schedule of {self._query.target.name} cannot be used: {error}")
            return False
        if calendar is None:
            self._warn(now, f"{self._query.target.name} waits for rows of its schedule in topic {self._topic}")
            return False
        changed = self.calendar is None or tuple(sorted(self._positions.items())) != self.version
        self.problem = None
        if changed:
            self.calendar = calendar
            self.positions = dict(self._positions)
            logger.info(
                "schedule of %s: sessions of %d keys in topic %s", self._query.target.name, len(calendar.keys), self._topic
            )
        return changed

    def _warn(self, now: int, problem: str) -> None:
        self.problem = problem
        if now >= self._next_warning:
            logger.warning(problem)
            self._next_warning = now + self._retry

    def calendar_at(self, positions: Positions) -> SessionCalendar | None:
        """Return the calendar of the rows before these offsets; None if there are none."""
        if not self._rows:
            return None
        rows = pl.concat(self._rows)
        limits = pl.DataFrame(
            {PARTITION: list(positions), "__limit": list(positions.values())}, schema={PARTITION: pl.Int32, "__limit": pl.Int64}
        )
        rows = rows.with_columns(pl.col(PARTITION).cast(pl.Int32)).join(limits, on=PARTITION, how="inner", maintain_order="left")
        keys = self._keys()
        newest = rows.filter(pl.col(OFFSET) < pl.col("__limit")).unique(keys, keep="last", maintain_order=True)
        alive = newest.filter(~pl.col(GONE)).drop(OFFSET, PARTITION, GONE, "__limit")
        return session_calendar(self._query, [alive]) if alive.height else None

    def _keys(self) -> Sequence[str]:
        assert self._query.schedule is not None
        return [part.name for part in self._query.schedule.entity.keys]


def _next_time(now: int, at: time) -> int:
    """Return the next instant at which it is this time of the day in UTC."""
    moment = from_instant(now)
    today = datetime.combine(moment.date(), at, UTC)
    return to_instant(today if today > moment else today + timedelta(days=1))


class ActiveKeys:
    """The keys that a query should have: those that are configured, and those that the schedule names.

    Keys are compared as the texts of their parts, so that the configuration can write all of them as text.

    Args:
        plan: The plan of the query.
        configured: Keys as parts in their order, from `universe.keys` of the configuration.

    Raises:
        OptionsError: A configured key has other parts than the group key.
    """

    def __init__(self, plan: Plan, configured: Sequence[Sequence[str]] = ()) -> None:
        width = len(plan.query.group_by)
        wrong = [key for key in configured if len(key) != width]
        if wrong:
            raise OptionsError(
                f"universe.keys: {list(wrong[0])!r} has {len(wrong[0])} parts, "
                f"the group key of {plan.query.target.name} has {width}"
            )
        self._width = width
        self._configured = {key_text(key) for key in configured}

    def observed(self, frames: Iterable[pl.DataFrame | None]) -> set[str]:
        """Return the keys that had events, from the tables of keys of all tasks."""
        return {key_text(row[: self._width]) for frame in frames if frame is not None for row in frame.iter_rows()}

    def silent(self, observed: Collection[str], calendar: SessionCalendar | None) -> set[str]:
        """Return the keys that are configured or scheduled, but had no event."""
        scheduled = set() if calendar is None else {key_text(key) for key in calendar.keys}
        return (self._configured | scheduled).difference(observed)
