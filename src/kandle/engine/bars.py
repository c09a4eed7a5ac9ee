"""Rows of buckets become bars: the columns of the target entity, in the order in which they come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import polars as pl

from kandle.engine.aggregates import FIRST_TIME, Partial
from kandle.engine.compiled import COMPLETE, GAP, OPENED, CompiledQuery
from kandle.engine.operator import BarOperator
from kandle.engine.state import KEY, START, KeyTable, merge_partials
from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import DecimalType, StringType
from kandle.plan.plan import BarPlan


def check_fit(entity: EntityModel, bars: pl.DataFrame) -> None:
    """Raise DataError for the first value that is too large, too long or missing; names entity, field, value and bar."""
    if bars.is_empty():
        return
    for found in entity.fields:
        if not found.nullable and bars[found.name].null_count():
            _refuse(entity, found, "is NULL, but the field is not Optional", bars.filter(pl.col(found.name).is_null()))
        if isinstance(found.type, DecimalType):
            _check_digits(entity, found, bars)
        if isinstance(found.type, StringType) and found.type.max_length is not None:
            too_long = bars[found.name].str.len_chars() > found.type.max_length
            if too_long.any():
                _refuse(entity, found, f"is longer than {found.type.max_length} characters", bars.filter(too_long))


def _check_digits(entity: EntityModel, found: FieldModel, bars: pl.DataFrame) -> None:
    assert isinstance(found.type, DecimalType)
    values = bars[found.name]
    # Two extremes are found faster than each value is compared, and almost always that is all.
    extremes: tuple[Any, Any] = values.min(), values.max()
    low, high = extremes
    least, greatest = found.type.bounds
    if low is None or (least <= low and high <= greatest):
        return
    limit = pl.lit(greatest, dtype=pl.Int128)
    _refuse(entity, found, f"does not fit {found.type}", bars.filter(pl.col(found.name).cast(pl.Int128).abs() > limit))


def _refuse(entity: EntityModel, found: FieldModel, why: str, bad: pl.DataFrame) -> NoReturn:
    raise DataError(_message(entity, found, why, bad.head(1)))


def _message(entity: EntityModel, found: FieldModel, why: str, bar: pl.DataFrame) -> str:
    value = bar[found.name][0]
    if isinstance(found.type, DecimalType) and value is not None:
        value = f"{value} * 10**-{found.type.scale}"
    keys = {key.name: bar[key.name][0] for key in entity.keys}
    where = ", ".join(f"{name}={key}" for name, key in keys.items())
    return f"{entity.name}.{found.name} = {value} {why}" + (f" (bar {where})" if where else "")


@dataclass(frozen=True, slots=True)
class Finals:
    """Bars that came out of one timeframe: the target's physical columns, and beside each bar whether it fills a gap,
    when its bucket starts and when it is complete (microseconds, without grace).
    """

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
        rows = base.buffer.rows()
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
        own = operator.buffer.rows()
        below = current.get(operator.plan.source or "")
        if below is None:
            return own
        below = operator.adopt(below, self._keys.groups[below[KEY].to_numpy()])
        every = below if own is None else pl.concat([own, below.select(own.columns)])
        return merge_partials(every.sort(FIRST_TIME, maintain_order=True), self._partials, in_order=True)

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
