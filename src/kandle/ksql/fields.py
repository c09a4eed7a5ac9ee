"""The fields of a target as columns of an aggregation."""

from __future__ import annotations

from dataclasses import dataclass

from kandle.errors import QueryError
from kandle.ksql.declarations import check_column, check_names, check_written
from kandle.ksql.expressions import term
from kandle.ksql.stage import Rows
from kandle.ksql.statements import Item, Names
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import column_type
from kandle.model.entity import EntityModel
from kandle.query.nodes import WindowBound
from kandle.query.query import QueryModel
from kandle.time.timeframe import MILLISECOND


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
