"""Scalar functions and operators in columns: values, NULL logic, exact decimals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Annotated, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kandle
from kandle import Precision
from kandle import functions as f
from kandle.engine.expressions import compile_expression, evaluate
from kandle.engine.scalars import SCALARS as BUILDERS
from kandle.errors import DataError
from kandle.model.columns import logical_decimal
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.model.types import DecimalType
from kandle.query.recording import RecordingRow, record_expression
from kandle.query.signatures import SCALARS

FULL = datetime(2026, 3, 8, 6, 30, 15, 250000, tzinfo=UTC)


@kandle.stream("rows")
@dataclass(frozen=True)
class Row:
    i: int | None = 7
    j: int | None = -2
    d: float | None = 2.5
    n: Annotated[Decimal | None, Precision(18, 6)] = Decimal("10.75")
    m: Annotated[Decimal | None, Precision(10, 2)] = Decimal("3.25")
    wide: Annotated[Decimal | None, Precision(38, 10)] = Decimal("12345678901234567890.0123456789")
    s: str | None = "Hello"
    u: str | None = "a,b"
    b: bool | None = True
    c: bool | None = False
    t: datetime | None = FULL
    e: date | None = date(2026, 3, 8)


EMPTY = Row(*[None] * 12)


def values(function: Callable[[Any], Any], *rows: Row) -> list[Any]:
    """What an expression gives for rows, decimals as decimals."""
    node = record_expression("test", function, RecordingRow(entity_model(Row)))
    frame = mapping(entity_model(Row)).to_frame(rows)
    column = evaluate(frame, [compile_expression(node).alias("x")]).to_series()
    if isinstance(node.type, DecimalType):
        column = logical_decimal(column, node.type)
    return column.to_list()


def value(function: Callable[[Any], Any], row: Row | None = None) -> Any:
    return values(function, row if row is not None else Row())[0]


def test_the_engine_computes_every_function_of_the_language() -> None:
    assert set(BUILDERS) == set(SCALARS)


CASES: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("int +", lambda t: t.i + 3, 10),
    ("3 - int", lambda t: 3 - t.i, -4),
    ("int * int", lambda t: t.i * t.j, -14),
    ("int / int is a float", lambda t: t.i / t.j, -3.5),
    ("// rounds down", lambda t: t.i // t.j, -4),
    ("% has the sign of the divisor", lambda t: t.i % t.j, -1),
    ("decimal + int", lambda t: t.n + t.i, Decimal("17.750000")),
    ("decimal + decimal", lambda t: t.n + t.m, Decimal("14.000000")),
    ("decimal * int", lambda t: t.n * t.i, Decimal("75.250000")),
    ("decimal * decimal", lambda t: t.n * t.m, Decimal("34.93750000")),
    ("decimal / int", lambda t: t.n / t.i, Decimal("1.535714285714")),
    ("decimal / decimal", lambda t: t.m / t.n, Decimal("0.302325581395")),
    ("decimal - constant", lambda t: t.n - Decimal("0.75"), Decimal("10.000000")),
    ("negate", lambda t: -t.n, Decimal("-10.750000")),
    ("float mix", lambda t: t.d * t.i, 17.5),
    ("compare scales", lambda t: t.n > t.m, True),
    ("compare with a constant", lambda t: t.m == Decimal("3.250"), True),
    ("compare wide", lambda t: t.wide > t.n, True),
    ("text order", lambda t: t.s < "Help", True),
    ("time order", lambda t: t.t >= FULL, True),
    ("date order", lambda t: t.e != date(2026, 3, 9), True),
    ("and", lambda t: (t.i > 0) & t.c, False),
    ("or", lambda t: (t.i < 0) | t.b, True),
    ("not", lambda t: f.not_(t.c), True),
    ("is_null", lambda t: f.is_null(t.s), False),
    ("is_not_null", lambda t: f.is_not_null(t.s), True),
    ("coalesce", lambda t: f.coalesce(t.n, Decimal(0)), Decimal("10.750000")),
    ("null_if different", lambda t: f.null_if(t.i, 8), 7),
    ("null_if equal", lambda t: f.null_if(t.i, 7), None),
    ("greatest of scales", lambda t: f.greatest(t.n, t.m), Decimal("10.750000")),
    ("least with int", lambda t: f.least(t.n, t.i), Decimal("7.000000")),
    ("is_in", lambda t: f.is_in(t.s, ["x", "Hello"]), True),
    ("is_in decimals", lambda t: f.is_in(t.m, [Decimal("3.2"), Decimal("3.25000")]), True),
    ("between", lambda t: f.between(t.i, 7, 9), True),
    ("case", lambda t: f.case((t.i < 0, "neg"), (t.i == 0, "zero"), otherwise="pos"), "pos"),
    ("case of decimals and ints", lambda t: f.case((t.i > 0, t.n), otherwise=0), Decimal("10.750000")),
    ("if_", lambda t: f.if_(t.c, t.i, t.j), -2),
    ("upper", lambda t: f.upper(t.s), "HELLO"),
    ("lower", lambda t: f.lower(t.s), "hello"),
    ("trim", lambda t: f.trim(f.concat(" ", t.s, "  ")), "Hello"),
    ("length", lambda t: f.length(t.s), 5),
    ("substring from 1", lambda t: f.substring(t.s, 2, 3), "ell"),
    ("substring to the end", lambda t: f.substring(t.s, 3), "llo"),
    ("concat", lambda t: f.concat(t.s, "-", t.u), "Hello-a,b"),
    ("+ of texts", lambda t: t.s + "!", "Hello!"),
    ("replace", lambda t: f.replace(t.s, "l", "L"), "HeLLo"),
    ("starts_with", lambda t: f.starts_with(t.s, "He"), True),
    ("ends_with", lambda t: f.ends_with(t.s, "He"), False),
    ("contains is literal", lambda t: f.contains(t.u, "."), False),
    ("index_of", lambda t: f.index_of(t.s, "l"), 3),
    ("index_of absent", lambda t: f.index_of(t.s, "z"), 0),
    ("left_pad", lambda t: f.left_pad(t.s, 7, "*"), "**Hello"),
    ("right_pad cuts", lambda t: f.right_pad(t.s, 3), "Hel"),
    ("abs", lambda t: abs(t.j), 2),
    ("round up half", lambda t: round(t.n, 1), Decimal("10.8")),
    ("round of a negative half", lambda t: round(-t.n, 1), Decimal("-10.8")),
    ("round of a float", lambda t: f.round(t.d * 1.01, 1), 2.5),
    ("floor", lambda t: f.floor(-t.n), Decimal("-11")),
    ("ceil", lambda t: f.ceil(t.n), Decimal("11")),
    ("floor of a float", lambda t: f.floor(t.d), 2.0),
    ("sign", lambda t: f.sign(t.j), -1),
    ("sqrt", lambda t: f.sqrt(t.d), math.sqrt(2.5)),
    ("sqrt below 0", lambda t: f.sqrt(t.j), None),
    ("ln of 0", lambda t: f.ln(t.i - 7), None),
    ("log10", lambda t: f.log10(t.i + 93), 2.0),
    ("exp", lambda t: f.exp(t.i - 7), 1.0),
    ("power", lambda t: f.power(t.i, 2), 49.0),
    ("year", lambda t: f.year(t.t), 2026),
    ("month", lambda t: f.month(t.t), 3),
    ("day in a zone", lambda t: f.day(t.t, "America/Los_Angeles"), 7),
    ("hour in a zone", lambda t: f.hour(t.t, "Asia/Kolkata"), 12),
    ("minute", lambda t: f.minute(t.t), 30),
    ("second", lambda t: f.second(t.t), 15),
    ("day_of_week of a Sunday", lambda t: f.day_of_week(t.t), 7),
    ("to_date", lambda t: f.to_date(t.t), date(2026, 3, 8)),
    ("epoch_millis", lambda t: f.epoch_millis(t.t), 1772951415250),
    ("from_epoch_millis", lambda t: f.from_epoch_millis(f.epoch_millis(t.t)), FULL),
    ("milliseconds_between", lambda t: f.milliseconds_between(t.t, f.add_milliseconds(t.t, 1500)), 1500),
    ("format_timestamp", lambda t: f.format_timestamp(t.t, "%Y/%m/%d"), "2026/03/08"),
    ("cast int to text", lambda t: f.cast(t.i, str), "7"),
    ("cast decimal to text", lambda t: f.cast(t.n, str), "10.750000"),
    ("cast decimal to float", lambda t: f.cast(t.n, float), 10.75),
    ("cast int to decimal", lambda t: f.cast(t.i, Precision(5, 2)), Decimal("7.00")),
    ("cast float to decimal", lambda t: f.cast(t.d, Precision(5, 2)), Decimal("2.50")),
    ("cast bool to text", lambda t: f.cast(t.b, str), "true"),
]


@pytest.mark.parametrize(("function", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_value(function: Callable[[Any], Any], expected: Any) -> None:
    computed = value(function)
    assert computed == expected
    assert type(computed) is type(expected)


@pytest.mark.parametrize(("name", "function"), [case[:2] for case in CASES], ids=[case[0] for case in CASES])
def test_null_in_gives_null_out_unless_the_function_is_about_null(name: str, function: Callable[[Any], Any]) -> None:
    known = {
        "is_null": True,
        "is_not_null": False,
        "coalesce": Decimal("0.000000"),
        "case": "pos",
        "case of decimals and ints": Decimal("0.000000"),
    }
    assert value(function, EMPTY) == known.get(name)


TRUTH = [True, False, None]


@pytest.mark.parametrize("left", TRUTH)
@pytest.mark.parametrize("right", TRUTH)
def test_logic_is_three_valued(left: bool | None, right: bool | None) -> None:
    row = Row(b=left, c=right)
    pair = {left, right}
    assert value(lambda t: t.b & t.c, row) is (False if False in pair else None if None in pair else True)
    assert value(lambda t: t.b | t.c, row) is (True if True in pair else None if None in pair else False)
    assert value(lambda t: f.not_(t.b), row) is (None if left is None else not left)


def test_division_by_zero_is_null() -> None:
    zero = Row(i=0, j=0, m=Decimal("0.00"), d=0.0)
    for function in (lambda t: t.n / t.m, lambda t: t.i / t.j, lambda t: t.i // t.j, lambda t: t.i % t.j, lambda t: t.d / t.d):
        assert value(function, zero) is None


amounts = st.decimals(-(10**11), 10**11, places=6, allow_nan=False, allow_infinity=False)
cents = st.decimals(-(10**7), 10**7, places=2, allow_nan=False, allow_infinity=False)


@given(amounts, cents, st.integers(-(2**62), 2**62))
def test_decimal_arithmetic_is_exact(n: Decimal, m: Decimal, i: int) -> None:
    row = Row(n=n, m=m, i=i)
    with localcontext() as context:
        context.prec = 100
        assert value(lambda t: t.n + t.m, row) == n + m
        assert value(lambda t: t.n - t.i, row) == n - i
        assert value(lambda t: t.n * t.m, row) == n * m
        assert value(lambda t: t.n * t.i, row) == n * i
        assert value(lambda t: t.n < t.m, row) is (n < m)
        if m:
            exact = (n / m).quantize(Decimal(10) ** -12, rounding=ROUND_HALF_UP)
            assert value(lambda t: t.n / t.m, row) == exact


@given(st.decimals(-(10**27), 10**27, places=10, allow_nan=False, allow_infinity=False), cents)
def test_what_needs_more_than_38_digits_is_exact_or_an_error(wide: Decimal, m: Decimal) -> None:
    with localcontext() as context:
        context.prec = 100
        product = wide * m
        row = Row(wide=wide, m=m)
        if abs(product.scaleb(12)) < 10**38:
            assert value(lambda t: t.wide * t.m, row) == product
        else:
            with pytest.raises(DataError, match="more than 38 digits"):
                value(lambda t: t.wide * t.m, row)


def test_an_int_that_overflows_is_an_error_and_not_another_number() -> None:
    for function in (lambda t: t.i + t.i, lambda t: t.i * t.i, lambda t: t.i - (-t.i)):
        with pytest.raises(DataError, match="does not fit"):
            value(function, Row(i=2**62 + 1))


def test_a_cast_that_does_not_fit_names_expression_and_type() -> None:
    with pytest.raises(DataError, match=r"f\.cast\(Row\.i, Decimal\(5, 2\)\).* does not fit Decimal\(5, 2\)"):
        value(lambda t: f.cast(t.i, Precision(5, 2)), Row(i=1000))
    with pytest.raises(DataError, match="does not fit"):
        value(lambda t: f.cast(t.s, int))


def test_doubles_of_decimals_are_the_nearest_ones() -> None:
    texts = [f"{number / 1000:.6f}" for number in range(-500, 500)]
    rows = [Row(n=Decimal(text)) for text in texts]
    assert values(lambda t: f.cast(t.n, float), *rows) == [float(text) for text in texts]


def test_constants_of_more_than_28_digits_are_taken_as_they_are() -> None:
    # Python's own decimal context rounds to 28 digits.
    wide = Decimal("12345678901234567890.0123456789")
    assert values(lambda t: t.wide == wide, Row(wide=wide), Row(wide=Decimal("12345678901234567890.01234568"))) == [True, False]
    assert values(lambda t: f.is_in(t.wide, [wide, Decimal(1)]), Row(wide=wide)) == [True]
    assert values(lambda t: t.wide - wide, Row(wide=wide)) == [Decimal(0)]


def test_columns_keep_their_length_when_all_arguments_are_constants() -> None:
    computed = values(lambda t: f.coalesce(t.s, "none"), Row(), EMPTY, Row(s=""))
    assert computed == ["Hello", "none", ""]
    assert isinstance(pl.Series(computed), pl.Series)
