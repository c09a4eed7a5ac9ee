"""Queries without a window: a row for each event, or one row per key. They are the same in both roles."""

from __future__ import annotations

from dataclasses import replace

from kandle.errors import QueryError
from kandle.ksql.aggregates import query_aggregates, query_scope
from kandle.ksql.declarations import check_written, is_record_time
from kandle.ksql.events import QueryEvents, query_events
from kandle.ksql.expressions import condition, term
from kandle.ksql.partials import ROW_OFFSET
from kandle.ksql.program import Program
from kandle.ksql.statements import CreateAs, Kind, Select, SelectItem
from kandle.ksql.targets import retention_property, target_columns, target_properties
from kandle.ksql.terms import TermScope
from kandle.ksql.types import name_of_topic, quoted
from kandle.query.nodes import Column, describe
from kandle.query.query import QueryModel, Tumbling

BY_TIME = ("first", "last")
"""Aggregates in the order of event time."""
REVERSIBLE = ("count", "sum", "avg", "weighted_average", "stddev", "stddev_population")
"""Aggregates made from sums and counts, from which a replaced row can be taken back."""


def plain_program(query: QueryModel) -> Program:
    """Return the program of a query without a window.

    Raises:
        QueryError: If ksqlDB cannot run the query.
    """
    events = query_events(query)
    statement = _table_by_key(query, events) if query.group_by else _row_by_row(query, events)
    rows = events.rows
    return Program((*rows.statements, statement), schedule=events.schedule, declarations=rows.declarations)


def _table_by_key(query: QueryModel, events: QueryEvents) -> CreateAs:
    """Return the table with one row per group key."""
    if query.source.kind == "table":
        _check_reversible(query)
    rows = events.rows
    scope = _scope(query, rows.scope)
    columns = target_columns(query, rows, scope)
    having = None if query.having is None else condition(query.having, scope)
    select = Select(columns.items, rows.text, where=events.where, group_by=rows.keys, having=having)
    topic = query.target.topic
    properties = target_properties(query, topic, len(columns.keys))
    return CreateAs("table", name_of_topic(topic), properties, select, comment=f"{query.target.name}: one row per group key")


def _scope(query: QueryModel, scope: TermScope) -> TermScope:
    """Return the scope of a query without a window, in which events have the time of their entity."""
    stamp = query.source.timestamp
    if stamp is None:
        timed = [node for node in query_aggregates(query) if node.function in BY_TIME]
        if timed:
            raise QueryError(
                f"{describe(timed[0])} goes by event time, but no field of {query.source.name} is marked Timestamp(); mark a "
                f"datetime field of {query.source.name}, or use f.{timed[0].function}_by_offset"
            )
        column = query.projection[0].expression
    else:
        column = Column(query.source.name, stamp.name, stamp.type)
    return query_scope(replace(query, window=Tumbling(column, ())), replace(scope, sequence=ROW_OFFSET))


def _row_by_row(query: QueryModel, events: QueryEvents) -> CreateAs:
    """Return the stream or table with a row for each row of the source."""
    rows, target = events.rows, query.target
    kind: Kind = query.source.kind
    current = _current_keys(query, events)
    texts = {item.field: term(item.expression, rows.scope).text for item in query.projection}
    keys = [texts[key.name] for key in target.keys]
    items, used = [], set()
    for name, text in texts.items():
        items.append(SelectItem(f"AS_VALUE({text})" if text in used else text, name))
        used |= {text} & {*keys, *current}
    if not target.values:
        raise QueryError(
            f"select: all fields of {target.name} are key fields, but ksqlDB needs at least one other field; add one to "
            f"{target.name}"
        )
    check_written(target)
    if kind == "table" and sorted(keys) != sorted(current):
        raise QueryError(
            f"select: the key of {target.name} is ({', '.join(key.name for key in target.keys)}), but a table made from "
            f"{query.source.name} keeps its key; give it the key fields of {query.source.name}"
        )
    partition_by = [] if keys == current or kind == "table" else (keys or ["NULL"])
    select = Select(tuple(items), rows.text, where=events.where, partition_by=partition_by)
    comment = f"{target.name}: one row for each row of {query.source.name}"
    return CreateAs(kind, name_of_topic(target.topic), _row_properties(query), select, comment=comment)


def _current_keys(query: QueryModel, events: QueryEvents) -> list[str]:
    """Return the key columns of the rows that are read."""
    statements = events.rows.statements
    if statements:
        last = statements[-1]
        assert isinstance(last, CreateAs)
        return [quoted(last.select.items[0].name)]
    return [quoted(key.name) for key in query.source.keys]


def _row_properties(query: QueryModel) -> dict[str, str | int]:
    target = query.target
    properties = target_properties(query, target.topic, len(target.keys))
    if not target.keys:
        del properties["KEY_FORMAT"]
    if query.source.kind == "stream":
        properties |= retention_property(target)
    stamp = target.timestamp
    if stamp is not None and not _is_source_time(query, stamp.name):
        properties["TIMESTAMP"] = quoted(stamp.name)
    return properties


def _is_source_time(query: QueryModel, field: str) -> bool:
    """Return whether a field of the target is the time that the records have anyway."""
    expression = next(item.expression for item in query.projection if item.field == field)
    stamp = query.source.timestamp
    if stamp is None or not isinstance(expression, Column) or query.join is not None:
        return False
    return expression.name == stamp.name and is_record_time(query.source, stamp)


def _check_reversible(query: QueryModel) -> None:
    """Check that the aggregates over a table can take a row back: its rows are replaced and deleted."""
    for node in query_aggregates(query):
        if node.function not in REVERSIBLE:
            raise QueryError(
                f"{describe(node)}: {query.source.name} is a table, whose rows are replaced, and ksqlDB has only "
                f"{', '.join(REVERSIBLE)} over tables; use one of those, or read a stream"
            )
