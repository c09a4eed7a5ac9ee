"""One step between declared sources and an aggregation: a stream as `CREATE STREAM AS SELECT`, and how columns stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kandle.ksql.declarations import meaning, name_of
from kandle.ksql.expressions import term
from kandle.ksql.names import quoted, source_name
from kandle.ksql.program import ScheduleTable
from kandle.ksql.statements import CreateAs, Item, Names, Select, Statement
from kandle.ksql.terms import Scope, Term
from kandle.model.entity import EntityModel
from kandle.model.naming import snake_case
from kandle.query.nodes import AnyNode, Column, Node, walk
from kandle.query.query import QueryModel

NESTED_FORMATS = ("AVRO", "JSON", "PROTOBUF")
"""Formats that hold values of every type."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A stream as it stands after FROM, and what was made so far for it.

    `scope` says where the query's columns stand in it, `keys` which columns are the group key. Where `is_timed`, the time of its
    records is the time of the query.
    """

    source: str
    scope: Scope
    is_timed: bool
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
    """Columns of a made stream while they are gathered; an expression stands in it once."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._names = Names()

    def name(self, expression: str, wanted: str) -> str:
        """The column of an expression."""
        for item in self.items:
            if item.expression == expression:
                return item.name
        self.items.append(Item(expression, self._names.free(wanted)))
        return self.items[-1].name

    def column(self, column: Column, expression: str) -> str:
        """The column of a field; where two entities have fields of one name, the second is called after its entity too."""
        taken = any(item.name == column.name and item.expression != expression for item in self.items)
        return self.name(expression, f"{snake_case(column.entity)}_{column.name}" if taken else column.name)


def made(query: QueryModel, rows: Rows, step: Step) -> Rows:
    """The stream of a step: the query's columns, the parts of its group key as columns, at its time."""
    projection = _Projection()
    for item in (*step.key, *step.extra):
        projection.name(item.expression, item.name)
    columns: dict[Node, Term] = {}
    for column in columns_of(later_nodes(query)):
        value = rows.scope.columns[column]
        columns[column] = column_term(projection.column(column, value.text), value)
    keys = []
    for position, key in enumerate(query.group_by):
        if key not in columns:
            value = term(key, rows.scope)
            columns[key] = column_term(projection.name(value.text, f"_k{position}"), value)
        keys.append(columns[key].text)
    if query.window is not None and not query.group_by:
        keys.append(quoted(projection.name("CAST(0 AS BIGINT)", "_k0")))
    properties = made_properties(f"{query.target.topic}_{step.name}", query.source)
    if not rows.is_timed and query.window is not None:
        properties["TIMESTAMP"] = quoted(_time(query, rows, projection, columns))
    select = Select(tuple(projection.items), rows.source, where=step.where)
    name = name_of(f"{query.target.topic}_{step.name}")
    statement = CreateAs(query.source.kind, name, properties, select, comment=step.comment)
    scope = Scope(columns)
    return replace(
        rows,
        source=source_name(name),
        scope=scope,
        is_timed=True,
        keys=tuple(keys),
        statements=(*rows.statements, statement),
    )


def _time(query: QueryModel, rows: Rows, projection: _Projection, columns: dict[Node, Term]) -> str:
    """The column of the query's time."""
    assert query.window is not None
    time = query.window.time
    value = term(time, rows.scope)
    wanted = time.name if isinstance(time, Column) else "_time"
    name = projection.name(value.text, wanted)
    columns[time] = column_term(name, value)
    return name


def made_properties(topic: str, source: EntityModel) -> dict[str, str | int]:
    """The topic and the format of what is made from an entity, which may have more columns and other types."""
    own = source.value_format
    return {"KAFKA_TOPIC": topic, "VALUE_FORMAT": own if own in NESTED_FORMATS else "JSON"}
