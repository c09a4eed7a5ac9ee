"""What a query's aggregation reads: the declared source itself, or a stream that is made from it first.

A stream is made where rows of another entity or of the schedule stand beside events, where a part of the group key is not a
column, and where the time of the query is not what ksqlDB takes for the time of records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kandle.errors import QueryError
from kandle.ksql.declarations import declared, is_event_time, meaning
from kandle.ksql.expressions import condition
from kandle.ksql.joins import SOURCE, in_session, joined
from kandle.ksql.stage import Rows, Step, columns_of, later_nodes, made, meanings
from kandle.ksql.statements import Item, Properties
from kandle.ksql.terms import Scope
from kandle.ksql.types import BIGINT, DOUBLE, VARCHAR, quoted, source_name
from kandle.query.nodes import AnyNode, Column
from kandle.query.query import QueryModel

BARE_TYPES = (VARCHAR, BIGINT, DOUBLE)
"""What keys of the format KAFKA can be, without which ksqlDB makes streams of sources without a key."""

INSIDE = "_inside"
"""In streams that keep heartbeats, 1 where the event is inside of a session."""


@dataclass(frozen=True, slots=True)
class Events:
    """The rows that are aggregated, and the condition that is left to the aggregation."""

    rows: Rows
    where: str | None = None


def events(query: QueryModel, heartbeat: AnyNode | None = None) -> Events:
    """The events of a query; where heartbeats are rows of the source, `heartbeat` is true for them, and they are kept."""
    if query.window is not None and query.source.kind != "stream":
        raise QueryError(f"{query.source.name} is a table, whose rows have no place in windows; ksqlDB windows streams only")
    rows = _declared(query, heartbeat)
    if query.join is not None:
        rows = _joined(query, rows, heartbeat)
    if query.schedule is not None:
        return Events(_in_session(query, rows, heartbeat))
    if rows.statements:
        return Events(rows)
    kept = _kept(_where(query, rows.scope), None, _beats(heartbeat, rows.scope))
    if _is_ready(query, rows):
        return Events(replace(rows, keys=tuple(rows.scope.columns[key].text for key in query.group_by)), kept)
    keys = tuple(Item(quoted(key.name), key.name) for key in query.source.keys)
    comment = "The parts of the group key as columns, at the time of the query"
    return Events(made(query, rows, Step("prepared", comment, keys, where=kept)))


def _declared(query: QueryModel, heartbeat: AnyNode | None, alias: str = "") -> Rows:
    statement = declared(query.source)
    where = [] if query.where is None else [query.where]
    columns = columns_of([*later_nodes(query), *([] if heartbeat is None else [heartbeat])])
    scope = Scope(meanings(query.source, columns_of([*columns, *where]), alias))
    return Rows(source_name(statement.name), scope, _is_record_time(query), tuple(columns), declares={statement.name: statement})


def _joined(query: QueryModel, rows: Rows, heartbeat: AnyNode | None) -> Rows:
    assert query.join is not None
    found, key = joined(query, query.join, rows)
    kept = _kept(_where(query, found.scope), None, _beats(heartbeat, found.scope))
    comment = f"{query.source.name} beside {query.join.entity.name}"
    return made(query, found, Step("joined", comment, (key,), where=kept, formats=_key_format(query, key)))


def _key_format(query: QueryModel, key: Item) -> Properties:
    """The format of keys of a joined stream, where that of the source, or the usual one, cannot hold them."""
    is_bare = not query.source.keys or query.source.key_format == "KAFKA"
    return {"KEY_FORMAT": "JSON"} if is_bare and key.type not in BARE_TYPES else {}


def _in_session(query: QueryModel, rows: Rows, heartbeat: AnyNode | None) -> Rows:
    is_first = not rows.statements
    if is_first:
        rows = _declared(query, heartbeat, SOURCE)
    else:
        columns = {node: replace(value, text=f"{quoted(SOURCE)}.{value.text}") for node, value in rows.scope.columns.items()}
        rows = replace(rows, scope=Scope(columns))
    found = in_session(query, rows)
    beats = _beats(heartbeat, rows.scope)
    kept = _kept(_where(query, rows.scope) if is_first else None, found.inside, beats)
    inside = () if beats is None else (Item(f"CASE WHEN {found.inside} THEN 1 END", INSIDE),)
    comment = "Events inside of the sessions of their key"
    return made(query, found.rows, Step("in_session", comment, (found.key,), inside, kept))


def _where(query: QueryModel, scope: Scope) -> str | None:
    return None if query.where is None else condition(query.where, scope)


def _beats(heartbeat: AnyNode | None, scope: Scope) -> str | None:
    return None if heartbeat is None else condition(heartbeat, scope)


def _kept(where: str | None, inside: str | None, heartbeat: str | None) -> str | None:
    """The condition for events that count, and for heartbeats."""
    conditions = [found for found in (where, inside) if found is not None]
    if not conditions:
        return None
    counted = conditions[0] if len(conditions) == 1 else " AND ".join(f"({found})" for found in conditions)
    return counted if heartbeat is None else f"({counted}) OR ({heartbeat})"


def _is_record_time(query: QueryModel) -> bool:
    """Whether the query goes by the time that ksqlDB takes for that of the source's records."""
    stamp = query.source.timestamp
    if query.window is None:
        return True
    time = query.window.time
    if stamp is None or not isinstance(time, Column) or (time.entity, time.name) != (query.source.name, stamp.name):
        return False
    return is_event_time(query.source, stamp)


def _is_ready(query: QueryModel, rows: Rows) -> bool:
    """Whether the declared source can be aggregated as it is."""
    has_keys = bool(query.group_by) or query.window is None
    return rows.is_timed and has_keys and all(_stands(query, key) for key in query.group_by)


def _stands(query: QueryModel, node: AnyNode) -> bool:
    """Whether the node is a column that stands in the topic with its own type."""
    if not isinstance(node, Column):
        return False
    return meaning(query.source, query.source.field(node.name), quoted(node.name)).text == quoted(node.name)
