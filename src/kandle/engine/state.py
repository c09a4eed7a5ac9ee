"""The state of a pipeline: its keys, its open buckets, and a journal of the changes since the last commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from kandle.engine.aggregates import Partial
from kandle.time.arrays import IntArray
from kandle.time.sessions import SessionCalendar

KEY = "_key"
"""Column with the number of a row's key in the `KeyTable`."""

START = "_start"
"""Column with the start of a row's bucket, in microseconds."""

COMPACT_ROWS = 100_000
"""A buffer with more pending rows than this merges them once they outnumber the merged ones twice."""


class KeyTable:
    """All keys seen so far, numbered from 0 in the order of their first event; a number never changes.

    `groups[key]` is the schedule group of a key (-1: no schedule row has this key; 0 without a calendar);
    `ranks[key]` is its rank among all keys in ascending order of their columns.
    """

    def __init__(self, names: Sequence[str], calendar: SessionCalendar | None, width: int) -> None:
        self._names = list(names)
        self._calendar = calendar
        self._width = width
        self.frame: pl.DataFrame | None = None
        self.groups: IntArray = np.empty(0, np.int64)
        self.ranks: IntArray = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.groups)

    def numbers(self, keys: pl.DataFrame) -> pl.Series:
        """Return the number of each row's key; add the keys that are new."""
        new_keys = keys
        if self.frame is not None:
            numbers = self._lookup(keys)
            if not numbers.null_count():
                return numbers
            new_keys = keys.filter(numbers.is_null())
        self._add(new_keys.unique(maintain_order=True))
        return self._lookup(keys)

    def _lookup(self, keys: pl.DataFrame) -> pl.Series:
        assert self.frame is not None
        return keys.join(self.frame, on=self._names, how="left", maintain_order="left")[KEY]

    def _add(self, keys: pl.DataFrame) -> None:
        numbered = keys.with_columns(pl.int_range(len(self), len(self) + keys.height, dtype=pl.Int64).alias(KEY))
        self.restore(numbered if self.frame is None else pl.concat([self.frame, numbered]))

    def replace_calendar(self, calendar: SessionCalendar) -> None:
        """Look up the schedule group of every key in a newer calendar."""
        self._calendar = calendar
        if self.frame is not None:
            self.groups = calendar.groups([row[: self._width] for row in self.frame.select(self._names).rows()])

    def restore(self, frame: pl.DataFrame) -> None:
        """Take over a table of keys, numbered from 0, that begins with the keys already in this one."""
        added = [row[: self._width] for row in frame[len(self) :].select(self._names).rows()]
        added_groups = np.zeros(len(added), np.int64) if self._calendar is None else self._calendar.groups(added)
        self.frame = frame
        self.groups = np.concatenate([self.groups, added_groups])
        ordered = frame.sort(self._names)[KEY].to_numpy()
        self.ranks = np.empty(len(ordered), np.int64)
        self.ranks[ordered] = np.arange(len(ordered))


class PartialBuffer:
    """The partials of open buckets, one row per key and bucket start once they are merged.

    Frames are appended as they come and merged only when they outgrow what is merged, or when somebody asks
    for the rows, so that a batch costs no join with all open buckets.
    """

    def __init__(self, partials: Sequence[Partial]) -> None:
        self._partials = partials
        self._frames: list[pl.DataFrame] = []
        self._pending = 0
        self._in_order = True

    def append(self, frame: pl.DataFrame, *, in_order: bool) -> None:
        """Add partials; `in_order` says that none of their events is earlier than an event added before."""
        if frame.is_empty():
            return
        self._in_order = self._in_order and in_order
        self._frames.append(frame)
        self._pending += frame.height
        if self._pending > COMPACT_ROWS and self._pending > 2 * self._frames[0].height:
            self.rows()

    def rows(self) -> pl.DataFrame | None:
        """Merge and return one row per open bucket, or None if no bucket is open."""
        if len(self._frames) > 1:
            self.replace(merge_partials(pl.concat(self._frames), self._partials, in_order=self._in_order))
        return self._frames[0] if self._frames else None

    @property
    def most_buckets(self) -> int:
        """No fewer than there are open buckets, known without merging."""
        return sum(frame.height for frame in self._frames)

    @property
    def bucket_count(self) -> int:
        """Number of open buckets; changes nothing, so that any thread may ask."""
        frames = list(self._frames)
        return pl.concat([frame.select(KEY, START) for frame in frames]).n_unique() if frames else 0

    def put(self, frame: pl.DataFrame) -> None:
        """Add rows, one per bucket, which replace the rows of the same buckets."""
        rows = self.rows()
        if rows is not None:
            others = rows.join(frame, on=[KEY, START], how="anti")
            frame = pl.concat([others, frame.select(others.columns)])
        self.replace(frame)

    def replace(self, frame: pl.DataFrame) -> None:
        """Replace the whole content by these rows, one per bucket."""
        self._frames = [] if frame.is_empty() else [frame]
        self._pending = 0
        self._in_order = True


def merge_partials(frame: pl.DataFrame, partials: Sequence[Partial], *, in_order: bool) -> pl.DataFrame:
    """Merge the partials of each bucket into one row."""
    return frame.group_by(KEY, START).agg([partial.merge_expression(in_order=in_order) for partial in partials])


@dataclass(frozen=True, slots=True)
class StateChange:
    """Either partials that were added to the base timeframe, or an instant up to which buckets were closed.

    `replaces` says that the partials replace those of the same buckets instead of being merged with them. `first` and `until`
    say that only keys with numbers in `[first, until)` were closed; `until` is None where all were.
    """

    partials: pl.DataFrame | None = None
    in_order: bool = True
    closed: int = 0
    replaces: bool = False
    first: int = 0
    until: int | None = None

    @property
    def closes_all_keys(self) -> bool:
        """Whether buckets of all keys were closed."""
        return self.partials is None and self.until is None


@dataclass(slots=True)
class ChangeJournal:
    """The changes of a pipeline's state since the last commit, for `Pipeline.replay` on an older state."""

    changes: list[StateChange] = field(default_factory=list)

    def note_partials(self, frame: pl.DataFrame, *, in_order: bool) -> None:
        """Note that the partials of a batch of events were added."""
        self.changes.append(StateChange(frame, in_order))

    def note_replacement(self, frame: pl.DataFrame) -> None:
        """Note that partials replaced those of the same buckets."""
        self.changes.append(StateChange(frame, replaces=True))

    def note_closing(self, change: StateChange) -> None:
        """Note that buckets were closed up to an instant; of several closings of all keys the last serves for all."""
        if self.changes and self.changes[-1].closes_all_keys and change.closes_all_keys:
            self.changes.pop()
        self.changes.append(change)

    def clear(self) -> None:
        """Forget all changes, since they are committed."""
        self.changes.clear()

    def __bool__(self) -> bool:
        return bool(self.changes)
