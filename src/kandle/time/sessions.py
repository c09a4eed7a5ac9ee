"""Sessions: when each key is open (`open <= t < close`), and to which trading date that belongs.

key A   |=== Mar 7 ===|          |=== Mar 8 ===|            an event between two sessions belongs to none
key B   |=== Mar 7 ===|          |=== Mar 8 ===|            same sessions as A: one group
key C   |====== Mar 8 ======|  |======= Mar 9 =======|      a trading date may begin on the evening before
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kandle.errors import ScheduleError
from kandle.time.arrays import IntArray
from kandle.time.timeframe import from_instant

Key = tuple[Any, ...]

MOST_CELLS = 65_536
"""A table of sessions with so many cells is always worth its memory."""


@dataclass(frozen=True, slots=True)
class SessionRows:
    """Rows of a schedule as columns: `keys[key_ids[i]]` is open in `[opens[i], closes[i])` on trading day `days[i]`.

    Args:
        keys: Different keys, in any order.
        key_ids: The position in `keys` of each row's key.
        opens: Instants in microseconds since the epoch.
        closes: Instants in microseconds since the epoch.
        days: Trading dates as days since 1970-01-01; None where sessions have none.
    """

    keys: Sequence[Key]
    key_ids: IntArray
    opens: IntArray
    closes: IntArray
    days: IntArray | None = None


class SessionCalendar:
    """Sessions by key. Keys with the very same sessions share one *group*, so that many keys of one market cost one table.

    `group`, `opens`, `closes` and `days` are columns of all sessions, ordered by group and open; the rows
    `bounds[g]:bounds[g + 1]` are those of group g.

    Args:
        rows: The rows of the schedule, in any order; identical rows count once.
        is_whole: Whether no more sessions will come, so that the last known session is the last there is.

    Raises:
        ScheduleError: A session closes before it opens, two sessions of a key overlap, or trading dates go back.
    """

    def __init__(self, rows: SessionRows, *, is_whole: bool = False) -> None:
        self.is_whole = is_whole
        ordered, _ = _ordered(rows)
        for contradiction in _contradictions(ordered):
            raise ScheduleError(contradiction.reason)
        self.has_days = rows.days is not None
        self._group_of, self._names, chosen = _grouped(ordered)
        self.opens = ordered.opens[chosen.rows]
        self.closes = ordered.closes[chosen.rows]
        assert ordered.days is not None
        self.days = ordered.days[chosen.rows]
        self.group = np.repeat(np.arange(len(chosen.sizes)), chosen.sizes)
        self.bounds = np.concatenate([[0], np.cumsum(chosen.sizes)])
        self._by_open = np.argsort(self.opens, kind="stable")
        self._opens = self.opens[self._by_open]
        # Until when any of the sessions that have opened so far goes on; it ascends, so it can be searched.
        self._latest_close = np.maximum.accumulate(self.closes[self._by_open])

    @property
    def keys(self) -> Collection[Key]:
        """All keys that have sessions."""
        return self._group_of.keys()

    @property
    def group_count(self) -> int:
        """How many different schedules there are."""
        return len(self.bounds) - 1

    def groups(self, keys: Sequence[Key]) -> IntArray:
        """Return the group of each key; -1 for a key without rows, which is never in session."""
        return np.array([self._group_of.get(tuple(key), -1) for key in keys], dtype=np.int64)

    def name(self, group: int) -> Key:
        """Return a key of a group, for messages."""
        return self._names[group]

    def sessions(self, group: int) -> slice:
        """Return which rows of the columns are a group's; none for group -1."""
        return slice(0, 0) if group < 0 else slice(int(self.bounds[group]), int(self.bounds[group + 1]))

    def rows_of(self, keys: Collection[Key]) -> SessionRows:
        """Return the sessions of some keys, of those that have any."""
        known = [key for key in keys if key in self._group_of]
        rows = [np.arange(len(self.opens))[self.sessions(self._group_of[key])] for key in known]
        positions = np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64)
        key_ids = np.repeat(np.arange(len(known)), np.array([len(session_rows) for session_rows in rows], np.int64))
        days = self.days[positions] if self.has_days else None
        return SessionRows(known, key_ids, self.opens[positions], self.closes[positions], days)

    def has_same_sessions(self, other: SessionCalendar) -> bool:
        """Return whether all keys have the same sessions as in another calendar."""
        names = ("opens", "closes", "days", "group")
        return self._group_of == other._group_of and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )

    def is_in_session(self, key: Key, instant: int) -> bool:
        """Return whether a key is in session: the open counts, the close does not."""
        return bool(self.locate(self.groups([key]), np.array([instant]))[0] >= 0)

    def is_any_open(self, starts: IntArray, ends: IntArray) -> np.ndarray:
        """Return whether some session of any key overlaps each span `[start, end)`."""
        opened = np.searchsorted(self._opens, ends, side="left")
        latest = np.where(opened > 0, self._latest_close[np.maximum(opened - 1, 0)], starts) if len(self._opens) else starts
        overlaps: np.ndarray = latest > starts
        return overlaps

    def locate(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Return the row of the session that holds each instant in its group, or -1."""
        if not len(instants):
            return np.empty(0, np.int64)
        low, high = int(instants.min()), int(instants.max())
        near = self._near(low, high)
        edges = np.unique(np.concatenate([self.opens[near], self.closes[near], [low]]))
        if (self.group_count + 1) * len(edges) > MOST_CELLS + 8 * len(instants):
            return self._locate_by_group(groups, instants)
        table = self._table(near, edges)
        column = np.searchsorted(edges, instants, side="right") - 1
        # Row -1 of the table, its last, belongs to no group and is empty.
        return table[groups, column]

    def _locate_by_group(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Do what `locate` does for so many groups that a table of all of them would be too large."""
        located = np.full(len(instants), -1, np.int64)
        for group, rows in by_group(groups):
            sessions = self.sessions(group)
            at = np.searchsorted(self.opens[sessions], instants[rows], side="right") - 1 + sessions.start
            inside = (at >= sessions.start) & (instants[rows] < self.closes[at]) if sessions.stop else np.False_
            located[rows] = np.where(inside, at, -1)
        return located

    def _near(self, low: int, high: int) -> IntArray:
        """Return the rows of sessions that overlap `[low, high]`."""
        first = np.searchsorted(self._latest_close, low, side="right")
        rows = self._by_open[first : np.searchsorted(self._opens, high, side="right")]
        return rows[self.closes[rows] > low]

    def _table(self, rows: IntArray, edges: IntArray) -> IntArray:
        """Return the row of the session of each group (rows) in each interval between edges (columns), -1 where there is none."""
        # Sessions of a group do not overlap, so that adding row + 1 at the open and taking it away at the close is enough.
        table = np.zeros((self.group_count + 1, len(edges) + 1), np.int64)
        groups = self.group[rows]
        np.add.at(table, (groups, np.searchsorted(edges, np.maximum(self.opens[rows], edges[0]))), rows + 1)
        np.add.at(table, (groups, np.searchsorted(edges, self.closes[rows])), -(rows + 1))
        return np.cumsum(table, axis=1) - 1


def by_group(groups: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each group with the positions at which it stands."""
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order])) + 1
    for rows in np.split(order, edges) if len(order) else []:
        yield int(groups[rows[0]]), rows


@dataclass(frozen=True, slots=True)
class _GroupRows:
    """The rows of one key of each group, and how many rows each group has."""

    rows: IntArray
    sizes: IntArray


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Why the rows of a key cannot be used: `rows` are the positions of those at fault."""

    key: Key
    rows: tuple[int, ...]
    reason: str


def contradictions(rows: SessionRows) -> list[Contradiction]:
    """Return what is wrong with the rows of each key, at most one contradiction for a key.

    Args:
        rows: The rows of a schedule, in any order; identical rows count once.

    Returns:
        The contradictions with positions in `rows`.
    """
    ordered, positions = _ordered(rows)
    return [
        Contradiction(contradiction.key, tuple(int(positions[row]) for row in contradiction.rows), contradiction.reason)
        for contradiction in _contradictions(ordered)
    ]


def _ordered(rows: SessionRows) -> tuple[SessionRows, IntArray]:
    """Return rows by key and open, without identical ones, and the position that each had."""
    days = np.zeros(len(rows.opens), np.int64) if rows.days is None else np.asarray(rows.days, np.int64)
    columns = np.stack([np.asarray(column, np.int64) for column in (rows.key_ids, rows.opens, rows.closes, days)])
    order = np.lexsort(columns[::-1])
    columns = columns[:, order]
    fresh = np.ones(columns.shape[1], np.bool_)
    fresh[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
    key_ids, opens, closes, days = columns[:, fresh]
    return SessionRows(rows.keys, key_ids, opens, closes, days), order[fresh]


def _contradictions(rows: SessionRows) -> list[Contradiction]:
    """Return the first contradiction of each key among ordered rows, in the order of the keys' numbers."""
    assert rows.days is not None
    same = rows.key_ids[1:] == rows.key_ids[:-1]
    kinds = (
        (np.flatnonzero(rows.closes <= rows.opens), _closes_early),
        (np.flatnonzero(same & (rows.opens[1:] < rows.closes[:-1])), _overlaps),
        (np.flatnonzero(same & (rows.days[1:] < rows.days[:-1])), _goes_back),
    )
    by_key: dict[int, Contradiction] = {}
    for positions, contradiction_at in kinds:
        numbers, first = np.unique(rows.key_ids[positions], return_index=True)
        for number, at in zip(numbers.tolist(), positions[first].tolist(), strict=True):
            if number not in by_key:
                by_key[number] = contradiction_at(rows, at)
    return [by_key[number] for number in sorted(by_key)]


def _closes_early(rows: SessionRows, at: int) -> Contradiction:
    return Contradiction(_key_of(rows, at), (at,), f"{_described(rows, at)} closes before or when it opens")


def _overlaps(rows: SessionRows, at: int) -> Contradiction:
    reason = f"{_described(rows, at)} overlaps {_described(rows, at + 1)}; sessions of a key must not overlap"
    return Contradiction(_key_of(rows, at), (at, at + 1), reason)


def _goes_back(rows: SessionRows, at: int) -> Contradiction:
    reason = f"{_described(rows, at + 1)} opens after {_described(rows, at)} but has an earlier trading date"
    return Contradiction(_key_of(rows, at), (at, at + 1), reason)


def _key_of(rows: SessionRows, at: int) -> Key:
    return tuple(rows.keys[int(rows.key_ids[at])])


def _described(rows: SessionRows, at: int) -> str:
    opens, closes = from_instant(int(rows.opens[at])), from_instant(int(rows.closes[at]))
    return f"session {opens.isoformat()} .. {closes.isoformat()} of key {_key_of(rows, at)}"


def _grouped(rows: SessionRows) -> tuple[dict[Key, int], list[Key], _GroupRows]:
    """Return the group of each key, a key of each group, and the rows of that key."""
    starts = np.flatnonzero(np.r_[True, rows.key_ids[1:] != rows.key_ids[:-1]]) if len(rows.key_ids) else np.empty(0, int)
    ends = np.append(starts[1:], len(rows.key_ids))
    group_of: dict[Key, int] = {}
    names: list[Key] = []
    seen: dict[bytes, int] = {}
    chosen: list[IntArray] = []
    assert rows.days is not None
    for start, end in zip(starts, ends, strict=False):
        content = b"".join(column[start:end].tobytes() for column in (rows.opens, rows.closes, rows.days))
        key = tuple(rows.keys[int(rows.key_ids[start])])
        if content not in seen:
            seen[content] = len(names)
            names.append(key)
            chosen.append(np.arange(start, end))
        group_of[key] = seen[content]
    flat = np.concatenate(chosen) if chosen else np.empty(0, np.int64)
    return group_of, names, _GroupRows(flat, np.array([len(group) for group in chosen], dtype=np.int64))
