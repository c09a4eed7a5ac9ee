"""Queries without a window over time: a row for each event, or a row per key for ever."""

from __future__ import annotations

from dataclasses import replace

from kandle.errors import QueryError
from kandle.ksql.aggregates import query_scope
from kandle.ksql.declarations import check_written, is_event_time, name_of
from kandle.ksql.events import Events, events
from kandle.ksql.expressions import condition, term
from kandle.ksql.program import Program
from kandle.ksql.stage import bar_properties, fields, kept_for
from kandle.ksql.statements import CreateAs, Item, Kind, Select
from kandle.ksql.sums import ROW_OFFSET
from kandle.ksql.terms import Scope
from kandle.ksql.types import quoted
from kandle.query.nodes import Aggregate, Column, aggregates, describe
from kandle.query.query import QueryModel, Tumbling

BY_TIME = ("first", "last")
REVERSIBLE = ("count", "sum", "avg", "weighted_average", "stddev", "stddev_population")
"""Aggregates made of sums and counts, which can be taken back."""


def plain_program(query: QueryModel) -> Program:
    """The program of a query without a window, the same in both roles."""
    found = events(query)
    statement = _rows(query, found) if not query.group_by else _groups(query, found)
    rows = found.rows
    return Program((*rows.statements, statement), schedule=rows.schedule, declares=rows.declares)


def _groups(query: QueryModel, found: Events) -> CreateAs:
    """One row per key."""
    if query.source.kind == "table":
        _check_aggregates(query)
    scope = _scope(query, found.rows.scope)
    row = fields(query, found.rows, scope)
    having = None if query.having is None else condition(query.having, scope)
    select = Select(row.items, found.rows.source, where=found.where, group_by=found.rows.keys, having=having)
    properties = bar_properties(query, query.target.topic, len(row.keys))
    return CreateAs("table", name_of(query.target.topic), properties, select, comment=f"{query.target.name} by key")


def _scope(query: QueryModel, scope: Scope) -> Scope:
    """The scope of a query without a window, in which events have the time of their entity."""
    stamp = query.source.timestamp
    if stamp is None:
        timed = [found for found in _aggregates(query) if found.function in BY_TIME]
        if timed:
            raise QueryError(
                f"{describe(timed[0])} goes by event time, but no field of {query.source.name} is marked Timestamp()"
            )
        column = query.projection[0].expression
    else:
        column = Column(query.source.name, stamp.name, stamp.type)
    return query_scope(replace(query, window=Tumbling(column, ())), replace(scope, sequence=ROW_OFFSET))


def _aggregates(query: QueryModel) -> list[Aggregate]:
    nodes = [*(item.expression for item in query.projection), *([] if query.having is None else [query.having])]
    return [found for node in nodes for found in aggregates(node)]


def _rows(query: QueryModel, found: Events) -> CreateAs:
    """One row per event, or per row of a table."""
    rows, target = found.rows, query.target
    kind: Kind = query.source.kind
    current = _current_keys(query, found)
    texts = {item.field: term(item.expression, rows.scope).text for item in query.projection}
    keys = [texts[key.name] for key in target.keys]
    items, used = [], set()
    for name, text in texts.items():
        items.append(Item(f"AS_VALUE({text})" if text in used else text, name))
        used |= {text} & {*keys, *current}
    _check_values(query)
    check_written(query.target)
    if kind == "table" and sorted(keys) != sorted(current):
        raise QueryError(
            f"select: the key of {target.name} is ({', '.join(key.name for key in target.keys)}), but a table made from "
            f"{query.source.name} keeps its key; give it the key fields of {query.source.name}"
        )
    partition_by = [] if keys == current or kind == "table" else (keys or ["NULL"])
    select = Select(tuple(items), rows.source, where=found.where, partition_by=partition_by)
    comment = f"{target.name} of each {query.source.name}"
    return CreateAs(kind, name_of(target.topic), _properties(query), select, comment=comment)


def _current_keys(query: QueryModel, found: Events) -> list[str]:
    """The key columns of what is read."""
    made = found.rows.statements
    if made:
        last = made[-1]
        assert isinstance(last, CreateAs)
        return [quoted(last.select.items[0].name)]
    return [quoted(key.name) for key in query.source.keys]


def _properties(query: QueryModel) -> dict[str, str | int]:
    target = query.target
    found = bar_properties(query, target.topic, len(target.keys))
    if not target.keys:
        del found["KEY_FORMAT"]
    if query.source.kind == "stream":
        found |= kept_for(target)
    stamp = target.timestamp
    if stamp is not None and not _is_source_time(query, stamp.name):
        found["TIMESTAMP"] = quoted(stamp.name)
    return found


def _is_source_time(query: QueryModel, field: str) -> bool:
    """Whether the field is the time that the records have anyway."""
    expression = next(item.expression for item in query.projection if item.field == field)
    stamp = query.source.timestamp
    if stamp is None or not isinstance(expression, Column) or query.join is not None:
        return False
    return expression.name == stamp.name and is_event_time(query.source, stamp)


def _check_values(query: QueryModel) -> None:
    if not query.target.values:
        raise QueryError(f"select: all fields of {query.target.name} are key fields; ksqlDB needs one that is not")


def _check_aggregates(query: QueryModel) -> None:
    """Rows of a table can go again, which not every aggregate of ksqlDB can follow."""
    for found in _aggregates(query):
        if found.function not in REVERSIBLE:
            raise QueryError(
                f"{describe(found)}: {query.source.name} is a table, over whose rows ksqlDB has {', '.join(REVERSIBLE)} only"
            )
