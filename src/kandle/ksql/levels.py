"""Tables of finals inside ksqlDB, and what rows of one level become in the next.

ksqlDB cannot query a windowed table, so the topic of each table of finals is declared again as a stream:

    events --> bars_1m_final (table) --> bars_1m_final_declared (stream) --> bars_5m_final (table) --> ..
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kandle.ksql.aggregates import compile_aggregate
from kandle.ksql.partials import PartialColumn
from kandle.ksql.statements import ColumnDefinition, Create
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import KsqlType, quoted
from kandle.query.nodes import Aggregate, Node


@dataclass(frozen=True, slots=True)
class FinalsTable:
    """A table of finals of one timeframe.

    Attributes:
        name: Name of the table.
        topic: Name of its topic.
        columns: Types of its value columns by name.
        copies: The value columns that repeat the group key.
        partials: Value columns by the partial that they hold.
        depth: Number of roll-ups between the events and this table.
    """

    name: str
    topic: str
    columns: Mapping[str, KsqlType]
    copies: tuple[str, ...]
    partials: Mapping[str, str]
    depth: int = 0

    @property
    def stream(self) -> str:
        """The name of the stream of its rows."""
        return f"{self.name}_declared"

    def partial_terms(self) -> dict[str, Term]:
        """Return the partials as columns of that stream."""
        return {name: Term(quoted(column), self.columns[column], nullable=True) for name, column in self.partials.items()}

    def stream_declaration(self, start: str, value_format: str) -> Create:
        """Return the statement that declares the rows as a stream without a key.

        Args:
            start: The column with the start of the bucket, which is the time of the rows.
            value_format: Format of the values.
        """
        columns = tuple(ColumnDefinition(name, kind) for name, kind in self.columns.items())
        properties = {"KAFKA_TOPIC": self.topic, "VALUE_FORMAT": value_format, "TIMESTAMP": quoted(start)}
        return Create(
            "stream", self.stream, columns, properties, comment=f"Rows of {self.name}, with the start of the bucket as their time"
        )


class LazyColumns(Mapping[str, Term]):
    """Columns that are made on access, and the record of which were accessed.

    Attributes:
        accessed: The names that were accessed, in their order.
    """

    def __init__(self, make: Callable[[str], Term], names: Sequence[str]) -> None:
        self._make = make
        self._names = names
        self.accessed: dict[str, None] = {}

    def __getitem__(self, name: str) -> Term:
        self.accessed[name] = None
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class BucketPartials:
    """The partial columns from which the values of some aggregates can be made."""

    def __init__(self, scope: TermScope, nodes: Sequence[Aggregate]) -> None:
        self._aggregates = {node: compile_aggregate(node, scope) for node in nodes}
        columns = [column for aggregate in self._aggregates.values() for column in aggregate.keep()]
        self._columns: dict[str, PartialColumn] = {column.name: column for column in columns}

    def needed(self, *, for_roll_up: bool) -> dict[str, Term]:
        """Return the partials that the values are made from, straight from events.

        Args:
            for_roll_up: Whether to include those that are only needed to merge others.
        """
        columns = LazyColumns(lambda name: self._columns[name].collect, tuple(self._columns))
        self.values(columns)
        done: set[str] = set()
        while for_roll_up and (pending := columns.accessed.keys() - done):
            for name in pending:
                self._columns[name].merge(columns)
            done |= pending
        return {name: column.collect for name, column in self._columns.items() if name in columns.accessed}

    def merge(self, columns: Mapping[str, Term]) -> Mapping[str, Term]:
        """Return the partials of a larger bucket, made from those of finer ones."""
        return LazyColumns(lambda name: self._columns[name].merge(columns), tuple(columns))

    def values(self, columns: Mapping[str, Term]) -> dict[Node, Term]:
        """Return the values of the aggregates, made from partials."""
        return {node: aggregate.finish(columns) for node, aggregate in self._aggregates.items()}
