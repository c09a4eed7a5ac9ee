"""KSQL statements as values, and their text laid out for people to read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kandle.errors import QueryError
from kandle.ksql.types import KsqlType, quoted, source_name, text_literal
from kandle.time.timeframe import DAY, HOUR, MILLISECOND, MINUTE, SECOND, duration_text

Kind = Literal["stream", "table"]
Properties = Mapping[str, str | int]
"""Properties of a WITH clause by name."""

UNITS = {"DAYS": DAY, "HOURS": HOUR, "MINUTES": MINUTE, "SECONDS": SECOND, "MILLISECONDS": MILLISECOND}


def duration(microseconds: int) -> str:
    """Return a length of time such as `5 MINUTES`, in the largest unit that divides it.

    Raises:
        QueryError: If it is not a whole number of milliseconds.
    """
    for unit, size in UNITS.items():
        if microseconds % size == 0 and microseconds >= size:
            return f"{microseconds // size} {unit}"
    if microseconds == 0:
        return "0 SECONDS"
    raise QueryError(
        f"{duration_text(microseconds)}: ksqlDB measures time in milliseconds; choose a whole number of milliseconds"
    )


@dataclass(frozen=True, slots=True)
class Creation:
    """The stream or table that a statement creates."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(ABC):
    """Base class of statements; the comment says what the statement is for."""

    comment: str = ""

    @property
    @abstractmethod
    def text(self) -> str:
        """The statement with its semicolon."""

    @property
    def creates(self) -> Creation | None:
        """The stream or table that the statement creates, if any."""
        return None


@dataclass(frozen=True, slots=True)
class SetProperty(Statement):
    """A `SET` statement: a property of the queries after it."""

    name: str
    value: str

    @property
    def text(self) -> str:
        return f"SET {text_literal(self.name)}={text_literal(self.value)};"


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column of a declared stream or table.

    Attributes:
        role: `KEY`, `PRIMARY KEY`, `HEADER('name')`, or empty for a column of the value.
    """

    name: str
    type: KsqlType
    role: str = ""

    def __str__(self) -> str:
        return f"{quoted(self.name)} {self.type}{f' {self.role}' if self.role else ''}"


@dataclass(frozen=True, slots=True)
class Create(Statement):
    """A `CREATE STREAM` or `CREATE TABLE` statement over a topic."""

    kind: Kind
    name: str
    columns: tuple[ColumnDefinition, ...]
    properties: Properties

    @property
    def creates(self) -> Creation:
        return Creation(self.kind, self.name)

    @property
    def text(self) -> str:
        return f"{_head(self.kind, self.name)} (\n{_indented(map(str, self.columns))}\n) {_with(self.properties)};"


@dataclass(frozen=True, slots=True)
class SelectItem:
    """A column of a projection.

    Attributes:
        type: Type of the column, where a later statement declares it.
    """

    expression: str
    name: str
    type: KsqlType | None = field(default=None, compare=False)

    def __str__(self) -> str:
        name = quoted(self.name)
        return name if self.expression == name else f"{self.expression} AS {name}"


@dataclass(frozen=True, slots=True)
class Select:
    """A `SELECT` query; the clauses are KSQL text."""

    items: tuple[SelectItem, ...]
    source: str
    window: str | None = None
    where: str | None = None
    group_by: Sequence[str] = ()
    partition_by: Sequence[str] = ()
    having: str | None = None
    final: bool = False

    @property
    def text(self) -> str:
        """The query without a semicolon."""
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
        return "\n".join([f"SELECT\n{_indented(map(str, self.items))}", *lines])


@dataclass(frozen=True, slots=True)
class CreateAs(Statement):
    """A `CREATE STREAM AS SELECT` or `CREATE TABLE AS SELECT` statement."""

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
    """A `DROP STREAM` or `DROP TABLE` statement; dropping the result of a query ends the query."""

    kind: Kind
    name: str
    topic: Literal["KEEP", "DELETE"] = "KEEP"

    @property
    def text(self) -> str:
        delete = " DELETE TOPIC" if self.topic == "DELETE" else ""
        return f"DROP {self.kind.upper()} IF EXISTS {source_name(self.name)}{delete};"


def _head(kind: Kind, name: str) -> str:
    return f"CREATE {kind.upper()} IF NOT EXISTS {source_name(name)}"


def _with(properties: Properties) -> str:
    shown = (f"{name}={value if isinstance(value, int) else text_literal(value)}" for name, value in properties.items())
    return f"WITH ({', '.join(shown)})"


def _indented(lines: Iterable[str]) -> str:
    return ",\n".join(f"  {line}" for line in lines)
