"""Rows of buckets become bars: the columns of the target entity, in the order in which they come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from kandle.engine.buffer import KEY, OPENED, START
from kandle.engine.compiled import COMPLETE, GAP, CompiledQuery
from kandle.engine.fit import check_fit
from kandle.engine.keys import KeyTable
from kandle.plan.plan import BarPlan


@dataclass(frozen=True, slots=True)
class Finals:
    """Bars that came out of one timeframe: the target's physical columns, and beside each bar whether it fills a gap,
    when its bucket starts and when it is complete (microseconds, without grace)."""

    plan: BarPlan
    bars: pl.DataFrame
    gaps: pl.Series
    starts: pl.Series
    complete: pl.Series


class BarMaker:
    """Makes bars of rows whose keys are numbers of a table."""

    def __init__(self, query: CompiledQuery, keys: KeyTable) -> None:
        self._query = query
        self._keys = keys
        self._fields = [found.name for found in query.query.target.fields]

    def finals(self, plan: BarPlan, rows: pl.DataFrame) -> Finals:
        """Bars of closed buckets."""
        bars = self._bars(rows)
        gaps = bars[GAP] if GAP in bars.columns else pl.Series(GAP, np.zeros(bars.height, np.bool_))
        return Finals(plan, bars.select(self._fields), gaps, bars[OPENED], bars[COMPLETE])

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Bars of open buckets, as they stand."""
        return self._bars(rows).select(self._fields)

    def _bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        assert self._keys.frame is not None
        ranks = pl.Series("_rank", self._keys.ranks[rows[KEY].to_numpy()])
        rows = rows.sort([pl.col(COMPLETE), pl.col(START), pl.lit(ranks)])
        keys = self._keys.frame[rows[KEY].to_numpy()].drop(KEY)
        bars = self._query.bars(rows.hstack(keys))
        check_fit(self._query.query.target, bars)
        return self._ranked(bars)

    def _ranked(self, bars: pl.DataFrame) -> pl.DataFrame:
        query = self._query.query
        if not query.order_by:
            return bars
        fields = [order.field for order in query.order_by]
        descending = [order.descending for order in query.order_by]
        ordered = bars.sort([START, *fields], descending=[False, *descending], maintain_order=True)
        return ordered if query.limit is None else ordered.group_by(START, maintain_order=True).head(query.limit)
