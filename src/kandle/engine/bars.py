"""From rows of buckets to bars: the columns of the target entity, in the order in which they are emitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kandle.engine.aggregates import FIRST_TIME, Partial
from kandle.engine.compiled import COMPLETE, GAP, CompiledQuery
from kandle.engine.expressions import END, OPENED, ExpressionError
from kandle.engine.failures import FailedBar, FailureCollector, split
from kandle.engine.operator import BarOperator
from kandle.engine.state import KEY, START, KeyTable, merge_partials
from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.texts import instant_text, named_rows, value_text
from kandle.model.types import TIMESTAMP, DecimalType, IntegerType, StringType
from kandle.plan.plan import BarPlan
from kandle.query.nodes import WindowBound, describe, walk


@dataclass(frozen=True, slots=True)
class Misfit:
    """Bars whose value of one field is too large, too long or missing."""

    field: FieldModel
    why: str
    rows: pl.Series
    """Whether each bar is one of them."""


def misfits(entity: EntityModel, bars: pl.DataFrame) -> list[Misfit]:
    """Return what does not fit the fields of an entity; nothing almost always, at the cost of a few extremes."""
    by_field = (_misfit(field, bars[field.name]) for field in entity.fields)
    return [] if bars.is_empty() else [misfit for misfit in by_field if misfit is not None]


def _misfit(field: FieldModel, values: pl.Series) -> Misfit | None:
    if not field.nullable and values.null_count():
        return Misfit(field, "is NULL, but the field is not Optional", values.is_null())
    if isinstance(field.type, StringType):
        limit = field.type.max_length
        too_long = None if limit is None else values.str.len_chars() > limit
        if too_long is not None and too_long.any():
            return Misfit(field, f"is longer than {limit} characters", too_long.fill_null(value=False))
        return None
    # Integers have the bounds of their column.
    bounds = None if isinstance(field.type, IntegerType) else field.type.bounds
    return None if bounds is None else _outside(field, values.to_physical(), bounds)


def _outside(field: FieldModel, values: pl.Series, bounds: tuple[int, int]) -> Misfit | None:
    # Two extremes are found faster than each value is compared, and almost always that is all.
    extremes: tuple[Any, Any] = values.min(), values.max()
    low, high = extremes
    least, greatest = bounds
    if low is None or (least <= low and high <= greatest):
        return None
    wide = values.cast(pl.Int128)
    rows = ((wide < least) | (wide > greatest)).fill_null(value=False)
    why = f"does not fit {field.type}" if isinstance(field.type, DecimalType) else "is outside of the years 1 to 9999"
    return Misfit(field, why, rows)


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
    """Maker of bars from rows whose keys are numbers of a `KeyTable`.

    Args:
        query: The query.
        keys: The keys.
        failures: Takes the final bars that do not fit their entity; None makes the first of them an error.
    """

    def __init__(self, query: CompiledQuery, keys: KeyTable, failures: FailureCollector | None = None) -> None:
        self._query = query
        self._keys = keys
        self._failures = failures
        self._fields = [field.name for field in query.query.target.fields]
        self._names = FailureNames(query)

    def finals(self, plan: BarPlan, rows: pl.DataFrame) -> Finals:
        """Return the bars of closed buckets, without those that do not fit their entity.

        Raises:
            DataError: A bar does not fit, and there is nothing that takes it.
        """
        bars, failed = self._bars(plan, rows)
        gaps = bars[GAP] if GAP in bars.columns else pl.Series(GAP, np.zeros(bars.height, np.bool_))
        if failed and self._failures is not None:
            self._failures.bars += failed
        return Finals(plan, bars.select(self._fields), gaps, bars[OPENED], bars[COMPLETE])

    def live(self, plan: BarPlan, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedBar]]:
        """Return the bars of open buckets as they are now, and those that do not fit their entity now."""
        bars, failed = self._bars(plan, rows)
        return bars.select(self._fields), failed

    def bar_keys(self, bars: Sequence[FailedBar]) -> pl.DataFrame | None:
        """Return the key columns of bars that were left out; None if the bars of the query have no key."""
        model = self._query.query
        if not model.target.keys:
            return None
        columns = dict(zip(model.group_by, self._query.key_names, strict=False))
        keys = self._key_columns(pl.Series([bar.number for bar in bars], dtype=pl.Int64))
        starts = pl.Series(OPENED, [bar.start for bar in bars], dtype=pl.Int64)
        filled = {item.field: item.expression for item in model.projection}
        return keys.with_columns(starts.cast(TIMESTAMP.physical)).select(
            pl.col(columns.get(filled[key.name], OPENED)).alias(key.name) for key in model.target.keys
        )

    def _key_columns(self, numbers: pl.Series) -> pl.DataFrame:
        assert self._keys.frame is not None
        return self._keys.frame[numbers.to_numpy()].drop(KEY)

    def _bars(self, plan: BarPlan, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedBar]]:
        ranks = pl.Series("_rank", self._keys.ranks[rows[KEY].to_numpy()])
        rows = rows.sort([pl.col(COMPLETE), pl.col(START), pl.lit(ranks)])
        rows = rows.hstack(self._key_columns(rows[KEY]))
        bars, failed = self._computed(plan, rows)
        bars, unfitting = self._fitting(plan, bars)
        if self._failures is None and (failed or unfitting):
            raise DataError((failed or unfitting)[0].reason)
        return self._ranked(bars), failed + unfitting

    def _computed(self, plan: BarPlan, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedBar]]:
        """Return the bars of the rows that can be computed, and the others."""
        try:
            return self._query.bars(rows), []
        except ExpressionError:
            parts, failures = split(rows, self._query.bars)
        bars = pl.concat(parts) if parts else self._query.bars(rows.clear())
        failed = rows[[failure.row for failure in failures]].select(KEY, OPENED, *self._query.key_names)
        errors = (failure.error for failure in failures)
        return bars, [self._names.of_row(plan, row, error) for row, error in zip(named_rows(failed), errors, strict=True)]

    def _fitting(self, plan: BarPlan, bars: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedBar]]:
        """Return the bars that fit their entity, and the others, each by the first field that does not fit."""
        failed: list[FailedBar] = []
        while unfitting := misfits(self._query.query.target, bars):
            misfit = unfitting[0]
            bad = bars.filter(misfit.rows)
            rows = named_rows(bad.select(KEY, OPENED).hstack(self._key_columns(bad[KEY])))
            values = bad[misfit.field.name].to_physical().to_list()
            for row, value in zip(rows, values, strict=True):
                text = value_text(value, misfit.field.type)
                failed.append(self._names.of_value(plan, row, misfit.field, text, misfit.why))
            bars = bars.filter(~misfit.rows)
        return bars, failed

    def _ranked(self, bars: pl.DataFrame) -> pl.DataFrame:
        query = self._query.query
        if not query.order_by:
            return bars
        fields = [order.field for order in query.order_by]
        descending = [order.descending for order in query.order_by]
        ordered = bars.sort([START, *fields], descending=[False, *descending], maintain_order=True)
        return ordered if query.limit is None else ordered.group_by(START, maintain_order=True).head(query.limit)


class FailureNames:
    """Names of what a bar that does not fit is: its key, start and timeframe, and the field that cannot be filled."""

    def __init__(self, query: CompiledQuery) -> None:
        self._query = query
        model = query.query
        filled = {item.expression: item.field for item in model.projection}
        self._keys = [
            (name, filled.get(node, describe(node)), node.type)
            for name, node in zip(query.key_names, model.group_by, strict=False)
        ]
        self._start = filled[WindowBound("start")]

    def of_row(self, plan: BarPlan, row: Mapping[str, Any], error: ExpressionError) -> FailedBar:
        """Return the bar of a row that cannot be computed."""
        model = self._query.query
        node = self._query.bar_nodes.get(error.name)
        if node is None:
            item = next((item for item in model.projection if item.field == error.name), None)
            # A value that is converted to the type of its field is named by the field.
            is_value = item is not None and str(error).startswith(f"{describe(item.expression)} = ")
        else:
            item = next((item for item in model.projection if node in walk(item.expression)), None)
            is_value = item is not None and item.expression == node
        if item is not None and is_value and error.value is not None:
            field = model.target.field(item.field)
            return self.of_value(plan, row, field, error.value, f"does not fit {field.type}")
        name = "having" if item is None else item.field
        return self._bar(plan, row, name, error.value, f"{error} ({model.target.name}.{name}, ")

    def of_value(self, plan: BarPlan, row: Mapping[str, Any], field: FieldModel, value: str | None, why: str) -> FailedBar:
        """Return a bar, one of whose values does not fit its field."""
        return self._bar(plan, row, field.name, value, f"{self._query.query.target.name}.{field.name} = {value} {why} (")

    def _bar(self, plan: BarPlan, row: Mapping[str, Any], field: str, value: str | None, before: str) -> FailedBar:
        key = {shown: value_text(row[name], kind) or "" for name, shown, kind in self._keys}
        start = int(row[OPENED])
        where = ", ".join(f"{name}={text}" for name, text in {**key, self._start: instant_text(start)}.items())
        return FailedBar(plan.name, row[KEY], key, start, field, value, f"{before}bar {where}, {plan.name})")


MOST_TOUCHED = 500_000
"""With more buckets than this waiting for their live bars, only the newest one of each key waits on."""


class LiveBars:
    """The base buckets that got events, and the live bars of these and of the buckets above them."""

    def __init__(self, maker: BarMaker, keys: KeyTable, partials: Sequence[Partial]) -> None:
        self._maker = maker
        self._keys = keys
        self._partials = partials
        self._touched: list[pl.DataFrame] = []
        self._touched_rows = 0
        self.left_out: list[FailedBar] = []
        """The bars that the last call of `changes` has left out, since they do not fit their entity now."""

    @property
    def has_changes(self) -> bool:
        """Whether `changes` may return bars."""
        return bool(self._touched)

    def touch(self, rows: pl.DataFrame) -> None:
        """Note that base buckets, by `_key` and `_start`, got events."""
        self._touched.append(rows.select(KEY, START, FIRST_TIME))
        self._touched_rows += rows.height
        if self._touched_rows > MOST_TOUCHED:
            self._forget_older()

    def _forget_older(self) -> None:
        """Bound what waits while finals take all commits, as in a long backlog: older buckets have their finals soon."""
        touched = pl.concat(self._touched).unique([KEY, START], keep="last", maintain_order=True)
        if touched.height > MOST_TOUCHED // 2:
            touched = touched.sort(START, maintain_order=True).unique(KEY, keep="last", maintain_order=True)
        self._touched, self._touched_rows = [touched], touched.height

    def touch_all(self, base: BarOperator) -> None:
        """Note that all open base buckets got events, and no others."""
        rows = base.buffer.rows()
        self._touched = [] if rows is None else [rows.select(KEY, START, FIRST_TIME)]
        self._touched_rows = 0 if rows is None else rows.height

    def changes(self, operators: Sequence[BarOperator], most: int | None = None) -> list[tuple[BarPlan, pl.DataFrame]]:
        """Return the bars of open buckets that got events since the last call, by timeframe, finest first.

        Args:
            operators: The open buckets.
            most: About how many bars of a timeframe to return; the others are left for the next call. None returns all.
        """
        self.left_out = []
        if not self._touched:
            return []
        touched = pl.concat(self._touched)
        self._touched, self._touched_rows = [], 0
        if most is not None and touched.height > most:
            touched = touched.unique([KEY, START], keep="first", maintain_order=True)
            self._touched = [touched[most:]] if touched.height > most else []
            self._touched_rows = max(0, touched.height - most)
            touched = touched[:most]
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
        columns = (pl.Series(END, ends), pl.Series(COMPLETE, ends), pl.Series(OPENED, opened))
        bars, left_out = self._maker.live(operator.plan, rows.with_columns(columns))
        self.left_out += left_out
        return bars
