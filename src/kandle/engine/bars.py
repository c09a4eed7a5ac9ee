"""From rows of buckets to bars: the columns of the target entity, in the order in which they are emitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

import numpy as np
import polars as pl

from kandle.engine.aggregates import FIRST_TIME, Partial
from kandle.engine.compiled import COMPLETE, GAP, CompiledQuery
from kandle.engine.expressions import END, OPENED
from kandle.engine.operator import BarOperator
from kandle.engine.state import KEY, START, KeyTable, merge_partials
from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import EXACT, DecimalType, StringType
from kandle.plan.plan import BarPlan


def check_fit(entity: EntityModel, bars: pl.DataFrame) -> None:
    """Raise DataError for the first value that is too large, too long or missing.

    The message names entity, field, value and the key of the bar.
    """
    if bars.is_empty():
        return
    for field in entity.fields:
        if not field.nullable and bars[field.name].null_count():
            _refuse(entity, field, "is NULL, but the field is not Optional", bars.filter(pl.col(field.name).is_null()))
        if isinstance(field.type, DecimalType):
            _check_digits(entity, field, bars)
        if isinstance(field.type, StringType) and field.type.max_length is not None:
            too_long = bars[field.name].str.len_chars() > field.type.max_length
            if too_long.any():
                _refuse(entity, field, f"is longer than {field.type.max_length} characters", bars.filter(too_long))


def _check_digits(entity: EntityModel, field: FieldModel, bars: pl.DataFrame) -> None:
    assert isinstance(field.type, DecimalType)
    values = bars[field.name]
    # Two extremes are field faster than each value is compared, and almost always that is all.
    extremes: tuple[Any, Any] = values.min(), values.max()
    low, high = extremes
    least, greatest = field.type.bounds
    if low is None or (least <= low and high <= greatest):
        return
    limit = pl.lit(greatest, dtype=pl.Int128)
    _refuse(entity, field, f"does not fit {field.type}", bars.filter(pl.col(field.name).cast(pl.Int128).abs() > limit))


def _refuse(entity: EntityModel, field: FieldModel, why: str, bad: pl.DataFrame) -> NoReturn:
    raise DataError(_message(entity, field, why, bad.head(1)))


def _message(entity: EntityModel, field: FieldModel, why: str, bar: pl.DataFrame) -> str:
    value = bar[field.name][0]
    if isinstance(field.type, DecimalType) and value is not None:
        value = f"{Decimal(value).scaleb(-field.type.scale, EXACT):f}"
    keys = {key.name: bar[key.name][0] for key in entity.keys}
    where = ", ".join(f"{name}={key}" for name, key in keys.items())
    return f"{entity.name}.{field.name} = {value} {why}" + (f" (bar {where})" if where else "")


@dataclass(frozen=True, slots=True)
class Finals:
    """Final bars of one timeframe."""

    plan: BarPlan
    bars: pl.DataFrame
    """The physical columns of the target."""
    gaps: pl.Series
    """Whether each bar fills a gap."""
    starts: pl.Series
    """The start of each bar's bucket, in microseconds."""
    complete: pl.Series
    """When each bar's bucket is complete, in microseconds, without grace."""


class BarMaker:
    """Maker of bars from rows whose keys are numbers of a `KeyTable`."""

    def __init__(self, query: CompiledQuery, keys: KeyTable) -> None:
        self._query = query
        self._keys = keys
        self._fields = [field.name for field in query.query.target.fields]

    def finals(self, plan: BarPlan, rows: pl.DataFrame) -> Finals:
        """Return the bars of closed buckets."""
        bars = self._bars(rows)
        gaps = bars[GAP] if GAP in bars.columns else pl.Series(GAP, np.zeros(bars.height, np.bool_))
        return Finals(plan, bars.select(self._fields), gaps, bars[OPENED], bars[COMPLETE])

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the bars of open buckets, as they are now."""
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
    """The base buckets that got events, and the live bars of these and of the buckets above them."""

    def __init__(self, maker: BarMaker, keys: KeyTable, partials: Sequence[Partial]) -> None:
        self._maker = maker
        self._keys = keys
        self._partials = partials
        self._touched: list[pl.DataFrame] = []

    @property
    def has_changes(self) -> bool:
        """Whether `changes` may return bars."""
        return bool(self._touched)

    def touch(self, rows: pl.DataFrame) -> None:
        """Note that base buckets, by `_key` and `_start`, got events."""
        self._touched.append(rows.select(KEY, START, FIRST_TIME))

    def touch_all(self, base: BarOperator) -> None:
        """Note that all open base buckets got events, and no others."""
        rows = base.buffer.rows()
        self._touched = [] if rows is None else [rows.select(KEY, START, FIRST_TIME)]

    def changes(self, operators: Sequence[BarOperator]) -> list[tuple[BarPlan, pl.DataFrame]]:
        """Return the bars of open buckets that got events since the last call, by timeframe, finest first."""
        if not self._touched:
            return []
        touched = pl.concat(self._touched)
        self._touched = []
        live = []
        current: dict[str, pl.DataFrame | None] = {}
        for operator in operators:
            rows = current[operator.plan.name] = self._current(operator, current)
            if rows is not None and operator.plan.is_emitted:
                live.append((operator.plan, self._live(operator, rows, touched)))
        return [(bar, frame) for bar, frame in live if frame.height]

    def _current(self, operator: BarOperator, current: dict[str, pl.DataFrame | None]) -> pl.DataFrame | None:
        """Return all open buckets of a timeframe: what closed bars below gave, and what is open below."""
        own = operator.buffer.rows()
        below = current.get(operator.plan.source or "")
        if below is None:
            return own
        below = operator.adopt(below, self._keys.groups[below[KEY].to_numpy()])
        rows = below if own is None else pl.concat([own, below.select(own.columns)])
        return merge_partials(rows.sort(FIRST_TIME, maintain_order=True), self._partials, in_order=True)

    def _live(self, operator: BarOperator, rows: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
        if operator.plan.source is not None:
            touched = operator.adopt(touched, self._keys.groups[touched[KEY].to_numpy()])
        rows = rows.join(touched.select(KEY, START).unique(), on=[KEY, START], how="semi")
        if rows.is_empty():
            return rows
        groups, starts = self._keys.groups[rows[KEY].to_numpy()], rows[START].to_numpy()
        ends = operator.slots.end(groups, starts)
        opened = operator.slots.opened(groups, starts)
        return self._maker.live(rows.with_columns(pl.Series(END, ends), pl.Series(COMPLETE, ends), pl.Series(OPENED, opened)))
