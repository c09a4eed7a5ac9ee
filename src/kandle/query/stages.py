"""The stages of a query: each offers what may come next, to type checkers and at run time.

from_ -> join -> based_on -> where -> tumbling | hopping -> group_by -> having -> select -> order_by -> limit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, TypeVarTuple

from kandle.errors import QueryError
from kandle.model.entity import EntityModel, entity_model
from kandle.model.types import DecimalType
from kandle.query.draft import Draft, Each, order_of, schedule_of, timeframes_of, tumbling_of
from kandle.query.nodes import AnyNode, Call, Column, aggregates, describe, walk
from kandle.query.query import Gaps, Hopping, Join, Late
from kandle.query.recording import RecordingRow, Window, record, record_expression
from kandle.time.timeframe import as_timeframe, parse_duration

HOW = ("inner", "left")
Duration = str | timedelta | None


def join_of(
    source: EntityModel,
    other: EntityModel,
    on: Callable[..., Any],
    how: Literal["inner", "left"],
    within: Duration,
    grace: Duration,
) -> Join:
    """The checked clause."""
    if other.name == source.name:
        raise QueryError(
            f"join: {source.name} cannot be joined with itself, since its columns could not be told apart; "
            f"make rows of a second class of it by a query, from_({source.name}).select(...), and join that"
        )
    if how not in HOW:
        raise QueryError(f"join: how = {how!r}; there are {', '.join(map(repr, HOW))}")
    node = record_expression("join (on)", on, RecordingRow(source), RecordingRow(other))
    pairs = tuple(_pair(source, other, found) for found in _conditions(node))
    clause = Join(other, pairs, how, _duration(within), _duration(grace))
    _check_kinds(source, clause)
    return clause


def _duration(value: Duration) -> int | None:
    return None if value is None else parse_duration(value)


def _conditions(node: AnyNode) -> Iterator[AnyNode]:
    """The conditions that are joined by `&`."""
    if isinstance(node, Call) and node.function == "and":
        for argument in node.arguments:
            yield from _conditions(argument)
    else:
        yield node


def _pair(source: EntityModel, other: EntityModel, node: AnyNode) -> tuple[AnyNode, AnyNode]:
    """The two sides of an equality, the source's first."""
    if isinstance(node, Call) and node.function == "equal":
        left, right = node.arguments
        sides = _entities(left), _entities(right)
        if sides == ({other.name}, {source.name}):
            left, right = right, left
        if sides in (({source.name}, {other.name}), ({other.name}, {source.name})):
            _check_sides(node, left, right)
            return left, right
    raise QueryError(
        f"join: {describe(node)} is not an equality between {source.name} and {other.name}; "
        f"write on=lambda a, b: a.x == b.x, several joined by &, and other conditions in where"
    )


def _entities(node: AnyNode) -> set[str]:
    return {found.entity for found in walk(node) if isinstance(found, Column)}


def _check_sides(condition: AnyNode, left: AnyNode, right: AnyNode) -> None:
    if aggregates(condition):
        raise QueryError(f"join: {describe(condition)} holds an aggregate; those belong in select and having")
    if not _same_type(left, right):
        raise QueryError(
            f"join: {describe(condition)} compares {left.type} with {right.type}; both sides must be of one type: write f.cast"
        )


def _same_type(left: AnyNode, right: AnyNode) -> bool:
    """Whether equal values are equal as columns: decimals only of the same digits, texts of any length."""
    return left.type == right.type if isinstance(left.type, DecimalType) else type(left.type) is type(right.type)


def _check_kinds(source: EntityModel, clause: Join) -> None:
    """What goes with streams, and what with tables."""
    other = clause.entity
    streams = source.kind == other.kind == "stream"
    if source.kind == "table" and other.kind == "stream":
        raise QueryError(
            f"join: the table {source.name} cannot be joined with the stream {other.name}; begin with from_({other.name})"
        )
    if streams and not clause.within:
        raise QueryError(
            f'join: {source.name} and {other.name} are streams, whose events go together within a time; add within="5s"'
        )
    if streams and clause.how == "left" and clause.grace is None:
        raise QueryError(
            f"join: when an event of {source.name} is known to find nothing depends on how late events of {other.name} may be; "
            'add grace="1m"'
        )
    if not streams and (clause.within is not None or clause.grace is not None):
        name = "within" if clause.within is not None else "grace"
        raise QueryError(f"join: {name} is for two streams, but {other.name} is a table: its newest row counts; leave {name} out")
    if not streams:
        _check_table_key(clause)


def _check_table_key(clause: Join) -> None:
    """A row of a table is found by its whole key."""
    other = clause.entity
    keys = [Column(other.name, key.name, key.type, key.nullable) for key in other.keys]
    given = [right for _, right in clause.on]
    if len(given) != len(keys) or any(key not in given for key in keys):
        wanted = ", ".join(map(describe, keys)) or "nothing, since it has no key"
        shown = ", ".join(map(describe, given))
        raise QueryError(f"join: a row of the table {other.name} is found by its key, {wanted}, each part once, not by {shown}")


T = TypeVar("T")
O = TypeVar("O")  # noqa: E741
R = TypeVar("R")
Rows = TypeVarTuple("Rows")
"""The rows that the functions of a stage are called with: one, or two after a join."""

ORDER = (
    "from_",
    "join",
    "based_on",
    "where",
    "tumbling",
    "hopping",
    "group_by",
    "having",
    "select",
    "order_by",
    "limit",
)
Grace = str | timedelta | Mapping[str, str | timedelta]


@dataclass(frozen=True, slots=True)
class Stage:
    """A query so far. Which methods a stage has says what may come next."""

    draft: Draft

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            can = [each for each in ORDER if hasattr(type(self), each)]
            now = f"here may come {', '.join(can)}" if can else "nothing may come after it"
            raise QueryError(f"{name} cannot stand here: {now}; the order is {' -> '.join(ORDER)}")


class Limited(Stage, Generic[R]):
    """After `limit`: the query is complete."""


class Ordered(Limited[R]):
    """After `order_by`."""

    def limit(self, count: int) -> Limited[R]:
        """Keep the first `count` bars of every bucket, in the order given."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise QueryError(f"limit: {count!r} is not a number of bars, 1 or more")
        return Limited(replace(self.draft, limit=count))


class Selected(Limited[R]):
    """After `select`."""

    def order_by(self, key: Callable[[R], object]) -> Ordered[R]:
        """Order the bars of one bucket by fields of the result; `f.descending(b.field)` turns one round."""
        return Ordered(replace(self.draft, order_by=order_of(self.draft, key)))

    if not TYPE_CHECKING:

        def limit(self, count: int) -> NoReturn:
            raise QueryError("limit without order_by would keep bars at random; say order_by(lambda b: b.field) before it")


class Filtered(Stage, Generic[*Rows]):
    """After `having`."""

    def having(self, predicate: Callable[[*Rows, Window], bool]) -> Filtered[*Rows]:
        """Only bars for which the condition over aggregates is true come out; others still count in the roll-up."""
        return Filtered(self.draft.with_having(record_expression("having", predicate, *self.draft.rows, self.draft.window_row)))

    def select(self, target: Callable[[*Rows, Window], R]) -> Selected[R]:
        """The bar of a bucket."""
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows, self.draft.window_row)))


class Grouped(Filtered[*Rows]):
    """After `group_by`."""


class Windowed(Filtered[*Rows]):
    """After `tumbling` or `hopping`."""

    def group_by(self, key: Callable[[*Rows], object]) -> Grouped[*Rows]:
        """One series of bars for each value of the key, an expression or a tuple of them."""
        return Grouped(self.draft.grouped(record("group_by", key, *self.draft.rows)))


class Unwindowed(Stage, Generic[*Rows]):
    """After `group_by` without a window over time: one row per key for ever."""

    def having(self, predicate: Callable[[*Rows], bool]) -> Unwindowed[*Rows]:
        """Only rows for which the condition over aggregates is true."""
        return Unwindowed(self.draft.with_having(record_expression("having", predicate, *self.draft.rows)))

    def select(self, target: Callable[[*Rows], R]) -> Selected[R]:
        """The row of a key."""
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows)))


class Where(Stage, Generic[*Rows]):
    """After `where`, or where it may come."""

    def where(self, predicate: Callable[[*Rows], bool]) -> Where[*Rows]:
        """Only events for which the condition is true, not NULL; several are joined by `and`."""
        return Where(self.draft.filtered(record_expression("where", predicate, *self.draft.rows)))

    def tumbling(  # noqa: PLR0913, each unit is an argument of its own
        self,
        time: Callable[[*Rows], datetime],
        *,
        seconds: Each = (),
        minutes: Each = (),
        hours: Each = (),
        days: Each = (),
        weeks: Each = (),
        months: Each = (),
        tz: str = "UTC",
        grace: Grace = "0s",
        gaps: Gaps = Gaps.CARRY,
        late: Late = Late.DROP,
    ) -> Windowed[*Rows]:
        """Buckets that follow each other, in several timeframes at once; days, weeks and months begin at midnight of `tz`.

        `grace` is for all timeframes, or by timeframe (`{"1m": "2s"}`); one that is not named has that of its source.
        """
        node = record_expression("tumbling", time, *self.draft.rows)
        units = {"s": seconds, "m": minutes, "h": hours, "d": days, "wk": weeks, "mo": months}
        window = tumbling_of(node, timeframes_of(units), tz, grace)
        return Windowed(replace(self.draft, window=window, gaps=Gaps(gaps), late=Late(late)))

    def hopping(
        self,
        time: Callable[[*Rows], datetime],
        *,
        size: str,
        advance: str,
        grace: str | timedelta = "0s",
        gaps: Gaps = Gaps.CARRY,
        late: Late = Late.DROP,
    ) -> Windowed[*Rows]:
        """Buckets of one size that start every `advance` and overlap."""
        node = record_expression("hopping", time, *self.draft.rows)
        window = Hopping(node, as_timeframe(size), as_timeframe(advance), parse_duration(grace))
        return Windowed(replace(self.draft, window=window, gaps=Gaps(gaps), late=Late(late)))

    def group_by(self, key: Callable[[*Rows], object]) -> Unwindowed[*Rows]:
        """One row for each value of the key, without a window over time."""
        return Unwindowed(self.draft.grouped(record("group_by", key, *self.draft.rows)))

    def select(self, target: Callable[[*Rows], R]) -> Selected[R]:
        """One result for each event."""
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows)))


class Joined(Where[*Rows]):
    """After `join`."""

    def based_on(
        self,
        schedule: type[O],
        *,
        open: Callable[[O], datetime],
        close: Callable[[O], datetime],
        day: Callable[[O], date] | None = None,
    ) -> Where[*Rows]:
        """Only events with `open <= t < close` of a schedule row of the same key; `day` is the trading date of the row.

        With `day`, days, weeks and months are those of the trading dates. The leading key parts of the schedule
        are the group key.
        """
        return Where(replace(self.draft, schedule=schedule_of(entity_model(schedule), open, close, day)))


class Source(Joined[T]):
    """After `from_`."""

    def join(
        self,
        other: type[O],
        *,
        on: Callable[[T, O], bool],
        how: Literal["inner", "left"] = "inner",
        within: str | timedelta | None = None,
        grace: str | timedelta | None = None,
    ) -> Joined[T, O]:
        """Each event beside the row of a table, or the events of another stream `within` a time of it, that go with it.

        `on` is one equality, or several joined by `&`, of fields of the two. With `how="left"` an event with which nothing goes
        stays, and the other's fields are NULL. `grace` is how long events of a stream may be late. Runs on ksqlDB only.
        """
        return Joined(replace(self.draft, join=join_of(self.draft.source, entity_model(other), on, how, within, grace)))


class Query:
    """The start of a query."""

    def from_(self, source: type[T]) -> Source[T]:
        """The entity whose events the query reads."""
        return Source(Draft(entity_model(source)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            raise QueryError(f"{name} cannot stand here: a query begins with from_(Entity)")


def build(target: EntityModel, declare: Callable[[Query], Any]) -> Any:
    """The query model of a declaration; QueryError names stage and expression."""
    stage = declare(Query())
    if not isinstance(stage, Limited):
        reached = type(stage).__name__
        raise QueryError(f"{target.name}: the query must end with select, order_by or limit; it gives {reached}")
    return stage.draft.finished(target)
