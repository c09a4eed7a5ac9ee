"""Role "live": ksqlDB aggregates events into open bars, from which kandle makes the finals.

    events
      --CREATE TABLE .. WINDOW TUMBLING .. EMIT CHANGES-->   <bar>_<base>_live
      --kandle-->                                            finals of all timeframes

kandle judges what is late, fills gaps, rolls up and closes, so the windows here stay open for days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kandle.ksql.aggregates import partial_columns, partial_origins, query_scope
from kandle.ksql.declarations import check_type
from kandle.ksql.events import query_events
from kandle.ksql.partials import ROW_OFFSET
from kandle.ksql.program import (
    LiveTable,
    Program,
    ScriptRole,
    WindowStore,
    bucket_size,
    check_late,
    tumbling_window,
)
from kandle.ksql.statements import CreateAs, Select
from kandle.ksql.targets import start_field, target_columns, target_properties, with_partials
from kandle.ksql.types import name_of_topic
from kandle.plan.plan import Plan


def live_program(plan: Plan, store: WindowStore) -> Program:
    """Return the program of a query with a window, in which kandle closes the bars.

    Args:
        plan: The plan of the query.
        store: How long windows are kept.

    Raises:
        QueryError: If ksqlDB cannot make the open bars.
    """
    query, base = plan.query, plan.base
    check_late(query)
    window = _open_window(plan, store)
    events = query_events(query)
    rows = events.rows
    scope = query_scope(query, replace(rows.scope, sequence=ROW_OFFSET))
    bar = target_columns(query, rows, scope)
    partials = {column.name: column.collect for column in partial_columns(query, scope)}
    for name, origin in partial_origins(query, scope).items():
        kept = replace(partials[name], text=f"the partial aggregate of {origin}")
        check_type(query.target, kept, "value", query.target.value_format)
    further, column_names = with_partials(bar.items, partials)
    table = CreateAs(
        "table",
        name_of_topic(base.live_topic),
        target_properties(query, base.live_topic, len(bar.keys)),
        Select((*bar.items, *further), rows.text, window, events.where, group_by=rows.keys),
        comment=f"Open {query.target.name} of {base.name}, with the partial aggregates that kandle needs to close and roll up",
    )
    return Program(
        (*rows.statements, table),
        tuple(_notes(plan)),
        LiveTable(table.name, base.live_topic, bar.keys, start_field(query), column_names),
        events.schedule,
        rows.declarations,
    )


def _open_window(plan: Plan, store: WindowStore) -> str:
    """Return the window of open bars, which takes late events for long, since kandle judges what is late."""
    size = bucket_size(plan, plan.base, ScriptRole.LIVE)
    grace = max(store.grace, plan.base.grace)
    return tumbling_window(size, max(store.retention, size + grace), grace)


def _notes(plan: Plan) -> Iterator[str]:
    query = plan.query
    yield (
        "kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days."
    )
    if query.having is not None:
        yield "kandle applies the condition of having to final bars, since bars that it drops still count in the roll-up."
    if query.order_by:
        yield "kandle orders and limits the bars of a bucket."
    rolled_up = [bar.name for bar in plan.emitted if bar.source is not None]
    if rolled_up:
        yield f"kandle makes bars of {', '.join(rolled_up)} from those of {plan.base.name}."
