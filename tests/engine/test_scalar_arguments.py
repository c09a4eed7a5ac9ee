"""Arguments of functions: whether one is a column or a constant makes no difference, and NULL in any of them gives NULL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import polars as pl
import pytest

from kandle import functions as f
from kandle.engine.expressions import compile_expression, evaluate
from kandle.engine.scalars import SCALARS
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.query.nodes import AnyNode, Branch, Call, Case, Cast, Column, Constant
from kandle.query.recording import RecordingRow, record_expression
from tests.engine.test_scalars import CASES, Row

Function = Callable[[Any], Any]

IN_COLUMNS: list[tuple[str, Function]] = [
    ("substring", lambda t: f.substring(t.s, -t.j, t.i - 4)),
    ("substring to the end", lambda t: f.substring(t.s, -t.j)),
    ("replace", lambda t: f.replace(t.s, "l", t.u)),
    ("starts_with", lambda t: f.starts_with(t.s, t.u)),
    ("ends_with", lambda t: f.ends_with(t.s, t.u)),
    ("contains", lambda t: f.contains(t.s, t.u)),
    ("index_of", lambda t: f.index_of(t.s, f.substring(t.u, 1, 1))),
    ("less_equal", lambda t: t.n <= t.m),
    ("between", lambda t: f.between(t.n, t.j, t.m)),
    ("is_in", lambda t: f.is_in(t.n, [t.m, t.m])),
    ("power", lambda t: f.power(t.i, t.d)),
    ("add_milliseconds", lambda t: f.add_milliseconds(t.t, t.i)),
]
"""Where `CASES` have constants, or nothing."""

EVERY = [*[case[:2] for case in CASES], *IN_COLUMNS]
ABOUT_NULL = {"is_null", "is_not_null", "coalesce", "null_if", "and", "or", "between", "case", "if_"}
"""First words of the names of those that may know an answer without all of their arguments."""

STRICT = [(name, each) for name, each in EVERY if name.split()[0] not in ABOUT_NULL]


def with_constants(node: AnyNode, values: Mapping[str, Any]) -> AnyNode:
    """The expression with constants in the place of some columns."""

    def inner(node: AnyNode) -> AnyNode:
        return with_constants(node, values)

    if isinstance(node, Column) and node.name in values:
        return Constant(values[node.name], node.type)
    if isinstance(node, Call):
        return replace(node, arguments=tuple(map(inner, node.arguments)))
    if isinstance(node, Cast):
        return replace(node, argument=inner(node.argument))
    if isinstance(node, Case):
        branches = tuple(Branch(inner(branch.condition), inner(branch.value)) for branch in node.branches)
        return replace(node, branches=branches, otherwise=inner(node.otherwise))
    return node


def columns(node: Any) -> set[str]:
    """Names of all columns of an expression."""
    if isinstance(node, Column):
        return {node.name}
    return {name for child in node.children for name in columns(child)}


def node_of(function: Function) -> AnyNode:
    return record_expression("test", function, RecordingRow(entity_model(Row)))


def computed(node: AnyNode, *rows: Row) -> list[Any]:
    frame = mapping(entity_model(Row)).to_frame(rows)
    # Beside a column, as in a select: constants alone would have one row.
    return evaluate(frame, [compile_expression(node).alias("x"), pl.col("i")])["x"].to_list()


def functions(node: Any) -> set[str]:
    """Names of all functions of an expression."""
    own = {node.function} if isinstance(node, Call) else set()
    return own.union(*(functions(child) for child in node.children))


def mixtures(node: AnyNode) -> Iterator[tuple[str, ...]]:
    """Every choice of some of the columns, or of all."""
    names = sorted(columns(node))
    for count in range(1, len(names) + 1):
        yield from combinations(names, count)


def test_every_function_of_the_language_is_among_them() -> None:
    assert set().union(*(functions(node_of(function)) for _, function in EVERY)) == set(SCALARS)


@pytest.mark.parametrize("function", [each for _, each in EVERY], ids=[name for name, _ in EVERY])
def test_a_constant_gives_what_a_column_of_it_gives(function: Function) -> None:
    node = node_of(function)
    for rows in ([], [Row()] * 3):
        expected = computed(node, *rows)
        for names in mixtures(node):
            assert computed(with_constants(node, {name: getattr(Row(), name) for name in names}), *rows) == expected, names


@pytest.mark.parametrize("function", [each for _, each in STRICT], ids=[name for name, _ in STRICT])
def test_null_in_any_argument_gives_null(function: Function) -> None:
    node = node_of(function)
    for name in columns(node):
        assert computed(node, replace(Row(), **{name: None}), Row())[0] is None, name
        assert computed(with_constants(node, {name: None}), Row(), Row()) == [None, None], name
