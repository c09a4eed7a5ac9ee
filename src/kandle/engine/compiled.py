"""A query model compiled to columns: what is taken from events, kept of buckets, and made into bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from kandle.engine.aggregates import AGGREGATES, TIME, TIMES, Accumulator, Argument, Partial, last_partials
from kandle.engine.expressions import OPENED, ExpressionError, Scope, compile_expression, evaluate
from kandle.engine.state import KEY, START
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Constant, Node, aggregates, describe
from kandle.query.query import Gaps, QueryModel
from kandle.query.signatures import call

GAP = "_gap"
"""Column that says whether a bucket has no events and its bar fills a gap."""

CONDITION = "_condition"
"""Column with whether `where` keeps an event, or `having` a bar."""

COMPLETE = "_complete"
"""Column with the time at which a bucket can be over at the earliest, without grace."""


@dataclass(slots=True)
class _Arguments:
    """The distinct argument expressions of all aggregates, each computed once per event."""

    columns: dict[AnyNode, Argument] = field(default_factory=dict)

    def of(self, node: AnyNode) -> Argument:
        if node not in self.columns:
            self.columns[node] = Argument(f"_a{len(self.columns)}", node.type, node.nullable)
        return self.columns[node]

    def of_aggregate(self, aggregate: Aggregate) -> list[Argument]:
        if aggregate.function != "weighted_average":
            return [self.of(argument) for argument in aggregate.arguments]
        value, weight = aggregate.arguments
        product = call("multiply", value, weight)
        counted = _null_unless_known(weight, product) if value.nullable else weight
        return [self.of(value), self.of(counted), self.of(product)]


def _null_unless_known(node: AnyNode, known: AnyNode) -> AnyNode:
    """Return the node where another one is not NULL, else NULL."""
    present = Call("is_not_null", (known,), call("is_not_null", known).type, nullable=False)
    return Case((Branch(present, node),), Constant(None, node.type), node.type)


class CompiledQuery:
    """The columnar form of a query model.

    Events are frames of the source's physical columns. *Rows* are frames with one row per bucket: `_key`,
    `_start`, `_opened`, `_end`, the key columns `_k0`.., the partials and, where gaps are filled, `_gap` and
    the carried values.
    """

    def __init__(self, query: QueryModel) -> None:
        assert query.window is not None
        self.query = query
        self.time = compile_expression(query.window.time).cast(pl.Int64)
        self.where = None if query.where is None else compile_expression(query.where).alias(CONDITION)
        # Without a group key all events are of one key, whose only part is a constant.
        keys = [compile_expression(key) for key in query.group_by] or [pl.lit(0, dtype=pl.Int64)]
        self.keys = [key.alias(f"_k{position}") for position, key in enumerate(keys)]
        self.key_names = tuple(f"_k{position}" for position in range(len(keys)))
        self._arguments = _Arguments()
        self._accumulators = {node: self._accumulator(node) for node in self._aggregates()}
        self.carried = self._carried()
        self.partials = tuple(self._distinct_partials())
        self.event_nodes = self._event_nodes()
        """What is computed of each event, by the column that holds it."""
        self.event_labels = {name: describe(node) for name, node in self.event_nodes.items()}
        self.time_error = ExpressionError(f"{describe(query.window.time)} is outside of the years 2 to 9998", TIME)
        """What is wrong with an event whose time no bucket can hold."""
        self.bar_nodes: dict[str, AnyNode] = {f"_v{position}": node for position, node in enumerate(self._accumulators)}
        """The aggregates of a bar, by the column that holds their value."""
        fields = {item.field: f"{query.target.name}.{item.field}" for item in query.projection}
        self._bar_labels = fields | {name: describe(node) for name, node in self.bar_nodes.items()}
        if query.having is not None:
            self._bar_labels[CONDITION] = describe(query.having)

    def _event_nodes(self) -> dict[str, AnyNode]:
        assert self.query.window is not None
        nodes: dict[str, AnyNode] = {argument.column: node for node, argument in self._arguments.columns.items()}
        nodes |= dict(zip(self.key_names, self.query.group_by, strict=False))
        nodes[TIME] = self.query.window.time
        return nodes if self.query.where is None else nodes | {CONDITION: self.query.where}

    def _aggregates(self) -> Iterator[Aggregate]:
        roots: list[AnyNode] = [projection.expression for projection in self.query.projection]
        roots += [self.query.having] if self.query.having is not None else []
        yield from dict.fromkeys(aggregate for root in roots for aggregate in aggregates(root))

    def _accumulator(self, node: Aggregate) -> Accumulator:
        return AGGREGATES[node.function](node, self._arguments.of_aggregate(node))

    def _carried(self) -> tuple[Argument, ...]:
        if self.query.gaps is not Gaps.CARRY:
            return ()
        carries = (argument for accumulator in self._accumulators.values() for argument in accumulator.carries)
        return tuple(dict.fromkeys(carries))

    def _distinct_partials(self) -> list[Partial]:
        partials = [*TIMES, *(partial for kept in self._accumulators.values() for partial in kept.partials)]
        partials += [partial for argument in self.carried for partial in last_partials(argument)]
        return list({partial.name: partial for partial in partials}.values())

    @property
    def needs_offset(self) -> bool:
        """Whether some aggregate depends on the order of the log."""
        return any(node.function.endswith("_by_offset") for node in self._accumulators)

    @property
    def argument_columns(self) -> Mapping[AnyNode, Argument]:
        """The distinct arguments of all aggregates, each with its column."""
        return self._arguments.columns

    @property
    def arguments(self) -> list[pl.Expr]:
        """Expressions of the argument columns, over events."""
        return [compile_expression(node).alias(argument.column) for node, argument in self._arguments.columns.items()]

    def collect(self, events: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        """Return the partials of groups of events, which are in the order of time."""
        return events.group_by(by).agg([partial.collect.alias(partial.name) for partial in self.partials])

    def bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the bars of rows that `having` keeps: the target's fields, then the columns of the bucket."""
        values = self._with_values(rows)
        scope = self._scope()
        if self.query.having is not None:
            condition = compile_expression(self.query.having, scope).alias(CONDITION)
            values = values.filter(evaluate(values, [condition], self._bar_labels).to_series())
        fields = [compile_expression(item.expression, scope).alias(item.field) for item in self.query.projection]
        bucket = [name for name in (GAP, COMPLETE, START, OPENED, KEY) if name in values.columns]
        return evaluate(values, fields, self._bar_labels).hstack(values.select(bucket))

    def _with_values(self, rows: pl.DataFrame) -> pl.DataFrame:
        gaps = GAP in rows.columns
        accumulators = enumerate(self._accumulators.values())
        columns = [self._value(accumulator, gaps).alias(f"_v{position}") for position, accumulator in accumulators]
        return rows.hstack(evaluate(rows, columns, self._bar_labels)) if columns else rows

    def _value(self, accumulator: Accumulator, gaps: bool) -> pl.Expr:
        if not gaps:
            return accumulator.finish
        is_null = self.query.gaps is Gaps.NULL and accumulator.carries
        empty = pl.lit(None) if is_null else accumulator.empty
        return pl.when(pl.col(GAP)).then(empty).otherwise(accumulator.finish)

    def _scope(self) -> Scope:
        columns: dict[Node, str] = dict(zip(self.query.group_by, self.key_names, strict=False))
        columns |= {node: f"_v{position}" for position, node in enumerate(self._accumulators)}
        return Scope(columns)
