"""A query while it is written: what the stages have gathered so far, and the checks when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from kandle.errors import ModelError, QueryError, unknown_name
from kandle.model.entity import MISSING, EntityModel, FieldModel, entity_model
from kandle.model.types import BooleanType, DataType, DateType, DecimalType, FloatType, IntegerType, TimestampType
from kandle.query.functions import Descending, NewTarget
from kandle.query.nodes import Aggregate, AnyNode, Call, Cast, Column, Constant, WindowBound, aggregates, describe, walk
from kandle.query.query import Gaps, Hopping, Join, Late, Order, Projection, QueryModel, Schedule, Tumbling
from kandle.query.recording import Recorded, RecordingRow, RecordingWindow, node_of, record, record_expression
from kandle.query.signatures import call
from kandle.time.buckets import zone_of
from kandle.time.timeframe import Timeframe, Unit, as_timeframe, parse_duration

ROUNDED = ("divide", "round", "avg", "weighted_average")
"""What is computed directly with the digits of its field, so that nothing is rounded twice."""


def projection(target: EntityModel, value: Any) -> tuple[Projection, ...]:
    """The projection of a selected object; QueryError names field and expression."""
    fields = selected_fields(target, value)
    return tuple(Projection(found.name, _assigned(target, found, fields[found.name])) for found in target.fields)


def selected_fields(target: EntityModel, value: Any) -> Mapping[str, AnyNode]:
    """The expression of every field of the selected object."""
    if isinstance(value, NewTarget):
        _check_target(target, value.target)
        return _complete(target, value.fields)
    if isinstance(value, Recorded) or not isinstance(value, target.cls):
        _check_target(target, type(value))
    return _complete(target, {found.name: getattr(value, found.name) for found in target.fields})


def _check_target(target: EntityModel, given: type) -> None:
    if given is not target.cls:
        name = "an expression" if given is Recorded else f"a {given.__name__}"
        raise QueryError(f"select: the function gives {name}, but the query is declared for {target.name}")


def _complete(target: EntityModel, fields: Mapping[str, Any]) -> Mapping[str, AnyNode]:
    names = [found.name for found in target.fields]
    for name in fields:
        if name not in names:
            raise QueryError(unknown_name(f"select: {target.name} has no field {name!r}", name, names))
    return {found.name: _field_node(target, found, fields) for found in target.fields}


def _field_node(target: EntityModel, found: FieldModel, fields: Mapping[str, Any]) -> AnyNode:
    value = fields.get(found.name, found.default)
    if value is MISSING:
        raise QueryError(f"select: {target.name}.{found.name} is missing")
    if value is None:
        return Constant(None, found.type)
    try:
        return node_of(value() if callable(value) and not isinstance(value, Recorded) else value)
    except ModelError as error:
        raise QueryError(f"select: {target.name}.{found.name}: {error}") from error


def _assigned(target: EntityModel, found: FieldModel, node: AnyNode) -> AnyNode:
    where = f"select: {target.name}.{found.name} ({found.type}) = {describe(node)}"
    if node.nullable and not found.nullable:
        raise QueryError(
            f"{where} may be NULL ({_why_null(node)}); declare the field as `{found.type} | None` or write f.coalesce(x, ...)"
        )
    fitted = _fitted(found, node, where)
    if fitted is None:
        raise QueryError(f"{where} is {node.type}; {_advice(found, node)}")
    return fitted


def _fitted(found: FieldModel, node: AnyNode, where: str) -> AnyNode | None:
    """The node with the field's type, or None if its own does not go with that."""
    kind = found.type
    if isinstance(node, Constant) and node.value is None:
        return Constant(None, kind)
    if isinstance(kind, DecimalType):
        return _fitted_decimal(kind, node, where)
    if isinstance(kind, FloatType) and isinstance(node.type, IntegerType):
        return Cast(node, kind)
    # Texts of any length go together here; the engine checks those of every bar against its field.
    return node if type(kind) is type(node.type) else None


def _fitted_decimal(kind: DecimalType, node: AnyNode, where: str) -> AnyNode | None:
    if isinstance(node.type, IntegerType):
        return Cast(node, kind)
    if not isinstance(node.type, DecimalType):
        return None
    if isinstance(node, Call | Aggregate) and node.function in ROUNDED:
        return replace(node, type=kind)
    if node.type.scale > kind.scale:
        raise QueryError(
            f"{where} has {node.type.scale} digits behind the point, the field {kind.scale}; write f.round(x, {kind.scale})"
        )
    return node if node.type == kind else Cast(node, kind)


def _why_null(node: AnyNode) -> str:
    for found in walk(node):
        if isinstance(found, Aggregate) and found.function == "stddev":
            return "a standard deviation needs two events"
        if isinstance(found, Aggregate) and found.function == "weighted_average":
            return "the weights can add up to 0"
        if isinstance(found, Call) and found.function in ("divide", "floor_divide", "modulo") and found.nullable:
            return "the divisor can be 0"
    return "one of its fields is Optional"


def _advice(found: FieldModel, node: AnyNode) -> str:
    if isinstance(found.type, FloatType) and isinstance(node.type, DecimalType):
        return "write f.cast(x, float)"
    if isinstance(found.type, DecimalType) and isinstance(node.type, FloatType):
        return f"write f.cast(x, Precision({found.type.precision}, {found.type.scale}))"
    return "the types do not go together"


def check_grouped(target: EntityModel, fields: tuple[Projection, ...], keys: tuple[AnyNode, ...]) -> None:
    """Outside of aggregates only group keys and window bounds may stand."""
    for item in fields:
        bare = bare_column(item.expression, keys)
        if bare is not None:
            raise QueryError(
                f"select: {target.name}.{item.field} = {describe(item.expression)}: {describe(bare)} is neither a group key "
                f"nor inside an aggregate; write f.last({describe(bare)}) or group by it"
            )


def bare_column(node: Any, keys: tuple[AnyNode, ...]) -> AnyNode | None:
    """A column of the source that stands outside of aggregates and is not part of a group key."""
    if node in keys or isinstance(node, Aggregate):
        return None
    if not node.children:
        return node if type(node).__name__ == "Column" else None
    return next((found for child in node.children if (found := bare_column(child, keys)) is not None), None)


def carried_into(fields: tuple[Projection, ...], target: EntityModel) -> tuple[str, str] | None:
    """A non-Optional field whose aggregate has no value in an empty bucket, and the expression; None if there is none."""
    always = ("count", "sum", "count_distinct")
    for item in fields:
        empty = [found for found in aggregates(item.expression) if found.function not in always]
        if empty and not target.field(item.field).nullable:
            return item.field, describe(item.expression)
    return None


Each = int | tuple[int, ...] | list[int]


@dataclass(frozen=True, slots=True)
class Draft:
    """The clauses of a query that is not complete yet."""

    source: EntityModel
    join: Join | None = None
    schedule: Schedule | None = None
    where: AnyNode | None = None
    window: Tumbling | Hopping | None = None
    group_by: tuple[AnyNode, ...] = ()
    having: AnyNode | None = None
    selected: Any = None
    order_by: tuple[Order, ...] = ()
    limit: int | None = None
    gaps: Gaps = Gaps.CARRY
    late: Late = Late.DROP

    @property
    def rows(self) -> tuple[RecordingRow, ...]:
        """A recording row of the source, and of what it is joined with."""
        other = () if self.join is None else (RecordingRow(self.join.entity, optional=self.join.how == "left"),)
        return (RecordingRow(self.source), *other)

    @property
    def window_row(self) -> RecordingWindow:
        """A recording window."""
        return RecordingWindow()

    def filtered(self, predicate: AnyNode) -> Draft:
        """With one more condition over events."""
        _check_condition("where", predicate)
        _check_no_aggregate("where", predicate)
        return replace(self, where=predicate if self.where is None else call("and", self.where, predicate))

    def with_having(self, predicate: AnyNode) -> Draft:
        """With one more condition over bars."""
        _check_condition("having", predicate)
        bare = bare_column(predicate, self.group_by)
        if bare is not None:
            raise QueryError(f"having: {describe(bare)} is neither a group key nor inside an aggregate; write f.last(...)")
        return replace(self, having=predicate if self.having is None else call("and", self.having, predicate))

    def grouped(self, key: Any) -> Draft:
        """With its group key."""
        parts = key if isinstance(key, tuple | list) else (key,)
        nodes = tuple(self._key(part) for part in parts)
        if not nodes:
            raise QueryError("group_by: the function gives no key; leave group_by out to make one series of bars")
        return replace(self, group_by=nodes)

    def _key(self, part: Any) -> AnyNode:
        if not isinstance(part, Recorded):
            raise QueryError(f"group_by: {part!r} does not depend on the row; name a field")
        node = node_of(part)
        _check_no_aggregate("group_by", node)
        if node.nullable:
            raise QueryError(f"group_by: {describe(node)} may be NULL, and NULL is no key; write f.coalesce(x, ...)")
        if str(node.type) in ("float", "dict[str, str]"):
            raise QueryError(f"group_by: {describe(node)} is {node.type}, which cannot be a key; cast or round it")
        return node

    def finished(self, target: EntityModel) -> QueryModel:
        """The query model for a target entity, after all checks."""
        fields = projection(target, self.selected)
        if self.window is not None or self.group_by:
            check_grouped(target, fields, self.group_by)
        else:
            _check_no_aggregates(fields)
        if self.window is not None:
            self._check_window(target, fields)
        if self.schedule is not None:
            _check_schedule(self.schedule, self.group_by, self.source)
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

    def _check_window(self, target: EntityModel, fields: tuple[Projection, ...]) -> None:
        starts = [item.field for item in fields if item.expression == WindowBound("start")]
        if not starts:
            raise QueryError(
                f"select: no field of {target.name} is w.start, so its bars could not be told apart; add start=w.start"
            )
        if target.keys:
            self._check_keys(target, fields)
        nulls = carried_into(fields, target) if self.gaps is Gaps.NULL else None
        if nulls is not None:
            field, expression = nulls
            raise QueryError(
                f"select: {target.name}.{field} = {expression} is NULL in a bucket without events (gaps=Gaps.NULL); declare the "
                "field as Optional, or choose Gaps.CARRY or Gaps.SKIP"
            )

    def _check_keys(self, target: EntityModel, fields: tuple[Projection, ...]) -> None:
        expressions = {item.field: item.expression for item in fields}
        found = [expressions[key.name] for key in target.keys]
        if found != [*self.group_by, WindowBound("start")]:
            wanted = ", ".join([*map(describe, self.group_by), "w.start"])
            given = ", ".join(f"{key.name} = {describe(expressions[key.name])}" for key in target.keys)
            raise QueryError(
                f"select: the key of {target.name} is ({given}), but bars are told apart by ({wanted}); "
                "mark those fields Key(0), Key(1) .. in this order"
            )


def _check_condition(stage: str, node: AnyNode) -> None:
    if not isinstance(node.type, BooleanType):
        raise QueryError(f"{stage}: {describe(node)} is {node.type}, not a condition")


def _check_no_aggregate(stage: str, node: AnyNode) -> None:
    if aggregates(node):
        raise QueryError(f"{stage}: {describe(node)} holds an aggregate; those belong in select and having")


def _check_no_aggregates(fields: tuple[Projection, ...]) -> None:
    for item in fields:
        if aggregates(item.expression):
            raise QueryError(
                f"select: {item.field} = {describe(item.expression)} is an aggregate, but there is neither a window nor a group "
                "key; add .tumbling(...) or .group_by(...)"
            )


def timeframes_of(units: Mapping[str, Each]) -> tuple[Timeframe, ...]:
    """The timeframes of one declaration, finest first, each once."""
    by_text = {unit.value: unit for unit in Unit}
    found = {
        Timeframe(value, by_text[unit])
        for unit, values in units.items()
        for value in (values if isinstance(values, tuple | list) else (values,))
    }
    if not found:
        raise QueryError("tumbling: no timeframe is given; write for example minutes=(1, 5), hours=1")
    return tuple(sorted(found))


def tumbling_of(
    time: AnyNode, timeframes: tuple[Timeframe, ...], zone: str, grace: str | timedelta | Mapping[str, str | timedelta]
) -> Tumbling:
    """The checked window."""
    _check_time("tumbling", time)
    zone_of(zone)
    if not isinstance(grace, Mapping):
        return Tumbling(time, timeframes, zone, parse_duration(grace))
    by_timeframe = {as_timeframe(name): parse_duration(duration) for name, duration in grace.items()}
    for name in by_timeframe:
        if name not in timeframes:
            raise QueryError(
                unknown_name(f"tumbling: grace is given for {name}, which is not declared", "", list(map(str, timeframes)))
            )
    return Tumbling(time, timeframes, zone, 0, by_timeframe)


def _check_time(stage: str, node: AnyNode) -> None:
    if not isinstance(node.type, TimestampType) or node.nullable:
        optional = " | None" if node.nullable else ""
        raise QueryError(f"{stage}: {describe(node)} is {node.type}{optional}; the time of an event is a datetime, not Optional")
    _check_no_aggregate(stage, node)


def schedule_of(
    entity: EntityModel, open: Callable[..., Any], close: Callable[..., Any], day: Callable[..., Any] | None
) -> Schedule:
    """The checked `based_on` clause."""
    row = RecordingRow(entity)
    bounds = [record_expression(f"based_on ({name})", function, row) for name, function in (("open", open), ("close", close))]
    for name, node in zip(("open", "close"), bounds, strict=True):
        _check_time(f"based_on ({name})", node)
    date_node = None if day is None else record_expression("based_on (day)", day, row)
    if date_node is not None and (not isinstance(date_node.type, DateType) or date_node.nullable):
        raise QueryError(f"based_on (day): {describe(date_node)} is {date_node.type}; the trading date is a date, not Optional")
    return Schedule(entity, bounds[0], bounds[1], date_node)


def _check_schedule(schedule: Schedule, group_by: tuple[AnyNode, ...], source: EntityModel) -> None:
    keys = schedule.entity.keys[: len(group_by)]
    same = [_same_key_type(key.type, node.type) for key, node in zip(keys, group_by, strict=False)]
    if len(keys) < len(group_by) or not all(same):
        given = ", ".join(f"{key.name}: {key.type}" for key in schedule.entity.keys) or "none"
        wanted = ", ".join(f"{describe(node)}: {node.type}" for node in group_by)
        raise QueryError(
            f"based_on: the leading key parts of {schedule.entity.name} ({given}) must be the group key "
            f"({wanted}), in number, order and type"
        )


def _same_key_type(one: DataType, other: DataType) -> bool:
    """Whether equal keys of these types are equal as columns: decimals only of the same digits, texts of any length."""
    return one == other if isinstance(one, DecimalType) else type(one) is type(other)


def order_of(draft: Draft, key: Callable[..., Any]) -> tuple[Order, ...]:
    """The checked `order_by` clause over the fields of the selected object."""
    target = draft.selected.target if hasattr(draft.selected, "target") else type(draft.selected)
    row = RecordingRow(entity_model(target))
    value = record("order_by", key, row)
    parts = value if isinstance(value, tuple | list) else (value,)
    return tuple(_order(part) for part in parts)


def _order(part: Any) -> Order:
    descending = isinstance(part, Descending)
    value = part.value if descending else part
    node = node_of(value) if isinstance(value, Recorded) else None
    if not isinstance(node, Column):
        raise QueryError(f"order_by: {part!r} is not a field of the result; write lambda b: b.field or f.descending(b.field)")
    return Order(node.name, descending)
