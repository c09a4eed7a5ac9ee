"""Expressions in the language of ksqlDB: what a reader of a script sees, and what is refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from kandle import Precision
from kandle import functions as f
from kandle.errors import PlanError, QueryError
from kandle.ksql.expressions import condition, term
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import (
    BIGINT,
    TIMESTAMP,
    VARCHAR,
    array,
    column_type,
    decimal,
    mapping,
    quoted,
    source_name,
    struct,
    text_literal,
)
from kandle.model.types import FLOAT, INTEGER, STRING, STRING_MAP, UUID, DecimalType
from kandle.query.nodes import Call, Constant, WindowBound
from tests.ksql.rows import ROW, node


def written(expression: Any) -> str:
    return term(node(expression)).text


def where(expression: Any) -> str:
    return condition(node(expression))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (ROW.n > 0, "`n` > 0"),
        (ROW.m > 0, "`m` > 0"),
        (f.not_(ROW.m > 0), "`m` <= 0"),
        (f.not_(ROW.n > 0), "NOT (`n` > 0)"),
        (ROW.j + 1 > 0, "(`j` IS NOT NULL) AND (`j` + 1 > 0)"),
        (f.not_(ROW.j + 1 > 0), "(`j` IS NOT NULL) AND (`j` + 1 <= 0)"),
        ((ROW.n > 0) & f.not_(f.starts_with(ROW.s, "TEST")), "(`n` > 0) AND (NOT (`s` LIKE 'TEST%'))"),
        (f.not_(f.starts_with(ROW.u, "T")), "(`u` IS NOT NULL) AND (NOT (`u` LIKE 'T%'))"),
        (f.not_((ROW.m > 0) & (ROW.j > 0)), "(`m` <= 0) OR (`j` <= 0)"),
        (f.not_((ROW.m > 0) | (ROW.j > 0)), "(`m` <= 0) AND (`j` <= 0)"),
        (ROW.b, "`b`"),
        (ROW.c, "`c` = TRUE"),
        (f.not_(ROW.c), "`c` = FALSE"),
        (f.not_(f.is_in(ROW.j, [1, 2])), "(`j` IS NOT NULL) AND (`j` NOT IN (1, 2))"),
        (f.not_(f.between(ROW.j, 1, 2)), "(`j` < 1) OR (`j` > 2)"),
        (f.is_null(ROW.n / ROW.m), "(`m` IS NULL) OR (`m` = 0)"),
        (f.if_(ROW.b, ROW.c, True), "CASE WHEN `b` THEN `c` = TRUE ELSE TRUE END"),
    ],
)
def test_a_condition_is_true_only_where_it_is_known_to_be(expression: Any, expected: str) -> None:
    assert where(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f.coalesce(ROW.j + 1, 0), "COALESCE(CASE WHEN `j` IS NOT NULL THEN `j` + 1 END, CAST(0 AS BIGINT))"),
        (ROW.j + 1, "`j` + 1"),
        (f.concat(ROW.s, ROW.u), "CASE WHEN `u` IS NOT NULL THEN `s` + `u` END"),
        (ROW.j > 0, "CASE WHEN `j` > 0 THEN TRUE WHEN `j` <= 0 THEN FALSE END"),
        (f.greatest(ROW.j, ROW.i), "CASE WHEN `j` IS NOT NULL THEN GREATEST(`j`, `i`) END"),
    ],
)
def test_what_may_be_null_is_not_computed_with_where_it_is(expression: Any, expected: str) -> None:
    assert written(expression) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "CAST(1 AS BIGINT)"),
        (-3_000_000_000, "-3000000000"),
        (2**63 - 1, "CAST('9223372036854775807' AS BIGINT)"),
        (-(2**63), "CAST('-9223372036854775808' AS BIGINT)"),
        (2.5, "2.5E0"),
        (-1e-7, "-1E-07"),
        (1e300, "1E+300"),
        (Decimal("1.50"), "1.50"),
        (Decimal("0.01"), "CAST(0.01 AS DECIMAL(2,2))"),
        (Decimal("-12345678901234567890.5"), "CAST('-12345678901234567890.5' AS DECIMAL(21,1))"),
        ("it's", "'it''s'"),
        (True, "TRUE"),
        (b"\x00\xff", "TO_BYTES('AP8=', 'base64')"),
        (date(2026, 3, 8), "PARSE_DATE('2026-03-08', 'yyyy-MM-dd')"),
        (datetime(2026, 3, 8, 6, 30, 15, 250_000, UTC), "CAST('2026-03-08T06:30:15.250' AS TIMESTAMP)"),
    ],
)
def test_a_constant_keeps_its_value_and_type(value: Any, expected: str) -> None:
    assert written(value) == expected


def test_null_has_the_type_of_its_field() -> None:
    assert term(Constant(None, DecimalType(18, 6))).text == "CAST(NULL AS DECIMAL(18,6))"
    assert written(f.if_(ROW.b, None, ROW.n)) == "CASE WHEN `b` THEN CAST(NULL AS DECIMAL(18,6)) ELSE `n` END"


def test_an_instant_is_compared_with_its_text() -> None:
    assert where(ROW.time >= datetime(2026, 3, 8, tzinfo=UTC)) == "`time` >= '2026-03-08T00:00:00'"
    assert where(ROW.day == date(2026, 3, 8)) == "`day` = '2026-03-08'"
    assert where(ROW.w == b"\x01") == "FROM_BYTES(`w`, 'base64') = 'AQ=='"


def test_operands_keep_their_parentheses() -> None:
    assert written(ROW.i - (ROW.i - ROW.i)) == "`i` - (`i` - `i`)"
    assert written((ROW.i + ROW.i) * -ROW.i) == "(`i` + `i`) * (-`i`)"
    assert written(ROW.i * ROW.i + ROW.i) == "`i` * `i` + `i`"
    assert written(ROW.i + -1) == "`i` + (-1)"


def test_a_quotient_of_decimals_is_rounded_to_the_digits_of_its_field() -> None:
    quotient = node(ROW.n / ROW.i)
    assert isinstance(quotient, Call)
    in_field = Call("divide", quotient.arguments, DecimalType(18, 2), nullable=True)
    assert term(in_field).text == "CAST((`n` - `n` % (`i` * 0.001)) / `i` AS DECIMAL(18,2))"


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (f.cast(ROW.d, str), r"f\.cast\(Row\.d, str\): ksqlDB writes floats .* cast to Precision"),
        (f.format_timestamp(ROW.time, "%A"), r"%A in the pattern '%A' has no counterpart in ksqlDB .* use one of %Y"),
        (f.format_timestamp(ROW.time, "100%"), r"a % without a known letter"),
        (ROW.d > math.inf, "no literal for inf; use a finite number"),
        (ROW.time > datetime(2026, 3, 8, 0, 0, 0, 1, UTC), "has microseconds; round it to milliseconds"),
        (f.greatest(ROW.w, b"a"), "compares bytes as signed numbers"),
        (f.replace(ROW.s, "", "b"), "cannot replace an empty text"),
        (f.index_of(ROW.s, ""), "an empty text has no position"),
    ],
)
def test_what_ksqldb_cannot_do_is_refused_with_the_reason(expression: Any, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        written(expression)


def test_the_message_names_the_smallest_expression() -> None:
    with pytest.raises(QueryError, match=r"^f\.format_timestamp\(Row\.time, '%A'\): "):
        written(f.concat(ROW.s, f.format_timestamp(ROW.time, "%A")))


def test_an_aggregate_outside_of_buckets_is_refused() -> None:
    with pytest.raises(PlanError, match=r"f\.max\(Row\.n\) is an aggregate outside of a bucket"):
        where(f.max(ROW.n) > 0)


def test_whole_subtrees_may_be_columns_of_the_scope() -> None:
    product = node(ROW.n * ROW.i)
    scope = TermScope({product: Term("`t`.`turnover`", column_type(product.type), nullable=True)})
    assert term(node(f.coalesce(ROW.n * ROW.i, Decimal("0.000000"))), scope).text == (
        "COALESCE(`t`.`turnover`, CAST(0.000000 AS DECIMAL(37,6)))"
    )
    assert condition(node(f.not_(ROW.n * ROW.i > 0)), scope) == "`t`.`turnover` <= 0"


def test_window_bounds_are_instants() -> None:
    assert term(WindowBound("start")) == Term("FROM_UNIXTIME(WINDOWSTART)", TIMESTAMP, nullable=False)
    assert term(WindowBound("end")).text == "FROM_UNIXTIME(WINDOWEND)"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (column_type(INTEGER), "BIGINT"),
        (column_type(FLOAT), "DOUBLE"),
        (column_type(UUID), "VARCHAR"),
        (column_type(STRING), "VARCHAR"),
        (column_type(STRING_MAP), "MAP<VARCHAR, VARCHAR>"),
        (column_type(DecimalType(18, 6)), "DECIMAL(18,6)"),
        (array(struct({"a b": TIMESTAMP})), "ARRAY<STRUCT<`a b` TIMESTAMP>>"),
        (mapping(VARCHAR, array(decimal(4, 1))), "MAP<VARCHAR, ARRAY<DECIMAL(4,1)>>"),
    ],
)
def test_types_read_as_in_a_statement(kind: object, expected: str) -> None:
    assert str(kind) == expected


def test_names_are_quoted_and_some_are_never_possible() -> None:
    assert quoted("SIZE") == "`SIZE`"
    assert quoted("a`b") == "`a``b`"
    assert source_name("bars_1m-live") == "`bars_1m-live`"
    assert text_literal("it's") == "'it''s'"
    with pytest.raises(QueryError, match=r"'rowtime'.*rename the field"):
        quoted("rowtime")
    with pytest.raises(QueryError, match=r"letters, digits, _ and -"):
        source_name("bars.1m")


def test_ints_of_32_bits_are_widened_before_they_meet() -> None:
    assert written(f.length(ROW.s) * f.length(ROW.s)) == "CAST(LEN(`s`) AS BIGINT) * LEN(`s`)"
    assert term(node(f.length(ROW.s) + ROW.i)).type == BIGINT


def test_a_cast_that_only_widens_is_written_once() -> None:
    assert written(f.cast(f.cast(ROW.i, Precision(20, 0)), Precision(30, 2))) == "CAST(`i` AS DECIMAL(30,2))"
