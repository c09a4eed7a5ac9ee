"""Gaps of role "all": from finals with NULL in empty buckets to bars in which the last values are carried on.

A table without a window reads the finals row by row, and writes one row for each:

    bars_1m_final    10:00 high 5    10:01 high NULL   10:02 high 7
    bars_1m_filled   10:00 high 5    10:01 high 5      10:02 high 7

`LATEST_BY_OFFSET(x, FALSE)` is the value of the newest row, `LATEST_BY_OFFSET(x)` the newest value that is
not NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from kandle.ksql.aggregates import CARRYING, query_aggregates
from kandle.ksql.expressions import condition, term
from kandle.ksql.levels import BucketPartials, FinalsTable
from kandle.ksql.operators import cast
from kandle.ksql.statements import Select, SelectItem
from kandle.ksql.terms import Term, TermScope
from kandle.ksql.types import TIMESTAMP, column_type, quoted
from kandle.model.types import INTEGER
from kandle.query.nodes import Aggregate, AnyNode, Column, Node, WindowBound
from kandle.query.query import QueryModel
from kandle.time.timeframe import MILLISECOND


def _last_value_of(argument: AnyNode) -> Aggregate:
    """Return the aggregate whose value is carried into empty buckets."""
    return Aggregate("last", (argument,), argument.type, argument.nullable)


class Filling:
    """The step from finals to filled bars.

    Attributes:
        events: The aggregate that counts the events of a bucket.
    """

    def __init__(self, original: QueryModel, query: QueryModel, anchor: Column) -> None:
        """Create the step.

        Args:
            original: The query as it was declared.
            query: The query over events and heartbeats.
            anchor: The field of the source that is NULL in heartbeats only.
        """
        self._query = query
        # In the query with heartbeats everything may be NULL; the original says whether it may be NULL in an event.
        pairs = zip(query_aggregates(original), query_aggregates(query), strict=True)
        self._always_known = {node: _is_always_known(before) for before, node in pairs}
        self.events = Aggregate("count", (anchor,), INTEGER, nullable=False)

    @cached_property
    def aggregates(self) -> list[Aggregate]:
        """The aggregates to keep besides the query's: last values, and the number of events if needed."""
        carrying = [node for node in self._always_known if _carries_argument(node)]
        tells_gaps = self._first_known() is not None and all(map(self._is_null_in_gaps_only, self._always_known))
        counts = [] if tells_gaps else [self.events]
        return [*(_last_value_of(node.arguments[0]) for node in carrying), *counts]

    def _is_null_in_gaps_only(self, node: Aggregate) -> bool:
        """Return whether the value is NULL in gaps only, or needs no filling."""
        if node.function not in CARRYING or node.function == "stddev":
            return True
        return _carries_argument(node) and self._always_known[node]

    def _first_known(self) -> Aggregate | None:
        return next((node for node, known in self._always_known.items() if known and _carries_argument(node)), None)

    def select(self, table: FinalsTable, keys: tuple[str, ...], start: str, partials: BucketPartials, size: int) -> Select:
        """Return the query for the newest bar of every key.

        Args:
            table: The finals.
            keys: Names of the key columns of the bars.
            start: The column with the start of the bucket.
            partials: The partials of the finals.
            size: Length of the buckets in microseconds.
        """
        scope = self._scope(table, start, partials, size)
        key_columns = tuple(map(quoted, table.copies))
        items = [SelectItem(column, name) for column, name in zip(key_columns, keys, strict=True)]
        for item in self._query.projection:
            value = term(item.expression, scope).text
            if item.field not in keys:
                is_key = item.expression in self._query.group_by
                items.append(SelectItem(f"AS_VALUE({value})" if is_key else value, item.field))
        having = self._having(table, scope, partials)
        return Select(tuple(items), quoted(table.stream), group_by=key_columns, having=having)

    def _scope(self, table: FinalsTable, start: str, partials: BucketPartials, size: int) -> TermScope:
        columns = table.partial_terms()
        values = partials.values({name: _newest(value) for name, value in columns.items()})
        carried = partials.values({name: _newest_known(value) for name, value in columns.items()})
        terms: dict[Node, Term] = {node: self._value(node, values, carried) for node in self._always_known}
        for node, copy in zip(self._query.group_by, table.copies, strict=False):
            terms[node] = Term(quoted(copy), column_type(node.type), nullable=False)
        begin = _newest(Term(quoted(start), TIMESTAMP, nullable=False))
        end = f"FROM_UNIXTIME(UNIX_TIMESTAMP({begin.text}) + {size // MILLISECOND})"
        terms[WindowBound("start")] = begin
        terms[WindowBound("end")] = Term(end, TIMESTAMP, nullable=False)
        return TermScope(terms)

    def _value(self, node: Aggregate, values: Mapping[Node, Term], carried_values: Mapping[Node, Term]) -> Term:
        value = values[node]
        if not _carries_argument(node):
            return self._value_in_gaps(node, value, values)
        carried = cast(carried_values[_last_value_of(node.arguments[0])], column_type(node.type))
        value = cast(value, column_type(node.type))
        if self._always_known[node]:
            is_last = value.text.replace(", FALSE", "") == carried.text
            text = carried.text if is_last else f"COALESCE({value.text}, {carried.text})"
        else:
            text = f"CASE WHEN {values[self.events].text} > 0 THEN {value.text} ELSE {carried.text} END"
        return Term(text, value.type, nullable=True)

    def _value_in_gaps(self, node: Aggregate, value: Term, values: Mapping[Node, Term]) -> Term:
        """Return a value that carries nothing on.

        In a gap sums and counts are 0 by themselves, the deviation of a sample is NULL, that of a population
        is set to 0.
        """
        if node.function != "stddev_population":
            return value
        text = f"CASE WHEN {values[self.events].text} > 0 THEN {value.text} ELSE 0E0 END"
        return Term(text, value.type, nullable=True)

    def _having(self, table: FinalsTable, scope: TermScope, partials: BucketPartials) -> str:
        """Return the condition that the key has had an event, with the query's own condition."""
        columns = table.partial_terms()
        known = self._first_known()
        if known is not None:
            carried = partials.values({name: _newest_known(value) for name, value in columns.items()})
            has_begun = f"{carried[_last_value_of(known.arguments[0])].text} IS NOT NULL"
        else:
            totals = partials.values({name: _total(value) for name, value in columns.items()})
            has_begun = f"{totals[self.events].text} > 0"
        if self._query.having is None:
            return has_begun
        return f"({has_begun}) AND ({condition(self._query.having, scope)})"


def _carries_argument(node: Aggregate) -> bool:
    """Return whether an aggregate continues in a gap with the last value of its argument."""
    return node.function in CARRYING and not node.function.startswith("stddev")


def _is_always_known(node: Aggregate) -> bool:
    """Return whether there is a value as soon as there is an event; weights of an average can add up to 0."""
    return node.function != "weighted_average" and not any(part.nullable for part in node.arguments)


def _newest(column: Term) -> Term:
    return Term(f"LATEST_BY_OFFSET({column.text}, FALSE)", column.type, column.nullable)


def _newest_known(column: Term) -> Term:
    return Term(f"LATEST_BY_OFFSET({column.text})", column.type, nullable=True)


def _total(column: Term) -> Term:
    return Term(f"SUM({column.text})", column.type, nullable=False)
