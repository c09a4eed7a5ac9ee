"""One row per aggregate of the query language, and the partial columns of a whole query.

A *partial* is a column of a bucket's state by the engine's name of it, so that the engine can go on with rows of ksqlDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from kandle.errors import QueryError
from kandle.ksql.constants import number
from kandle.ksql.expressions import naming, term
from kandle.ksql.operators import arithmetic, call, cast
from kandle.ksql.sums import (
    Accumulator,
    Argument,
    Columns,
    Moments,
    Partial,
    count_of,
    exact_deviation,
    first_partials,
    first_value,
    folded,
    greatest_by,
    last_partials,
    last_value,
    mean,
    merged_by,
    order_of_arrival,
    squares_of,
    sum_of,
    times,
    where_known,
)
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import BIGINT, BYTES, VARCHAR, KsqlType
from kandle.model.types import NARROW_PRECISION, DataType, DecimalType, IntegerType
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Constant, Node, aggregates, describe
from kandle.query.query import Gaps, QueryModel
from kandle.query.signatures import call as recorded_call

Builder = Callable[[Aggregate, Sequence[Argument], Scope], Accumulator]
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
"""Aggregates that go on in an empty bucket with the last value of their first argument."""


def query_scope(query: QueryModel, scope: Scope) -> Scope:
    """The scope of what a query selects: its event time, names of arguments, and all its aggregates straight from events."""
    assert query.window is not None
    found = list(_aggregates(query))
    names: dict[AnyNode, str] = {}
    for node in found:
        for argument in prepared(node):
            names.setdefault(argument, f"_a{len(names)}")
    inner = replace(scope, time=query.window.time, arguments=names)
    values: dict[Node, Term] = {node: accumulator(node, inner).value for node in found}
    return replace(inner, columns={**scope.columns, **values})


def accumulator(node: Aggregate, scope: Scope) -> Accumulator:
    """The accumulator of an aggregate; the scope is that of its query."""
    arguments = [Argument(scope.arguments.get(part, ""), part, term(part, scope)) for part in prepared(node)]
    with naming(node):
        found = AGGREGATES[node.function](node, arguments, scope)

    def keep() -> tuple[Partial, ...]:
        with naming(node):
            return found.keep()

    return replace(found, keep=keep)


def partials(query: QueryModel, scope: Scope) -> tuple[Partial, ...]:
    """All partial columns of a query, by the names and in the order of the engine; times are BIGINT milliseconds.

    `scope` is a `query_scope`.
    """
    found = list(_aggregates(query))
    every = [*times(scope)]
    for node in found:
        every += accumulator(node, scope).partials
    if query.gaps is Gaps.CARRY:
        for node in found:
            if node.function in CARRYING:
                every += last_partials(_carried(node, scope), scope)
    return tuple({partial.name: partial for partial in every}.values())


def _carried(node: Aggregate, scope: Scope) -> Argument:
    part = node.arguments[0]
    return Argument(scope.arguments[part], part, term(part, scope))


def _aggregates(query: QueryModel) -> Iterator[Aggregate]:
    roots = [projection.expression for projection in query.projection]
    roots += [query.having] if query.having is not None else []
    yield from dict.fromkeys(found for root in roots for found in aggregates(root))


def prepared(node: Aggregate) -> tuple[AnyNode, ...]:
    """The expressions that an aggregate takes of every event, in the engine's order."""
    if node.function != "weighted_average":
        return node.arguments
    value, weight = node.arguments
    product = recorded_call("multiply", value, weight)
    return value, (_only_where(weight, product) if value.nullable else weight), product


def _only_where(node: AnyNode, known: AnyNode) -> AnyNode:
    present = Call("is_not_null", (known,), recorded_call("is_not_null", known).type, nullable=False)
    return Case((Branch(present, node),), Constant(None, node.type), node.type)


def _first(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    argument = arguments[0]
    name = f"_first{argument.column}"
    return Accumulator(lambda: first_partials(argument, scope), lambda columns: columns[name], first_value(argument, scope))


def _last(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    argument = arguments[0]
    name = f"_last{argument.column}"
    return Accumulator(lambda: last_partials(argument, scope), lambda columns: columns[name], last_value(argument, scope))


def _by_offset(prefix: str, function: str, extreme: str) -> Builder:
    """First or last event in the order of the log, whatever its event time."""

    def build(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
        argument = arguments[0]
        name = f"_{prefix}_offset{argument.column}"
        at = f"{name}_at"
        value = folded(function, argument.value, nullable=argument.value.nullable)

        def keep() -> tuple[Partial, ...]:
            order = where_known(order_of_arrival(scope), argument)
            found = folded(extreme, order, nullable=order.nullable)
            return Partial(name, value, merged), Partial(at, found, merged_by(extreme, at))

        def merged(columns: Columns) -> Term:
            order = columns[at]
            return greatest_by(arithmetic("-", number(0), order) if extreme == "MIN" else order, columns[name])

        return Accumulator(keep, lambda columns: columns[name], value)

    return build


def _extreme(prefix: str, function: str) -> Builder:
    def build(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
        argument = arguments[0]
        name = f"_{prefix}{argument.column}"

        def fold(value: Term) -> Term:
            return _of_bytes(function, value) if value.type == BYTES else folded(function, value, nullable=value.nullable)

        partial = Partial(name, fold(argument.value), lambda columns: fold(columns[name]))
        return Accumulator(lambda: (partial,), lambda columns: columns[name], partial.collect)

    return build


def _of_bytes(function: str, value: Term) -> Term:
    """By hexadecimal digits: ksqlDB takes bytes for signed numbers when it orders them."""
    encoding = Term("'hex'", VARCHAR, nullable=False)
    return call("TO_BYTES", folded(function, call("FROM_BYTES", value, encoding), nullable=value.nullable), encoding)


def _sum(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    found = sum_of(arguments[0])
    return Accumulator(lambda: found.partials, found.joined, found.total)


def _count(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    partial = count_of(arguments[0] if arguments else None)
    return Accumulator(lambda: (partial,), lambda columns: columns[partial.name], partial.collect)


def _average(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    argument = arguments[0]
    sums, count = sum_of(argument), count_of(argument)

    def average(total: Term, events: Term) -> Term:
        return mean(total, events, node.type, nullable=argument.value.nullable)

    return Accumulator(
        lambda: (*sums.partials, count),
        lambda columns: average(sums.joined(columns), columns[count.name]),
        average(sums.total, count.collect),
    )


def _weighted_average(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    """sum(x * w) / sum(w), both of the events that have a value and a weight."""
    _, weight, product = arguments
    products, weights = sum_of(product), sum_of(weight)
    return Accumulator(
        lambda: (*products.partials, *weights.partials),
        lambda columns: mean(products.joined(columns), weights.joined(columns), node.type, nullable=True),
        mean(products.total, weights.total, node.type, nullable=True),
    )


def _count_distinct(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
    """The length of the set of values: ksqlDB's own COUNT_DISTINCT is an estimate."""
    argument = arguments[0]
    name = f"_distinct{argument.column}"
    values = folded("COLLECT_SET", argument.value, nullable=False)
    if argument.value.nullable:
        values = call("FILTER", values, Term("x => x IS NOT NULL", KsqlType("LAMBDA"), nullable=False))

    def merged(columns: Columns) -> Term:
        raise QueryError(f'{describe(node)}: ksqlDB cannot unite the sets of finer buckets; use role "live", where kandle does')

    return Accumulator(
        lambda: (Partial(name, values, merged),),
        lambda columns: cast(call("ARRAY_LENGTH", columns[name]), BIGINT),
        cast(call("ARRAY_LENGTH", values), BIGINT),
    )


def _deviation(sample: bool) -> Builder:
    def build(node: Aggregate, arguments: Sequence[Argument], scope: Scope) -> Accumulator:
        build_from = _exact_deviation if _is_narrow(arguments[0].type) else _float_deviation
        return build_from(arguments[0], sample)

    return build


def _is_narrow(kind: DataType) -> bool:
    return isinstance(kind, IntegerType) or (isinstance(kind, DecimalType) and kind.precision <= NARROW_PRECISION)


def _exact_deviation(argument: Argument, sample: bool) -> Accumulator:
    sums, count, squares = sum_of(argument), count_of(argument), squares_of(argument)

    def deviation(events: Term, total: Term, of_squares: Term) -> Term:
        return exact_deviation(events, total, of_squares, sample=sample, nullable=argument.value.nullable)

    return Accumulator(
        lambda: (*sums.partials, count, *squares.partials),
        lambda columns: deviation(columns[count.name], sums.joined(columns), squares.joined(columns)),
        deviation(count.collect, sums.total, squares.total),
    )


def _float_deviation(argument: Argument, sample: bool) -> Accumulator:
    moments = Moments(argument)
    return Accumulator(moments.partials, lambda columns: moments.finish(columns, sample=sample), moments.value(sample=sample))


AGGREGATES: dict[str, Builder] = {
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
