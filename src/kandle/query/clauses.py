"""Clauses that are more than one expression: join, schedule, window and order, each made and checked here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, TypeVar

from kandle.errors import QueryError, unknown_name
from kandle.model.entity import EntityModel
from kandle.model.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    IntegerType,
    StringType,
    TimestampType,
)
from kandle.query.functions.results import Descending
from kandle.query.nodes import AnyNode, Call, Column, aggregates, describe, walk
from kandle.query.query import Hopping, Join, Order, Schedule, Tumbling
from kandle.query.recording import Recorded, RecordingRow, node_of, record, record_expression
from kandle.query.result_types import exact_type
from kandle.time.timeframe import Timeframe, Unit, as_timeframe, parse_duration
from kandle.time.zones import zone_of

Duration = str | timedelta
Grace = Duration | Mapping[str, Duration]
Counts = int | tuple[int, ...] | list[int]
"""One or several numbers of a unit: `minutes=1` or `minutes=(1, 5)`."""

Choice = TypeVar("Choice", bound=Enum)


def check_condition(stage: str, node: AnyNode) -> None:
    """Raise QueryError unless the expression is a condition."""
    if not isinstance(node.type, BooleanType):
        instead = f"; compare it, for example {describe(node)} > 0" if node.type.is_numeric else ""
        raise QueryError(f"{stage}: {describe(node)} is {node.type}, not a condition{instead}")


def check_no_aggregate(stage: str, node: AnyNode) -> None:
    """Raise QueryError if the expression holds an aggregate."""
    if aggregates(node):
        raise QueryError(
            f"{stage}: {describe(node)} holds an aggregate, but there is no bucket yet; "
            "aggregates are possible in having and select"
        )


def choice_of(name: str, kind: type[Choice], value: Choice | str) -> Choice:
    """Return the member of an enumeration, given itself or by its value."""
    try:
        return kind(value)
    except ValueError:
        members = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise QueryError(f"{name} = {value!r}; choose one of {members}") from None


# Windows


def make_tumbling(
    time: Callable[..., Any], rows: tuple[RecordingRow, ...], units: Mapping[str, Counts], zone: str, grace: Grace
) -> Tumbling:
    """Return the checked `tumbling` clause; `units` holds the numbers of each unit of time, by its symbol."""
    node = record_expression("tumbling", time, *rows)
    timeframes = _timeframes(units)
    _check_time("tumbling", node)
    zone_of(zone)
    if not isinstance(grace, Mapping):
        return Tumbling(node, timeframes, zone, parse_duration(grace))
    by_timeframe = {as_timeframe(name): parse_duration(duration) for name, duration in grace.items()}
    for timeframe in by_timeframe:
        if timeframe not in timeframes:
            message = f"tumbling: grace is given for {timeframe}, which is not a timeframe of this query"
            raise QueryError(unknown_name(message, "", list(map(str, timeframes))))
    return Tumbling(node, timeframes, zone, 0, by_timeframe)


def _timeframes(units: Mapping[str, Counts]) -> tuple[Timeframe, ...]:
    """Return the timeframes of one declaration, finest first, each once."""
    by_symbol = {unit.value: unit for unit in Unit}
    timeframes = {
        Timeframe(count, by_symbol[symbol])
        for symbol, counts in units.items()
        for count in (counts if isinstance(counts, tuple | list) else (counts,))
    }
    if not timeframes:
        raise QueryError("tumbling: no timeframe is given; write for example minutes=(1, 5), hours=1")
    return tuple(sorted(timeframes))


def make_hopping(time: Callable[..., Any], rows: tuple[RecordingRow, ...], size: str, advance: str, grace: Duration) -> Hopping:
    """Return the checked `hopping` clause."""
    node = record_expression("hopping", time, *rows)
    _check_time("hopping", node)
    return Hopping(node, as_timeframe(size), as_timeframe(advance), parse_duration(grace))


def _check_time(stage: str, node: AnyNode) -> None:
    check_no_aggregate(stage, node)
    shown = describe(node)
    if not isinstance(node.type, TimestampType):
        is_int = isinstance(node.type, IntegerType)
        instead = f"; if it holds milliseconds, write f.from_epoch_millis({shown})" if is_int else ""
        raise QueryError(f"{stage}: {shown} is {node.type}, but a time must be a datetime{instead}")
    if node.nullable:
        raise QueryError(f"{stage}: {shown} is datetime | None, but a time must not be NULL; write f.coalesce({shown}, ...)")


# Schedule


def make_schedule(
    entity: EntityModel, open: Callable[..., Any], close: Callable[..., Any], day: Callable[..., Any] | None
) -> Schedule:
    """Return the checked `based_on` clause."""
    row = RecordingRow(entity)
    start = record_expression("based_on (open)", open, row)
    _check_time("based_on (open)", start)
    end = record_expression("based_on (close)", close, row)
    _check_time("based_on (close)", end)
    trading_date = None if day is None else record_expression("based_on (day)", day, row)
    if trading_date is not None and (not isinstance(trading_date.type, DateType) or trading_date.nullable):
        shown, is_time = describe(trading_date), isinstance(trading_date.type, TimestampType)
        instead = f"; write f.to_date({shown})" if is_time else ""
        raise QueryError(
            f"based_on (day): {shown} is {trading_date.type}{' | None' if trading_date.nullable else ''}, "
            f"but the trading date must be a date that is not NULL{instead}"
        )
    return Schedule(entity, start, end, trading_date)


def check_schedule_key(schedule: Schedule, group_by: tuple[AnyNode, ...]) -> None:
    """Raise QueryError unless the leading key parts of the schedule are the group key."""
    keys = schedule.entity.keys[: len(group_by)]
    same = [_equal_as_columns(key.type, node.type) for key, node in zip(keys, group_by, strict=False)]
    if len(keys) < len(group_by) or not all(same):
        given = ", ".join(f"{key.name}: {key.type}" for key in schedule.entity.keys) or "none"
        wanted = ", ".join(f"{describe(node)}: {node.type}" for node in group_by)
        raise QueryError(
            f"based_on: the leading key parts of {schedule.entity.name} ({given}) must be the group key "
            f"({wanted}), in number, order and type"
        )


def _equal_as_columns(one: DataType, other: DataType) -> bool:
    """Return whether equal values are equal as columns.

    Decimals are, if they have the same digits; texts are, whatever their lengths.
    """
    return one == other if isinstance(one, DecimalType) else type(one) is type(other)


# Join

HOW = ("inner", "left")


def make_join(
    source: EntityModel,
    other: EntityModel,
    on: Callable[..., Any],
    how: Literal["inner", "left"],
    *,
    within: Duration | None,
    grace: Duration | None,
) -> Join:
    """Return the checked `join` clause."""
    if other.name == source.name:
        raise QueryError(
            f"join: {source.name} cannot be joined with itself, since its columns could not be told apart; "
            f"copy it to a second class by a query, from_({source.name}).select(...), and join that"
        )
    if how not in HOW:
        raise QueryError(f"join: how = {how!r}; choose one of {', '.join(map(repr, HOW))}")
    node = record_expression("join (on)", on, RecordingRow(source), RecordingRow(other))
    pairs = tuple(_pair(source, other, condition) for condition in _conditions(node))
    durations = [None if value is None else parse_duration(value) for value in (within, grace)]
    clause = Join(other, pairs, how, *durations)
    if source.kind == other.kind == "stream":
        _check_streams(source, clause)
    else:
        _check_table(source, clause)
    return clause


def _conditions(node: AnyNode) -> Iterator[AnyNode]:
    """Yield the conditions that are joined by `&`."""
    if isinstance(node, Call) and node.function == "and":
        for argument in node.arguments:
            yield from _conditions(argument)
    else:
        yield node


def _pair(source: EntityModel, other: EntityModel, condition: AnyNode) -> tuple[AnyNode, AnyNode]:
    """Return the two sides of an equality, the source's first."""
    if isinstance(condition, Call) and condition.function == "equal":
        left, right = condition.arguments
        if (_entities(left), _entities(right)) == ({other.name}, {source.name}):
            left, right = right, left
        if (_entities(left), _entities(right)) == ({source.name}, {other.name}):
            check_no_aggregate("join", condition)
            _check_same_type(condition, left, right)
            return left, right
    raise QueryError(
        f"join: {describe(condition)} is not an equality between {source.name} and {other.name}; "
        "compare fields of the two by == in on, and put all other conditions into where"
    )


def _entities(node: AnyNode) -> set[str]:
    return {part.entity for part in walk(node) if isinstance(part, Column)}


def _check_same_type(condition: AnyNode, left: AnyNode, right: AnyNode) -> None:
    if not _equal_as_columns(left.type, right.type):
        raise QueryError(
            f"join: {describe(condition)} compares {left.type} with {right.type}, but both sides must have one type"
            f"{_cast_advice(left, right)}"
        )


def _cast_advice(left: AnyNode, right: AnyNode) -> str:
    """Return how to bring the two sides of an equality to one type, if a cast can do it."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one.type, DecimalType) and other.type.is_numeric and exact_type(other).scale <= one.type.scale:
            return f"; write f.cast({describe(other)}, Precision({one.type.precision}, {one.type.scale}))"
        if isinstance(one.type, StringType) and other.type.is_numeric:
            return f"; write f.cast({describe(other)}, str)"
    return ""


def _check_streams(source: EntityModel, clause: Join) -> None:
    other = clause.entity
    if not clause.within:
        raise QueryError(
            f"join: {source.name} and {other.name} are both streams; "
            'say how far apart in time their events may be, for example within="5s"'
        )
    if clause.how == "left" and clause.grace is None:
        raise QueryError(
            f"join: a left join of streams must know how late events of {other.name} may be, "
            f'to say when an event of {source.name} has no partner; add for example grace="1m"'
        )


def _check_table(source: EntityModel, clause: Join) -> None:
    other = clause.entity
    if source.kind == "table" and other.kind == "stream":
        raise QueryError(
            f"join: the table {source.name} cannot be joined with the stream {other.name}; begin with from_({other.name})"
        )
    for name, value in (("within", clause.within), ("grace", clause.grace)):
        if value is not None:
            raise QueryError(
                f"join: {name} is for two streams, but {other.name} is a table, whose newest row counts; leave {name} out"
            )
    keys = [Column(other.name, key.name, key.type, key.nullable) for key in other.keys]
    compared = [right for _, right in clause.on]
    if len(compared) != len(keys) or any(key not in compared for key in keys):
        wanted = ", ".join(map(describe, keys)) or "none, so it cannot be joined"
        shown = ", ".join(map(describe, compared))
        raise QueryError(
            f"join: on must compare each key part of the table {other.name} once ({wanted}), but it compares {shown}"
        )


# Order


def make_order(result: EntityModel, key: Callable[..., Any]) -> tuple[Order, ...]:
    """Return the checked `order_by` clause over the fields of the result."""
    value = record("order_by", key, RecordingRow(result))
    parts = value if isinstance(value, tuple | list) else (value,)
    return tuple(_order(result, part) for part in parts)


def _order(result: EntityModel, part: Any) -> Order:
    is_descending = isinstance(part, Descending)
    value = part.value if is_descending else part
    node = node_of(value) if isinstance(value, Recorded) else None
    if not isinstance(node, Column):
        raise QueryError(
            f"order_by: {value!r} is not a field of {result.name}; write lambda b: b.field or lambda b: f.descending(b.field)"
        )
    return Order(node.name, is_descending)
