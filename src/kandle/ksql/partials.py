"""What all aggregates are made of: arguments, partial columns, and the calls of ksqlDB's own aggregates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kandle.ksql.constants import number
from kandle.ksql.expressions import term
from kandle.ksql.functions import accepted
from kandle.ksql.operators import arithmetic, call, cast, joined
from kandle.ksql.refusal import RefusedError
from kandle.ksql.terms import Scope, Term, known
from kandle.ksql.types import BIGINT, INTEGER, VARCHAR
from kandle.model.types import DataType
from kandle.query.nodes import AnyNode

Columns = Mapping[str, Term]
"""Partial columns by name."""

ROW_OFFSET = Term("ROWOFFSET", BIGINT, nullable=False)
"""ksqlDB's own column of a row's place in its partition: the order of arrival where events of one key are in one partition."""

FIRST_TIME = "_first_time"
LAST_TIME = "_last_time"

_SORTABLE_TIME = "'yyyyMMddHHmmssSSS'"
_OFFSET_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Partial:
    """One column of a bucket's state: made of events, and merged of rows of finer buckets, which come in time order."""

    name: str
    collect: Term
    merge: Callable[[Columns], Term]


@dataclass(frozen=True, slots=True)
class Accumulator:
    """What one aggregate keeps, its value from those columns, and its value straight from events."""

    keep: Callable[[], tuple[Partial, ...]]
    finish: Callable[[Columns], Term]
    value: Term

    @property
    def partials(self) -> tuple[Partial, ...]:
        """The columns that are kept; a QueryError if one of them cannot be."""
        return self.keep()


@dataclass(frozen=True, slots=True)
class Argument:
    """An aggregate's argument: the engine's name of it, its expression and its text."""

    column: str
    node: AnyNode
    value: Term

    @property
    def type(self) -> DataType:
        return self.node.type

    @property
    def nullable(self) -> bool:
        """Whether the engine reckons with NULL; in ksqlDB there may be rows without events, of which all is NULL."""
        return self.node.nullable


def folded(name: str, *arguments: Term, nullable: bool) -> Term:
    """A call of one of ksqlDB's aggregates."""
    kind = accepted(name, [argument.type for argument in arguments])
    return Term(f"{name}({', '.join(argument.text for argument in arguments)})", kind, nullable)


def merged_by(aggregate: str, name: str) -> Callable[[Columns], Term]:
    """A column that merges by one of ksqlDB's aggregates."""
    return lambda columns: folded(aggregate, columns[name], nullable=columns[name].nullable)


def count_of(argument: Argument | None) -> Partial:
    """The number of events, or of those that have a value."""
    if argument is None or not argument.nullable:
        return Partial("_count", Term("COUNT(*)", BIGINT, nullable=False), merged_by("SUM", "_count"))
    name = f"_count{argument.column}"
    return Partial(name, folded("COUNT", argument.value, nullable=False), merged_by("SUM", name))


def milliseconds(scope: Scope) -> Term:
    """Event time in milliseconds."""
    assert scope.time is not None, "an aggregate by event time needs a scope of a query"
    return call("UNIX_TIMESTAMP", term(scope.time, scope))


def order_of_arrival(scope: Scope) -> Term:
    """The place of an event in the log."""
    if scope.sequence is None:
        raise RefusedError("what comes by offset is rolled up by the order of arrival, and nothing here says that")
    return cast(scope.sequence, BIGINT)


def where_known(value: Term, argument: Argument) -> Term:
    """The value where the argument is not NULL."""
    if not argument.value.nullable:
        return value
    return Term(f"CASE WHEN {known(argument.value).text} THEN {value.text} END", value.type, nullable=True)


def greatest_by(order: Term, value: Term) -> Term:
    """The value where the order is greatest, of several the one that came first; rows whose order is NULL do not count."""
    accepted("TOPK", [order.type, value.type, INTEGER])
    return Term(f"TOPK({order.text}, {value.text}, 1)[1]->`col0`", value.type, nullable=value.nullable)


def times(scope: Scope) -> tuple[Partial, ...]:
    """Event time of the first and of the last event; every bucket's state has them."""
    instant = milliseconds(scope)
    first = folded("MIN", instant, nullable=instant.nullable)
    last = folded("MAX", instant, nullable=instant.nullable)
    return (
        Partial(FIRST_TIME, first, merged_by("MIN", FIRST_TIME)),
        Partial(LAST_TIME, last, merged_by("MAX", LAST_TIME)),
    )


def first_value(argument: Argument, scope: Scope) -> Term:
    """Value of the earliest event; of several of one time the first that came."""
    earlier = arithmetic("-", number(0), milliseconds(scope))
    return greatest_by(where_known(earlier, argument), argument.value)


def last_value(argument: Argument, scope: Scope) -> Term:
    """Value of the latest event; of several of one time the last that came, where something says what came last."""
    later = milliseconds(scope) if scope.sequence is None else _time_and_arrival(scope)
    return greatest_by(where_known(later, argument), argument.value)


def _time_and_arrival(scope: Scope) -> Term:
    """Text that sorts by event time, then by arrival."""
    assert scope.time is not None
    pattern = Term(_SORTABLE_TIME, VARCHAR, nullable=False)
    zero = Term("'0'", VARCHAR, nullable=False)
    instant = call("FORMAT_TIMESTAMP", term(scope.time, scope), pattern)
    return joined(instant, call("LPAD", cast(order_of_arrival(scope), VARCHAR), number(_OFFSET_DIGITS), zero))


def _ends(argument: Argument, scope: Scope, name: str, value: Term, extreme: str, latest: str) -> tuple[Partial, ...]:
    found = (*times(scope), Partial(name, value, merged_by(latest, name)))
    if not argument.nullable:
        return found
    time = f"{name}_time"
    instant = where_known(milliseconds(scope), argument)
    return (*found, Partial(time, folded(extreme, instant, nullable=True), merged_by(extreme, time)))


def first_partials(argument: Argument, scope: Scope) -> tuple[Partial, ...]:
    """Value of the earliest event, and its time where NULLs make that differ from the bucket's first event."""
    value = first_value(argument, scope)
    return _ends(argument, scope, f"_first{argument.column}", value, "MIN", "EARLIEST_BY_OFFSET")


def last_partials(argument: Argument, scope: Scope) -> tuple[Partial, ...]:
    """Value of the latest event, and its time where NULLs make that differ from the bucket's last event."""
    value = last_value(argument, scope)
    return _ends(argument, scope, f"_last{argument.column}", value, "MAX", "LATEST_BY_OFFSET")
