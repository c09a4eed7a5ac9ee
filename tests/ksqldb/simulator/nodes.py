"""Expressions and statements as they were written."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from tests.ksqldb.simulator.types import Type


@dataclass(frozen=True, slots=True)
class Node:
    """An expression."""


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: bool | int | Decimal | float | str | None


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A column, a lambda's variable or a pseudo column."""

    name: str
    qualifier: str | None = None

    def __str__(self) -> str:
        return f"{self.qualifier}.{self.name}" if self.qualifier else self.name


@dataclass(frozen=True, slots=True)
class Unit(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Star(Node):
    """The argument of COUNT(*)."""


@dataclass(frozen=True, slots=True)
class Negative(Node):
    sign: str
    value: Node


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """One of = <> < <= > >= and IS DISTINCT FROM."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logical(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not(Node):
    value: Node


@dataclass(frozen=True, slots=True)
class Between(Node):
    value: Node
    low: Node
    high: Node


@dataclass(frozen=True, slots=True)
class In(Node):
    value: Node
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Like(Node):
    value: Node
    pattern: Node
    escape: str | None


@dataclass(frozen=True, slots=True)
class IsNull(Node):
    value: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class Case(Node):
    whens: tuple[tuple[Node, Node], ...]
    default: Node | None


@dataclass(frozen=True, slots=True)
class SimpleCase(Node):
    """CASE x WHEN ..: the server reads it, and refuses it."""

    value: Node


@dataclass(frozen=True, slots=True)
class Concatenation(Node):
    """a || b: the server reads it, and refuses it."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Cast(Node):
    value: Node
    type: Type


@dataclass(frozen=True, slots=True)
class Call(Node):
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Lambda(Node):
    parameters: tuple[str, ...]
    body: Node


@dataclass(frozen=True, slots=True)
class Index(Node):
    base: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Field(Node):
    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class ArrayOf(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf(Node):
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class StructOf(Node):
    fields: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """TUMBLING or HOPPING or SESSION; milliseconds."""

    kind: str
    size: int
    advance: int
    retention: int | None = None
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class Within:
    """How far apart in time the rows of two joined streams may be; milliseconds."""

    before: int
    after: int
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class Join:
    kind: str
    source: Source
    within: Within | None
    condition: Node


@dataclass(frozen=True, slots=True)
class SelectItem:
    """An expression with its alias; `*` and `t.*` are Star with the qualifier as alias."""

    expression: Node
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    items: tuple[SelectItem, ...]
    source: Source
    joins: tuple[Join, ...] = ()
    window: Window | None = None
    where: Node | None = None
    group_by: tuple[Node, ...] = ()
    partition_by: tuple[Node, ...] = ()
    having: Node | None = None
    emit: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement; `unquoted` are the names in it that stand without backticks."""

    unquoted: tuple[str, ...] = field(default=(), kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """`constraint`: "", KEY, PRIMARY KEY, HEADERS or HEADER."""

    name: str
    type: Type
    constraint: str = ""


@dataclass(frozen=True, slots=True)
class Create(Statement):
    """CREATE STREAM or TABLE over a topic, or, with a query, AS SELECT."""

    kind: str
    name: str
    columns: tuple[ColumnDefinition, ...] = ()
    properties: dict[str, object] = field(default_factory=dict)
    query: Query | None = None
    if_not_exists: bool = False
    or_replace: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class InsertInto(Statement):
    target: str
    query: Query


@dataclass(frozen=True, slots=True)
class InsertValues(Statement):
    target: str
    columns: tuple[str, ...]
    values: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Drop(Statement):
    kind: str
    name: str
    if_exists: bool = False
    delete_topic: bool = False


@dataclass(frozen=True, slots=True)
class Select(Statement):
    """A query by itself: read, but sent elsewhere than statements."""

    query: Query


@dataclass(frozen=True, slots=True)
class Command(Statement):
    """SET, SHOW, DESCRIBE, EXPLAIN, TERMINATE, PAUSE, RESUME .. with what stands behind."""

    verb: str
    operands: tuple[str, ...] = ()
