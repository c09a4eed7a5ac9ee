"""What aggregates keep of a bucket: partial columns, made from events and merged from finer buckets.

Every aggregate is an algebra of three steps:

    events --collect--> partial columns --merge--> partial columns of a larger bucket --finish--> value

A partial column has the name that kandle's engine gives it, so that the engine can continue with rows of
ksqlDB. Here are counts, times and first and last values; sums and what is made from them are in sums.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kandle.ksql.expressions import term
from kandle.ksql.functions import result_type
from kandle.ksql.operators import arithmetic, call, cast, concatenation, number
from kandle.ksql.terms import RefusedError, Term, TermScope, all_known
from kandle.ksql.types import BIGINT, INTEGER, VARCHAR
from kandle.model.types import DataType
from kandle.query.nodes import AnyNode

Columns = Mapping[str, Term]
"""Partial columns by name."""

ROW_OFFSET = Term("ROWOFFSET", BIGINT, nullable=False)
"""ksqlDB's own column with the offset of a row: the order of arrival of events in one partition."""

FIRST_TIME = "_first_time"
LAST_TIME = "_last_time"

_SORTABLE_TIME = "'yyyyMMddHHmmssSSS'"
_OFFSET_DIGITS = 19


@dataclass(frozen=True, slots=True)
class PartialColumn:
    """A column of a bucket's state.

    Attributes:
        name: The engine's name of the column.
        collect: Its value from events.
        merge: Its value from rows of finer buckets, which come in the order of time.
    """

    name: str
    collect: Term
    merge: Callable[[Columns], Term]


@dataclass(frozen=True, slots=True)
class CompiledAggregate:
    """An aggregate as KSQL.

    Attributes:
        keep: Makes the columns that it keeps; raises QueryError if one of them is not possible.
        finish: Its value from those columns.
        value: Its value straight from events.
    """

    keep: Callable[[], tuple[PartialColumn, ...]]
    finish: Callable[[Columns], Term]
    value: Term


@dataclass(frozen=True, slots=True)
class AggregateArgument:
    """An argument of an aggregate.

    Attributes:
        column: The engine's name of the argument, such as `_a0`.
        node: Its expression in the query tree.
        value: Its expression in KSQL.
    """

    column: str
    node: AnyNode
    value: Term

    @property
    def type(self) -> DataType:
        """The kandle type of the expression."""
        return self.node.type

    @property
    def nullable(self) -> bool:
        """Whether the engine expects NULL; heartbeats in ksqlDB have NULL in any case."""
        return self.node.nullable


def aggregate_call(name: str, *arguments: Term, nullable: bool) -> Term:
    """Return a call of one of ksqlDB's aggregates."""
    kind = result_type(name, [argument.type for argument in arguments])
    return Term(f"{name}({', '.join(argument.text for argument in arguments)})", kind, nullable)


def merged_by(aggregate: str, name: str) -> Callable[[Columns], Term]:
    """Return the merge of a column by one of ksqlDB's aggregates."""
    return lambda columns: aggregate_call(aggregate, columns[name], nullable=columns[name].nullable)


def count_of(argument: AggregateArgument | None) -> PartialColumn:
    """Return the number of events or, with an argument, of those where it has a value."""
    if argument is None or not argument.nullable:
        return PartialColumn("_count", Term("COUNT(*)", BIGINT, nullable=False), merged_by("SUM", "_count"))
    name = f"_count{argument.column}"
    return PartialColumn(name, aggregate_call("COUNT", argument.value, nullable=False), merged_by("SUM", name))


def milliseconds(scope: TermScope) -> Term:
    """Return the event time in milliseconds."""
    assert scope.time is not None, "an aggregate by event time needs the scope of a query"
    return call("UNIX_TIMESTAMP", term(scope.time, scope))


def order_of_arrival(scope: TermScope) -> Term:
    """Return the position of an event in the log.

    Raises:
        RefusedError: If the scope does not have it.
    """
    if scope.sequence is None:
        raise RefusedError("rows of this source do not tell the order of arrival; use f.first and f.last, which go by event time")
    return cast(scope.sequence, BIGINT)


def where_known(value: Term, argument: AggregateArgument) -> Term:
    """Return the value where the argument is not NULL, else NULL."""
    if not argument.value.nullable:
        return value
    return Term(f"CASE WHEN {all_known(argument.value).text} THEN {value.text} END", value.type, nullable=True)


def greatest_by(order: Term, value: Term) -> Term:
    """Return the value where `order` is greatest, the first to arrive of several.

    Rows where `order` is NULL do not count.
    """
    result_type("TOPK", [order.type, value.type, INTEGER])
    return Term(f"TOPK({order.text}, {value.text}, 1)[1]->`col0`", value.type, nullable=value.nullable)


def times(scope: TermScope) -> tuple[PartialColumn, ...]:
    """Return the event times of the first and the last event, which the state of every bucket has."""
    return _extreme_time("MIN", FIRST_TIME, scope), _extreme_time("MAX", LAST_TIME, scope)


def _extreme_time(aggregate: str, name: str, scope: TermScope) -> PartialColumn:
    instant = milliseconds(scope)
    collect = aggregate_call(aggregate, instant, nullable=instant.nullable)
    return PartialColumn(name, collect, merged_by(aggregate, name))


def first_value(argument: AggregateArgument, scope: TermScope) -> Term:
    """Return the value of the earliest event, the first to arrive of several with the same time."""
    earlier = arithmetic("-", number(0), milliseconds(scope))
    return greatest_by(where_known(earlier, argument), argument.value)


def last_value(argument: AggregateArgument, scope: TermScope) -> Term:
    """Return the value of the latest event.

    Of several with the same time it is the last to arrive if the scope has a sequence, else the first.
    """
    later = milliseconds(scope) if scope.sequence is None else _time_and_arrival(scope)
    return greatest_by(where_known(later, argument), argument.value)


def _time_and_arrival(scope: TermScope) -> Term:
    """Return text that sorts by event time, then by order of arrival."""
    assert scope.time is not None
    pattern = Term(_SORTABLE_TIME, VARCHAR, nullable=False)
    zero = Term("'0'", VARCHAR, nullable=False)
    instant = call("FORMAT_TIMESTAMP", term(scope.time, scope), pattern)
    arrival = call("LPAD", cast(order_of_arrival(scope), VARCHAR), number(_OFFSET_DIGITS), zero)
    return concatenation(instant, arrival)


def first_partials(argument: AggregateArgument, scope: TermScope) -> tuple[PartialColumn, ...]:
    """Return the columns of the earliest value, with its time if the first event may have NULL."""
    name = f"_first{argument.column}"
    partial = PartialColumn(name, first_value(argument, scope), merged_by("EARLIEST_BY_OFFSET", name))
    return *times(scope), partial, *_own_time(partial, "MIN", argument, scope)


def last_partials(argument: AggregateArgument, scope: TermScope) -> tuple[PartialColumn, ...]:
    """Return the columns of the latest value, with its time if the last event may have NULL."""
    name = f"_last{argument.column}"
    partial = PartialColumn(name, last_value(argument, scope), merged_by("LATEST_BY_OFFSET", name))
    return *times(scope), partial, *_own_time(partial, "MAX", argument, scope)


def _own_time(partial: PartialColumn, aggregate: str, argument: AggregateArgument, scope: TermScope) -> tuple[PartialColumn, ...]:
    if not argument.nullable:
        return ()
    name = f"{partial.name}_time"
    collect = aggregate_call(aggregate, where_known(milliseconds(scope), argument), nullable=True)
    return (PartialColumn(name, collect, merged_by(aggregate, name)),)
