"""The documented forms are what the compiler writes, cover every function, and are accepted by ksqlDB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kandle.errors import QueryError
from kandle.ksql.aggregates import AGGREGATES as AGGREGATE_ROWS
from kandle.ksql.aggregates import query_scope
from kandle.ksql.expressions import SCALARS as SCALAR_ROWS
from kandle.ksql.expressions import term
from kandle.ksql.functions import function_table
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import BIGINT, column_type
from kandle.query.nodes import AnyNode, aggregates, describe
from kandle.query.query import Projection
from kandle.query.signatures import AGGREGATES, SCALARS
from tests.ksql import forms
from tests.ksql.bars import BASE
from tests.ksql.rows import COLUMNS, node, server_type
from tests.ksqldb.simulator import types
from tests.ksqldb.simulator.expressing import aggregate_type_of, type_of

PAGE = Path(__file__).parents[2] / "docs" / "ksql-functions.md"
EXPRESSIONS = [
    node(expression) for section in forms.SECTIONS.values() for _, expressions in section for expression in expressions
]


def test_the_documented_forms_are_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.endswith(forms.tables()), "python -m tests.ksql.forms prints what belongs at the end of the page"


def test_every_function_and_aggregate_has_a_row_and_is_documented() -> None:
    documented = {name for expression in EXPRESSIONS for name in forms.used(expression)}
    assert set(SCALAR_ROWS) == set(SCALARS)
    assert set(AGGREGATE_ROWS) == set(AGGREGATES)
    assert documented == {*SCALARS, *AGGREGATES, "Case", "Cast"}


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=describe)
def test_ksqldb_takes_the_text_and_gives_it_the_type_of_a_column(expression: AnyNode) -> None:
    query = replace(BASE, projection=(Projection("x", expression),))
    try:
        value = term(expression, query_scope(query, TermScope(sequence=Term("`arrival`", BIGINT, nullable=False))))
    except QueryError as error:
        assert forms.form(expression).startswith("refused: "), error
        return
    read = aggregate_type_of if aggregates(expression) else type_of
    assert read(value.text, COLUMNS | {"arrival": types.BIGINT}) == server_type(column_type(expression.type))
    assert value.type == column_type(expression.type)


def test_the_table_of_functions_is_whole() -> None:
    assert len(function_table()) == 148
