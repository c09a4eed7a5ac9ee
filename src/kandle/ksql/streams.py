"""Streams between the declared source and the query, made by `CREATE STREAM AS SELECT`.

A step (a join, sessions, a computed group key) reads a `FromClause` and gives the `FromClause` of the stream
that it creates:

    FROM `ticks` `t` JOIN ..  --derived_stream-->  FROM `bars_joined`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kandle.ksql.declarations import field_term
from kandle.ksql.expressions import term
from kandle.ksql.statements import CreateAs, Properties, Select, SelectItem, Statement
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import UniqueNames, name_of_topic, quoted, source_name
from kandle.model.entity import EntityModel, snake_case
from kandle.query.nodes import AnyNode, Column, Node, walk
from kandle.query.query import QueryModel

COMPLETE_FORMATS = ("AVRO", "JSON")
"""Formats that hold values of every type, and NULL."""


@dataclass(frozen=True, slots=True)
class FromClause:
    """What a query reads, and the statements that make it.

    Attributes:
        text: KSQL text after FROM.
        scope: What the query's columns stand for in it.
        is_timed: Whether ksqlDB's time of the records is the time of the query.
        columns: The columns that later steps read.
        keys: KSQL of the parts of the group key.
        statements: The statements of this query that create it, in order.
        declarations: Statements that it needs and other queries may share, by the name of the stream or
            table.
    """

    text: str
    scope: TermScope
    is_timed: bool
    columns: tuple[Column, ...] = ()
    keys: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    declarations: Mapping[str, Statement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamStep:
    """What a created stream has besides the columns of the query.

    Attributes:
        suffix: End of the stream's name.
        comment: What the stream is.
        keys: Its key columns.
        extra: Further columns.
        where: Its condition.
        formats: Properties that replace the usual formats.
    """

    suffix: str
    comment: str
    keys: tuple[SelectItem, ...] = ()
    extra: tuple[SelectItem, ...] = ()
    where: str | None = None
    formats: Properties = field(default_factory=dict)


def columns_of(nodes: Iterable[Node]) -> list[Column]:
    """Return the distinct columns in expressions, in their order."""
    return list(dict.fromkeys(part for node in nodes for part in walk(node) if isinstance(part, Column)))


def column_terms(entity: EntityModel, columns: Iterable[Column], alias: str = "") -> dict[Node, Term]:
    """Return the values of those columns that belong to an entity, read from its topic.

    Args:
        entity: The entity.
        columns: Columns of this entity and others.
        alias: The entity's alias in the FROM clause, if it has one.
    """
    prefix = f"{quoted(alias)}." if alias else ""
    terms: dict[Node, Term] = {}
    for column in columns:
        if column.entity == entity.name:
            value = field_term(entity, entity.field(column.name), f"{prefix}{quoted(column.name)}")
            terms[column] = replace(value, nullable=column.nullable)
    return terms


class _Projection:
    """Collects the columns of a created stream; each expression becomes one column.

    Attributes:
        items: The columns.
        terms: The nodes that are columns of the stream, as terms of its readers.
    """

    def __init__(self, scope: TermScope) -> None:
        self.items: list[SelectItem] = []
        self.terms: dict[Node, Term] = {}
        self._scope = scope
        self._names = UniqueNames()

    def add(self, expression: str, wanted: str) -> str:
        """Add an expression under the wanted name or one like it; return the name of its column."""
        for item in self.items:
            if item.expression == expression:
                return item.name
        self.items.append(SelectItem(expression, self._names.claim(wanted)))
        return self.items[-1].name

    def add_node(self, node: AnyNode, wanted: str) -> str:
        """Add a node; return its column, quoted.

        If two entities have fields of the same name, the entity's name is put before the second.
        """
        if node not in self.terms:
            value = term(node, self._scope)
            is_taken = any(item.name.upper() == wanted.upper() and item.expression != value.text for item in self.items)
            if is_taken and isinstance(node, Column):
                wanted = f"{snake_case(node.entity)}_{wanted}"
            self.terms[node] = Term(quoted(self.add(value.text, wanted)), value.type, value.nullable)
        return self.terms[node].text


def derived_stream(query: QueryModel, rows: FromClause, step: StreamStep) -> FromClause:
    """Return the stream that a step creates: the query's columns, its group key as columns, and its time.

    Args:
        query: The query.
        rows: What the step reads.
        step: What the stream has besides.
    """
    projection = _Projection(rows.scope)
    for item in (*step.keys, *step.extra):
        projection.add(item.expression, item.name)
    for column in rows.columns:
        projection.add_node(column, column.name)
    keys = tuple(projection.add_node(key, f"_k{position}") for position, key in enumerate(query.group_by))
    topic = f"{query.target.topic}_{step.suffix}"
    properties = {**stream_properties(topic, query.source), **step.formats}
    if query.window is not None:
        # Without a group key all events have the same key, as in the engine.
        keys = keys or (quoted(projection.add("CAST(0 AS BIGINT)", "_k0")),)
        if not rows.is_timed:
            properties["TIMESTAMP"] = projection.add_node(query.window.time, "_time")
    select = Select(tuple(projection.items), rows.text, where=step.where)
    statement = CreateAs(query.source.kind, name_of_topic(topic), properties, select, comment=step.comment)
    return replace(
        rows,
        text=source_name(statement.name),
        scope=TermScope(projection.terms),
        is_timed=True,
        keys=keys,
        statements=(*rows.statements, statement),
    )


def stream_properties(topic: str, source: EntityModel) -> dict[str, str | int]:
    """Return topic and format of a stream made from an entity, whose columns may be of other types."""
    own = source.value_format
    return {"KAFKA_TOPIC": topic, "VALUE_FORMAT": own if own in COMPLETE_FORMATS else "JSON"}
