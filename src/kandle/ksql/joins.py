"""Joins: rows of another entity, or of the schedule, beside events. ksqlDB joins on one column of each side."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kandle.errors import QueryError
from kandle.ksql.declarations import declared, is_event_time, meaning, name_of
from kandle.ksql.expressions import term
from kandle.ksql.program import ScheduleTable
from kandle.ksql.stage import Rows, columns_of, made_properties, meanings
from kandle.ksql.statements import ColumnDefinition, Create, CreateAs, Item, Names, Select, Statement, duration
from kandle.ksql.terms import Scope, Term, plain, strict
from kandle.ksql.types import TIMESTAMP, VARCHAR, array, column_type, quoted, source_name, struct
from kandle.model.entity import EntityModel
from kandle.model.types import DataType, DecimalType
from kandle.plan.topics import intervals_name
from kandle.query.nodes import Column, Node, describe
from kandle.query.query import Join, QueryModel
from kandle.time.timeframe import DAY, MILLISECOND, to_instant

SEPARATOR = "|"
ESCAPES = (("%", "%25"), ("|", "%7C"))

_EXPRESSIONS: dict[str, str] = {
    "VARCHAR": "{0}",
    "BOOLEAN": "CASE WHEN {0} THEN 'true' ELSE 'false' END",
    "INTEGER": "CAST({0} AS VARCHAR)",
    "BIGINT": "CAST({0} AS VARCHAR)",
    "DECIMAL": "CAST({0} AS VARCHAR)",
    "DATE": "FORMAT_DATE({0}, 'yyyy-MM-dd')",
    "TIMESTAMP": "CAST(UNIX_TIMESTAMP({0}) AS VARCHAR)",
    "BYTES": "FROM_BYTES({0}, 'base64')",
}


def key_expression(parts: Sequence[Term]) -> str:
    """The text of a key in ksqlDB, NULL where a part of it is: in a sum of texts NULL would be the word."""
    texts = [_text_of(part) for part in parts]
    escaped = [_escaped(text) if part.type.name == "VARCHAR" else text for text, part in zip(texts[:-1], parts, strict=False)]
    whole = f" + '{SEPARATOR}' + ".join([*escaped, texts[-1]])
    return plain(strict(whole, VARCHAR, parts)).text


def _text_of(part: Term) -> str:
    if part.type.name not in _EXPRESSIONS:
        raise QueryError(f"{part.text} is {part.type}, which cannot be a part of a key")
    return _EXPRESSIONS[part.type.name].format(part.text)


def _escaped(text: str) -> str:
    for sign, escape in ESCAPES:
        text = f"REPLACE({text}, '{sign}', '{escape}')"
    return text


def key_text(values: Sequence[Any], kinds: Sequence[DataType]) -> str:
    """The same text of the same key, from Python values."""
    texts = [_TEXTS[type(value)](value, kind) for value, kind in zip(values, kinds, strict=True)]
    for sign, escape in ESCAPES:
        texts[:-1] = [text.replace(sign, escape) for text in texts[:-1]]
    return SEPARATOR.join(texts)


def _decimal(value: Decimal, kind: DataType) -> str:
    assert isinstance(kind, DecimalType)
    return f"{value:.{kind.scale}f}"


_TEXTS: dict[type, Callable[[Any, DataType], str]] = {
    str: lambda value, kind: value,
    uuid.UUID: lambda value, kind: str(value),
    bool: lambda value, kind: str(value).lower(),
    int: lambda value, kind: str(value),
    Decimal: _decimal,
    date: lambda value, kind: value.isoformat(),
    datetime: lambda value, kind: str(to_instant(value) // MILLISECOND),
    bytes: lambda value, kind: base64.b64encode(value).decode(),
}


SOURCE, OTHER, SESSION = "t", "o", "s"
"""Aliases of the source, of what it is joined with, and of its sessions."""

INTERVALS = array(struct({"open": TIMESTAMP, "close": TIMESTAMP}))
USUAL_GRACE = DAY
"""How late events of two streams may be that are joined, where the query does not say it; what ksqlDB takes by itself."""


def joined(query: QueryModel, join: Join, rows: Rows) -> tuple[Rows, Item]:
    """The source beside what it is joined with, as it stands after FROM, and the column that is then the key."""
    _check(query, join)
    where = [] if query.where is None else [query.where]
    columns = columns_of([*rows.columns, *where, *(side for pair in join.on for side in pair)])
    scope = Scope(meanings(query.source, columns, SOURCE))
    other = _Other(query, join, columns)
    left, key = other.condition(scope)
    within = "" if join.within is None else f" WITHIN {duration(join.within)} GRACE PERIOD {duration(_grace(join))}"
    kind = "LEFT JOIN" if join.how == "left" else "JOIN"
    text = f"{rows.source} {quoted(SOURCE)}\n  {kind} {other.name} {quoted(OTHER)}{within} ON {left} = {other.key}"
    found = replace(
        rows,
        source=text,
        scope=Scope({**scope.columns, **other.scope.columns}),
        is_timed=rows.is_timed and join.within is None,
        declares={**rows.declares, **other.declares},
        statements=(*rows.statements, *other.statements),
    )
    return found, key


def _grace(join: Join) -> int:
    return USUAL_GRACE if join.grace is None else join.grace


def _check(query: QueryModel, join: Join) -> None:
    source, other = query.source, join.entity
    if source.topic == other.topic:
        raise QueryError(
            f"join: {source.name} and {other.name} have the same topic {source.topic!r}, and ksqlDB joins nothing with itself; "
            f"make {other.name} by a query, from_({source.name}).select(...), in a topic of its own"
        )
    if source.partitions != other.partitions:
        raise QueryError(
            f"join: {source.name} has {source.partitions} partitions and {other.name} {other.partitions}; ksqlDB joins topics "
            "with equal numbers of partitions only"
        )
    if other.kind == "table" and len(other.keys) > 1:
        names = ", ".join(key.name for key in other.keys)
        raise QueryError(
            f"join: the key of the table {other.name} has {len(other.keys)} parts ({names}), but ksqlDB finds rows of tables "
            "by a key of one column; give the table one key field, for example the parts joined by f.concat"
        )
    _check_key(join)
    if source.kind == "table":
        _check_tables(source, join)
    for entity in (source, other) if join.within is not None else ():
        if entity.timestamp is None or not is_event_time(entity, entity.timestamp):
            stamp = "a field" if entity.timestamp is None else entity.timestamp.name
            raise QueryError(
                f"join: events of streams go together by the time of their records, but ksqlDB cannot take {stamp} of "
                f'{entity.name} for it; mark a datetime field Timestamp(), in milliseconds (DatetimeFormat("epoch_ms"))'
            )


def _check_key(join: Join) -> None:
    """What ksqlDB can look up, and what it would leave out."""
    other = join.entity
    for left, right in join.on:
        if other.kind == "table" and isinstance(right, Column) and not _stands(right, other, OTHER):
            raise QueryError(
                f"join: the key {right.name} of the table {other.name} is not a datetime in its topic, but a number or text "
                "(DatetimeFormat), and ksqlDB finds rows of tables by the key as it stands; leave the DatetimeFormat out, or "
                "make it an int or a str on both sides"
            )
        if join.how == "left" and left.nullable:
            raise QueryError(
                f"join: {describe(left)} may be NULL, and ksqlDB drops such events although the join is a left one; write "
                "f.coalesce(x, ...), or leave them out by how='inner'"
            )


def _check_tables(source: EntityModel, join: Join) -> None:
    """Rows of two tables go together by the key of the one and a field of the other."""
    if len(source.keys) != 1:
        names = ", ".join(key.name for key in source.keys)
        raise QueryError(
            f"join: the key of the table {source.name} has {len(source.keys)} parts ({names}); ksqlDB was only seen to join "
            "tables that have a key of one column; give it one key field, for example the parts joined by f.concat"
        )
    left = join.on[0][0]
    if not (isinstance(left, Column) and _stands(left, source, SOURCE)):
        raise QueryError(
            f"join: {describe(left)} is computed, or stands in its topic in another form; ksqlDB was only seen to join tables by "
            f"a field as it stands; give {source.name} such a field"
        )


def _stands(column: Column, entity: EntityModel, alias: str) -> bool:
    """Whether the column stands in the topic with its own type."""
    shown = f"{quoted(alias)}.{quoted(column.name)}"
    return meaning(entity, entity.field(column.name), shown).text == shown


class _Other:
    """The other side of a join: itself, or a stream with its join key as one column."""

    def __init__(self, query: QueryModel, join: Join, columns: list[Column]) -> None:
        self._on, self._source = join.on, query.source
        statement = declared(join.entity)
        self.declares: dict[str, Statement] = {statement.name: statement}
        self.statements: tuple[Statement, ...] = ()
        self.name = source_name(statement.name)
        self.scope = Scope(meanings(join.entity, columns, OTHER))
        right = join.on[0][1]
        self._is_keyed = len(join.on) > 1 or not (isinstance(right, Column) and _stands(right, join.entity, OTHER))
        if self._is_keyed:
            self._by_key(query, join.entity, columns)
        else:
            self.key = term(right, self.scope).text

    def _by_key(self, query: QueryModel, entity: EntityModel, columns: list[Column]) -> None:
        """A stream of the other's columns with its join key as one more."""
        plain = Scope(meanings(entity, columns))
        names = Names()
        items = [Item(quoted(key.name), names.free(key.name)) for key in entity.keys]
        found: dict[Node, Term] = {}
        for column in columns_of(plain.columns):
            value = plain.columns[column]
            name = next((item.name for item in items if item.expression == value.text), None)
            if name is None:
                name = names.free(column.name)
                items.append(Item(value.text, name))
            found[column] = Term(f"{quoted(OTHER)}.{quoted(name)}", value.type, value.nullable)
        key = names.free("_id")
        items.append(Item(key_expression([term(right, plain) for _, right in self._on]), key))
        topic = f"{query.target.topic}_{entity.topic}_by_key"
        properties = made_properties(topic, entity)
        select = Select(tuple(items), self.name)
        comment = f"The join key of {entity.name} as one column"
        self.statements = (CreateAs("stream", name_of(topic), properties, select, comment=comment),)
        self.name = source_name(name_of(topic))
        self.scope = Scope(found)
        self.key = f"{quoted(OTHER)}.{quoted(key)}"

    def condition(self, scope: Scope) -> tuple[str, Item]:
        """The source's side of ON, and the column that is the key of the joined stream: the source's own if it is one."""
        parts = [term(left, scope) for left, _ in self._on]
        left = self._on[0][0]
        if self._is_keyed:
            return key_expression(parts), Item(self.key, "_id", VARCHAR)
        if self._source.kind == "table":
            # Rows of a table keep its key, also where they are joined by another field.
            own = self._source.keys[0]
            return parts[0].text, Item(f"{quoted(SOURCE)}.{quoted(own.name)}", own.name, column_type(own.type))
        if isinstance(left, Column) and _stands(left, self._source, SOURCE):
            return parts[0].text, Item(parts[0].text, left.name, parts[0].type)
        right = self._on[0][1]
        assert isinstance(right, Column)
        return parts[0].text, Item(self.key, right.name, parts[0].type)


@dataclass(frozen=True, slots=True)
class Sessions:
    """Events beside the sessions of their key: FROM, the condition that an event is inside of one, the column that is the key."""

    rows: Rows
    inside: str
    key: Item


def in_session(query: QueryModel, rows: Rows) -> Sessions:
    """The source, or what was made of it, beside the intervals of its sessions."""
    assert query.schedule is not None and query.window is not None
    statement, schedule = _session_table(query)
    keys = key_expression([term(key, rows.scope) for key in query.group_by])
    time = term(query.window.time, rows.scope).text
    intervals = f"{quoted(SESSION)}.`intervals`"
    inside = f"ARRAY_LENGTH(FILTER({intervals}, i => (i->`open` <= {time}) AND ({time} < i->`close`))) > 0"
    table = f"{source_name(statement.name)} {quoted(SESSION)}"
    text = f"{rows.source} {quoted(SOURCE)}\n  JOIN {table} ON {keys} = {quoted(SESSION)}.`id`"
    declares = {**rows.declares, statement.name: statement}
    return Sessions(
        replace(rows, source=text, declares=declares, schedule=schedule), inside, Item(f"{quoted(SESSION)}.`id`", "id")
    )


def _session_table(query: QueryModel) -> tuple[Create, ScheduleTable]:
    """The table of session intervals by key, which kandle writes: ksqlDB joins with one row of a table, by one column."""
    assert query.schedule is not None
    entity = query.schedule.entity
    if not query.group_by:
        raise QueryError(
            f"based_on({entity.name}) without group_by: sessions are by key; group by the leading key parts of the schedule"
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
        f"Sessions of {entity.name} by key, written by kandle: the parts of the key with | between them (in all but the last % "
        "is %25 and | is %7C), all sessions, and since when there are some, for ksqlDB takes records in the order of their times"
    )
    return Create("table", name_of(topic), columns, properties, comment=comment), ScheduleTable(name_of(topic), topic, partitions)
