"""Arbitrary expressions over arbitrary rows have the same value in ksqlDB as in kandle's engine, NULL included.

`tests.ksqldb.simulator` simulates ksqlDB; it is checked against recordings of a real server.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from kandle import Precision
from kandle import functions as f
from kandle.errors import DataError, QueryError
from kandle.ksql.expressions import condition, term
from kandle.query.nodes import AnyNode
from kandle.query.recording import Recorded
from tests.ksql.rows import COLUMNS, NOTHING, ROW, Row, engine_values, node, server_row, server_type
from tests.ksqldb.simulator.expressing import evaluate, type_of

Values = st.SearchStrategy[Any]
TEXT = st.text("aAb %_'|", max_size=4)
INTEGERS = st.integers(-50, 50)
FLOATS = st.integers(-40, 40).map(lambda eighths: eighths / 8)
PRICES = st.decimals(-1000, 1000, places=6, allow_nan=False)
AMOUNTS = st.decimals(-100, 100, places=2, allow_nan=False)
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)
DATES = st.dates(date(1900, 1, 1), date(2100, 1, 1))


def or_none(values: Values) -> Values:
    return st.none() | values


ROWS = st.builds(
    Row,
    time=INSTANTS,
    i=INTEGERS,
    j=or_none(INTEGERS),
    d=FLOATS,
    e=or_none(FLOATS),
    n=PRICES,
    m=or_none(AMOUNTS),
    wide=or_none(PRICES),
    s=TEXT,
    u=or_none(TEXT),
    b=st.booleans(),
    c=or_none(st.booleans()),
    t=or_none(INSTANTS),
    day=or_none(DATES),
    w=or_none(st.binary(max_size=2)),
    g=or_none(st.uuids()),
)

COMPARISONS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
ZONES = st.sampled_from([None, "America/New_York", "Asia/Kolkata"])


CONSTANTS: dict[str, Values] = {
    "int": INTEGERS,
    "float": FLOATS,
    "exact": AMOUNTS,
    "text": TEXT,
    "bool": st.booleans(),
    "date": DATES,
    "instant": INSTANTS,
}
LEAVES = {
    "int": "ij",
    "float": "de",
    "exact": ("n", "m", "wide"),
    "text": "su",
    "bool": "bc",
    "date": ("day",),
    "instant": ("time", "t"),
}

Rule = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function, and for each argument the type of a tree or a strategy for a constant."""


def rules(kind: str, functions: tuple[Callable[..., Any], ...], *arguments: Any) -> list[Rule]:
    return [(function, arguments or (kind,)) for function in functions]


def cast(kind: Any) -> Callable[[Any], Any]:
    return lambda value: f.cast(value, kind)


TREES: dict[str, list[Rule]] = {
    "int": [
        *rules("int", (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod), "int", "int"),
        *rules("int", (operator.neg, abs, f.sign, f.floor)),
        *rules("int", (f.year, f.month, f.day, f.hour, f.minute, f.second, f.day_of_week), "instant", ZONES),
        (f.sign, ("exact",)),
        (f.epoch_millis, ("instant",)),
        (f.milliseconds_between, ("instant", "instant")),
        (f.length, ("text",)),
        (f.index_of, ("text", st.just("a"))),
    ],
    "float": [
        *rules("float", (operator.add, operator.sub, operator.mul, operator.truediv), "float", "float"),
        *rules("float", (operator.neg, abs, f.floor, f.ceil, f.sqrt, f.ln, f.log10)),
        (operator.truediv, ("int", "int")),
        *rules("float", (operator.add, operator.mul, operator.truediv, f.coalesce, f.greatest), "int", "float"),
        (cast(float), ("exact",)),
    ],
    "exact": [
        *rules("exact", (operator.add, operator.sub, operator.mul, operator.truediv), "exact", "exact"),
        *rules("exact", (operator.add, operator.mul, operator.truediv, f.coalesce, f.greatest), "exact", "int"),
        *rules("exact", (operator.sub, operator.truediv), "int", "exact"),
        *rules("exact", (operator.neg, abs, f.floor, f.ceil)),
        (cast(Precision(20, 4)), ("int",)),
        (f.round, ("exact", st.integers(0, 3))),
    ],
    "text": [
        *rules("text", (f.upper, f.lower, f.trim)),
        *rules("text", (f.left_pad, f.right_pad), "text", st.integers(0, 6), st.just("*")),
        (f.concat, ("text", "text")),
        (f.substring, ("text", st.integers(1, 4), st.integers(0, 3) | st.none())),
        (f.replace, (st.sampled_from([ROW.s, ROW.u]), st.sampled_from(["a", "aA"]), "text")),
        *((cast(str), (kind,)) for kind in ("int", "exact", "bool")),
        (f.format_timestamp, ("instant", st.just("%Y/%m/%d it's %H:%M:%S.%3f"))),
    ],
    "bool": [
        *((compare, (kind, kind)) for kind in CONSTANTS for compare in COMPARISONS),
        *((compare, kinds) for kinds in (("exact", "int"), ("int", "float")) for compare in COMPARISONS),
        *rules("bool", (operator.and_, operator.or_), "bool", "bool"),
        (f.not_, ("bool",)),
        *rules("bool", (f.starts_with, f.ends_with, f.contains), "text", "text"),
        *((f.between, (kind,) * 3) for kind in ("int", "exact", "text", "instant")),
        *((test, (kind,)) for kind in CONSTANTS for test in (f.is_null, f.is_not_null)),
        (f.is_in, ("int", st.lists(INTEGERS, min_size=1, max_size=3))),
        (f.is_in, ("exact", st.lists(AMOUNTS | INTEGERS, min_size=1, max_size=3))),
        (f.is_in, ("text", st.lists(TEXT, min_size=1, max_size=3))),
    ],
    "date": [(f.to_date, ("instant", ZONES))],
    "instant": [(f.add_milliseconds, ("instant", "int")), (f.from_epoch_millis, ("int",))],
}
for type_name, type_rules in TREES.items():
    type_rules += [(f.coalesce, (type_name,) * 2), (f.null_if, (type_name,) * 2)]
    type_rules += [(f.if_, ("bool", type_name, type_name)), (f.if_, ("bool", type_name, st.none()))]
    if type_name != "bool":
        type_rules += [(f.greatest, (type_name,) * 2), (f.least, (type_name,) * 2)]


@st.composite
def trees(draw: st.DrawFn, kind: str, depth: int) -> Any:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        column = draw(st.sampled_from(LEAVES[kind]) | st.none())
        return Recorded(node(draw(CONSTANTS[kind]))) if column is None else getattr(ROW, column)
    function, arguments = draw(st.sampled_from(TREES[kind]))
    given_arguments = [draw(trees(argument, depth - 1) if isinstance(argument, str) else argument) for argument in arguments]
    try:
        return function(*given_arguments)
    except QueryError:
        # The query language refuses it, so the compiler never sees it.
        reject()


@st.composite
def expressions(draw: st.DrawFn) -> AnyNode:
    return node(draw(trees(draw(st.sampled_from(sorted(TREES))), draw(st.integers(1, 3)))))


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; floats may differ by the order of operations."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return type(one) is type(other) and one == other


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(expressions(), st.lists(ROWS, min_size=1, max_size=3))
def test_an_expression_means_the_same_in_ksqldb(expression: AnyNode, given_rows: list[Row]) -> None:
    rows = [*given_rows, replace(NOTHING, i=given_rows[0].i, n=given_rows[0].n, s=given_rows[0].s)]
    try:
        expected = engine_values(expression, rows)
    except DataError:
        assume(False)
    value = term(expression)
    assert type_of(value.text, COLUMNS) == server_type(value.type)
    actual = [evaluate(value.text, server_row(row), COLUMNS) for row in rows]
    assert all(map(same, actual, expected)), (value.text, actual, expected)
    if value.type.name == "BOOLEAN":
        where = condition(expression)
        assert [evaluate(where, server_row(row), COLUMNS) for row in rows] == [given is True for given in expected], where
