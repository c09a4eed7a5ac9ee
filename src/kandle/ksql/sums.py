"""Sums and what is made from them: averages and standard deviations, exact wherever kandle's engine is exact.

A sum of decimals with more than 18 digits is kept in two halves that cannot overflow, as the engine keeps it:

    sum = high * 10**(18 - scale) + low * 10**(-scale)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kandle.ksql.numbers import double_quotient, null_at_zero, rounded_quotient
from kandle.ksql.operators import arithmetic, as_decimal, call, cast, comparison, number, power_of_ten
from kandle.ksql.partials import AggregateArgument, Columns, PartialColumn, aggregate_call, count_of, merged_by
from kandle.ksql.terms import Term, null_safe
from kandle.ksql.types import DOUBLE, decimal
from kandle.model.types import MAX_PRECISION, NARROW_PRECISION, DataType, DecimalType, FloatType

HALF_DIGITS = 18
"""Digits of the lower half of a wide sum, counted in units of its last digit."""
COUNT_DIGITS = 20
"""Number of digits by which a sum may be longer than what is added up."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum and the columns that keep it.

    Attributes:
        total: The sum straight from events.
        partials: The columns.
        finish: The sum from those columns.
    """

    total: Term
    partials: tuple[PartialColumn, ...]
    finish: Callable[[Columns], Term]


def sum_of(argument: AggregateArgument) -> Sum:
    """Return the sum of the values, which is 0 without values."""
    name = f"_sum{argument.column}"
    value = argument.value
    if isinstance(argument.type, DecimalType):
        value = cast(value, decimal(MAX_PRECISION, argument.type.scale))
    total = aggregate_call("SUM", value, nullable=False)
    if isinstance(argument.type, DecimalType) and argument.type.precision > NARROW_PRECISION:
        return in_halves(f"{name}_high", f"{name}_low", total)
    return Sum(total, (PartialColumn(name, total, merged_by("SUM", name)),), lambda columns: columns[name])


def in_halves(high: str, low: str, total: Term) -> Sum:
    """Return an exact sum in two columns named `high` and `low`."""
    scale = total.type.scale
    upper = call("FLOOR", arithmetic("*", total, power_of_ten(scale - HALF_DIGITS)))
    rest = arithmetic("-", total, arithmetic("*", upper, power_of_ten(HALF_DIGITS - scale)))
    units = decimal(MAX_PRECISION, 0)
    lower = arithmetic("*", rest, power_of_ten(scale))

    def finish(columns: Columns) -> Term:
        above = arithmetic("*", columns[high], power_of_ten(HALF_DIGITS - scale))
        below = arithmetic("*", columns[low], power_of_ten(-scale))
        return cast(arithmetic("+", above, below), total.type)

    partials = (
        PartialColumn(high, cast(upper, units), merged_by("SUM", high)),
        PartialColumn(low, cast(lower, units), merged_by("SUM", low)),
    )
    return Sum(total, partials, finish)


def squares_of(argument: AggregateArgument) -> Sum:
    """Return the exact sum of the squares of integers, or of decimals with up to 18 digits."""
    kind, column = as_decimal(argument.value.type), argument.column
    value = cast(argument.value, kind)
    square = cast(arithmetic("*", value, value), decimal(2 * kind.precision + COUNT_DIGITS, 2 * kind.scale))
    total = aggregate_call("SUM", square, nullable=False)
    return in_halves(f"_squares_high{column}", f"_squares_low{column}", total)


def mean(total: Term, count: Term, kind: DataType, *, nullable: bool) -> Term:
    """Return total / count in the type of the aggregate; with `nullable`, NULL where the count is 0."""
    if isinstance(kind, DecimalType):
        quotient = rounded_quotient(total, count, kind)
        return null_at_zero(quotient, count) if nullable else quotient
    quotient = double_quotient(total, count)
    return null_safe(null_at_zero(quotient, count)) if nullable else quotient


def where_more(count: Term, least: int, value: Term) -> Term:
    """Return the value where `count` is greater than `least`, else NULL."""
    condition = comparison(">", count, number(least))
    return Term(f"CASE WHEN {condition.text} THEN {value.text} END", value.type, nullable=True)


def exact_deviation(count: Term, total: Term, squares: Term, *, sample: bool, nullable: bool) -> Term:
    """Return a standard deviation that is exact up to its last quotient.

    It is `sqrt((n * sum(x^2) - sum(x)^2) / (n * (n - 1)))` for a sample, with `n^2` as divisor for a
    population.
    """
    exact = cast(total, as_decimal(total.type))
    spread = arithmetic("-", arithmetic("*", count, squares), arithmetic("*", exact, exact))
    freedom = arithmetic("-", count, number(1)) if sample else count
    root = call("SQRT", arithmetic("/", cast(spread, DOUBLE), arithmetic("*", count, freedom)))
    return where_more(count, 1 if sample else 0, root) if sample or nullable else root


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of floats, whose sums of squares would not be exact."""

    argument: AggregateArgument

    @property
    def count(self) -> PartialColumn:
        """The number of values."""
        return count_of(self.argument)

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the three columns."""
        column = self.argument.column
        return self.count.name, f"_mean{column}", f"_spread{column}"

    @property
    def _deviation(self) -> Term:
        """ksqlDB's standard deviation of a sample; its STDDEV_SAMP is the variance."""
        return aggregate_call("STDDEV_SAMPLE", cast(self.argument.value, DOUBLE), nullable=False)

    def partials(self) -> tuple[PartialColumn, ...]:
        """Return the three columns."""
        _, mean_name, spread_name = self.names
        total = aggregate_call("SUM", cast(self.argument.value, DOUBLE), nullable=False)
        middle = mean(total, self.count.collect, FloatType(), nullable=True)
        return (
            self.count,
            PartialColumn(mean_name, middle, self._merged_mean),
            PartialColumn(spread_name, self._spread(), self._merged_spread),
        )

    def _spread(self) -> Term:
        """Return the sum of squared deviations; ksqlDB's variance is only used for two or more events."""
        variance = arithmetic("*", self._deviation, self._deviation)
        squares = arithmetic("*", variance, arithmetic("-", self.count.collect, number(1)))
        text = f"CASE WHEN {self.count.collect.text} > 1 THEN {squares.text} ELSE 0E0 END"
        return Term(text, DOUBLE, nullable=False)

    def _merged_mean(self, columns: Columns) -> Term:
        count, middle, _ = (columns[name] for name in self.names)
        events = aggregate_call("SUM", count, nullable=False)
        total = aggregate_call("SUM", arithmetic("*", middle, count), nullable=False)
        return mean(total, events, FloatType(), nullable=True)

    def _merged_spread(self, columns: Columns) -> Term:
        """Merge by the formula of Chan, Golub and LeVeque, written with sums.

        The spread of the whole is the sum of the spreads of the parts, and what the distances of their means
        add to it.
        """
        count, middle, spread = (columns[name] for name in self.names)
        weighted = arithmetic("*", middle, count)
        total = aggregate_call("SUM", weighted, nullable=False)
        squares = aggregate_call("SUM", arithmetic("*", weighted, middle), nullable=False)
        events = aggregate_call("SUM", count, nullable=False)
        between = arithmetic("-", squares, arithmetic("/", arithmetic("*", total, total), events))
        return where_more(events, 0, arithmetic("+", aggregate_call("SUM", spread, nullable=False), between))

    def value(self, *, sample: bool) -> Term:
        """Return the standard deviation straight from events."""
        count = self.count.collect
        if sample:
            return where_more(count, 1, self._deviation)
        share = arithmetic("/", cast(arithmetic("-", count, number(1)), DOUBLE), count)
        several = arithmetic("*", self._deviation, call("SQRT", share)).text
        text = f"CASE WHEN {count.text} > 1 THEN {several} WHEN {count.text} = 1 THEN 0E0 END"
        return Term(text, DOUBLE, nullable=True)

    def finish(self, columns: Columns, *, sample: bool) -> Term:
        """Return the standard deviation from the columns."""
        count, _, spread = (columns[name] for name in self.names)
        freedom = arithmetic("-", count, number(1)) if sample else count
        return where_more(count, 1 if sample else 0, call("SQRT", arithmetic("/", spread, freedom)))
