"""Sessions: events of a query with `based_on`, beside the session intervals of their key.

kandle writes all intervals of a key as one row of a table, since ksqlDB joins an event with one row of a
table:

    id            since                  intervals
    acme|EURUSD   2026-11-22T10:00:00    [{open, close}, {open, close}, ..]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kandle.errors import QueryError
from kandle.ksql.expressions import term
from kandle.ksql.joins import SOURCE_ALIAS, key_of_nodes
from kandle.ksql.statements import ColumnDefinition, Create, SelectItem
from kandle.ksql.streams import FromClause
from kandle.ksql.types import TIMESTAMP, VARCHAR, array, name_of_topic, quoted, source_name, struct
from kandle.plan.query_topics import intervals_name
from kandle.query.query import QueryModel

SESSION_ALIAS = "s"
"""Alias of the session table."""

INTERVALS = array(struct({"open": TIMESTAMP, "close": TIMESTAMP}))


@dataclass(frozen=True, slots=True)
class ScheduleTable:
    """The table of session intervals by key, which kandle writes.

    Attributes:
        name: Name of the table.
        topic: Name of its topic.
        partitions: Number of partitions, the same as that of the events.
    """

    name: str
    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class SessionJoin:
    """Events beside the sessions of their key.

    Attributes:
        rows: The FROM clause.
        inside: KSQL condition that the event is inside a session.
        key: The column that is the key of the joined rows.
        schedule: The table of intervals.
    """

    rows: FromClause
    inside: str
    key: SelectItem
    schedule: ScheduleTable


def join_sessions(query: QueryModel, rows: FromClause) -> SessionJoin:
    """Return the events beside the intervals of their sessions.

    Args:
        query: A query with a schedule and a window.
        rows: The declared source, or the stream that was made from it.

    Raises:
        QueryError: If the query has no group key.
    """
    assert query.schedule is not None and query.window is not None
    statement, schedule = _session_table(query)
    key = key_of_nodes(query.group_by, rows.scope)
    time = term(query.window.time, rows.scope).text
    intervals = f"{quoted(SESSION_ALIAS)}.`intervals`"
    inside = f"ARRAY_LENGTH(FILTER({intervals}, i => (i->`open` <= {time}) AND ({time} < i->`close`))) > 0"
    session_id = f"{quoted(SESSION_ALIAS)}.`id`"
    table = f"{source_name(statement.name)} {quoted(SESSION_ALIAS)}"
    joined = replace(
        rows,
        text=f"{rows.text} {quoted(SOURCE_ALIAS)}\n  JOIN {table} ON {key} = {session_id}",
        declarations={**rows.declarations, statement.name: statement},
    )
    return SessionJoin(joined, inside, SelectItem(session_id, "id"), schedule)


def _session_table(query: QueryModel) -> tuple[Create, ScheduleTable]:
    """Return the statement that declares the table of intervals, and the table."""
    assert query.schedule is not None
    entity = query.schedule.entity
    if not query.group_by:
        raise QueryError(
            f"based_on({entity.name}) without group_by: ksqlDB finds the sessions of an event by its key; group by the leading "
            f"key fields of {entity.name}"
        )
    topic = intervals_name(entity)
    partitions = query.source.partitions
    properties: dict[str, str | int] = {
        "KAFKA_TOPIC": topic,
        "PARTITIONS": partitions,
        "KEY_FORMAT": "KAFKA",
        "VALUE_FORMAT": "JSON",
        "TIMESTAMP": quoted("since"),
    }
    columns = (
        ColumnDefinition("id", VARCHAR, "PRIMARY KEY"),
        ColumnDefinition("since", TIMESTAMP),
        ColumnDefinition("intervals", INTERVALS),
    )
    comment = (
        f"Sessions of {entity.name} by key, written by kandle. The id is the parts of the key, separated by | (in all but the "
        "last, % is written as %25 and | as %7C). The time of a row is the start of its first session, since ksqlDB processes "
        "records in the order of their times"
    )
    statement = Create("table", name_of_topic(topic), columns, properties, comment=comment)
    return statement, ScheduleTable(statement.name, topic, partitions)
