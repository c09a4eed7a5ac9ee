"""Aggregates in columns: what is kept of the events of a bucket, how two such states merge, and the result.

A *partial* is a column of the state: `collect` makes it from the events of a bucket, `merge` from partials of
the same bucket (or from the children of a rolled-up one). `finish` gives the value of a bucket with events;
`empty` gives that of a bucket without any, from the last values seen of the aggregate's arguments.

Events stand in the order (event time, offset) when they are collected. Partials stand in the order in which
their events came; `merge` needs them in time order, `merge_unordered` does not and is slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kandle.engine import decimals
from kandle.engine.decimals import HALVES, WIDE, decimal_type, is_exact, narrow, wide
from kandle.engine.expressions import convert
from kandle.model.types import NARROW_PRECISION, DataType, DecimalType, FloatType, IntegerType
from kandle.query.nodes import Aggregate, describe

TIME = "_time"
OFFSET = "_offset"
FIRST_TIME = "_first_time"
LAST_TIME = "_last_time"


@dataclass(frozen=True, slots=True)
class Partial:
    """One column of a bucket's state."""

    name: str
    collect: pl.Expr
    merge: pl.Expr
    merge_unordered: pl.Expr | None = None

    def merge_expression(self, *, in_order: bool) -> pl.Expr:
        """Return the expression that merges this column within a group of partials."""
        expression = self.merge if in_order or self.merge_unordered is None else self.merge_unordered
        return expression.alias(self.name)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of an aggregate, as a column of the prepared events."""

    column: str
    type: DataType
    nullable: bool

    @property
    def value(self) -> pl.Expr:
        return pl.col(self.column)


@dataclass(frozen=True, slots=True)
class Accumulator:
    """The state that one aggregate keeps, and how its value comes out of it."""

    partials: tuple[Partial, ...]
    finish: pl.Expr
    empty: pl.Expr
    carries: tuple[Argument, ...] = ()


TIMES = (
    Partial(FIRST_TIME, pl.col(TIME).min(), pl.col(FIRST_TIME).min()),
    Partial(LAST_TIME, pl.col(TIME).max(), pl.col(LAST_TIME).max()),
)
"""Event time of the first and of the last event; every bucket's state has them."""

Builder = Callable[[Aggregate, Sequence[Argument]], Accumulator]


def carried_column(argument: Argument) -> str:
    """Return the name of the column with the latest value of an argument up to a bucket's end."""
    return f"_carried{argument.column}"


def _carry(argument: Argument) -> pl.Expr:
    return pl.col(carried_column(argument))


def _at_minimum(name: str, order: str) -> pl.Expr:
    """Return the value where the order is smallest; of several the first."""
    return pl.col(name).filter(pl.col(order) == pl.col(order).min()).first()


def _at_maximum(name: str, order: str) -> pl.Expr:
    """Return the value where the order is largest; of several the last."""
    return pl.col(name).filter(pl.col(order) == pl.col(order).max()).last()


def _where_known(column: str, argument: Argument) -> pl.Expr:
    """Return the column where the argument is not NULL."""
    return pl.col(column).filter(argument.value.is_not_null()) if argument.nullable else pl.col(column)


def first_partials(argument: Argument) -> tuple[Partial, ...]:
    """Return partials with the value of the earliest event.

    They hold its time too, where NULLs can make that differ from the time of the bucket's first event.
    """
    name = f"_first{argument.column}"
    if not argument.nullable:
        return (*TIMES, Partial(name, argument.value.first(), pl.col(name).first(), _at_minimum(name, FIRST_TIME)))
    time = f"{name}_time"
    return (
        *TIMES,
        Partial(name, argument.value.drop_nulls().first(), pl.col(name).drop_nulls().first(), _at_minimum(name, time)),
        Partial(time, _where_known(TIME, argument).min(), pl.col(time).min()),
    )


def last_partials(argument: Argument) -> tuple[Partial, ...]:
    """Return partials with the value of the latest event.

    They hold its time too, where NULLs can make that differ from the time of the bucket's last event.
    """
    name = f"_last{argument.column}"
    if not argument.nullable:
        return (*TIMES, Partial(name, argument.value.last(), pl.col(name).last(), _at_maximum(name, LAST_TIME)))
    time = f"{name}_time"
    return (
        *TIMES,
        Partial(name, argument.value.drop_nulls().last(), pl.col(name).drop_nulls().last(), _at_maximum(name, time)),
        Partial(time, _where_known(TIME, argument).max(), pl.col(time).max()),
    )


def last_column(argument: Argument) -> str:
    """Return the name of the partial that holds the value of the latest event."""
    return f"_last{argument.column}"


def _first(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    argument = arguments[0]
    return Accumulator(first_partials(argument), pl.col(f"_first{argument.column}"), _carry(argument), (argument,))


def _last(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    argument = arguments[0]
    return Accumulator(last_partials(argument), pl.col(last_column(argument)), _carry(argument), (argument,))


def _by_offset(prefix: str, extreme: Callable[[pl.Expr], pl.Expr], at: Callable[[str, str], pl.Expr]) -> Builder:
    """Return the builder of the first or last event in the order of the log, whatever its event time."""

    def build(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
        argument = arguments[0]
        name = f"_{prefix}_offset{argument.column}"
        offset = f"{name}_at"
        chosen = extreme(_where_known(OFFSET, argument))
        value = Partial(name, argument.value.filter(pl.col(OFFSET) == chosen).first(), at(name, offset))
        order = Partial(offset, chosen, extreme(pl.col(offset)))
        return Accumulator((value, order), pl.col(name), _carry(argument), (argument,))

    return build


def _extreme(prefix: str, choose: Callable[[pl.Expr], pl.Expr]) -> Builder:
    def build(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
        argument = arguments[0]
        name = f"_{prefix}{argument.column}"
        partial = Partial(name, choose(argument.value), choose(pl.col(name)))
        return Accumulator((partial,), pl.col(name), _carry(argument), (argument,))

    return build


def _sum_of(argument: Argument, label: str) -> tuple[tuple[Partial, ...], pl.Expr]:
    """Return the partials of a sum and the sum in them, which is 128 bits wide where the type is exact."""
    name = f"_sum{argument.column}"
    if isinstance(argument.type, FloatType):
        return (Partial(name, argument.value.sum(), pl.col(name).sum()),), pl.col(name)
    value = argument.value.cast(WIDE)
    if isinstance(argument.type, IntegerType) or decimal_type(argument.type).precision <= NARROW_PRECISION:
        return (Partial(name, value.sum(), pl.col(name).sum()),), pl.col(name)
    high, low = f"{name}_high", f"{name}_low"
    partials = (
        Partial(high, (value // wide(HALVES)).sum(), pl.col(high).sum()),
        Partial(low, (value % wide(HALVES)).sum(), pl.col(low).sum()),
    )
    return partials, decimals.join_halves(pl.col(high), pl.col(low), label)


def _sum(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    partials, total = _sum_of(arguments[0], describe(node))
    if is_exact(node.type):
        total = narrow(total, node.type)
    return Accumulator(partials, total, pl.lit(0, dtype=node.type.physical))


def _count_of(argument: Argument | None) -> Partial:
    if argument is None or not argument.nullable:
        return Partial("_count", pl.len().cast(pl.Int64), pl.col("_count").sum())
    name = f"_count{argument.column}"
    return Partial(name, argument.value.count().cast(pl.Int64), pl.col(name).sum())


def _count(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    partial = _count_of(arguments[0] if arguments else None)
    return Accumulator((partial,), pl.col(partial.name), pl.lit(0, dtype=pl.Int64))


def _carry_as(node: Aggregate, argument: Argument) -> pl.Expr:
    """Return the carried value in the aggregate's own type, rounded where that has fewer digits."""
    if isinstance(node.type, DecimalType) and is_exact(argument.type):
        shift = node.type.scale - decimal_type(argument.type).scale
        return narrow(decimals.divide(_carry(argument), wide(1), shift, describe(node)), node.type)
    return convert(_carry(argument), argument.type, node.type, describe(node))


def _average(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    argument = arguments[0]
    partials, total = _sum_of(argument, describe(node))
    count = _count_of(argument)
    if isinstance(node.type, DecimalType):
        shift = node.type.scale - decimal_type(argument.type).scale
        mean = narrow(decimals.divide(total, pl.col(count.name), shift, describe(node)), node.type)
    else:
        mean = total.cast(pl.Float64) / pl.when(pl.col(count.name) > 0).then(pl.col(count.name))
    return Accumulator((*partials, count), mean, _carry_as(node, argument), (argument,))


def _weighted_average(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    """Return sum(x * w) / sum(w), made of two sums.

    `product` is prepared beside the arguments and NULL where either is.
    """
    value, weight, product = arguments
    products, numerator = _sum_of(product, describe(node))
    weights, denominator = _sum_of(weight, describe(node))
    if isinstance(node.type, DecimalType):
        shift = node.type.scale + decimal_type(weight.type).scale - decimal_type(product.type).scale
        mean = narrow(decimals.divide(numerator, denominator, shift, describe(node)), node.type)
    else:
        divisor = denominator.cast(pl.Float64)
        mean = numerator.cast(pl.Float64) / pl.when(divisor != 0).then(divisor)
    return Accumulator((*products, *weights), mean, _carry_as(node, value), (value,))


def _count_distinct(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
    argument = arguments[0]
    name = f"_distinct{argument.column}"
    merge = pl.col(name).explode().drop_nulls().unique()
    partial = Partial(name, argument.value.drop_nulls().unique(), merge)
    return Accumulator((partial,), pl.col(name).list.len().cast(pl.Int64), pl.lit(0, dtype=pl.Int64))


def _deviation(sample: bool) -> Builder:
    """Return the builder of a standard deviation.

    For integers and decimals of up to 18 digits it is exact until the last square root.
    """

    def build(node: Aggregate, arguments: Sequence[Argument]) -> Accumulator:
        argument = arguments[0]
        of_one = pl.lit(None, dtype=pl.Float64) if sample else pl.when(_carry(argument).is_not_null()).then(0.0)
        is_narrow = is_exact(argument.type) and argument.type.physical == pl.Int64
        partials, value = (_exact_squares if is_narrow else _moments)(argument, sample, describe(node))
        return Accumulator(partials, value, of_one, (argument,))

    return build


def _exact_squares(argument: Argument, sample: bool, label: str) -> tuple[tuple[Partial, ...], pl.Expr]:
    sums, total = _sum_of(argument, label)
    count = _count_of(argument)
    high, low = f"_squares_high{argument.column}", f"_squares_low{argument.column}"
    square = argument.value.cast(WIDE) * argument.value.cast(WIDE)
    partials = (
        *sums,
        count,
        Partial(high, (square // wide(HALVES)).sum(), pl.col(high).sum()),
        Partial(low, (square % wide(HALVES)).sum(), pl.col(low).sum()),
    )
    unit = 10 ** decimal_type(argument.type).scale

    def deviation(frame: pl.Series) -> pl.Series:
        rows = zip(*[frame.struct.field(name).to_list() for name in frame.struct.fields], strict=True)
        return pl.Series([_root(row, unit, sample) for row in rows], dtype=pl.Float64)

    columns = [pl.col(count.name).alias("n"), total.alias("s"), pl.col(high).alias("h"), pl.col(low).alias("l")]
    return partials, pl.struct(columns).map_batches(deviation, return_dtype=pl.Float64)


def _root(row: tuple[Any, ...], unit: int, sample: bool) -> float | None:
    """Return the standard deviation from exact sums; NULL where there are too few values.

    sqrt((n * sum(x^2) - sum(x)^2) / (n * (n - 1))) for a sample, / n^2 for a population.
    """
    count, total, high, low = row
    if not count or (sample and count < 2):
        return None
    squares = high * HALVES + low
    return math.sqrt((count * squares - total * total) / (count * (count - sample))) / unit


def _moments(argument: Argument, sample: bool, label: str) -> tuple[tuple[Partial, ...], pl.Expr]:
    """Return count, mean and sum of squared deviations, merged by Chan, Golub and LeVeque's pairwise formula."""
    mean, spread, count = f"_mean{argument.column}", f"_spread{argument.column}", _count_of(argument)
    value = convert(argument.value, argument.type, FloatType(), label)
    total = pl.col(count.name).sum()
    middle = (pl.col(mean) * pl.col(count.name)).sum() / pl.when(total > 0).then(total)
    between = (pl.col(count.name) * (pl.col(mean) - middle).pow(2)).sum()
    partials = (
        count,
        Partial(mean, value.mean(), middle),
        Partial(spread, value.var(ddof=0) * value.count(), pl.col(spread).sum() + between),
    )
    freedom = pl.col(count.name) - int(sample)
    return partials, (pl.col(spread) / pl.when(freedom > 0).then(freedom)).sqrt()


AGGREGATES: dict[str, Builder] = {
    "first": _first,
    "last": _last,
    "min": _extreme("min", pl.Expr.min),
    "max": _extreme("max", pl.Expr.max),
    "sum": _sum,
    "count": _count,
    "avg": _average,
    "first_by_offset": _by_offset("first", pl.Expr.min, _at_minimum),
    "last_by_offset": _by_offset("last", pl.Expr.max, _at_maximum),
    "count_distinct": _count_distinct,
    "stddev": _deviation(sample=True),
    "stddev_population": _deviation(sample=False),
    "weighted_average": _weighted_average,
}
