"""The events of a query: the declared source itself, or a stream made from it first.

A stream is made if

- the events are joined with another entity (joins.py) or with their sessions (sessions.py),
- a part of the group key is computed, or
- the query's time is not what ksqlDB takes for the time of the records.

    declared source -> [joined stream] -> [stream of events in session]   or   [prepared stream]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kandle.errors import QueryError
from kandle.ksql.declarations import declaration, is_record_time, is_stored_as_is
from kandle.ksql.expressions import condition
from kandle.ksql.joins import SOURCE_ALIAS, joined_rows
from kandle.ksql.sessions import ScheduleTable, join_sessions
from kandle.ksql.statements import Properties, SelectItem
from kandle.ksql.streams import FromClause, StreamStep, column_terms, columns_of, derived_stream
from kandle.ksql.terms import TermScope
from kandle.ksql.types import BIGINT, DOUBLE, VARCHAR, quoted, source_name
from kandle.query.nodes import AnyNode, Column
from kandle.query.query import QueryModel

BARE_TYPES = (VARCHAR, BIGINT, DOUBLE)
"""Types of keys in the format KAFKA, which ksqlDB gives streams made from sources without a key."""

INSIDE = "_inside"
"""Column of streams that keep heartbeats: 1 where the event is inside a session."""


@dataclass(frozen=True, slots=True)
class QueryEvents:
    """The events of a query.

    Attributes:
        rows: The rows that are aggregated or selected.
        where: The condition that is left to the query over them.
        schedule: The table of session intervals, of a query with a schedule.
    """

    rows: FromClause
    where: str | None = None
    schedule: ScheduleTable | None = None


def query_events(query: QueryModel, heartbeat: AnyNode | None = None) -> QueryEvents:
    """Return the events of a query.

    Args:
        query: The query.
        heartbeat: If heartbeats are rows of the source, an expression that is true for them: they are kept
            then.

    Raises:
        QueryError: If ksqlDB cannot make the rows.
    """
    if query.window is not None and query.source.kind != "stream":
        raise QueryError(
            f"{query.source.name} is a table, and ksqlDB has windows over streams only; read the stream that the table is made "
            "from, or leave out the window"
        )
    rows = _declared_rows(query, heartbeat)
    if query.join is not None:
        rows = _joined_stream(query, rows, heartbeat)
    if query.schedule is not None:
        return _session_stream(query, rows, heartbeat)
    if rows.statements:
        return QueryEvents(rows)
    where = _counted_or_heartbeat(_where(query, rows.scope), None, _heartbeat_condition(heartbeat, rows.scope))
    if _needs_no_stream(query, rows):
        keys = tuple(rows.scope.columns[key].text for key in query.group_by)
        return QueryEvents(replace(rows, keys=keys), where)
    keys_of_source = tuple(SelectItem(quoted(key.name), key.name) for key in query.source.keys)
    comment = "Events with the parts of the group key as columns, and the time of the query as their time"
    return QueryEvents(derived_stream(query, rows, StreamStep("prepared", comment, keys_of_source, where=where)))


def _declared_rows(query: QueryModel, heartbeat: AnyNode | None, alias: str = "") -> FromClause:
    statement = declaration(query.source)
    where = [] if query.where is None else [query.where]
    columns = columns_of([*_later_nodes(query), *([] if heartbeat is None else [heartbeat])])
    scope = TermScope(column_terms(query.source, columns_of([*columns, *where]), alias))
    return FromClause(
        source_name(statement.name),
        scope,
        _has_record_time(query),
        tuple(columns),
        declarations={statement.name: statement},
    )


def _later_nodes(query: QueryModel) -> list[AnyNode]:
    """Return what is computed after the condition of `where`: group key, time, fields and `having`."""
    window = [] if query.window is None else [query.window.time]
    having = [] if query.having is None else [query.having]
    return [*query.group_by, *window, *(item.expression for item in query.projection), *having]


def _joined_stream(query: QueryModel, rows: FromClause, heartbeat: AnyNode | None) -> FromClause:
    assert query.join is not None
    joined, key = joined_rows(query, query.join, rows)
    where = _counted_or_heartbeat(_where(query, joined.scope), None, _heartbeat_condition(heartbeat, joined.scope))
    comment = f"{query.source.name} joined with {query.join.entity.name}"
    step = StreamStep("joined", comment, (key,), where=where, formats=_key_format(query, key))
    return derived_stream(query, joined, step)


def _key_format(query: QueryModel, key: SelectItem) -> Properties:
    """Return the format of the joined stream's key if the source's, or ksqlDB's default, cannot hold it."""
    is_bare = not query.source.keys or query.source.key_format == "KAFKA"
    return {"KEY_FORMAT": "JSON"} if is_bare and key.type not in BARE_TYPES else {}


def _session_stream(query: QueryModel, rows: FromClause, heartbeat: AnyNode | None) -> QueryEvents:
    is_declared = not rows.statements
    if is_declared:
        rows = _declared_rows(query, heartbeat, SOURCE_ALIAS)
    else:
        columns = {
            node: replace(value, text=f"{quoted(SOURCE_ALIAS)}.{value.text}") for node, value in rows.scope.columns.items()
        }
        rows = replace(rows, scope=TermScope(columns))
    sessions = join_sessions(query, rows)
    heartbeats = _heartbeat_condition(heartbeat, rows.scope)
    where = _counted_or_heartbeat(_where(query, rows.scope) if is_declared else None, sessions.inside, heartbeats)
    inside = () if heartbeats is None else (SelectItem(f"CASE WHEN {sessions.inside} THEN 1 END", INSIDE),)
    comment = "Events within the sessions of their key"
    step = StreamStep("in_session", comment, (sessions.key,), inside, where)
    return QueryEvents(derived_stream(query, sessions.rows, step), schedule=sessions.schedule)


def _where(query: QueryModel, scope: TermScope) -> str | None:
    return None if query.where is None else condition(query.where, scope)


def _heartbeat_condition(heartbeat: AnyNode | None, scope: TermScope) -> str | None:
    return None if heartbeat is None else condition(heartbeat, scope)


def _counted_or_heartbeat(where: str | None, inside: str | None, heartbeat: str | None) -> str | None:
    """Return the condition for events that count and for heartbeats."""
    conditions = [part for part in (where, inside) if part is not None]
    if not conditions:
        return None
    counted = conditions[0] if len(conditions) == 1 else " AND ".join(f"({part})" for part in conditions)
    return counted if heartbeat is None else f"({counted}) OR ({heartbeat})"


def _has_record_time(query: QueryModel) -> bool:
    """Return whether the query's time is what ksqlDB takes for the time of the source's records."""
    stamp = query.source.timestamp
    if query.window is None:
        return True
    time = query.window.time
    if stamp is None or not isinstance(time, Column) or (time.entity, time.name) != (query.source.name, stamp.name):
        return False
    return is_record_time(query.source, stamp)


def _needs_no_stream(query: QueryModel, rows: FromClause) -> bool:
    """Return whether the declared source can be aggregated as it is."""
    has_keys = bool(query.group_by) or query.window is None
    return rows.is_timed and has_keys and all(_is_plain_column(query, key) for key in query.group_by)


def _is_plain_column(query: QueryModel, node: AnyNode) -> bool:
    return isinstance(node, Column) and is_stored_as_is(query.source, node.name)
