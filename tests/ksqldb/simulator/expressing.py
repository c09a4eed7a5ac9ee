"""Expressions for tests: parse, check and evaluate them as the simulated server does.

kind = type_of("`price` * `size`", {"price": decimal(18, 6), "size": BIGINT})
value = evaluate("`price` * `size`", {"price": ..., "size": ...}, columns)
value = aggregate("SUM(`size`)", [row, row, ..], columns)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.ksqldb.simulator import calls, comparisons, containers, operators
from tests.ksqldb.simulator.code import Code, Collector, Column, Row, Scope, code_of, value_or_null
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.expressions import parse_expression
from tests.ksqldb.simulator.nodes import Name, Node
from tests.ksqldb.simulator.types import BIGINT, Type
from tests.ksqldb.simulator.values import stored

RULE_MODULES = (calls, comparisons, containers, operators)
"""Each says how its kinds of nodes are read."""

PSEUDO_COLUMNS = {"ROWTIME": BIGINT}


def scope_of(columns: Mapping[str, Type], alias: str | None = None) -> Scope:
    """The names of one source: its columns, and ROWTIME."""
    known: dict[Node, Column] = {}
    for name, kind in {**columns, **PSEUDO_COLUMNS}.items():
        known[Name(name)] = Column(name, kind)
        if alias is not None:
            known[Name(name, alias)] = Column(name, kind)
    return Scope(known)


def compile_expression(text: str, columns: Mapping[str, Type]) -> Code:
    """An expression over the columns of a row, checked; RefusedError says why the server would not have it."""
    code = code_of(parse_expression(text), scope_of(columns))
    if code.type is None:
        raise RefusedError(
            "Can't infer a type of null. Please explicitly cast it to a required type, e.g. CAST(null AS VARCHAR)."
        )
    return code


def type_of(text: str, columns: Mapping[str, Type]) -> Type:
    """The type of an expression without aggregates."""
    return compile_expression(text, columns).known


def evaluate(text: str, row: Row, columns: Mapping[str, Type]) -> Any:
    """The value of a SELECT item for one row; NULL where the server logs an error."""
    code = compile_expression(text, columns)
    return stored(value_or_null(code, row_of(row, columns)), code.known)


def row_of(row: Row, columns: Mapping[str, Type]) -> dict[str, Any]:
    """A row as the server holds it: every column, decimals with their scale."""
    return {"ROWTIME": row.get("ROWTIME")} | {name: stored(row.get(name), kind) for name, kind in columns.items()}


def compile_aggregate(text: str, columns: Mapping[str, Type]) -> tuple[Code, Collector]:
    """An expression with aggregates; the collector has the aggregates in it."""
    collector = Collector(scope_of(columns))
    return code_of(parse_expression(text), Scope({}, collector=collector)), collector


def aggregate_type_of(text: str, columns: Mapping[str, Type]) -> Type:
    """The type of an expression with aggregates."""
    return compile_aggregate(text, columns)[0].known


def aggregate(text: str, rows: Iterable[Row], columns: Mapping[str, Type]) -> Any:
    """The value of a SELECT item of a query with GROUP BY, for the rows of one group in the order of processing."""
    code, collector = compile_aggregate(text, columns)
    return stored(value_or_null(code, group_values(collector, (row_of(row, columns) for row in rows))), code.known)


def group_values(collector: Collector, rows: Iterable[Row]) -> dict[str, Any]:
    """The aggregates' values for the rows of a group, each in its slot."""
    running = {aggregation.slot: aggregation.start() for aggregation in collector.aggregations}
    for row in rows:
        for aggregation in collector.aggregations:
            running[aggregation.slot].add([argument.run(row) for argument in aggregation.arguments])
    return {slot: accumulator.value for slot, accumulator in running.items()}
