"""What an expression becomes: a type and a function of a row; and what the names in it mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.ksqldb.simulator.errors import RefusedError, RowFailedError
from tests.ksqldb.simulator.nodes import Name, Node
from tests.ksqldb.simulator.types import Type

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Code:
    """`type` None is the bare NULL; `boxed` tells whether the server holds the value in an object, which may be NULL."""

    type: Type | None
    run: Callable[[Row], Any]
    boxed: bool = True

    @property
    def known(self) -> Type:
        if self.type is None:
            raise RefusedError(
                "Can't infer a type of null. Please explicitly cast it to a required type, e.g. CAST(null AS VARCHAR)."
            )
        return self.type


@dataclass(frozen=True, slots=True)
class Column:
    """Where a row holds a column, and its type."""

    slot: str
    type: Type


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One aggregate function of a query: `start()` gives an accumulator, fed with the arguments' values of each row."""

    slot: str
    arguments: tuple[Code, ...]
    start: Callable[[], Any]


@dataclass(slots=True)
class Collector:
    """The aggregates of a query, in order; `rows` is the scope of their arguments."""

    rows: Scope
    from_table: bool = False
    aggregations: list[Aggregation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean; with a collector, columns are what is known of a whole group."""

    columns: Mapping[Node, Column]
    variables: Mapping[str, Type] = field(default_factory=dict)
    collector: Collector | None = None

    def with_variables(self, variables: Mapping[str, Type]) -> Scope:
        """Inside of a lambda: its variables hide columns of the same name."""
        hidden: set[Node] = set(map(Name, variables))
        columns = {node: column for node, column in self.columns.items() if node not in hidden}
        return replace(self, columns=columns, variables={**self.variables, **variables})


RULES: dict[type[Node], Callable[[Any, Scope], Code]] = {}
"""How each kind of node is read; filled by the modules that know them."""


def code_of(node: Node, scope: Scope) -> Code:
    """An expression, checked and ready to run."""
    column = scope.columns.get(node)
    if column is not None:
        return column_code(column)
    return RULES[type(node)](node, scope)


def column_code(column: Column) -> Code:
    return Code(column.type, lambda row: row[column.slot])


def condition_of(node: Node, scope: Scope) -> Code:
    """A boolean expression, as in WHERE."""
    code = code_of(node, scope)
    if code.known.name != "BOOLEAN":
        raise RefusedError(f"Type error in WHERE or HAVING expression: should evaluate to boolean but is {code.type}")
    return code


def name_code(node: Name, scope: Scope) -> Code:
    if node.qualifier is None and node.name in scope.variables:
        name = node.name
        return Code(scope.variables[name], lambda row: row[f"=> {name}"])
    if scope.collector is not None and node in scope.collector.rows.columns:
        raise RefusedError(f"Non-aggregate SELECT expression(s) not part of GROUP BY: {node}")
    known = ", ".join(sorted({str(column) for column in scope.columns}))
    raise RefusedError(f"Column '{node}' cannot be resolved. Known: {known}")


RULES[Name] = name_code


def value_or_null(code: Code, row: Row) -> Any:
    """The value, or NULL where the server logs an error and goes on."""
    try:
        return code.run(row)
    except RowFailedError:
        return None


def guarded(code: Code) -> Code:
    """A part of an expression that fails alone: it is NULL, and the rest goes on."""
    return Code(code.type, lambda row: value_or_null(code, row))


def present(value: Any) -> Any:
    """A value that must be there: the server has no NULL in sums, LIKE, AND, OR, NOT and CASE WHEN."""
    if value is None:
        raise RowFailedError("NULL in an operation")
    return value
