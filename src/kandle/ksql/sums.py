"""Sums and what is made of them: averages and deviations, exact as far as our engine has them exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kandle.ksql.constants import number, power_of_ten
from kandle.ksql.expressions import term
from kandle.ksql.numbers import double_quotient, rounded_quotient, without_zero
from kandle.ksql.operators import accepted, arithmetic, call, cast, compared, digits, joined
from kandle.ksql.terms import Scope, Term, known, plain
from kandle.ksql.types import BIGINT, DOUBLE, INTEGER, VARCHAR, RefusedError, decimal
from kandle.model.types import MAX_PRECISION, NARROW_PRECISION, DataType, DecimalType, FloatType
from kandle.query.nodes import AnyNode

Columns = Mapping[str, Term]
"""Partial columns by name."""

ROW_OFFSET = Term("ROWOFFSET", BIGINT, nullable=False)
"""ksqlDB's own column of a row's place in its partition: the order of arrival where events of one key are in one partition."""

FIRST_TIME = "_first_time"
LAST_TIME = "_last_time"

_SORTABLE_TIME = "'yyyyMMddHHmmssSSS'"
_OFFSET_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Partial:
    """One column of a bucket's state: made of events, and merged of rows of finer buckets, which come in time order."""

    name: str
    collect: Term
    merge: Callable[[Columns], Term]


@dataclass(frozen=True, slots=True)
class Accumulator:
    """What one aggregate keeps, its value from those columns, and its value straight from events."""

    keep: Callable[[], tuple[Partial, ...]]
    finish: Callable[[Columns], Term]
    value: Term

    @property
    def partials(self) -> tuple[Partial, ...]:
        """The columns that are kept; a QueryError if one of them cannot be."""
        return self.keep()


@dataclass(frozen=True, slots=True)
class Argument:
    """An aggregate's argument: the engine's name of it, its expression and its text."""

    column: str
    node: AnyNode
    value: Term

    @property
    def type(self) -> DataType:
        return self.node.type

    @property
    def nullable(self) -> bool:
        """Whether the engine reckons with NULL; in ksqlDB there may be rows without events, of which all is NULL."""
        return self.node.nullable


def folded(name: str, *arguments: Term, nullable: bool) -> Term:
    """A call of one of ksqlDB's aggregates."""
    kind = accepted(name, [argument.type for argument in arguments])
    return Term(f"{name}({', '.join(argument.text for argument in arguments)})", kind, nullable)


def merged_by(aggregate: str, name: str) -> Callable[[Columns], Term]:
    """A column that merges by one of ksqlDB's aggregates."""
    return lambda columns: folded(aggregate, columns[name], nullable=columns[name].nullable)


def count_of(argument: Argument | None) -> Partial:
    """The number of events, or of those that have a value."""
    if argument is None or not argument.nullable:
        return Partial("_count", Term("COUNT(*)", BIGINT, nullable=False), merged_by("SUM", "_count"))
    name = f"_count{argument.column}"
    return Partial(name, folded("COUNT", argument.value, nullable=False), merged_by("SUM", name))


def milliseconds(scope: Scope) -> Term:
    """Event time in milliseconds."""
    assert scope.time is not None, "an aggregate by event time needs a scope of a query"
    return call("UNIX_TIMESTAMP", term(scope.time, scope))


def order_of_arrival(scope: Scope) -> Term:
    """The place of an event in the log."""
    if scope.sequence is None:
        raise RefusedError("what comes by offset is rolled up by the order of arrival, and nothing here says that")
    return cast(scope.sequence, BIGINT)


def where_known(value: Term, argument: Argument) -> Term:
    """The value where the argument is not NULL."""
    if not argument.value.nullable:
        return value
    return Term(f"CASE WHEN {known(argument.value).text} THEN {value.text} END", value.type, nullable=True)


def greatest_by(order: Term, value: Term) -> Term:
    """The value where the order is greatest, of several the one that came first; rows whose order is NULL do not count."""
    accepted("TOPK", [order.type, value.type, INTEGER])
    return Term(f"TOPK({order.text}, {value.text}, 1)[1]->`col0`", value.type, nullable=value.nullable)


def times(scope: Scope) -> tuple[Partial, ...]:
    """Event time of the first and of the last event; every bucket's state has them."""
    instant = milliseconds(scope)
    first = folded("MIN", instant, nullable=instant.nullable)
    last = folded("MAX", instant, nullable=instant.nullable)
    return (
        Partial(FIRST_TIME, first, merged_by("MIN", FIRST_TIME)),
        Partial(LAST_TIME, last, merged_by("MAX", LAST_TIME)),
    )


def first_value(argument: Argument, scope: Scope) -> Term:
    """Value of the earliest event; of several of one time the first that came."""
    earlier = arithmetic("-", number(0), milliseconds(scope))
    return greatest_by(where_known(earlier, argument), argument.value)


def last_value(argument: Argument, scope: Scope) -> Term:
    """Value of the latest event; of several of one time the last that came, where something says what came last."""
    later = milliseconds(scope) if scope.sequence is None else _time_and_arrival(scope)
    return greatest_by(where_known(later, argument), argument.value)


def _time_and_arrival(scope: Scope) -> Term:
    """Text that sorts by event time, then by arrival."""
    assert scope.time is not None
    pattern = Term(_SORTABLE_TIME, VARCHAR, nullable=False)
    zero = Term("'0'", VARCHAR, nullable=False)
    instant = call("FORMAT_TIMESTAMP", term(scope.time, scope), pattern)
    return joined(instant, call("LPAD", cast(order_of_arrival(scope), VARCHAR), number(_OFFSET_DIGITS), zero))


def _ends(argument: Argument, scope: Scope, name: str, value: Term, extreme: str, latest: str) -> tuple[Partial, ...]:
    found = (*times(scope), Partial(name, value, merged_by(latest, name)))
    if not argument.nullable:
        return found
    time = f"{name}_time"
    instant = where_known(milliseconds(scope), argument)
    return (*found, Partial(time, folded(extreme, instant, nullable=True), merged_by(extreme, time)))


def first_partials(argument: Argument, scope: Scope) -> tuple[Partial, ...]:
    """Value of the earliest event, and its time where NULLs make that differ from the bucket's first event."""
    value = first_value(argument, scope)
    return _ends(argument, scope, f"_first{argument.column}", value, "MIN", "EARLIEST_BY_OFFSET")


def last_partials(argument: Argument, scope: Scope) -> tuple[Partial, ...]:
    """Value of the latest event, and its time where NULLs make that differ from the bucket's last event."""
    value = last_value(argument, scope)
    return _ends(argument, scope, f"_last{argument.column}", value, "MAX", "LATEST_BY_OFFSET")


HALF_DIGITS = 18
"""Digits of the lower half of a wide sum: value // 10**18 and value % 10**18 of its whole number of units."""
COUNT_DIGITS = 20
"""Digits by which a sum may be longer than what is summed."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum straight from events, and the columns that it is kept in."""

    total: Term
    partials: tuple[Partial, ...]
    joined: Callable[[Columns], Term]


def sum_of(argument: Argument) -> Sum:
    """The sum of the values, 0 if there are none."""
    name = f"_sum{argument.column}"
    value = argument.value
    if isinstance(argument.type, DecimalType):
        value = cast(value, decimal(MAX_PRECISION, argument.type.scale))
    total = folded("SUM", value, nullable=False)
    if isinstance(argument.type, DecimalType) and argument.type.precision > NARROW_PRECISION:
        return in_halves(f"{name}_high", f"{name}_low", total)
    return Sum(total, (Partial(name, total, merged_by("SUM", name)),), lambda columns: columns[name])


def in_halves(high: str, low: str, total: Term) -> Sum:
    """An exact sum in two columns that cannot overflow, as the engine keeps it."""
    scale = total.type.scale
    upper = call("FLOOR", arithmetic("*", total, power_of_ten(scale - HALF_DIGITS)))
    rest = arithmetic("-", total, arithmetic("*", upper, power_of_ten(HALF_DIGITS - scale)))
    units = decimal(MAX_PRECISION, 0)
    lower = arithmetic("*", rest, power_of_ten(scale))

    def joined(columns: Columns) -> Term:
        above = arithmetic("*", columns[high], power_of_ten(HALF_DIGITS - scale))
        below = arithmetic("*", columns[low], power_of_ten(-scale))
        return cast(arithmetic("+", above, below), total.type)

    partials = (
        Partial(high, cast(upper, units), merged_by("SUM", high)),
        Partial(low, cast(lower, units), merged_by("SUM", low)),
    )
    return Sum(total, partials, joined)


def mean(total: Term, count: Term, kind: DataType, *, nullable: bool) -> Term:
    """total / count in the type of the aggregate, NULL where the count is 0."""
    if isinstance(kind, DecimalType):
        quotient = rounded_quotient(total, count, kind)
        return without_zero(quotient, count) if nullable else quotient
    quotient = double_quotient(total, count)
    return plain(without_zero(quotient, count)) if nullable else quotient


def squares_of(argument: Argument) -> Sum:
    """The sum of the squares of integers or decimals of up to 18 digits, exact."""
    kind, column = digits(argument.value.type), argument.column
    value = cast(argument.value, kind)
    square = cast(arithmetic("*", value, value), decimal(2 * kind.precision + COUNT_DIGITS, 2 * kind.scale))
    return in_halves(f"_squares_high{column}", f"_squares_low{column}", folded("SUM", square, nullable=False))


def exact_deviation(count: Term, total: Term, squares: Term, *, sample: bool, nullable: bool) -> Term:
    """sqrt((n * sum(x^2) - sum(x)^2) / (n * (n - 1))) for a sample, / n^2 for a population; exact until the last quotient."""
    whole = cast(total, digits(total.type))
    spread = arithmetic("-", arithmetic("*", count, squares), arithmetic("*", whole, whole))
    freedom = arithmetic("-", count, number(1)) if sample else count
    root = call("SQRT", arithmetic("/", cast(spread, DOUBLE), arithmetic("*", count, freedom)))
    return above(count, 1 if sample else 0, root) if sample or nullable else root


def above(count: Term, least: int, value: Term) -> Term:
    """The value where there are more events than so many, else NULL."""
    condition = compared(">", count, number(least))
    return Term(f"CASE WHEN {condition.text} THEN {value.text} END", value.type, nullable=True)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of floats, kept where exact sums of squares are not possible."""

    argument: Argument

    @property
    def count(self) -> Partial:
        return count_of(self.argument)

    @property
    def names(self) -> tuple[str, str, str]:
        column = self.argument.column
        return self.count.name, f"_mean{column}", f"_spread{column}"

    @property
    def _deviation(self) -> Term:
        """ksqlDB's deviation of a sample; its STDDEV_SAMP is the variance."""
        return folded("STDDEV_SAMPLE", cast(self.argument.value, DOUBLE), nullable=False)

    def partials(self) -> tuple[Partial, ...]:
        _, mean_name, spread_name = self.names
        total = folded("SUM", cast(self.argument.value, DOUBLE), nullable=False)
        middle = mean(total, self.count.collect, FloatType(), nullable=True)
        return (
            self.count,
            Partial(mean_name, middle, self._merged_mean),
            Partial(spread_name, self._spread(), self._merged_spread),
        )

    def _spread(self) -> Term:
        """Sum of squared deviations; ksqlDB's variance of fewer than two events is not asked for."""
        variance = arithmetic("*", self._deviation, self._deviation)
        squares = arithmetic("*", variance, arithmetic("-", self.count.collect, number(1)))
        return Term(f"CASE WHEN {self.count.collect.text} > 1 THEN {squares.text} ELSE 0E0 END", DOUBLE, nullable=False)

    def _merged_mean(self, columns: Columns) -> Term:
        count, mean_name, _ = (columns[name] for name in self.names)
        events = folded("SUM", count, nullable=False)
        total = folded("SUM", arithmetic("*", mean_name, count), nullable=False)
        return mean(total, events, FloatType(), nullable=True)

    def _merged_spread(self, columns: Columns) -> Term:
        """Chan, Golub and LeVeque's formula in sums: what the means of the parts add to the deviations inside of them."""
        count, middle, spread = (columns[name] for name in self.names)
        weighted = arithmetic("*", middle, count)
        total = folded("SUM", weighted, nullable=False)
        squares = folded("SUM", arithmetic("*", weighted, middle), nullable=False)
        events = folded("SUM", count, nullable=False)
        between = arithmetic("-", squares, arithmetic("/", arithmetic("*", total, total), events))
        return above(events, 0, arithmetic("+", folded("SUM", spread, nullable=False), between))

    def value(self, *, sample: bool) -> Term:
        """The deviation straight from events."""
        if sample:
            return above(self.count.collect, 1, self._deviation)
        count = self.count.collect
        share = arithmetic("/", cast(arithmetic("-", count, number(1)), DOUBLE), count)
        several = arithmetic("*", self._deviation, call("SQRT", share)).text
        return Term(f"CASE WHEN {count.text} > 1 THEN {several} WHEN {count.text} = 1 THEN 0E0 END", DOUBLE, nullable=True)

    def finish(self, columns: Columns, *, sample: bool) -> Term:
        count, _, spread = (columns[name] for name in self.names)
        freedom = arithmetic("-", count, number(1)) if sample else count
        return above(count, 1 if sample else 0, call("SQRT", arithmetic("/", spread, freedom)))
