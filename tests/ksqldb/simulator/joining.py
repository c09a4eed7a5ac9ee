"""What the server says about joins, and which column is the key of the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tests.ksqldb.simulator.code import Scope, code_of
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.nodes import Comparison, Join, Name, Node
from tests.ksqldb.simulator.sources import StreamOrTable


@dataclass(frozen=True, slots=True)
class JoinKey:
    """The two sides of the condition, the left source's first."""

    left: Node
    right: Node

    @property
    def columns(self) -> tuple[Node, ...]:
        """The columns of which one must be projected: it is the key of the result."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, Name))


def names_in(node: object) -> Iterator[Name]:
    """All columns that an expression reads."""
    if isinstance(node, Name):
        yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from names_in(item)
    elif is_dataclass(node):
        for part in fields(node):
            yield from names_in(getattr(node, part.name))


def check_join(join: Join, left: StreamOrTable, right: StreamOrTable, scope: Scope, sides: Mapping[str, str]) -> JoinKey:
    """The condition of a join; `sides` tells "left" or "right" for each alias."""
    _check_kinds(join, left, right)
    key = _sides(join, sides)
    kinds = code_of(key.left, scope).known, code_of(key.right, scope).known
    if kinds[0] != kinds[1]:
        raise RefusedError(f"Invalid join condition: types don't match. Got {kinds[0]} = {kinds[1]}")
    if right.kind == "TABLE":
        _check_primary_key(key.right, right)
    return key


def _check_kinds(join: Join, left: StreamOrTable, right: StreamOrTable) -> None:
    kinds = (left.kind, right.kind)
    if kinds == ("TABLE", "STREAM"):
        raise RefusedError("Join between table and stream is not supported: put the stream first.")
    if kinds == ("STREAM", "STREAM") and join.within is None:
        raise RefusedError("Stream-Stream joins must have a WITHIN clause specified. None was provided.")
    if kinds != ("STREAM", "STREAM") and join.within is not None:
        raise RefusedError("A window definition was provided for a join with a table. These joins are not windowed.")
    if kinds == ("STREAM", "TABLE") and join.kind in ("RIGHT", "FULL"):
        raise RefusedError(f"Invalid join type encountered: {join.kind} OUTER for a stream-table join")
    if left.windowed != right.windowed:
        raise RefusedError("Implicit repartitioning of windowed sources is not supported: windowed joined with non-windowed.")


def _sides(join: Join, sides: Mapping[str, str]) -> JoinKey:
    condition: Any = join.condition
    if not isinstance(condition, Comparison) or condition.operator != "=":
        raise RefusedError("Invalid join condition: joins on multiple conditions, or not on equality, are not yet supported.")
    expressions = {}
    for expression in (condition.left, condition.right):
        owners = {sides.get(str(name).partition(".")[0], "none") for name in names_in(expression)}
        if len(owners) != 1:
            raise RefusedError("Invalid join condition: each side of = must be of one of the two sources.")
        expressions[owners.pop()] = expression
    if set(expressions) != {"left", "right"}:
        raise RefusedError("Invalid join condition: each side of = must be of another of the two sources.")
    return JoinKey(expressions["left"], expressions["right"])


def _check_primary_key(side: Node, table: StreamOrTable) -> None:
    names = [column.name for column in table.keys]
    if len(names) != 1 or not isinstance(side, Name) or side.name.partition(".")[2] != names[0]:
        raise RefusedError(f"Invalid join condition: joins with a table must be on its single primary key, {', '.join(names)}.")
