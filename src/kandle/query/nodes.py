"""The query tree: immutable expression nodes that know their type and whether they may be NULL.

The columnar engine and the KSQL compiler read this tree; nothing here computes a value. Operators and
functions are both calls: what differs between them is a row in a table of each reader, not a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from typing import Literal as OneOf

from kandle.model.types import BOOLEAN, TIMESTAMP, DataType


@dataclass(frozen=True, slots=True)
class Node:
    """Base of all expression nodes."""

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly below this one."""
        return ()


@dataclass(frozen=True, slots=True)
class Column(Node):
    """A field of an entity that the query reads."""

    entity: str
    name: str
    type: DataType
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A constant; None is NULL of the given type."""

    value: Any
    type: DataType

    @property
    def nullable(self) -> bool:
        return self.value is None


@dataclass(frozen=True, slots=True)
class WindowBound(Node):
    """The start (inclusive) or the end (exclusive) of the bucket."""

    bound: OneOf["start", "end"]

    @property
    def type(self) -> DataType:
        return TIMESTAMP

    @property
    def nullable(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A call of a scalar function or operator, by its name in `signatures.SCALARS`."""

    function: str
    arguments: tuple[AnyNode, ...]
    type: DataType
    nullable: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """The argument converted to another type; a value that does not fit is an error, never another value."""

    argument: AnyNode
    type: DataType

    @property
    def nullable(self) -> bool:
        return self.argument.nullable

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.argument,)


@dataclass(frozen=True, slots=True)
class Branch(Node):
    """One `condition -> value` arm of a `Case`."""

    condition: AnyNode
    value: AnyNode

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.condition, self.value)


@dataclass(frozen=True, slots=True)
class Case(Node):
    """The value of the first branch whose condition is true (not NULL), or else of `otherwise`."""

    branches: tuple[Branch, ...]
    otherwise: AnyNode
    type: DataType

    @property
    def nullable(self) -> bool:
        return self.otherwise.nullable or any(branch.value.nullable for branch in self.branches)

    @property
    def children(self) -> tuple[Node, ...]:
        return (*self.branches, self.otherwise)


@dataclass(frozen=True, slots=True)
class Aggregate(Node):
    """An aggregate over the events of a bucket, by its name in `signatures.AGGREGATES`."""

    function: str
    arguments: tuple[AnyNode, ...]
    type: DataType
    nullable: bool

    @property
    def children(self) -> tuple[Node, ...]:
        return self.arguments


AnyNode = Column | Constant | WindowBound | Call | Cast | Case | Aggregate

TRUE = Constant(True, BOOLEAN)


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all nodes below it, parents first."""
    yield node
    for child in node.children:
        yield from walk(child)


def aggregates(node: Node) -> list[Aggregate]:
    """Return the aggregates in the tree; none is inside of another one."""
    return [part for part in walk(node) if isinstance(part, Aggregate)]


OPERATORS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "modulo": "%",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "and": "&",
    "or": "|",
}
"""Functions that are written as operators."""


def describe(node: Node) -> str:
    """Return the expression as Python text, such as `f.max(Tick.bid) - f.min(Tick.bid)`."""
    return _DESCRIBERS[type(node)](node)


def _call(node: Call) -> str:
    if node.function in OPERATORS:
        left, right = (_operand(argument) for argument in node.arguments)
        return f"{left} {OPERATORS[node.function]} {right}"
    if node.function == "negate":
        return f"-{_operand(node.arguments[0])}"
    name = "not_" if node.function == "not" else node.function
    return f"f.{name}({', '.join(map(describe, node.arguments))})"


def _operand(node: Node) -> str:
    nested = isinstance(node, Call) and node.function in OPERATORS
    return f"({describe(node)})" if nested else describe(node)


def _case(node: Case) -> str:
    branches = ", ".join(map(describe, node.branches))
    return f"f.case({branches}, otherwise={describe(node.otherwise)})"


def _branch(node: Branch) -> str:
    return f"({describe(node.condition)}, {describe(node.value)})"


def _aggregate(node: Aggregate) -> str:
    return f"f.{node.function}({', '.join(map(describe, node.arguments))})"


_DESCRIBERS: dict[type[Node], Callable[[Any], str]] = {
    Column: lambda node: f"{node.entity}.{node.name}",
    Constant: lambda node: repr(node.value),
    WindowBound: lambda node: f"w.{node.bound}",
    Call: _call,
    Cast: lambda node: f"f.cast({describe(node.argument)}, {node.type})",
    Case: _case,
    Branch: _branch,
    Aggregate: _aggregate,
}
