"""Aggregates of the query language, a table row for each, and the partial columns of a whole query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from kandle.errors import QueryError
from kandle.ksql.expressions import naming_node, term
from kandle.ksql.operators import arithmetic, call, cast, number
from kandle.ksql.partials import (
    AggregateArgument,
    Columns,
    CompiledAggregate,
    PartialColumn,
    aggregate_call,
    count_of,
    first_partials,
    first_value,
    greatest_by,
    last_partials,
    last_value,
    merged_by,
    order_of_arrival,
    times,
    where_known,
)
from kandle.ksql.sums import Moments, exact_deviation, mean, squares_of, sum_of
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import BIGINT, BYTES, VARCHAR, KsqlType
from kandle.model.types import NARROW_PRECISION, DataType, DecimalType, IntegerType
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Constant, Node, aggregates, describe
from kandle.query.query import Gaps, QueryModel
from kandle.query.signatures import call as recorded_call

AggregateBuilder = Callable[[Aggregate, Sequence[AggregateArgument], TermScope], CompiledAggregate]
CARRYING = (
    "first",
    "last",
    "first_by_offset",
    "last_by_offset",
    "min",
    "max",
    "avg",
    "weighted_average",
    "stddev",
    "stddev_population",
)
"""Aggregates that continue in an empty bucket with the last value of their first argument."""


def query_aggregates(query: QueryModel) -> list[Aggregate]:
    """Return the distinct aggregates of a query's fields and of `having`, in their order."""
    roots = [item.expression for item in query.projection]
    roots += [] if query.having is None else [query.having]
    return list(dict.fromkeys(node for root in roots for node in aggregates(root)))


def query_scope(query: QueryModel, scope: TermScope) -> TermScope:
    """Return the scope of what a query selects.

    Args:
        query: A query with a window, whose time is the event time.
        scope: What the columns of the events stand for.

    Returns:
        The same scope with the event time, names of the aggregates' arguments, and the value of each
        aggregate.
    """
    assert query.window is not None
    nodes = query_aggregates(query)
    names: dict[AnyNode, str] = {}
    for node in nodes:
        for argument in arguments_of(node):
            names.setdefault(argument, f"_a{len(names)}")
    inner = replace(scope, time=query.window.time, arguments=names)
    values: dict[Node, Term] = {node: compile_aggregate(node, inner).value for node in nodes}
    return replace(inner, columns={**scope.columns, **values})


def compile_aggregate(node: Aggregate, scope: TermScope) -> CompiledAggregate:
    """Return an aggregate as KSQL.

    Args:
        node: The aggregate.
        scope: The scope of its query, made by `query_scope`.

    Raises:
        QueryError: If ksqlDB cannot compute it; the message names the aggregate.
    """
    arguments = [_argument(part, scope) for part in arguments_of(node)]
    with naming_node(node):
        compiled = AGGREGATES[node.function](node, arguments, scope)

    def keep() -> tuple[PartialColumn, ...]:
        with naming_node(node):
            return compiled.keep()

    return replace(compiled, keep=keep)


def partial_columns(query: QueryModel, scope: TermScope) -> tuple[PartialColumn, ...]:
    """Return all partial columns of a query, with the engine's names and in its order.

    Times are milliseconds, as BIGINT.

    Args:
        query: A query with a window.
        scope: Its scope, made by `query_scope`.
    """
    return tuple({column.name: column for _, column in _partials_with_origin(query, scope)}.values())


def partial_origins(query: QueryModel, scope: TermScope) -> dict[str, str]:
    """Return what each partial column is kept for, such as `f.sum(Trade.size)`, by the column's name.

    Args:
        query: A query with a window.
        scope: Its scope, made by `query_scope`.
    """
    origins: dict[str, str] = {}
    for origin, column in _partials_with_origin(query, scope):
        origins.setdefault(column.name, origin)
    return origins


def _partials_with_origin(query: QueryModel, scope: TermScope) -> Iterator[tuple[str, PartialColumn]]:
    yield from (("the event time", column) for column in times(scope))
    nodes = query_aggregates(query)
    for node in nodes:
        yield from ((describe(node), column) for column in compile_aggregate(node, scope).keep())
    for node in nodes if query.gaps is Gaps.CARRY else ():
        if node.function in CARRYING:
            argument = _argument(node.arguments[0], scope)
            yield from ((describe(node), column) for column in last_partials(argument, scope))


def _argument(node: AnyNode, scope: TermScope) -> AggregateArgument:
    return AggregateArgument(scope.arguments.get(node, ""), node, term(node, scope))


def arguments_of(node: Aggregate) -> tuple[AnyNode, ...]:
    """Return the expressions that an aggregate evaluates for every event, in the engine's order."""
    if node.function != "weighted_average":
        return node.arguments
    value, weight = node.arguments
    product = recorded_call("multiply", value, weight)
    return value, (_only_where(weight, product) if value.nullable else weight), product


def _only_where(node: AnyNode, known: AnyNode) -> AnyNode:
    """Return the node where `known` is not NULL, else NULL."""
    present = Call("is_not_null", (known,), recorded_call("is_not_null", known).type, nullable=False)
    return Case((Branch(present, node),), Constant(None, node.type), node.type)


def _first(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    argument = arguments[0]
    name = f"_first{argument.column}"
    return CompiledAggregate(lambda: first_partials(argument, scope), lambda columns: columns[name], first_value(argument, scope))


def _last(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    argument = arguments[0]
    name = f"_last{argument.column}"
    return CompiledAggregate(lambda: last_partials(argument, scope), lambda columns: columns[name], last_value(argument, scope))


def _by_offset(prefix: str, function: str, extreme: str) -> AggregateBuilder:
    """Return the builder of the first or last value in the order of the log, whatever the event times."""

    def build(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
        argument = arguments[0]
        name = f"_{prefix}_offset{argument.column}"
        offset_name = f"{name}_at"
        value = aggregate_call(function, argument.value, nullable=argument.value.nullable)

        def keep() -> tuple[PartialColumn, ...]:
            arrival = where_known(order_of_arrival(scope), argument)
            offset = aggregate_call(extreme, arrival, nullable=arrival.nullable)
            return (
                PartialColumn(name, value, merge),
                PartialColumn(offset_name, offset, merged_by(extreme, offset_name)),
            )

        def merge(columns: Columns) -> Term:
            offset = columns[offset_name]
            order = arithmetic("-", number(0), offset) if extreme == "MIN" else offset
            return greatest_by(order, columns[name])

        return CompiledAggregate(keep, lambda columns: columns[name], value)

    return build


def _extreme(prefix: str, function: str) -> AggregateBuilder:
    """Return the builder of min or max."""

    def build(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
        argument = arguments[0]
        name = f"_{prefix}{argument.column}"

        def fold(value: Term) -> Term:
            if value.type == BYTES:
                return _extreme_of_bytes(function, value)
            return aggregate_call(function, value, nullable=value.nullable)

        partial = PartialColumn(name, fold(argument.value), lambda columns: fold(columns[name]))
        return CompiledAggregate(lambda: (partial,), lambda columns: columns[name], partial.collect)

    return build


def _extreme_of_bytes(function: str, value: Term) -> Term:
    """Compare hexadecimal digits: ksqlDB sorts bytes as signed numbers."""
    encoding = Term("'hex'", VARCHAR, nullable=False)
    extreme = aggregate_call(function, call("FROM_BYTES", value, encoding), nullable=value.nullable)
    return call("TO_BYTES", extreme, encoding)


def _sum(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    total = sum_of(arguments[0])
    return CompiledAggregate(lambda: total.partials, total.finish, total.total)


def _count(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    partial = count_of(arguments[0] if arguments else None)
    return CompiledAggregate(lambda: (partial,), lambda columns: columns[partial.name], partial.collect)


def _average(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    argument = arguments[0]
    total, count = sum_of(argument), count_of(argument)

    def average(of_values: Term, of_events: Term) -> Term:
        return mean(of_values, of_events, node.type, nullable=argument.value.nullable)

    return CompiledAggregate(
        lambda: (*total.partials, count),
        lambda columns: average(total.finish(columns), columns[count.name]),
        average(total.total, count.collect),
    )


def _weighted_average(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    """Build sum(x * w) / sum(w), both over the events that have a value and a weight."""
    _, weight, product = arguments
    products, weights = sum_of(product), sum_of(weight)
    return CompiledAggregate(
        lambda: (*products.partials, *weights.partials),
        lambda columns: mean(products.finish(columns), weights.finish(columns), node.type, nullable=True),
        mean(products.total, weights.total, node.type, nullable=True),
    )


def _count_distinct(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
    """Build the length of the set of values: ksqlDB's own COUNT_DISTINCT is an estimate."""
    argument = arguments[0]
    name = f"_distinct{argument.column}"
    values = aggregate_call("COLLECT_SET", argument.value, nullable=False)
    if argument.value.nullable:
        values = call("FILTER", values, Term("x => x IS NOT NULL", KsqlType("LAMBDA"), nullable=False))

    def merge(columns: Columns) -> Term:
        raise QueryError(
            f"{describe(node)}: ksqlDB cannot merge the sets of values of finer bars into those of larger ones; "
            'declare one timeframe, or set [engine] kind = "embedded"'
        )

    return CompiledAggregate(
        lambda: (PartialColumn(name, values, merge),),
        lambda columns: cast(call("ARRAY_LENGTH", columns[name]), BIGINT),
        cast(call("ARRAY_LENGTH", values), BIGINT),
    )


def _deviation(*, sample: bool) -> AggregateBuilder:
    """Return the builder of the standard deviation of a sample or a population."""

    def build(node: Aggregate, arguments: Sequence[AggregateArgument], scope: TermScope) -> CompiledAggregate:
        build_from = _exact_deviation if _has_exact_squares(arguments[0].type) else _float_deviation
        return build_from(arguments[0], sample)

    return build


def _has_exact_squares(kind: DataType) -> bool:
    return isinstance(kind, IntegerType) or (isinstance(kind, DecimalType) and kind.precision <= NARROW_PRECISION)


def _exact_deviation(argument: AggregateArgument, sample: bool) -> CompiledAggregate:
    total, count, squares = sum_of(argument), count_of(argument), squares_of(argument)

    def deviation(of_events: Term, of_values: Term, of_squares: Term) -> Term:
        return exact_deviation(of_events, of_values, of_squares, sample=sample, nullable=argument.value.nullable)

    return CompiledAggregate(
        lambda: (*total.partials, count, *squares.partials),
        lambda columns: deviation(columns[count.name], total.finish(columns), squares.finish(columns)),
        deviation(count.collect, total.total, squares.total),
    )


def _float_deviation(argument: AggregateArgument, sample: bool) -> CompiledAggregate:
    moments = Moments(argument)
    return CompiledAggregate(
        moments.partials, lambda columns: moments.finish(columns, sample=sample), moments.value(sample=sample)
    )


AGGREGATES: dict[str, AggregateBuilder] = {
    "first": _first,
    "last": _last,
    "min": _extreme("min", "MIN"),
    "max": _extreme("max", "MAX"),
    "sum": _sum,
    "count": _count,
    "avg": _average,
    "first_by_offset": _by_offset("first", "EARLIEST_BY_OFFSET", "MIN"),
    "last_by_offset": _by_offset("last", "LATEST_BY_OFFSET", "MAX"),
    "count_distinct": _count_distinct,
    "stddev": _deviation(sample=True),
    "stddev_population": _deviation(sample=False),
    "weighted_average": _weighted_average,
}
"""Builders by the aggregate's name in the query language."""
