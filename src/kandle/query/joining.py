"""The `join` clause: which rows of two entities go together, checked when it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

from kandle.errors import QueryError
from kandle.model.entity import EntityModel
from kandle.model.types import DecimalType
from kandle.query.describe import describe
from kandle.query.nodes import AnyNode, Call, Column, aggregates, walk
from kandle.query.query import Join
from kandle.query.recording import RecordingRow, recorded_node
from kandle.time.timeframe import parse_duration

HOW = ("inner", "left")
Duration = str | timedelta | None


def join_of(
    source: EntityModel,
    other: EntityModel,
    on: Callable[..., Any],
    how: Literal["inner", "left"],
    within: Duration,
    grace: Duration,
) -> Join:
    """The checked clause."""
    if other.name == source.name:
        raise QueryError(
            f"join: {source.name} cannot be joined with itself, since its columns could not be told apart; "
            f"make rows of a second class of it by a query, from_({source.name}).select(...), and join that"
        )
    if how not in HOW:
        raise QueryError(f"join: how = {how!r}; there are {', '.join(map(repr, HOW))}")
    node = recorded_node("join (on)", on, RecordingRow(source), RecordingRow(other))
    pairs = tuple(_pair(source, other, found) for found in _conditions(node))
    clause = Join(other, pairs, how, _duration(within), _duration(grace))
    _check_kinds(source, clause)
    return clause


def _duration(value: Duration) -> int | None:
    return None if value is None else parse_duration(value)


def _conditions(node: AnyNode) -> Iterator[AnyNode]:
    """The conditions that are joined by `&`."""
    if isinstance(node, Call) and node.function == "and":
        for argument in node.arguments:
            yield from _conditions(argument)
    else:
        yield node


def _pair(source: EntityModel, other: EntityModel, node: AnyNode) -> tuple[AnyNode, AnyNode]:
    """The two sides of an equality, the source's first."""
    if isinstance(node, Call) and node.function == "equal":
        left, right = node.arguments
        sides = _entities(left), _entities(right)
        if sides == ({other.name}, {source.name}):
            left, right = right, left
        if sides in (({source.name}, {other.name}), ({other.name}, {source.name})):
            _check_sides(node, left, right)
            return left, right
    raise QueryError(
        f"join: {describe(node)} is not an equality between {source.name} and {other.name}; "
        f"write on=lambda a, b: a.x == b.x, several joined by &, and other conditions in where"
    )


def _entities(node: AnyNode) -> set[str]:
    return {found.entity for found in walk(node) if isinstance(found, Column)}


def _check_sides(condition: AnyNode, left: AnyNode, right: AnyNode) -> None:
    if aggregates(condition):
        raise QueryError(f"join: {describe(condition)} holds an aggregate; those belong in select and having")
    if not _same_type(left, right):
        raise QueryError(
            f"join: {describe(condition)} compares {left.type} with {right.type}; both sides must be of one type: write f.cast"
        )


def _same_type(left: AnyNode, right: AnyNode) -> bool:
    """Whether equal values are equal as columns: decimals only of the same digits, texts of any length."""
    return left.type == right.type if isinstance(left.type, DecimalType) else type(left.type) is type(right.type)


def _check_kinds(source: EntityModel, clause: Join) -> None:
    """What goes with streams, and what with tables."""
    other = clause.entity
    streams = source.kind == other.kind == "stream"
    if source.kind == "table" and other.kind == "stream":
        raise QueryError(
            f"join: the table {source.name} cannot be joined with the stream {other.name}; begin with from_({other.name})"
        )
    if streams and not clause.within:
        raise QueryError(
            f'join: {source.name} and {other.name} are streams, whose events go together within a time; add within="5s"'
        )
    if streams and clause.how == "left" and clause.grace is None:
        raise QueryError(
            f"join: when an event of {source.name} is known to find nothing depends on how late events of {other.name} may be; "
            'add grace="1m"'
        )
    if not streams and (clause.within is not None or clause.grace is not None):
        name = "within" if clause.within is not None else "grace"
        raise QueryError(f"join: {name} is for two streams, but {other.name} is a table: its newest row counts; leave {name} out")
    if not streams:
        _check_table_key(clause)


def _check_table_key(clause: Join) -> None:
    """A row of a table is found by its whole key."""
    other = clause.entity
    keys = [Column(other.name, key.name, key.type, key.nullable) for key in other.keys]
    given = [right for _, right in clause.on]
    if len(given) != len(keys) or any(key not in given for key in keys):
        wanted = ", ".join(map(describe, keys)) or "nothing, since it has no key"
        shown = ", ".join(map(describe, given))
        raise QueryError(f"join: a row of the table {other.name} is found by its key, {wanted}, each part once, not by {shown}")
