"""The bars of one timeframe: open buckets in, closed buckets out, with a row for every expected bucket."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from kandle.engine.aggregates import FIRST_TIME, LAST_TIME, Argument, carried_column, last_column
from kandle.engine.compiled import COMPLETE, GAP, CompiledQuery
from kandle.engine.expressions import END, OPENED
from kandle.engine.state import KEY, START, KeyTable, PartialBuffer
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Gaps
from kandle.time.arrays import IntArray
from kandle.time.sessions import SessionCalendar
from kandle.time.slots import HoppingSlots, Slots, slots

UNSEEN = np.iinfo(np.int64).min
"""Position of a key that has no closed bucket yet."""

FOREVER = np.iinfo(np.int64).max
"""An instant that never comes."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The buckets that are over: they start before `before` and, with `due`, are past their grace by then.

    Only those of keys with numbers in `[first, until)` are closed; None is all keys from `first` on.
    """

    before: int
    due: int | None = None
    first: int = 0
    until: int | None = None

    def concerns(self, numbers: IntArray) -> np.ndarray:
        """Return which keys it closes."""
        concerned: np.ndarray = numbers >= self.first
        return concerned if self.until is None else concerned & (numbers < self.until)


def bar_slots(plan: Plan, bar: BarPlan, calendar: SessionCalendar | None) -> Slots | HoppingSlots:
    """Return where the buckets of one timeframe of a plan begin and end."""
    if bar.advance is not None:
        return HoppingSlots(bar.timeframe, bar.advance, calendar)
    return slots(bar.timeframe, zone=plan.zone, base=plan.base.timeframe, calendar=calendar, by_trading_day=plan.by_trading_day)


def end_of_most(due: IntArray, most: int) -> int:
    """Return an instant by which at most so many open buckets are over, if not more of them are over at once.

    Args:
        due: When each open bucket is over.
        most: The most of them; `FOREVER` is returned if there are no more.
    """
    if len(due) <= most:
        return FOREVER
    last, following = np.partition(due, [most - 1, most])[most - 1 : most + 1]
    if last < following:
        return int(last)
    before = due[due < last]
    return int(before.max()) if len(before) else int(last)


class BarOperator:
    """The open buckets of one timeframe and, of every key, the last closed bucket and the latest values."""

    def __init__(self, plan: BarPlan, slots: Slots | HoppingSlots, query: CompiledQuery, expiry: int | None = None) -> None:
        self.plan = plan
        self.slots = slots
        self.buffer = PartialBuffer(query.partials)
        self._query = query
        self._fills = query.query.gaps is not Gaps.SKIP
        # A ranking needs all keys of a bucket at once, so none of them may close early.
        self._shared_end = query.query.limit is not None
        self._expiry = expiry
        self._positions: IntArray = np.empty(0, np.int64)
        self._seen: IntArray = np.empty(0, np.int64)
        self._carry: pl.DataFrame | None = None
        self._no_rows: pl.DataFrame | None = None

    @property
    def open_rows(self) -> int:
        """Number of open buckets; any thread may ask."""
        return self.buffer.bucket_count

    @property
    def oldest(self) -> int | None:
        """Start of the oldest bucket that may still have to be closed, or None before the first event."""
        begun = self._positions[self._positions != UNSEEN]
        if len(begun):
            return int(begun.min()) + 1
        rows = self.buffer.rows()
        return None if rows is None else int(rows[START].to_numpy().min())

    def adopt(self, rows: pl.DataFrame, groups: IntArray) -> pl.DataFrame:
        """Return the partials of source bars as partials of this timeframe's buckets."""
        times = rows[FIRST_TIME].to_numpy()
        if isinstance(self.slots, HoppingSlots):
            starts = self.slots.starts(times)
            rows = rows[np.repeat(np.arange(rows.height), starts.shape[1])]
            return rows.with_columns(pl.Series(START, starts.ravel()))
        return rows.with_columns(pl.Series(START, self.start(groups, times)))

    def start(self, groups: IntArray, times: IntArray) -> IntArray:
        """Return the start of the bucket of each time; hopping buckets overlap and are made only by `adopt`."""
        assert not isinstance(self.slots, HoppingSlots)
        return self.slots.start(groups, times)

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Return when each bucket can be over at the earliest, without grace."""
        return self.slots.end(groups, starts) if self._shared_end else self.slots.complete(groups, starts)

    def close(self, keys: KeyTable, cut: Cut) -> pl.DataFrame | None:
        """Return the rows of the buckets that are over by the cut, with gaps filled, and forget them."""
        ready = self._take_closed(keys, cut)
        rows = self._fill_gaps(ready, keys, cut) if self._fills else ready
        if rows is None or rows.is_empty():
            return None
        groups, starts = keys.groups[rows[KEY].to_numpy()], rows[START].to_numpy()
        complete = pl.Series(COMPLETE, self.complete(groups, starts))
        opened = pl.Series(OPENED, self.slots.opened(groups, starts))
        end = pl.Series(END, self.slots.end(groups, starts))
        return rows.with_columns(complete, opened, end)

    def _over(self, groups: IntArray, starts: IntArray, cut: Cut) -> np.ndarray:
        over: np.ndarray = self.slots.opened(groups, starts) < cut.before
        if cut.due is not None:
            over &= self.complete(groups, starts) + self.plan.grace <= cut.due
        return over

    def _take_closed(self, keys: KeyTable, cut: Cut) -> pl.DataFrame | None:
        rows = self.buffer.rows()
        if rows is None:
            return None
        numbers = rows[KEY].to_numpy()
        over = self._over(keys.groups[numbers], rows[START].to_numpy(), cut) & cut.concerns(numbers)
        if not over.any():
            return None
        mask = pl.Series(over)
        self.buffer.replace(rows.filter(~mask))
        return rows.filter(mask)

    def _fill_gaps(self, ready: pl.DataFrame | None, keys: KeyTable, cut: Cut) -> pl.DataFrame | None:
        """Return a row for every expected bucket of every key that has begun, in the order of key and time."""
        self._begin(ready, len(keys))
        number, start = self._expected(keys, cut, None if ready is None else ready[KEY].to_numpy())
        known = ready if ready is not None else self._no_rows
        if known is None:
            return None
        grid = pl.DataFrame({KEY: number, START: start})
        rows = grid.join(known, on=[KEY, START], how="left", maintain_order="left")
        if ready is not None and rows[FIRST_TIME].count() < ready.height:
            # The schedule rows of these buckets were removed while they were open; their events count all the
            # same.
            unexpected = ready.select(KEY, START).join(grid, on=[KEY, START], how="anti")
            grid = pl.concat([grid, unexpected]).sort(KEY, START)
            rows = grid.join(known, on=[KEY, START], how="left", maintain_order="left")
        rows = rows.with_columns(pl.col(FIRST_TIME).is_null().alias(GAP))
        return self._without_expired(self._add_carried(rows)) if rows.height else rows

    def _without_expired(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows without gaps that are too long after their key's last event."""
        if self._expiry is None:
            return rows
        numbers = rows[KEY].to_numpy()
        seen = rows[LAST_TIME].fill_null(UNSEEN).to_numpy().copy()
        first = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
        seen[first] = np.maximum(seen[first], self._seen[numbers[first]])
        last = np.r_[first[1:], len(numbers)] - 1
        if len(first) < len(numbers):
            running = pl.col("seen").cum_max().over("number")
            seen = pl.DataFrame({"number": numbers, "seen": seen}).select(running)["seen"].to_numpy()
        self._seen[numbers[first]] = seen[last]
        expired = rows[GAP].to_numpy() & (rows[START].to_numpy() - self._expiry > seen)
        return rows.filter(pl.Series(~expired)) if expired.any() else rows

    def _begin(self, ready: pl.DataFrame | None, count: int) -> None:
        missing = count - len(self._positions)
        self._positions = np.concatenate([self._positions, np.full(missing, UNSEEN)])
        self._seen = np.concatenate([self._seen, np.full(missing, UNSEEN)])
        if ready is None:
            return
        if self._no_rows is None:
            self._no_rows = ready.clear()
        first = ready.group_by(KEY).agg(pl.col(START).min())
        numbers = first[KEY].to_numpy()
        fresh = self._positions[numbers] == UNSEEN
        self._positions[numbers[fresh]] = first[START].to_numpy()[fresh] - 1

    def _expected(self, keys: KeyTable, cut: Cut, ready: IntArray | None) -> tuple[IntArray, IntArray]:
        begun = np.flatnonzero(self._positions != UNSEEN)
        begun = begun[cut.concerns(begun)]
        expired = self._expired(begun)
        if ready is not None:
            expired &= ~np.isin(begun, ready)
        groups = keys.groups[begun]
        expected = []
        for group in np.unique(groups):
            of_group = groups == group
            starts = self._expected_of(int(group), int(self._positions[begun[of_group]].min()), cut)
            self._skip_expired(begun[of_group & expired], starts)
            expected.append(self._grid(begun[of_group & ~expired], starts))
        if not expected:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate([number for number, _ in expected]), np.concatenate([start for _, start in expected])

    def _expected_of(self, group: int, after: int, cut: Cut) -> IntArray:
        starts = self.slots.expected(group, after, cut.before)
        over: IntArray = starts[self._over(np.full(len(starts), group), starts, cut)]
        return over

    def _expired(self, numbers: IntArray) -> np.ndarray:
        """Return which keys have had no event for so long that no more gaps are filled."""
        if self._expiry is None:
            return np.zeros(len(numbers), np.bool_)
        expired: np.ndarray = self._positions[numbers] - self._expiry > self._seen[numbers]
        return expired

    def _skip_expired(self, numbers: IntArray, starts: IntArray) -> None:
        """Go past the buckets of expired keys, without rows that would be left out afterwards."""
        if len(starts):
            self._positions[numbers] = np.maximum(self._positions[numbers], starts[-1])

    def _grid(self, numbers: IntArray, starts: IntArray) -> tuple[IntArray, IntArray]:
        """Return number and start of each bucket of these keys that is not closed yet."""
        first = np.searchsorted(starts, self._positions[numbers], side="right")
        counts = len(starts) - first
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(numbers, counts), starts[np.repeat(first, counts) + offsets]

    @property
    def filled_keys(self) -> int:
        """Number of keys whose gaps are filled now."""
        return len(self._filled_keys()) if self._fills else 0

    def _filled_keys(self) -> IntArray:
        begun: IntArray = np.flatnonzero(self._positions != UNSEEN)
        filled: IntArray = begun[~self._expired(begun)]
        rows = self.buffer.rows()
        # An open bucket makes its key one whose gaps are filled, once it is closed.
        if rows is None:
            return filled
        involved: IntArray = np.union1d(filled, rows[KEY].to_numpy())
        return involved

    def expects(self, keys: KeyTable, after: int, before: int) -> bool:
        """Return whether any bucket of a key that has begun is expected between two instants."""
        return any(len(self.slots.expected(group, after, before)) for group in self._groups(keys))

    def expected_buckets(self, keys: KeyTable, after: int, before: int) -> int:
        """Return how many buckets are expected between two instants, of all keys whose gaps are filled."""
        counts = self._groups(keys)
        return sum(count * len(self.slots.expected(group, after, before)) for group, count in counts.items())

    def _groups(self, keys: KeyTable) -> dict[int, int]:
        """Return the number of keys, whose gaps are filled, in each group of the schedule."""
        groups, counts = np.unique(keys.groups[self._filled_keys()], return_counts=True)
        return dict(zip(groups.tolist(), counts.tolist(), strict=True))

    def open_after(self, keys: KeyTable, instant: int) -> int:
        """Return how many open buckets are not over by an instant."""
        return int((self.due(keys) > instant).sum())

    def due(self, keys: KeyTable) -> IntArray:
        """Return when each open bucket is over, with grace."""
        rows = self.buffer.rows()
        if rows is None:
            return np.empty(0, np.int64)
        return self.complete(keys.groups[rows[KEY].to_numpy()], rows[START].to_numpy()) + self.plan.grace

    def _add_carried(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add the latest value of each argument up to each bucket's end, and remember it for later closings."""
        numbers = rows[KEY].to_numpy()
        first_of_key = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
        last_of_key = np.r_[first_of_key[1:], len(numbers)] - 1
        last = numbers[last_of_key]
        self._positions[last] = np.maximum(self._positions[last], rows[START].to_numpy()[last_of_key])
        if not self._query.carried:
            return rows
        before = self._carry_table(rows)
        begins = np.repeat(first_of_key, np.diff(np.r_[first_of_key, len(numbers)]))
        columns = [_last_seen(rows, before, argument, numbers, begins) for argument in self._query.carried]
        filled = rows.with_columns(columns)
        index = np.arange(before.height)
        index[numbers[last_of_key]] = before.height + last_of_key
        self._carry = pl.concat([before, filled.select(before.columns)])[index]
        return filled

    def _carry_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        schema = {carried_column(argument): rows.schema[last_column(argument)] for argument in self._query.carried}
        known = self._carry if self._carry is not None else pl.DataFrame(schema=schema)
        missing = len(self._positions) - known.height
        if not missing:
            return known
        return pl.concat([known, pl.DataFrame({name: [None] * missing for name in schema}, schema=schema)])

    def snapshot(self) -> dict[str, pl.DataFrame]:
        """Return the whole state as frames."""
        frames = {"positions": pl.DataFrame({"position": self._positions, "seen": self._seen})}
        rows = self.buffer.rows()
        optional = {"open": rows, "carry": self._carry, "nothing": self._no_rows}
        return frames | {name: frame for name, frame in optional.items() if frame is not None}

    def restore(self, frames: dict[str, pl.DataFrame]) -> None:
        """Take over a state that `snapshot` returned."""
        self._positions = frames["positions"]["position"].to_numpy().copy()
        self._seen = frames["positions"]["seen"].to_numpy().copy()
        self._carry, self._no_rows = frames.get("carry"), frames.get("nothing")
        if "open" in frames:
            self.buffer.replace(frames["open"])


def _last_seen(rows: pl.DataFrame, before: pl.DataFrame, argument: Argument, numbers: IntArray, begins: IntArray) -> pl.Series:
    """Return for each row the latest known value of its key, in it or before it.

    `before` holds the latest values of each key from earlier closings.
    """
    values = rows[last_column(argument)]
    position = np.arange(len(values))
    newest = np.maximum.accumulate(np.where(values.is_not_null().to_numpy(), position, -1))
    values_of_all = pl.concat([before[carried_column(argument)], values])
    taken = np.where(newest >= begins, newest + before.height, numbers)
    return values_of_all.gather(taken).alias(carried_column(argument))
