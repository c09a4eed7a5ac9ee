"""Draft of a query: the clauses collected so far, and the checks of the whole when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kandle.errors import QueryError
from kandle.model.entity import EntityModel, entity_model
from kandle.model.types import FloatType, StringMapType, TimestampType
from kandle.query.clauses import check_condition, check_no_aggregate, check_schedule_key
from kandle.query.nodes import AnyNode, WindowBound, aggregates, describe
from kandle.query.projection import bare_column, check_grouped, make_projection
from kandle.query.query import Gaps, Hopping, Join, Late, Order, Projection, QueryModel, Schedule, Tumbling
from kandle.query.recording import Recorded, RecordingRow, RecordingWindow, node_of
from kandle.query.signatures import call

NEVER_NULL = ("count", "sum", "count_distinct")
"""Aggregates that have a value in an empty bucket even with `Gaps.NULL`."""


EntityLookup = Callable[[type], EntityModel]


@dataclass(frozen=True, slots=True)
class Draft:
    """The clauses of a query that is not complete yet."""

    source: EntityModel
    entity_of: EntityLookup = entity_model
    """Returns the metadata of an entity, as the model has it."""
    join: Join | None = None
    schedule: Schedule | None = None
    where: AnyNode | None = None
    window: Tumbling | Hopping | None = None
    group_by: tuple[AnyNode, ...] = ()
    having: AnyNode | None = None
    selected: Any = None
    """What the function of `select` returned."""
    order_by: tuple[Order, ...] = ()
    limit: int | None = None
    gaps: Gaps = Gaps.CARRY
    late: Late = Late.DROP

    @property
    def rows(self) -> tuple[RecordingRow, ...]:
        """Recording rows of the source and of the entity that it is joined with."""
        other = () if self.join is None else (RecordingRow(self.join.entity, optional=self.join.how == "left"),)
        return (RecordingRow(self.source), *other)

    @property
    def bucket(self) -> RecordingWindow:
        """The recording window of the bucket."""
        return RecordingWindow()

    def with_where(self, predicate: AnyNode) -> Draft:
        """Return the draft with one more condition over events."""
        check_condition("where", predicate)
        check_no_aggregate("where", predicate)
        return replace(self, where=predicate if self.where is None else call("and", self.where, predicate))

    def with_having(self, predicate: AnyNode) -> Draft:
        """Return the draft with one more condition over bars."""
        check_condition("having", predicate)
        column = bare_column(predicate, self.group_by)
        if column is not None:
            raise QueryError(
                f"having: {describe(column)} is neither a group key nor inside an aggregate; "
                f"write f.last({describe(column)}) or another aggregate of it"
            )
        return replace(self, having=predicate if self.having is None else call("and", self.having, predicate))

    def with_group_by(self, key: Any) -> Draft:
        """Return the draft with its group key: an expression, or a tuple of them."""
        parts = key if isinstance(key, tuple | list) else (key,)
        if not parts:
            raise QueryError("group_by: the function returns no key; leave group_by out to make one series of bars")
        return replace(self, group_by=tuple(_key_part(part) for part in parts))

    def to_model(self, target: EntityModel) -> QueryModel:
        """Return the query model for a target entity, after all checks."""
        fields = make_projection(target, self.selected)
        if self.window is not None or self.group_by:
            check_grouped(target, fields, self.group_by)
        else:
            _check_no_aggregates(fields)
        if self.window is not None:
            _check_start(target, fields)
            _check_keys(target, fields, self.group_by)
            if self.gaps is Gaps.NULL:
                _check_nulls_of_gaps(target, fields)
        if self.schedule is not None:
            check_schedule_key(self.schedule, self.group_by)
        for order in self.order_by:
            target.field(order.field)
        return QueryModel(
            target=target,
            source=self.source,
            projection=fields,
            join=self.join,
            schedule=self.schedule,
            where=self.where,
            window=self.window,
            group_by=self.group_by,
            having=self.having,
            order_by=self.order_by,
            limit=self.limit,
            gaps=self.gaps,
            late=self.late,
        )


def _key_part(part: Any) -> AnyNode:
    if not isinstance(part, Recorded):
        raise QueryError(f"group_by: {part!r} does not depend on the row; use a field of the row")
    node = node_of(part)
    shown = describe(node)
    check_no_aggregate("group_by", node)
    if node.nullable:
        raise QueryError(f"group_by: {shown} may be NULL, but a key must have a value; write f.coalesce({shown}, ...)")
    if isinstance(node.type, FloatType | StringMapType):
        is_float = isinstance(node.type, FloatType)
        instead = f"; write f.cast({shown}, Precision(18, 6))" if is_float else "; group by another field"
        raise QueryError(f"group_by: {shown} is {node.type}, which cannot be a key{instead}")
    return node


def _check_no_aggregates(fields: tuple[Projection, ...]) -> None:
    for item in fields:
        if aggregates(item.expression):
            raise QueryError(
                f"select: {item.field} = {describe(item.expression)} is an aggregate, but the query has neither a window "
                "nor a group key; add .tumbling(...) or .group_by(...)"
            )


def _check_start(target: EntityModel, fields: tuple[Projection, ...]) -> None:
    """Raise QueryError unless the bars hold the start of their bucket."""
    if not any(item.expression == WindowBound("start") for item in fields):
        times = [field.name for field in target.fields if isinstance(field.type, TimestampType)]
        instead = f"write {times[0]}=w.start" if times else "add a datetime field and fill it with w.start"
        raise QueryError(f"select: no field of {target.name} is w.start, so that its bars could not be told apart; {instead}")


def _check_keys(target: EntityModel, fields: tuple[Projection, ...], group_by: tuple[AnyNode, ...]) -> None:
    """Raise QueryError unless the target's key, if any, is the group key and the start of the bucket."""
    expressions = {item.field: item.expression for item in fields}
    wanted = [*group_by, WindowBound("start")]
    if not target.keys or [expressions[key.name] for key in target.keys] == wanted:
        return
    given = ", ".join(f"{key.name} = {describe(expressions[key.name])}" for key in target.keys)
    names = [next((name for name, node in expressions.items() if node == part), None) for part in wanted]
    unfilled = [describe(part) for part, name in zip(wanted, names, strict=True) if name is None]
    instead = (
        f"fill a field with {' and one with '.join(unfilled)}"
        if unfilled
        else f"mark {', '.join(f'{name} as Key({order})' for order, name in enumerate(names))} and no other field"
    )
    raise QueryError(
        f"select: the key of {target.name} is ({given}), but its bars are told apart by "
        f"({', '.join(map(describe, wanted))}); {instead}"
    )


def _check_nulls_of_gaps(target: EntityModel, fields: tuple[Projection, ...]) -> None:
    """Raise QueryError if a field that is not Optional has no value in a bucket without events."""
    for item in fields:
        empty = [node for node in aggregates(item.expression) if node.function not in NEVER_NULL]
        if empty and not target.field(item.field).nullable:
            raise QueryError(
                f"select: {target.name}.{item.field} = {describe(item.expression)} is NULL in a bucket without events "
                "(gaps=Gaps.NULL); declare the field as Optional, or choose Gaps.CARRY or Gaps.SKIP"
            )
