"""Tables of finals inside ksqlDB: what their columns hold, and what rows of one level become in the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kandle.ksql.aggregates import accumulator
from kandle.ksql.names import quoted
from kandle.ksql.partials import Partial
from kandle.ksql.statements import ColumnDefinition, Create, Item, Names
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import KsqlType
from kandle.query.nodes import Aggregate, AnyNode, Node, aggregates
from kandle.query.query import QueryModel


@dataclass(frozen=True, slots=True)
class Level:
    """A table of finals: its value columns, those of them that repeat the key, and which of them hold which partials."""

    name: str
    topic: str
    columns: Mapping[str, KsqlType]
    copies: tuple[str, ...]
    partials: Mapping[str, str]
    depth: int = 0

    @property
    def declared(self) -> str:
        """The stream of its rows."""
        return f"{self.name}_declared"

    def held(self) -> dict[str, Term]:
        """The partials as columns of that stream."""
        return {name: Term(quoted(column), self.columns[column], nullable=True) for name, column in self.partials.items()}

    def declaration(self, start: str, value_format: str) -> Create:
        """The rows as a stream without key, by their start: queries cannot read a windowed table."""
        columns = tuple(ColumnDefinition(name, kind) for name, kind in self.columns.items())
        properties = {"KAFKA_TOPIC": self.topic, "VALUE_FORMAT": value_format, "TIMESTAMP": quoted(start)}
        return Create("stream", self.declared, columns, properties, comment=f"Rows of {self.name}, at their start")


class Asked(Mapping[str, Term]):
    """Columns that are made when they are asked for, and remembered then."""

    def __init__(self, made: Callable[[str], Term], names: Sequence[str]) -> None:
        self._made = made
        self._names = names
        self.asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> Term:
        self.asked[name] = None
        return self._made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def aggregates_of(query: QueryModel) -> list[Aggregate]:
    """All aggregates of fields and `having`, as often as they stand there."""
    nodes = [*(item.expression for item in query.projection), *([] if query.having is None else [query.having])]
    return [found for node in nodes for found in aggregates(node)]


class State:
    """What is kept of buckets so that the values of aggregates can be made of it."""

    def __init__(self, scope: Scope, nodes: Sequence[Aggregate]) -> None:
        self._accumulators = {node: accumulator(node, scope) for node in nodes}
        every = [partial for found in self._accumulators.values() for partial in found.partials]
        self._partials: dict[str, Partial] = {partial.name: partial for partial in every}

    def needed(self, *, for_roll_up: bool) -> dict[str, Term]:
        """From events, the partials of which all values are made; for a roll-up also those that these merge with."""
        asked = Asked(lambda name: self._partials[name].collect, tuple(self._partials))
        self.values(asked)
        done: set[str] = set()
        while for_roll_up and (left := asked.asked.keys() - done):
            for name in left:
                self._partials[name].merge(asked)
            done |= left
        return {name: partial.collect for name, partial in self._partials.items() if name in asked.asked}

    def merged(self, columns: Mapping[str, Term]) -> Mapping[str, Term]:
        """Partials of larger buckets, from columns of finer ones."""
        return Asked(lambda name: self._partials[name].merge(columns), tuple(columns))

    def values(self, columns: Mapping[str, Term]) -> dict[Node, Term]:
        """The values of aggregates, from columns of partials."""
        return {node: found.finish(columns) for node, found in self._accumulators.items()}


def with_partials(items: Sequence[Item], values: Mapping[str, Term]) -> tuple[list[Item], dict[str, str]]:
    """Further columns for values that no column holds yet, and which column holds which."""
    names = Names({item.name for item in items})
    by_text = {item.expression: item.name for item in items}
    more: list[Item] = []
    held: dict[str, str] = {}
    for name, value in values.items():
        if value.text not in by_text:
            by_text[value.text] = names.free(name)
            more.append(Item(value.text, by_text[value.text], value.type))
        held[name] = by_text[value.text]
    return more, held


def last_of(argument: AnyNode) -> Aggregate:
    """The aggregate whose value is carried into empty buckets."""
    return Aggregate("last", (argument,), argument.type, argument.nullable)
