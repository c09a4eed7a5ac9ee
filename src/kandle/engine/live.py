"""Live bars: what the buckets that are still open look like."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kandle.engine.aggregates import FIRST_TIME, Partial
from kandle.engine.bars import BarMaker
from kandle.engine.buffer import KEY, OPENED, START, merged
from kandle.engine.compiled import COMPLETE
from kandle.engine.keys import KeyTable
from kandle.engine.operator import BarOperator
from kandle.plan.plan import BarPlan


class LiveBars:
    """Remembers which base buckets got events, and gives bars of these and of the buckets above them when it is asked."""

    def __init__(self, maker: BarMaker, keys: KeyTable, partials: Sequence[Partial]) -> None:
        self._maker = maker
        self._keys = keys
        self._partials = partials
        self._touched: list[pl.DataFrame] = []

    @property
    def has_changes(self) -> bool:
        """Whether `changes` may have something to give."""
        return bool(self._touched)

    def touch(self, rows: pl.DataFrame) -> None:
        """These base buckets, by `_key` and `_start`, got events."""
        self._touched.append(rows.select(KEY, START, FIRST_TIME))

    def touch_all(self, base: BarOperator) -> None:
        """All open base buckets are as if they had got events, and no others."""
        rows = base.buffer.merged()
        self._touched = [] if rows is None else [rows.select(KEY, START, FIRST_TIME)]

    def changes(self, operators: Sequence[BarOperator]) -> list[tuple[BarPlan, pl.DataFrame]]:
        """Bars of the open buckets that got events since the last call, by timeframe, finest first."""
        if not self._touched:
            return []
        touched = pl.concat(self._touched)
        self._touched = []
        found = []
        current: dict[str, pl.DataFrame | None] = {}
        for operator in operators:
            rows = current[operator.plan.name] = self._current(operator, current)
            if rows is not None and operator.plan.is_emitted:
                found.append((operator.plan, self._live(operator, rows, touched)))
        return [(bar, frame) for bar, frame in found if frame.height]

    def _current(self, operator: BarOperator, current: dict[str, pl.DataFrame | None]) -> pl.DataFrame | None:
        """All open buckets of a timeframe: what closed bars below gave, and what is open below."""
        own = operator.buffer.merged()
        below = current.get(operator.plan.source or "")
        if below is None:
            return own
        below = operator.adopt(below, self._keys.groups[below[KEY].to_numpy()])
        every = below if own is None else pl.concat([own, below.select(own.columns)])
        return merged(every.sort(FIRST_TIME, maintain_order=True), self._partials, in_order=True)

    def _live(self, operator: BarOperator, rows: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
        if operator.plan.source is not None:
            touched = operator.adopt(touched, self._keys.groups[touched[KEY].to_numpy()])
        rows = rows.join(touched.select(KEY, START).unique(), on=[KEY, START], how="semi")
        if rows.is_empty():
            return rows
        groups, starts = self._keys.groups[rows[KEY].to_numpy()], rows[START].to_numpy()
        ends = operator.slots.end(groups, starts)
        opened = operator.slots.opened(groups, starts)
        return self._maker.live(rows.with_columns(pl.Series("_end", ends), pl.Series(COMPLETE, ends), pl.Series(OPENED, opened)))
