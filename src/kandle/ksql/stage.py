"""One step between declared sources and an aggregation: a stream as `CREATE STREAM AS SELECT`, and how columns stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kandle.errors import QueryError
from kandle.ksql.declarations import check_column, check_names, check_written, meaning, name_of
from kandle.ksql.expressions import term
from kandle.ksql.program import ScheduleTable
from kandle.ksql.statements import CreateAs, Item, Names, Properties, Select, Statement
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import column_type, quoted, source_name
from kandle.model.entity import EntityModel, snake_case
from kandle.query.nodes import AnyNode, Column, Node, WindowBound, walk
from kandle.query.query import QueryModel
from kandle.time.timeframe import MILLISECOND

WHOLE_FORMATS = ("AVRO", "JSON")
"""Formats that hold values of every type, and NULL."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A stream as it stands after FROM, and what was made so far for it.

    `scope` says where the query's columns stand in it, `columns` which of those later steps read, `keys` which columns are the
    group key. Where `is_timed`, the time of its records is the time of the query.
    """

    source: str
    scope: Scope
    is_timed: bool
    columns: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    declares: Mapping[str, Statement] = field(default_factory=dict)
    schedule: ScheduleTable | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a made stream adds to the columns of the query: its key, other columns, its condition, its name's end."""

    name: str
    comment: str
    key: tuple[Item, ...] = ()
    extra: tuple[Item, ...] = ()
    where: str | None = None
    formats: Properties = field(default_factory=dict)


def columns_of(nodes: Iterable[Node]) -> list[Column]:
    """The distinct columns in expressions."""
    return list(dict.fromkeys(found for node in nodes for found in walk(node) if isinstance(found, Column)))


def later_nodes(query: QueryModel) -> list[AnyNode]:
    """What is computed from events that count: group key, time, fields, `having`."""
    window = [] if query.window is None else [query.window.time]
    having = [] if query.having is None else [query.having]
    return [*query.group_by, *window, *(item.expression for item in query.projection), *having]


def meanings(entity: EntityModel, columns: Iterable[Column], alias: str = "") -> dict[Node, Term]:
    """Where the columns of an entity stand, and what they mean."""
    prefix = f"{quoted(alias)}." if alias else ""
    found: dict[Node, Term] = {}
    for column in columns:
        if column.entity == entity.name:
            value = meaning(entity, entity.field(column.name), f"{prefix}{quoted(column.name)}")
            found[column] = replace(value, nullable=column.nullable)
    return found


def column_term(name: str, value: Term) -> Term:
    """A value that stands in a column."""
    return Term(quoted(name), value.type, value.nullable)


class _Projection:
    """Columns of a made stream while they are gathered; an expression stands in it once. `columns` says what stands where."""

    def __init__(self, scope: Scope) -> None:
        self.items: list[Item] = []
        self.columns: dict[Node, Term] = {}
        self._scope = scope
        self._names = Names()

    def name(self, expression: str, wanted: str) -> str:
        """The column of an expression."""
        for item in self.items:
            if item.expression == expression:
                return item.name
        self.items.append(Item(expression, self._names.free(wanted)))
        return self.items[-1].name

    def add(self, node: AnyNode, wanted: str) -> str:
        """The column of a node; where two entities have fields of one name, the second is called after its entity too."""
        if node not in self.columns:
            value = term(node, self._scope)
            taken = any(item.name.upper() == wanted.upper() and item.expression != value.text for item in self.items)
            if taken and isinstance(node, Column):
                wanted = f"{snake_case(node.entity)}_{wanted}"
            self.columns[node] = column_term(self.name(value.text, wanted), value)
        return self.columns[node].text


def made(query: QueryModel, rows: Rows, step: Step) -> Rows:
    """The stream of a step: the query's columns, the parts of its group key as columns, at its time."""
    projection = _Projection(rows.scope)
    for item in (*step.key, *step.extra):
        projection.name(item.expression, item.name)
    for column in rows.columns:
        projection.add(column, column.name)
    keys = tuple(projection.add(key, f"_k{position}") for position, key in enumerate(query.group_by))
    topic = f"{query.target.topic}_{step.name}"
    properties = {**made_properties(topic, query.source), **step.formats}
    if query.window is not None:
        # Without a group key all events have the same, as in the engine.
        keys = keys or (quoted(projection.name("CAST(0 AS BIGINT)", "_k0")),)
        if not rows.is_timed:
            properties["TIMESTAMP"] = projection.add(query.window.time, "_time")
    select = Select(tuple(projection.items), rows.source, where=step.where)
    statement = CreateAs(query.source.kind, name_of(topic), properties, select, comment=step.comment)
    return replace(
        rows,
        source=source_name(statement.name),
        scope=Scope(projection.columns),
        is_timed=True,
        keys=keys,
        statements=(*rows.statements, statement),
    )


def made_properties(topic: str, source: EntityModel) -> dict[str, str | int]:
    """The topic and the format of what is made from an entity, which may have more columns and other types."""
    own = source.value_format
    return {"KAFKA_TOPIC": topic, "VALUE_FORMAT": own if own in WHOLE_FORMATS else "JSON"}


@dataclass(frozen=True, slots=True)
class Fields:
    """Columns of the target's fields, behind parts of the group key that no field holds; the names of the key's parts."""

    items: tuple[Item, ...]
    keys: tuple[str, ...]

    def names(self) -> Names:
        """The names that are taken."""
        return Names({item.name for item in self.items})


def fields(query: QueryModel, rows: Rows, scope: Scope) -> Fields:
    """The fields of the target; a part of the group key is a key column once, and copied into others."""
    items: list[Item] = []
    keys: dict[int, str] = {}
    for projection in query.projection:
        expression = projection.expression
        if expression not in query.group_by:
            value = term(expression, scope)
            items.append(Item(value.text, projection.field, value.type))
            continue
        position, kind = query.group_by.index(expression), column_type(expression.type)
        column = rows.keys[position]
        items.append(Item(f"AS_VALUE({column})" if position in keys else column, projection.field, kind))
        keys.setdefault(position, projection.field)
    names = Names({item.name for item in items})
    first: list[Item] = []
    for position, column in enumerate(rows.keys):
        if position not in keys:
            keys[position] = names.free(column.strip("`"))
            first.append(Item(column, keys[position]))
    return Fields((*first, *items), tuple(keys[position] for position in range(len(rows.keys))))


def bar_properties(query: QueryModel, topic: str, keys: int) -> dict[str, str | int]:
    """How the topic of bars is made, and the formats of its records."""
    target = query.target
    _check_formats(target, keys)
    check_names(target)
    check_written(target)
    starts = [item.field for item in query.projection if item.expression == WindowBound("start")]
    for found in target.fields:
        column = Term(found.name, column_type(found.type), found.nullable)
        if found.key_order is None or found.name in starts:
            check_column(target, column, "value", target.value_format)
        elif keys > 1:
            check_column(target, column, "key", target.key_format)
    properties: dict[str, str | int] = {
        "KAFKA_TOPIC": topic,
        "KEY_FORMAT": target.key_format,
        "VALUE_FORMAT": target.value_format,
    }
    if target.partitions not in (1, query.source.partitions):
        properties["PARTITIONS"] = target.partitions
    if target.replication > 1:
        properties["REPLICAS"] = target.replication
    return properties


def kept_for(target: EntityModel) -> dict[str, str | int]:
    """How long rows stay in the topic of a stream or a windowed table; those of other tables are kept until they are replaced."""
    return {} if target.retention is None else {"RETENTION_MS": target.retention // MILLISECOND}


def _check_formats(target: EntityModel, keys: int) -> None:
    if target.key_format == "KAFKA" and keys > 1:
        raise QueryError(
            f"{target.name}: key_format = 'KAFKA' holds one column, but the group key has {keys}; choose AVRO or JSON"
        )
    if target.value_format == "KAFKA":
        raise QueryError(f"{target.name}: value_format = 'KAFKA' holds one column, but bars have more; choose AVRO or JSON")


def start_of(query: QueryModel) -> str:
    """The field that is the start of the bucket."""
    return next(item.field for item in query.projection if item.expression == WindowBound("start"))
