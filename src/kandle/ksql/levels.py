"""Tables of finals inside ksqlDB: what their columns hold, and what rows of one level become in the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from kandle.ksql.aggregates import CARRYING, accumulator
from kandle.ksql.expressions import condition, term
from kandle.ksql.operators import cast
from kandle.ksql.statements import ColumnDefinition, Create, Item, Names, Select
from kandle.ksql.sums import Partial
from kandle.ksql.terms import Scope, Term
from kandle.ksql.types import TIMESTAMP, KsqlType, column_type, quoted
from kandle.model.types import INTEGER
from kandle.query.nodes import Aggregate, AnyNode, Column, Node, WindowBound, aggregates
from kandle.query.query import QueryModel
from kandle.time.timeframe import MILLISECOND


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


class Filling:
    """The step from finals with NULL in gaps to bars in which the last values are carried on.

    It reads row after row: `LATEST_BY_OFFSET(x, FALSE)` is the newest value, `LATEST_BY_OFFSET(x)` the newest that is not NULL.
    """

    def __init__(self, original: QueryModel, query: QueryModel, anchor: Column) -> None:
        self._query = query
        # In the query with heartbeats everything may be NULL; the original says whether it may be so in an event.
        pairs = zip(aggregates_of(original), aggregates_of(query), strict=True)
        self._always_known = {node: _is_known(before) for before, node in pairs}
        self.events = Aggregate("count", (anchor,), INTEGER, nullable=False)

    @cached_property
    def aggregates(self) -> list[Aggregate]:
        """What must be kept beside the aggregates of the query: last values, and the number of events where that tells gaps."""
        carrying = [node for node in self._always_known if self._carries(node)]
        counts = [] if self._first_known() is not None and all(map(self._is_plain, self._always_known)) else [self.events]
        return [*(last_of(node.arguments[0]) for node in carrying), *counts]

    def _carries(self, node: Aggregate) -> bool:
        return node.function in CARRYING and not node.function.startswith("stddev")

    def _is_plain(self, node: Aggregate) -> bool:
        """Whether the value is NULL in gaps only, or right there by itself."""
        return node.function not in CARRYING or node.function == "stddev" or (self._carries(node) and self._always_known[node])

    def _first_known(self) -> Aggregate | None:
        return next((node for node, known in self._always_known.items() if known and self._carries(node)), None)

    def select(self, level: Level, keys: tuple[str, ...], start: str, state: State, size: int) -> Select:
        """The newest bar of every key."""
        rows = self._rows(level, start, state, size)
        read = tuple(map(quoted, level.copies))
        items = [Item(column, name) for column, name in zip(read, keys, strict=True)]
        for item in self._query.projection:
            value = term(item.expression, rows).text
            if item.field not in keys:
                items.append(Item(f"AS_VALUE({value})" if item.expression in self._query.group_by else value, item.field))
        return Select(tuple(items), quoted(level.declared), group_by=read, having=self._having(level, rows, state))

    def _rows(self, level: Level, start: str, state: State, size: int) -> Scope:
        held = level.held()
        newest = {name: _newest(value) for name, value in held.items()}
        values = state.values(newest)
        last = state.values({name: _newest_known(value) for name, value in held.items()})
        found: dict[Node, Term] = {node: self._value(node, values, last) for node in self._always_known}
        copies = zip(self._query.group_by, level.copies, strict=False)
        found |= {node: Term(quoted(copy), column_type(node.type), nullable=False) for node, copy in copies}
        begin = _newest(Term(quoted(start), TIMESTAMP, nullable=False))
        end = f"FROM_UNIXTIME(UNIX_TIMESTAMP({begin.text}) + {size // MILLISECOND})"
        bounds: dict[Node, Term] = {WindowBound("start"): begin, WindowBound("end"): Term(end, TIMESTAMP, nullable=False)}
        return Scope(found | bounds)

    def _value(self, node: Aggregate, values: Mapping[Node, Term], last: Mapping[Node, Term]) -> Term:
        value = values[node]
        if not self._carries(node):
            return self._of_gaps(node, value, values)
        carried = cast(last[last_of(node.arguments[0])], column_type(node.type))
        value = cast(value, column_type(node.type))
        if self._always_known[node]:
            is_last = value.text.replace(", FALSE", "") == carried.text
            text = carried.text if is_last else f"COALESCE({value.text}, {carried.text})"
        else:
            text = f"CASE WHEN {values[self.events].text} > 0 THEN {value.text} ELSE {carried.text} END"
        return Term(text, value.type, nullable=True)

    def _of_gaps(self, node: Aggregate, value: Term, values: Mapping[Node, Term]) -> Term:
        """Sums and counts are 0 in a gap by themselves, a deviation of a population is 0, of a sample NULL."""
        if node.function != "stddev_population":
            return value
        return Term(f"CASE WHEN {values[self.events].text} > 0 THEN {value.text} ELSE 0E0 END", value.type, nullable=True)

    def _having(self, level: Level, rows: Scope, state: State) -> str:
        """From the first event of a key on; and the query's own condition."""
        held = {name: _newest_known(value) for name, value in level.held().items()}
        known = self._first_known()
        if known is not None:
            begun = f"{state.values(held)[last_of(known.arguments[0])].text} IS NOT NULL"
        else:
            total = state.values({name: _total(value) for name, value in level.held().items()})
            begun = f"{total[self.events].text} > 0"
        if self._query.having is None:
            return begun
        return f"({begun}) AND ({condition(self._query.having, rows)})"


def _is_known(node: Aggregate) -> bool:
    """Whether the value is there as soon as there is an event; the weights of an average can add up to 0."""
    return node.function != "weighted_average" and not any(part.nullable for part in node.arguments)


def _newest(column: Term) -> Term:
    return Term(f"LATEST_BY_OFFSET({column.text}, FALSE)", column.type, column.nullable)


def _newest_known(column: Term) -> Term:
    return Term(f"LATEST_BY_OFFSET({column.text})", column.type, nullable=True)


def _total(column: Term) -> Term:
    return Term(f"SUM({column.text})", column.type, nullable=False)
