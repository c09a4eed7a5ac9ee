"""Role "live": ksqlDB aggregates the base timeframe while its buckets are open; kandle closes, fills and rolls up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kandle.ksql.aggregates import partials, query_scope
from kandle.ksql.declarations import check_column, name_of
from kandle.ksql.events import events
from kandle.ksql.fields import bar_properties, fields, start_of
from kandle.ksql.levels import with_partials
from kandle.ksql.partials import ROW_OFFSET
from kandle.ksql.program import LiveTable, Program, WindowStore
from kandle.ksql.statements import CreateAs, Select
from kandle.ksql.windows import check_late, open_window
from kandle.plan.plan import Plan
from kandle.query.query import QueryModel


def live_program(plan: Plan, store: WindowStore) -> Program:
    """The program of a query over time in which kandle closes the bars."""
    query, base = plan.query, plan.base
    check_late(query)
    window = open_window(plan, store)
    found = events(query)
    scope = query_scope(query, replace(found.rows.scope, sequence=ROW_OFFSET))
    bar = fields(query, found.rows, scope)
    kept = {partial.name: partial.collect for partial in partials(query, scope)}
    for name, value in kept.items():
        check_column(query.target, replace(value, text=name), "value", query.target.value_format)
    more, columns = with_partials(bar.items, kept)
    table = CreateAs(
        "table",
        name_of(base.live_topic),
        bar_properties(query, base.live_topic, len(bar.keys)),
        Select((*bar.items, *more), found.rows.source, window, found.where, group_by=found.rows.keys),
        comment=f"{query.target.name} of {base.name} while they are open, with what kandle needs to close and roll up",
    )
    return Program(
        (*found.rows.statements, table),
        tuple(_notes(plan)),
        LiveTable(table.name, base.live_topic, bar.keys, start_of(query), columns),
        found.rows.schedule,
        found.rows.declares,
    )


def _notes(plan: Plan) -> Iterator[str]:
    query = plan.query
    yield from _left_to_kandle(query)
    others = [bar.name for bar in plan.emitted if bar.source is not None]
    if others:
        yield f"Bars of {', '.join(others)} are made by kandle from those of {plan.base.name}."


def _left_to_kandle(query: QueryModel) -> Iterator[str]:
    yield "What is late, gaps and finals are judged by kandle: windows here take late events for days."
    if query.having is not None:
        yield "The condition of having is applied by kandle to finals, since bars that it drops still count in the roll-up."
    if query.order_by:
        yield "Bars of a bucket are ordered, and counted off, by kandle."
