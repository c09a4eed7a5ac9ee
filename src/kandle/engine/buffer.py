"""Partials of open buckets: appended batch by batch, merged when they are needed or have grown."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kandle.engine.aggregates import Partial

KEY = "_key"
START = "_start"
OPENED = "_opened"
COMPACT_ROWS = 100_000
"""Pending rows below this are not merged before somebody asks; above it, when they outnumber the merged ones."""


class PartialBuffer:
    """Partials by (key, bucket start), in the order in which their events came."""

    def __init__(self, partials: Sequence[Partial]) -> None:
        self._partials = partials
        self._frames: list[pl.DataFrame] = []
        self._pending = 0
        self._in_order = True

    def append(self, frame: pl.DataFrame, *, in_order: bool) -> None:
        """Add partials; `in_order` says that none of their events is earlier than one that came before."""
        if frame.is_empty():
            return
        self._in_order = self._in_order and in_order
        self._frames.append(frame)
        self._pending += frame.height
        if self._pending > COMPACT_ROWS and self._pending > 2 * self._frames[0].height:
            self.merged()

    def merged(self) -> pl.DataFrame | None:
        """One row per open bucket, or None if there is none."""
        if len(self._frames) > 1:
            self.replace(merged(pl.concat(self._frames), self._partials, in_order=self._in_order))
        return self._frames[0] if self._frames else None

    @property
    def buckets(self) -> int:
        """How many buckets are open; changes nothing, so that any thread may ask."""
        frames = list(self._frames)
        return pl.concat([frame.select(KEY, START) for frame in frames]).n_unique() if frames else 0

    def put(self, frame: pl.DataFrame) -> None:
        """Add rows, one per bucket, in the place of what was there of the same buckets."""
        rows = self.merged()
        if rows is not None:
            kept = rows.join(frame, on=[KEY, START], how="anti")
            frame = pl.concat([kept, frame.select(kept.columns)])
        self.replace(frame)

    def replace(self, frame: pl.DataFrame) -> None:
        """Keep just these rows, one per bucket."""
        self._frames = [] if frame.is_empty() else [frame]
        self._pending = 0
        self._in_order = True


def merged(frame: pl.DataFrame, partials: Sequence[Partial], *, in_order: bool) -> pl.DataFrame:
    """Partials of the same bucket become one row."""
    return frame.group_by(KEY, START).agg([partial.merged(in_order=in_order) for partial in partials])
