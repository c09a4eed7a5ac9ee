"""Exact arithmetic on scaled integers, against Python's own integers and decimals."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.engine import decimals
from kandle.errors import DataError
from kandle.model.types import DecimalType

WIDE = st.integers(-(10**38) + 1, 10**38 - 1)
ANY = st.one_of(st.integers(-(10**9), 10**9), WIDE)


def column(values: Sequence[int | None]) -> pl.Series:
    return pl.Series("value", values, dtype=pl.Int128)


def quotient(n: int, d: int, shift: int) -> int:
    with localcontext() as context:
        context.prec = 200
        exact = Decimal(n) * Decimal(10) ** shift / Decimal(d)
        return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


@given(st.integers(-(10**20), 10**20), st.integers(-(10**12), 10**12).filter(bool), st.integers(-6, 12))
def test_a_quotient_is_rounded_half_away_from_zero(n: int, d: int, shift: int) -> None:
    frame = pl.DataFrame({"n": column([n]), "d": column([d])})
    result = frame.select(decimals.divide(pl.col("n"), pl.col("d"), shift, "n / d")).item()
    assert result == quotient(n, d, shift)


def test_a_quotient_that_128_bits_cannot_hold_on_the_way_is_still_exact() -> None:
    n, d = 10**37 + 7, 3 * 10**30 + 1
    frame = pl.DataFrame({"n": column([n, None, 5]), "d": column([d, 1, 0])})
    result = frame.select(decimals.divide(pl.col("n"), pl.col("d"), 20, "n / d")).to_series()
    assert result.to_list() == [quotient(n, d, 20), None, None]


@pytest.mark.parametrize(
    ("n", "d", "expected"), [(5, 10, 1), (-5, 10, -1), (4, 10, 0), (15, 10, 2), (25, 10, 3), (-25, 10, -3), (1, 3, 0)]
)
def test_halves_go_away_from_zero(n: int, d: int, expected: int) -> None:
    assert decimals.half_up(n, d) == expected
    frame = pl.DataFrame({"n": column([n]), "d": column([d])})
    assert frame.select(decimals.divide(pl.col("n"), pl.col("d"), 0, "n / d")).item() == expected


@given(st.lists(WIDE, min_size=1, max_size=8))
def test_a_sum_kept_in_two_halves_is_exact_or_an_error(values: list[int]) -> None:
    frame = pl.DataFrame({"v": column(values)})
    halves = frame.select(
        (pl.col("v") // decimals.wide(decimals.HALVES)).sum().alias("h"),
        (pl.col("v") % decimals.wide(decimals.HALVES)).sum().alias("l"),
    )
    joined = decimals.join_halves(pl.col("h"), pl.col("l"), "sum(v)")
    if abs(sum(values)) < 10**38:
        assert halves.select(joined).item() == sum(values)
    else:
        with pytest.raises(DataError, match="more than 38 digits"):
            halves.select(joined)


@given(st.lists(st.tuples(ANY, ANY), min_size=1, max_size=5))
def test_the_slow_path_multiplies_exactly_or_says_that_it_cannot(pairs: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame({"a": column([a for a, _ in pairs]), "b": column([b for _, b in pairs])})
    product = decimals.compute_exactly([pl.col("a"), pl.col("b")], lambda a, b: a * b, "a * b")
    if all(abs(a * b) < 10**38 for a, b in pairs):
        assert frame.select(product).to_series().to_list() == [a * b for a, b in pairs]
    else:
        with pytest.raises(DataError, match="a \\* b has more than 38 digits"):
            frame.select(product)


def test_a_value_with_too_many_digits_is_named() -> None:
    frame = pl.DataFrame({"v": column([999, -1000])})
    checked = decimals.check_digits(pl.col("v"), DecimalType(3, 1), "Bar.v")
    with pytest.raises(DataError, match=r"Bar\.v = -100\.0 does not fit Decimal\(3, 1\)"):
        frame.select(checked)
