"""Sums and what is made of them: averages and deviations, exact as far as our engine has them exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kandle.ksql.constants import number, power_of_ten
from kandle.ksql.numbers import double_quotient, rounded_quotient, without_zero
from kandle.ksql.operators import arithmetic, call, cast, compared, digits
from kandle.ksql.partials import Argument, Columns, Partial, count_of, folded, merged_by
from kandle.ksql.terms import Term, plain
from kandle.ksql.types import DOUBLE, decimal
from kandle.model.types import MAX_PRECISION, NARROW_PRECISION, DataType, DecimalType, FloatType

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
