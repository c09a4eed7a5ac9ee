"""Statements of ksqlDB as values: what each creates, and its text, laid out for people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kandle.errors import QueryError
from kandle.ksql.types import KsqlType, quoted, source_name, text
from kandle.time.timeframe import DAY, HOUR, MILLISECOND, MINUTE, SECOND

Kind = Literal["stream", "table"]
Properties = Mapping[str, str | int]

UNITS = {"DAYS": DAY, "HOURS": HOUR, "MINUTES": MINUTE, "SECONDS": SECOND, "MILLISECONDS": MILLISECOND}


def duration(microseconds: int) -> str:
    """A length of time, such as `5 MINUTES`, in the largest unit that divides it."""
    for unit, size in UNITS.items():
        if microseconds % size == 0 and microseconds >= size:
            return f"{microseconds // size} {unit}"
    if microseconds == 0:
        return "0 SECONDS"
    raise QueryError(f"{microseconds} microseconds: ksqlDB counts time in milliseconds; choose a whole number of them")


@dataclass(frozen=True, slots=True)
class Creation:
    """A stream or table that a statement creates."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(ABC):
    """Base of all statements; `comment` says what it is for."""

    comment: str = ""

    @property
    @abstractmethod
    def text(self) -> str:
        """The statement, with its semicolon."""

    @property
    def creates(self) -> Creation | None:
        """What is there after it."""
        return None


@dataclass(frozen=True, slots=True)
class SetProperty(Statement):
    """A property of the queries that follow."""

    name: str
    value: str

    @property
    def text(self) -> str:
        return f"SET {text(self.name)}={text(self.value)};"


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """One column of a declared stream or table; `role` is KEY, PRIMARY KEY, HEADERS or nothing."""

    name: str
    type: KsqlType
    role: str = ""

    def __str__(self) -> str:
        return f"{quoted(self.name)} {self.type}{f' {self.role}' if self.role else ''}"


@dataclass(frozen=True, slots=True)
class Create(Statement):
    """`CREATE STREAM` or `CREATE TABLE` over a topic."""

    kind: Kind
    name: str
    columns: tuple[ColumnDefinition, ...]
    properties: Properties

    @property
    def creates(self) -> Creation:
        return Creation(self.kind, self.name)

    @property
    def text(self) -> str:
        return f"{_head(self.kind, self.name)} (\n{_listed(map(str, self.columns))}\n) {_with(self.properties)};"


@dataclass(frozen=True, slots=True)
class Item:
    """One column of a projection; its type where somebody reads the result."""

    expression: str
    name: str
    type: KsqlType | None = field(default=None, compare=False)

    def __str__(self) -> str:
        name = quoted(self.name)
        return name if self.expression == name else f"{self.expression} AS {name}"


@dataclass(frozen=True, slots=True)
class Select:
    """A query; its clauses are texts."""

    items: tuple[Item, ...]
    source: str
    window: str | None = None
    where: str | None = None
    group_by: Sequence[str] = ()
    partition_by: Sequence[str] = ()
    having: str | None = None
    final: bool = False

    @property
    def text(self) -> str:
        clauses = {
            "FROM": self.source,
            "WINDOW": self.window,
            "WHERE": self.where,
            "GROUP BY": ", ".join(self.group_by),
            "PARTITION BY": ", ".join(self.partition_by),
            "HAVING": self.having,
            "EMIT": "FINAL" if self.final else "CHANGES",
        }
        lines = [f"{word} {clause}" for word, clause in clauses.items() if clause]
        return "\n".join([f"SELECT\n{_listed(map(str, self.items))}", *lines])


@dataclass(frozen=True, slots=True)
class CreateAs(Statement):
    """`CREATE STREAM` or `CREATE TABLE` that a query fills."""

    kind: Kind
    name: str
    properties: Properties
    select: Select

    @property
    def creates(self) -> Creation:
        return Creation(self.kind, self.name)

    @property
    def text(self) -> str:
        return f"{_head(self.kind, self.name)} {_with(self.properties)} AS\n{self.select.text};"


@dataclass(frozen=True, slots=True)
class Drop(Statement):
    """`DROP STREAM` or `DROP TABLE`, of a query's result with its query."""

    kind: Kind
    name: str
    topic: Literal["KEEP", "DELETE"] = "KEEP"

    @property
    def text(self) -> str:
        return f"DROP {self.kind.upper()} IF EXISTS {source_name(self.name)}{' DELETE TOPIC' if self.topic == 'DELETE' else ''};"


@dataclass(frozen=True, slots=True)
class Names:
    """Column names that are taken, so that others can be told apart from them: also by ksqlDB, which finds fields in any case."""

    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        object.__setattr__(self, "taken", {name.upper() for name in self.taken})

    def free(self, wanted: str) -> str:
        """The wanted name, or one like it that is free; from now on it is taken."""
        name = wanted
        while name.upper() in self.taken:
            name += "_"
        self.taken.add(name.upper())
        return name


def _head(kind: Kind, name: str) -> str:
    return f"CREATE {kind.upper()} IF NOT EXISTS {source_name(name)}"


def _with(properties: Properties) -> str:
    shown = (f"{name}={value if isinstance(value, int) else text(value)}" for name, value in properties.items())
    return f"WITH ({', '.join(shown)})"


def _listed(lines: Iterable[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines)
