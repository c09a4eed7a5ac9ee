"""Each function and aggregate by itself gives what it gives in the engine, over rows with NULLs and edge values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from kandle import functions as f
from kandle.errors import QueryError
from kandle.ksql.expressions import term
from kandle.query.nodes import AnyNode, aggregates, describe
from kandle.query.recording import Recorded
from tests.ksql import forms
from tests.ksql.rows import COLUMNS, NOTHING, ROW, Row, engine_values, node, server_row
from tests.ksql.test_aggregate_laws import check_value
from tests.ksql.test_expression_laws import same
from tests.ksqldb.simulator.expressing import evaluate

ROWS = [
    Row(),
    NOTHING,
    Row(
        i=-61,
        j=3,
        d=-7.25,
        e=2.0,
        n=Decimal("-1.250000"),
        m=Decimal("-3.00"),
        s="",
        u="",
        b=False,
        c=True,
        time=datetime(1969, 12, 28, 23, 59, 59, 1_000, UTC),
        t=datetime(2026, 3, 8, 6, 30, tzinfo=UTC),
        w=b"\xff",
    ),
    Row(i=0, j=0, d=0.0, e=0.0, n=Decimal("0.000005"), m=Decimal("0.00"), s=" TEST a ", u="a", k="TEST", w=b"\x7f"),
    Row(i=60, j=-3, d=2.5, n=Decimal("2.000001"), m=Decimal("7.00"), s="100%", u="TEST", c=None, day=date(1969, 12, 31)),
    Row(
        i=59,
        j=61,
        d=9.0,
        n=Decimal("-0.005000"),
        s="aKEYkey",
        u=None,
        c=None,
        t=None,
        w=b"",
        time=datetime(2026, 7, 5, 23, tzinfo=UTC),
    ),
]
EXPRESSIONS = [
    node(expression) for section in forms.SECTIONS.values() for _, expressions in section for expression in expressions
]
DIFFERENT = ("f.substring(Row.s, Row.i)", "f.cast(Row.s, int)")
"""A start below 1, and a text that is not a number: the page of functions lists them as differences."""
SCALARS = [expression for expression in EXPRESSIONS if not aggregates(expression) and describe(expression) not in DIFFERENT]
AGGREGATED = [expression for expression in EXPRESSIONS if aggregates(expression)]
DIVISIONS = (ROW.i // -7, ROW.i % -7, ROW.i // 7, ROW.i % 7, ROW.d // -2.0, ROW.d % -2.0, ROW.n / -3, 7 / ROW.m)
SIGNS = [node(division) for division in DIVISIONS]


@pytest.mark.parametrize("expression", [*SCALARS, *SIGNS], ids=describe)
def test_a_function_gives_what_our_engine_gives(expression: AnyNode) -> None:
    try:
        text = term(expression).text
    except QueryError:
        assert forms.form(expression).startswith("refused")
        return
    actual = [evaluate(text, server_row(row), COLUMNS) for row in ROWS]
    expected = engine_values(expression, ROWS)
    assert all(map(same, actual, expected)), (text, actual, expected)


@pytest.mark.parametrize("expression", AGGREGATED, ids=describe)
@pytest.mark.parametrize("count", [1, 2, len(ROWS)])
def test_an_aggregate_gives_what_our_engine_gives(expression: AnyNode, count: int) -> None:
    start = datetime(2026, 3, 8, 6, 30, tzinfo=UTC)
    # Pairs of events with the same time, the latest first.
    events = [
        replace(row, k="key", time=start + timedelta(seconds=5 - position // 2)) for position, row in enumerate(ROWS[-count:])
    ]
    check_value(Recorded(expression), events)


def test_a_text_that_is_a_number_becomes_one() -> None:
    assert evaluate(term(node(f.cast(f.replace(ROW.s, "Hello", "-12"), int))).text, server_row(Row()), COLUMNS) == -12
    assert evaluate(term(node(f.substring(ROW.s, ROW.i - 5, 3))).text, server_row(Row()), COLUMNS) == "ell"
