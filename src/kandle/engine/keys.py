"""Group keys as dense numbers, each with its schedule group and its place in the order of keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kandle.engine.buffer import KEY
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import IntArray


class KeyTable:
    """All keys seen, numbered in the order in which they came; the number never changes.

    `groups[key]` is the schedule group (-1: no schedule row has this key; 0 without a calendar); `ranks[key]` the place
    among all keys in ascending order of their columns.
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
        """The number of each row's key; unknown keys are added."""
        if self.frame is not None:
            found = self._lookup(keys)
            if not found.null_count():
                return found
            keys_unknown = keys.filter(found.is_null())
        else:
            keys_unknown = keys
        self._add(keys_unknown.unique(maintain_order=True))
        return self._lookup(keys)

    def _lookup(self, keys: pl.DataFrame) -> pl.Series:
        assert self.frame is not None
        return keys.join(self.frame, on=self._names, how="left", maintain_order="left")[KEY]

    def _add(self, fresh: pl.DataFrame) -> None:
        numbered = fresh.with_columns(pl.int_range(len(self), len(self) + fresh.height, dtype=pl.Int64).alias(KEY))
        self.restore(numbered if self.frame is None else pl.concat([self.frame, numbered]))

    def replace_calendar(self, calendar: SessionCalendar) -> None:
        """Look up the schedule groups again."""
        self._calendar = calendar
        if self.frame is not None:
            self.groups = calendar.groups([row[: self._width] for row in self.frame.select(self._names).rows()])

    def restore(self, frame: pl.DataFrame) -> None:
        """Take over a table of keys, numbered from 0."""
        added = [row[: self._width] for row in frame[len(self) :].select(self._names).rows()]
        fresh = np.zeros(len(added), np.int64) if self._calendar is None else self._calendar.groups(added)
        self.frame = frame
        self.groups = np.concatenate([self.groups, fresh])
        ordered = frame.sort(self._names)[KEY].to_numpy()
        self.ranks = np.empty(len(ordered), np.int64)
        self.ranks[ordered] = np.arange(len(ordered))
