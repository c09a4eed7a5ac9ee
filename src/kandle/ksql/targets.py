"""The target of a query: the columns of its fields, and the properties of its topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kandle.errors import QueryError
from kandle.ksql.declarations import check_column, check_names, check_written
from kandle.ksql.expressions import term
from kandle.ksql.statements import SelectItem
from kandle.ksql.streams import FromClause
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import UniqueNames, column_type
from kandle.model.entity import EntityModel
from kandle.query.nodes import WindowBound
from kandle.query.query import QueryModel
from kandle.time.timeframe import MILLISECOND


@dataclass(frozen=True, slots=True)
class TargetColumns:
    """The projection of a query.

    Attributes:
        items: Parts of the group key that no field holds, then the fields in their order.
        keys: Names of the columns that are the group key, in its order.
    """

    items: tuple[SelectItem, ...]
    keys: tuple[str, ...]


def target_columns(query: QueryModel, rows: FromClause, scope: TermScope) -> TargetColumns:
    """Return the columns of the target.

    A part of the group key is a key column once; other fields with the same value are copies.

    Args:
        query: The query.
        rows: What it reads.
        scope: What the nodes of its fields stand for.
    """
    items: list[SelectItem] = []
    keys: dict[int, str] = {}
    for projection in query.projection:
        expression = projection.expression
        if expression not in query.group_by:
            value = term(expression, scope)
            items.append(SelectItem(value.text, projection.field, value.type))
            continue
        position, kind = query.group_by.index(expression), column_type(expression.type)
        column = rows.keys[position]
        text = f"AS_VALUE({column})" if position in keys else column
        items.append(SelectItem(text, projection.field, kind))
        keys.setdefault(position, projection.field)
    names = UniqueNames(item.name for item in items)
    unnamed: list[SelectItem] = []
    for position, column in enumerate(rows.keys):
        if position not in keys:
            keys[position] = names.claim(column.strip("`"))
            unnamed.append(SelectItem(column, keys[position]))
    return TargetColumns((*unnamed, *items), tuple(keys[position] for position in range(len(rows.keys))))


def with_partials(items: Sequence[SelectItem], values: Mapping[str, Term]) -> tuple[list[SelectItem], dict[str, str]]:
    """Return further columns for partials that no column of a projection holds.

    Args:
        items: The projection.
        values: The partials by name.

    Returns:
        The columns, and the name of the column that holds each partial.
    """
    names = UniqueNames(item.name for item in items)
    by_text = {item.expression: item.name for item in items}
    further: list[SelectItem] = []
    column_names: dict[str, str] = {}
    for name, value in values.items():
        if value.text not in by_text:
            by_text[value.text] = names.claim(name)
            further.append(SelectItem(value.text, by_text[value.text], value.type))
        column_names[name] = by_text[value.text]
    return further, column_names


def start_field(query: QueryModel) -> str:
    """Return the name of the field that is the start of the bucket."""
    return next(item.field for item in query.projection if item.expression == WindowBound("start"))


def target_properties(query: QueryModel, topic: str, keys: int) -> dict[str, str | int]:
    """Return the properties of a topic with the target's rows.

    Args:
        query: The query.
        topic: Name of the topic.
        keys: Number of parts of the group key.

    Raises:
        QueryError: If ksqlDB cannot write the target in its formats.
    """
    target = query.target
    _check_target(query, keys)
    properties: dict[str, str | int] = {
        "KAFKA_TOPIC": topic,
        "KEY_FORMAT": target.key_format,
        "VALUE_FORMAT": target.value_format,
    }
    if target.partitions not in (1, query.source.partitions):
        properties["PARTITIONS"] = target.partitions
    if target.replication is not None:
        properties["REPLICAS"] = target.replication
    return properties


def retention_property(target: EntityModel) -> dict[str, str | int]:
    """Return how long rows of a stream or windowed table stay; those of other tables stay until replaced."""
    return {} if target.retention is None else {"RETENTION_MS": target.retention // MILLISECOND}


def _check_target(query: QueryModel, keys: int) -> None:
    target = query.target
    if target.key_format == "KAFKA" and keys > 1:
        raise QueryError(
            f"{target.name}: key_format = 'KAFKA' holds one column, but the group key has {keys}; choose AVRO or JSON"
        )
    if target.value_format == "KAFKA":
        raise QueryError(
            f"{target.name}: value_format = 'KAFKA' holds one column, but rows of {target.name} have more; choose AVRO or JSON"
        )
    check_names(target)
    check_written(target)
    starts = [item.field for item in query.projection if item.expression == WindowBound("start")]
    for field in target.fields:
        column = Term(field.name, column_type(field.type), field.nullable)
        if field.key_order is None or field.name in starts:
            check_column(target, column, "value", target.value_format)
        elif keys > 1:
            check_column(target, column, "key", target.key_format)
