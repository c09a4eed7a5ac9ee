"""Aggregates over arbitrary events have the same values and partial columns in ksqlDB as in kandle's engine.

`tests.ksqldb.simulator` simulates ksqlDB; it is checked against recordings of a real server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle import Gaps
from kandle import functions as f
from kandle.engine.aggregates import OFFSET, TIME
from kandle.engine.compiled import CompiledQuery
from kandle.errors import QueryError
from kandle.ksql.aggregates import compile_aggregate, partial_columns, query_scope
from kandle.ksql.expressions import term
from kandle.ksql.partials import PartialColumn
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import BIGINT
from kandle.model.columns import logical_decimal
from kandle.model.mapping import mapping
from kandle.model.types import DecimalType
from kandle.query.nodes import Aggregate
from kandle.query.query import Projection, QueryModel
from tests.ksql.bars import BASE
from tests.ksql.rows import COLUMNS, MODEL, ROW, Row, node, server_row, server_type
from tests.ksql.test_expression_laws import AMOUNTS, FLOATS, INTEGERS, TEXT, or_none
from tests.ksqldb.simulator import types
from tests.ksqldb.simulator.expressing import aggregate, evaluate

PRICES = st.decimals(-1000, 1000, places=6, allow_nan=False)
START = datetime(2026, 3, 8, 6, 30, tzinfo=UTC)


ARRIVAL = Term("`arrival`", BIGINT, nullable=False)
EVENT_COLUMNS = COLUMNS | {"arrival": types.BIGINT}

AGGREGATES: dict[str, Any] = {
    **{f"{function.__name__} of {name}": function(getattr(ROW, name)) for function in (f.first, f.last) for name in "ijnmucdw"},
    **{f"{function.__name__} of {name}": function(getattr(ROW, name)) for function in (f.min, f.max) for name in "ijdenmsutw"},
    **{
        f"{function.__name__} of {name}": function(getattr(ROW, name))
        for function in (f.first_by_offset, f.last_by_offset)
        for name in "nm"
    },
    **{f"sum of {name}": f.sum(getattr(ROW, name)) for name in ("i", "j", "e", "n", "m", "wide")},
    **{f"avg of {name}": f.avg(getattr(ROW, name)) for name in ("i", "j", "d", "e", "n", "m", "wide")},
    **{
        f"{function.__name__} of {name}": function(getattr(ROW, name))
        for function in (f.stddev, f.stddev_population)
        for name in "ijdenm"
    },
    "stddev of wide": f.stddev(ROW.wide),
    "stddev_population of wide": f.stddev_population(ROW.wide),
    **{f"count_distinct of {name}": f.count_distinct(getattr(ROW, name)) for name in "ijnmsuc"},
    "count": f.count(),
    "count of i": f.count(ROW.i),
    "count of m": f.count(ROW.m),
    "count of a condition": f.count(f.null_if(ROW.j, 2)),
    "weighted_average of n by i": f.weighted_average(ROW.n, ROW.i),
    "weighted_average of m by j": f.weighted_average(ROW.m, ROW.j),
    "weighted_average of j by m": f.weighted_average(ROW.j, ROW.m),
    "weighted_average of e by d": f.weighted_average(ROW.e, ROW.d),
    "sum of a product": f.sum(ROW.n * ROW.j),
    "sum of a quotient": f.sum(ROW.n / ROW.m),
    "first of a case": f.first(f.if_(ROW.j > 0, ROW.j + 1, None)),
    "last of a condition": f.last(ROW.j > 0),
}

COMPOSITES: dict[str, Any] = {
    "range": f.max(ROW.m) - f.min(ROW.m),
    "wide range": f.max(ROW.n) - f.min(ROW.n) > 100,
    "high average": f.avg(ROW.m) > 1,
    "not a high average": f.not_(f.avg(ROW.m) > 1),
    "average or 0": f.coalesce(f.weighted_average(ROW.m, ROW.j), Decimal("0.00")),
    "label": f.case((f.sum(ROW.i) > 10, "much"), (f.avg(ROW.e) < 0, "falling"), otherwise="little"),
    "share": f.sum(ROW.j) / f.count(ROW.j),
    "share of decimals": f.sum(ROW.m) / f.count(ROW.m),
    "has none": f.is_null(f.avg(ROW.m)),
    "has few": f.is_null(f.stddev(ROW.m)) | (f.count() < 3),
    "rise": f.last(ROW.n) - f.first(ROW.n),
}
"""Expressions around aggregates, as in select and having."""

# Few different instants, so that ties are common.
EVENTS = st.builds(
    Row,
    time=st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds)),
    i=INTEGERS,
    j=or_none(INTEGERS),
    d=FLOATS,
    e=or_none(FLOATS),
    n=PRICES,
    m=or_none(AMOUNTS),
    wide=or_none(PRICES),
    s=TEXT,
    u=or_none(TEXT),
    c=or_none(st.booleans()),
    t=or_none(st.just(START)),
    w=or_none(st.binary(max_size=2)),
)


def query_of(expression: Any) -> QueryModel:
    return replace(BASE, projection=(Projection("x", node(expression)),))


def engine_rows(query: QueryModel, events: Sequence[Row]) -> tuple[CompiledQuery, pl.DataFrame]:
    """Return the query as the engine compiles it, and its state of one bucket."""
    compiled = CompiledQuery(query)
    frame = mapping(MODEL).to_frame(events).with_row_index(OFFSET).with_columns(pl.col(OFFSET).cast(pl.Int64))
    prepared = frame.select(compiled.time.alias(TIME), OFFSET, *compiled.keys, *compiled.arguments)
    state = compiled.collect(prepared.sort(TIME, maintain_order=True), ["_k0"])
    return compiled, state.with_columns(_start=0, _opened=0, _end=60_000_000)


def engine_value(query: QueryModel, events: Sequence[Row]) -> Any:
    compiled, state = engine_rows(query, events)
    column = compiled.bars(state)["x"]
    kind = query.projection[0].expression.type
    return (logical_decimal(column, kind) if isinstance(kind, DecimalType) else column)[0]


def server_events(events: Sequence[Row]) -> list[dict[str, Any]]:
    return [server_row(event) | {"arrival": offset} for offset, event in enumerate(events)]


def state_of(columns: Sequence[PartialColumn], events: Sequence[Row]) -> dict[str, Any]:
    return {column.name: aggregate(column.collect.text, server_events(events), EVENT_COLUMNS) for column in columns}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    return bool(one == other)


def in_engine_units(name: str, value: Any, expected: Any) -> Any:
    """Return a partial of ksqlDB in the engine's units: microseconds, and multiples of the last digit."""
    if value is None:
        return None
    if isinstance(value, list):
        return sorted(int(item.scaleb(-int(item.as_tuple().exponent))) if isinstance(item, Decimal) else item for item in value)
    if name.endswith("_time"):
        return value * 1000
    return int(value.scaleb(-int(value.as_tuple().exponent))) if isinstance(value, Decimal) else value


def check_value(expression: Any, events: Sequence[Row]) -> None:
    query = query_of(expression)
    scope = query_scope(query, TermScope(sequence=ARRIVAL))
    value = term(query.projection[0].expression, scope)
    expected = engine_value(query, events)
    actual = aggregate(value.text, server_events(events), EVENT_COLUMNS)
    assert same(actual, expected), (value.text, actual, expected)


def check_state(expression: Any, events: Sequence[Row]) -> None:
    query = query_of(expression)
    scope = query_scope(query, TermScope(sequence=ARRIVAL))
    columns = partial_columns(query, scope)
    _, state = engine_rows(query, events)
    actual = state_of(columns, events)
    for name in actual:
        expected = state[name][0]
        expected = sorted(expected.to_list()) if isinstance(expected, pl.Series) else expected
        of_nothing = name.startswith("_spread") and not expected
        if of_nothing or "_high" in name or "_low" in name:
            continue
        assert same(in_engine_units(name, actual[name], expected), expected), name
    for name in (name for name in actual if "_high" in name):
        low = name.replace("_high", "_low")
        halves = [int(actual[name]) * 10**18 + int(actual[low]), state[name][0] * 10**18 + state[low][0]]
        assert halves[0] == halves[1], name


def check_finish(expression: Any, events: Sequence[Row]) -> None:
    """Check that the value from the partial columns is the value straight from events."""
    query = query_of(expression)
    scope = query_scope(query, TermScope(sequence=ARRIVAL))
    aggregated = query.projection[0].expression
    assert isinstance(aggregated, Aggregate)
    compiled = compile_aggregate(aggregated, scope)
    names = {column.name: Term(f"`{column.name}`", column.collect.type, column.collect.nullable) for column in compiled.keep()}
    kinds = {name: server_type(column.type) for name, column in names.items()}
    value = evaluate(compiled.finish(names).text, state_of(compiled.keep(), events), kinds)
    direct = aggregate(compiled.value.text, server_events(events), EVENT_COLUMNS)
    assert same(value, direct), (compiled.finish(names).text, value, direct)


@settings(max_examples=50)
@given(st.sampled_from(sorted(COMPOSITES)), st.lists(EVENTS, min_size=1, max_size=6))
def test_an_expression_of_aggregates_means_the_same_in_ksqldb(name: str, events: list[Row]) -> None:
    check_value(COMPOSITES[name], events)


def merged_value(expression: Any, rows: Sequence[Sequence[Row]]) -> Any:
    """Return the value of a bucket made from the rows of finer ones."""
    query = query_of(expression)
    scope = query_scope(query, TermScope(sequence=ARRIVAL))
    aggregated = query.projection[0].expression
    assert isinstance(aggregated, Aggregate)
    compiled = compile_aggregate(aggregated, scope)
    columns = {column.name: Term(f"`{column.name}`", column.collect.type, column.collect.nullable) for column in compiled.keep()}
    kinds = {name: server_type(column.type) for name, column in columns.items()}
    states = [state_of(compiled.keep(), events) for events in rows]
    merged = {column.name: aggregate(column.merge(columns).text, states, kinds) for column in compiled.keep()}
    return evaluate(compiled.finish(columns).text, merged, kinds)


@settings(max_examples=50)
@given(
    st.sampled_from([name for name in sorted(AGGREGATES) if "distinct" not in name and "offset" not in name]),
    st.lists(EVENTS, min_size=1, max_size=4),
    st.lists(EVENTS, min_size=1, max_size=4),
)
def test_finer_rows_in_time_order_merge_to_the_value_of_all_events(name: str, early: list[Row], late: list[Row]) -> None:
    later = [replace(event, time=event.time + timedelta(seconds=10)) for event in late]
    merged = merged_value(AGGREGATES[name], [early, later])
    assert same(merged, engine_value(query_of(AGGREGATES[name]), [*early, *later]))


def test_sets_of_values_are_not_merged_inside_of_ksqldb() -> None:
    query = query_of(f.count_distinct(ROW.i))
    partial = partial_columns(query, query_scope(query, TermScope(sequence=ARRIVAL)))[-1]
    with pytest.raises(QueryError, match=r"f\.count_distinct\(Row\.i\): .* declare one timeframe, or set \[engine\] kind"):
        partial.merge({})


def test_what_comes_by_offset_merges_by_its_offset() -> None:
    query = query_of(f.last_by_offset(ROW.n))
    compiled = compile_aggregate(query.projection[0].expression, query_scope(query, TermScope(sequence=ARRIVAL)))  # type: ignore[arg-type]
    columns = {column.name: Term(f"`{column.name}`", column.collect.type, column.collect.nullable) for column in compiled.keep()}
    assert [column.merge(columns).text for column in compiled.keep()] == [
        "TOPK(`_last_offset_a0_at`, `_last_offset_a0`, 1)[1]->`col0`",
        "MAX(`_last_offset_a0_at`)",
    ]


def test_what_comes_by_offset_is_kept_only_where_something_says_the_order_of_arrival() -> None:
    query = query_of(f.last_by_offset(ROW.n))
    with pytest.raises(QueryError, match=r"f\.last_by_offset\(Row\.n\): .* order of arrival"):
        partial_columns(query, query_scope(query, TermScope()))


def test_the_last_of_one_time_is_told_by_the_order_of_arrival_only_where_there_is_one() -> None:
    events = [Row(time=START, n=Decimal("1.000000")), Row(time=START, n=Decimal("2.000000"))]
    query = query_of(f.last(ROW.n))
    expression = query.projection[0].expression
    with_order = term(expression, query_scope(query, TermScope(sequence=ARRIVAL))).text
    without = term(expression, query_scope(query, TermScope())).text
    assert aggregate(with_order, server_events(events), EVENT_COLUMNS) == Decimal(2)
    assert aggregate(without, server_events(events), EVENT_COLUMNS) == Decimal(1)
    assert without == "TOPK(UNIX_TIMESTAMP(`time`), `n`, 1)[1]->`col0`"


CHECKS = {"value": check_value, "state": check_state, "finish": check_finish}


@pytest.mark.parametrize("check", CHECKS)
@settings(max_examples=50)
@given(st.sampled_from(sorted(AGGREGATES)), st.lists(EVENTS, min_size=1, max_size=6))
def test_an_aggregate_means_the_same_in_ksqldb(check: str, name: str, events: list[Row]) -> None:
    CHECKS[check](AGGREGATES[name], events)


@pytest.mark.parametrize("gaps", Gaps)
@pytest.mark.parametrize("name", AGGREGATES)
def test_partial_columns_are_those_of_the_engine(name: str, gaps: Gaps) -> None:
    query = replace(query_of(AGGREGATES[name]), gaps=gaps, having=node(f.max(ROW.n * 2) > 1))
    columns = partial_columns(query, query_scope(query, TermScope(sequence=ARRIVAL)))
    assert [column.name for column in columns] == [column.name for column in CompiledQuery(query).partials]
