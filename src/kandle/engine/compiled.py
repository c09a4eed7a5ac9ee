"""A query model compiled to columns: what to take from events, what to keep of buckets, what bars come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from kandle.engine.aggregates import AGGREGATES, TIMES, Accumulator, Argument, Partial, last_partials
from kandle.engine.expressions import Scope, compile_expression, evaluate
from kandle.engine.state import START
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Constant, Node, aggregates
from kandle.query.query import Gaps, QueryModel
from kandle.query.signatures import call
from kandle.time.sessions import SessionCalendar, SessionRows

OPENED = "_opened"
GAP = "_gap"
COMPLETE = "_complete"


@dataclass(slots=True)
class _Arguments:
    """Distinct argument expressions, each computed once per event."""

    columns: dict[AnyNode, Argument] = field(default_factory=dict)

    def of(self, node: AnyNode) -> Argument:
        if node not in self.columns:
            self.columns[node] = Argument(f"_a{len(self.columns)}", node.type, node.nullable)
        return self.columns[node]

    def prepared(self, aggregate: Aggregate) -> list[Argument]:
        if aggregate.function != "weighted_average":
            return [self.of(argument) for argument in aggregate.arguments]
        value, weight = aggregate.arguments
        product = call("multiply", value, weight)
        counted = _only_where(weight, product) if value.nullable else weight
        return [self.of(value), self.of(counted), self.of(product)]


def _only_where(node: AnyNode, known: AnyNode) -> AnyNode:
    """The node where another one is not NULL, else NULL."""
    present = Call("is_not_null", (known,), call("is_not_null", known).type, nullable=False)
    return Case((Branch(present, node),), Constant(None, node.type), node.type)


class CompiledQuery:
    """The columnar form of a query model.

    Events are frames of the source's physical columns; *rows* are frames of `_key`, `_start`, `_opened`, `_end`, the key columns
    `_k0`.., the partials and, where gaps are filled, `_gap` and the carried values.
    """

    def __init__(self, query: QueryModel) -> None:
        assert query.window is not None
        self.query = query
        self.time = compile_expression(query.window.time).cast(pl.Int64)
        self.where = None if query.where is None else compile_expression(query.where)
        # Without a group key all events are of one key, whose only part is a constant.
        keys = [compile_expression(key) for key in query.group_by] or [pl.lit(0, dtype=pl.Int64)]
        self.keys = [key.alias(f"_k{position}") for position, key in enumerate(keys)]
        self.key_names = tuple(f"_k{position}" for position in range(len(keys)))
        self._arguments = _Arguments()
        self._accumulators = {node: self._accumulator(node) for node in self._aggregates()}
        self.carried = self._carried()
        self.partials = tuple(self._distinct_partials())

    def _aggregates(self) -> Iterator[Aggregate]:
        roots: list[AnyNode] = [projection.expression for projection in self.query.projection]
        roots += [self.query.having] if self.query.having is not None else []
        yield from dict.fromkeys(found for root in roots for found in aggregates(root))

    def _accumulator(self, node: Aggregate) -> Accumulator:
        return AGGREGATES[node.function](node, self._arguments.prepared(node))

    def _carried(self) -> tuple[Argument, ...]:
        if self.query.gaps is not Gaps.CARRY:
            return ()
        found = (argument for accumulator in self._accumulators.values() for argument in accumulator.carries)
        return tuple(dict.fromkeys(found))

    def _distinct_partials(self) -> list[Partial]:
        every = [*TIMES, *(partial for found in self._accumulators.values() for partial in found.partials)]
        every += [partial for argument in self.carried for partial in last_partials(argument)]
        return list({partial.name: partial for partial in every}.values())

    @property
    def needs_offset(self) -> bool:
        """Whether some aggregate goes by the order of the log."""
        return any(node.function.endswith("_by_offset") for node in self._accumulators)

    @property
    def argument_columns(self) -> Mapping[AnyNode, Argument]:
        """The distinct arguments of all aggregates, and the columns that they are."""
        return self._arguments.columns

    @property
    def arguments(self) -> list[pl.Expr]:
        """Argument columns of the aggregates, from events."""
        return [compile_expression(node).alias(argument.column) for node, argument in self._arguments.columns.items()]

    def collected(self, events: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        """Partials of the groups of events, which stand in time order."""
        return events.group_by(by).agg([partial.collect.alias(partial.name) for partial in self.partials])

    def bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of closed or open buckets with the target's fields added in front, without those that `having` drops."""
        values = self._with_values(rows)
        scope = self._scope()
        if self.query.having is not None:
            values = values.filter(evaluate(values, [compile_expression(self.query.having, scope)]).to_series())
        fields = [compile_expression(item.expression, scope).alias(item.field) for item in self.query.projection]
        kept = [name for name in (GAP, COMPLETE, START, OPENED) if name in values.columns]
        return evaluate(values, fields).hstack(values.select(kept))

    def _with_values(self, rows: pl.DataFrame) -> pl.DataFrame:
        gaps = GAP in rows.columns
        columns = [self._value(found, gaps).alias(f"_v{i}") for i, found in enumerate(self._accumulators.values())]
        return rows.hstack(evaluate(rows, columns)) if columns else rows

    def _value(self, accumulator: Accumulator, gaps: bool) -> pl.Expr:
        if not gaps:
            return accumulator.finish
        nothing = self.query.gaps is Gaps.NULL and accumulator.carries
        empty = pl.lit(None) if nothing else accumulator.empty
        return pl.when(pl.col(GAP)).then(empty).otherwise(accumulator.finish)

    def _scope(self) -> Scope:
        columns: dict[Node, str] = dict(zip(self.query.group_by, self.key_names, strict=False))
        columns |= {node: f"_v{position}" for position, node in enumerate(self._accumulators)}
        return Scope(columns)


def session_calendar(query: QueryModel, frames: Iterable[pl.DataFrame], *, is_whole: bool = False) -> SessionCalendar:
    """The calendar of the query's schedule, from physical frames of the schedule's entity; whole if no more rows will come."""
    schedule = query.schedule
    assert schedule is not None
    names = [key.name for key in schedule.entity.keys[: len(query.group_by)]]
    columns = [
        compile_expression(schedule.open).cast(pl.Int64).alias("_open"),
        compile_expression(schedule.close).cast(pl.Int64).alias("_close"),
    ]
    if schedule.day is not None:
        columns.append(compile_expression(schedule.day).cast(pl.Int32).alias("_day"))
    rows = pl.concat([frame.select(names).hstack(evaluate(frame, columns)) for frame in frames])
    distinct = rows.select(names).unique(maintain_order=True).with_row_index("_key")
    numbers = rows.join(distinct, on=names, how="left", maintain_order="left")["_key"].cast(pl.Int64)
    days = rows["_day"].to_numpy() if schedule.day is not None else None
    return SessionCalendar(
        SessionRows(
            keys=distinct.select(names).rows(),
            key_ids=numbers.to_numpy().astype(np.int64),
            opens=rows["_open"].to_numpy(),
            closes=rows["_close"].to_numpy(),
            days=days,
        ),
        is_whole=is_whole,
    )
