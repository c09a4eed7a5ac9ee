"""Sessions from the rows of a schedule: computed by the expressions of a query, and judged key by key.

A row that is wrong concerns its own key alone: the rows of all other keys are used, whatever stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import polars as pl

from kandle.engine.expressions import compile_expression, evaluate
from kandle.errors import KandleError, ScheduleError
from kandle.query.nodes import AnyNode, describe
from kandle.query.query import QueryModel, Schedule
from kandle.time.arrays import IntArray
from kandle.time.sessions import Key, SessionCalendar, SessionRows, contradictions
from kandle.time.slots import shared_buckets
from kandle.time.timeframe import DAY, Timeframe, parse_instant

OPEN, CLOSE, TRADING_DAY = "_open", "_close", "_day"

EARLIEST, LATEST = parse_instant("0002-01-01"), parse_instant("9998-01-01")
"""Instants beyond these have no date in every time zone."""

NO_REASONS: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ScheduleFault:
    """Why the rows of a key cannot be used: `rows` are the positions of those at fault."""

    key: Key
    rows: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class JudgedSessions:
    """The sessions of all keys whose rows are right, and what is wrong with those of each other key."""

    rows: SessionRows
    faults: tuple[ScheduleFault, ...]


def schedule_keys(query: QueryModel) -> list[str]:
    """Return the columns of a schedule's rows that hold the group key."""
    assert query.schedule is not None
    return [key.name for key in query.schedule.entity.keys[: len(query.group_by)]]


def session_calendar(query: QueryModel, frames: Iterable[pl.DataFrame], *, is_whole: bool = False) -> SessionCalendar:
    """Return the calendar of a query's schedule.

    Args:
        query: A query with a schedule.
        frames: Physical frames of the schedule's entity.
        is_whole: Whether no more rows will come.

    Raises:
        ScheduleError: A row is wrong; the message names its key and what is wrong.
    """
    judged = judged_sessions(query, pl.concat(frames))
    for fault in judged.faults:
        raise ScheduleError(fault.reason)
    return SessionCalendar(judged.rows, is_whole=is_whole)


def judged_sessions(
    query: QueryModel, frame: pl.DataFrame, unreadable: Mapping[int, str] = NO_REASONS, base: Timeframe | None = None
) -> JudgedSessions:
    """Compute the sessions of schedule rows, and judge them key by key.

    Args:
        query: A query with a schedule.
        frame: Physical rows of the schedule's entity.
        unreadable: By position, why rows could not be read; of these only the key counts.
        base: The finest timeframe of the query, none of whose buckets may hold sessions of two trading dates; None leaves
            that to the pipeline.

    Returns:
        The sessions of the keys whose rows are all right, and a fault for each other key.
    """
    table = _Table.of(query, frame)
    table.note_rows(unreadable)
    table.note_rows(_unfit_rows(query, table.times))
    table.note_contradictions()
    if base is not None:
        table.note_shared_buckets(base)
    return JudgedSessions(table.right_rows()[0], tuple(fault for _, fault in sorted(table.faults.items())))


@dataclass(slots=True)
class _Table:
    """Rows of a schedule with the times that were computed of them, and the faults that were found so far, by number of key."""

    keys: list[Key]
    key_ids: IntArray
    times: pl.DataFrame
    faults: dict[int, ScheduleFault] = field(default_factory=dict)

    @classmethod
    def of(cls, query: QueryModel, frame: pl.DataFrame) -> _Table:
        assert query.schedule is not None
        names = schedule_keys(query)
        distinct = frame.select(names).unique(maintain_order=True).with_row_index("_key")
        numbers = frame.select(names).join(distinct, on=names, how="left", maintain_order="left", nulls_equal=True)["_key"]
        times, failures = _times(query.schedule, frame)
        table = cls(distinct.select(names).rows(), numbers.cast(pl.Int64).to_numpy(), times)
        table.note_rows(failures)
        return table

    def note_rows(self, reasons: Mapping[int, str]) -> None:
        """Note rows that are wrong by themselves."""
        for row, reason in reasons.items():
            number = int(self.key_ids[row])
            if number not in self.faults:
                self.faults[number] = ScheduleFault(self.keys[number], (row,), f"the row of key {self.keys[number]}: {reason}")

    def note_contradictions(self) -> None:
        """Note sessions that close before they open, overlap, or go back in their trading dates."""
        sessions, positions = self.right_rows()
        for contradiction in contradictions(sessions):
            rows = tuple(int(positions[row]) for row in contradiction.rows)
            self.faults[int(self.key_ids[rows[0]])] = ScheduleFault(contradiction.key, rows, contradiction.reason)

    def note_shared_buckets(self, base: Timeframe) -> None:
        """Note sessions of two trading dates that share a base bucket."""
        sessions, _ = self.right_rows()
        if sessions.days is None:
            return
        calendar = SessionCalendar(sessions)
        reasons = dict(shared_buckets(calendar, base))
        numbers = np.unique(sessions.key_ids)
        groups = calendar.groups([self.keys[number] for number in numbers])
        for number, group in zip(numbers.tolist(), groups.tolist(), strict=True):
            if group in reasons:
                rows = tuple(np.flatnonzero(self.key_ids == number).tolist())
                self.faults[number] = ScheduleFault(self.keys[number], rows, reasons[group])

    def right_rows(self) -> tuple[SessionRows, IntArray]:
        """Return the sessions of the keys without faults, with their positions."""
        positions = np.flatnonzero(~np.isin(self.key_ids, list(self.faults)))
        columns = {name: self.times[name].fill_null(0).to_numpy()[positions].astype(np.int64) for name in self.times.columns}
        rows = SessionRows(self.keys, self.key_ids[positions], columns[OPEN], columns[CLOSE], columns.get(TRADING_DAY))
        return rows, positions


def _expressions(schedule: Schedule) -> dict[str, AnyNode]:
    days = {} if schedule.day is None else {TRADING_DAY: schedule.day}
    return {OPEN: schedule.open, CLOSE: schedule.close} | days


def _times(schedule: Schedule, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str]]:
    """Return opens, closes and trading dates as integers, and why they cannot be computed of some rows."""
    types = {OPEN: pl.Int64, CLOSE: pl.Int64, TRADING_DAY: pl.Int32}
    nodes = _expressions(schedule)
    expressions = [compile_expression(node).cast(types[name]).alias(name) for name, node in nodes.items()]
    try:
        return evaluate(frame, expressions), {}
    except (KandleError, pl.exceptions.PolarsError) as error:
        if frame.height <= 1:
            nothing = pl.DataFrame({name: [None] * frame.height for name in nodes}, schema={name: types[name] for name in nodes})
            return nothing, dict.fromkeys(range(frame.height), str(error))
    middle = frame.height // 2
    (upper, above), (lower, below) = _times(schedule, frame[:middle]), _times(schedule, frame[middle:])
    return pl.concat([upper, lower]), above | {row + middle: reason for row, reason in below.items()}


def _unfit_rows(query: QueryModel, times: pl.DataFrame) -> dict[int, str]:
    """Return the rows that have no time, or one that no calendar has, with the reason."""
    assert query.schedule is not None
    reasons: dict[int, str] = {}
    for name, node in _expressions(query.schedule).items():
        instants = times[name].cast(pl.Int64) * (DAY if name == TRADING_DAY else 1)
        for row in np.flatnonzero(instants.is_null().to_numpy()).tolist():
            reasons.setdefault(row, f"{describe(node)} is NULL")
        beyond = (instants < EARLIEST) | (instants > LATEST)
        for row in np.flatnonzero(beyond.fill_null(False).to_numpy()).tolist():
            reasons.setdefault(row, f"{describe(node)} is beyond the years 2 to 9997")
    return reasons
