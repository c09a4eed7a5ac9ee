"""Stages of a query, as users write them: each has the methods that may come next.

This holds for type checkers and at run time. The order is:

    from_ -> join -> based_on -> where
          -> tumbling | hopping -> group_by -> having -> select -> order_by -> limit

A stage holds a draft of the query and is never changed: each method returns the next stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, TypeVarTuple

from kandle.errors import QueryError, unknown_name
from kandle.model.entity import EntityModel, entity_model
from kandle.query.clauses import choice_of, make_hopping, make_join, make_order, make_schedule, make_tumbling
from kandle.query.draft import Draft, EntityLookup
from kandle.query.functions.results import NewTarget
from kandle.query.query import Gaps, Late, QueryModel
from kandle.query.recording import Window, record, record_expression

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


@dataclass(frozen=True, slots=True)
class Stage:
    """A query so far. The methods of its class are the stages that may come next."""

    draft: Draft

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            raise QueryError(_not_possible(self, name))


def _next_stages(stage: Stage | Query) -> str:
    return ", ".join(name for name in ORDER if hasattr(type(stage), name)) or "nothing"


def _not_possible(stage: Stage | Query, name: str) -> str:
    if name not in ORDER:
        return unknown_name(f"a query has no stage {name!r}", name, ORDER)
    return f"{name} is not possible here; possible is {_next_stages(stage)} (the order is {' -> '.join(ORDER)})"


class Limited(Stage, Generic[R]):
    """The query after `limit`: it is complete."""


class Ordered(Limited[R]):
    """The query after `order_by`."""

    def limit(self, count: int) -> Limited[R]:
        """Keep only the first bars of each bucket, in the order of `order_by`.

        Args:
            count: Number of bars to keep per bucket, 1 or more.

        Returns:
            The complete query.

        Raises:
            QueryError: If `count` is not a number of 1 or more.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise QueryError(f"limit: {count!r} is not a number of bars; give an int of 1 or more")
        return Limited(replace(self.draft, limit=count))


class Selected(Limited[R]):
    """The query after `select`: it is complete, unless its bars are to be ordered."""

    def order_by(self, key: Callable[[R], object]) -> Ordered[R]:
        """Order the bars of each bucket.

        Args:
            key: Function of the result that returns one of its fields or a tuple of them;
                `f.descending(b.field)` orders from the largest value to the smallest.

        Returns:
            The query, for `limit`.

        Raises:
            QueryError: If the key is not a field of the result.
        """
        selected = self.draft.selected
        target = selected.target if isinstance(selected, NewTarget) else type(selected)
        return Ordered(replace(self.draft, order_by=make_order(self.draft.entity_of(target), key)))

    if not TYPE_CHECKING:

        def limit(self, count: int) -> NoReturn:
            raise QueryError("limit without order_by would keep arbitrary bars; write .order_by(lambda b: b.field) before it")


class Filtered(Stage, Generic[*Rows]):
    """The query after `having`."""

    def having(self, predicate: Callable[[*Rows, Window], bool]) -> Filtered[*Rows]:
        """Emit only bars for which a condition is true.

        Bars that are not emitted still count in the bars that are rolled up from them. Several `having` are
        joined by *and*.

        Args:
            predicate: Function of the row (or rows) and the window that returns a condition over aggregates
                and group keys.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function cannot be recorded or does not return such a condition.
        """
        return Filtered(self.draft.with_having(record_expression("having", predicate, *self.draft.rows, self.draft.bucket)))

    def select(self, target: Callable[[*Rows, Window], R]) -> Selected[R]:
        """Describe the bar of a bucket.

        Args:
            target: Function of the row (or rows) and the window that returns an object of the entity, such as
                `Bar(start=w.start, high=f.max(t.price))`; `f.new(Bar, ...)` for classes that check their
                values.

        Returns:
            The complete query; `order_by` may follow.

        Raises:
            QueryError: If the function cannot be recorded.
        """
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows, self.draft.bucket)))


class Grouped(Filtered[*Rows]):
    """The query after `group_by`."""


class Windowed(Filtered[*Rows]):
    """The query after `tumbling` or `hopping`."""

    def group_by(self, key: Callable[[*Rows], object]) -> Grouped[*Rows]:
        """Make one series of bars for each value of a key; without it there is one series in all.

        Args:
            key: Function of the row (or rows) that returns an expression or a tuple of them, none of which
                may be NULL.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function cannot be recorded or returns something that cannot be a key.
        """
        return Grouped(self.draft.with_group_by(record("group_by", key, *self.draft.rows)))


class Unwindowed(Stage, Generic[*Rows]):
    """The query after `group_by` without a window: it makes one row per key, over all events."""

    def having(self, predicate: Callable[[*Rows], bool]) -> Unwindowed[*Rows]:
        """Emit only rows for which a condition is true.

        Args:
            predicate: Function of the row (or rows) that returns a condition over aggregates and group keys.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function cannot be recorded or does not return such a condition.
        """
        return Unwindowed(self.draft.with_having(record_expression("having", predicate, *self.draft.rows)))

    def select(self, target: Callable[[*Rows], R]) -> Selected[R]:
        """Describe the row of a key.

        Args:
            target: Function of the row (or rows) that returns an object of the entity.

        Returns:
            The complete query.

        Raises:
            QueryError: If the function cannot be recorded.
        """
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows)))


class Where(Stage, Generic[*Rows]):
    """The query before its window, after `from_`, `join`, `based_on` or `where`."""

    def where(self, predicate: Callable[[*Rows], bool]) -> Where[*Rows]:
        """Read only events for which a condition is true; a condition that is NULL is not true.

        Several `where` are joined by *and*.

        Args:
            predicate: Function of the row (or rows) that returns a condition.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function cannot be recorded or does not return a condition.
        """
        return Where(self.draft.with_where(record_expression("where", predicate, *self.draft.rows)))

    def tumbling(  # noqa: PLR0913, each unit is an argument of its own
        self,
        time: Callable[[*Rows], datetime],
        *,
        seconds: int | tuple[int, ...] | list[int] = (),
        minutes: int | tuple[int, ...] | list[int] = (),
        hours: int | tuple[int, ...] | list[int] = (),
        days: int | tuple[int, ...] | list[int] = (),
        weeks: int | tuple[int, ...] | list[int] = (),
        months: int | tuple[int, ...] | list[int] = (),
        tz: str = "UTC",
        grace: str | timedelta | Mapping[str, str | timedelta] = "0s",
        gaps: Gaps = Gaps.CARRY,
        late: Late = Late.DROP,
    ) -> Windowed[*Rows]:
        """Group events into buckets that follow each other, in several timeframes at once.

        Only the finest timeframe is made from events; every other is rolled up from a finer one.

        Args:
            time: Function of the row (or rows) that returns the event time.
            seconds: Timeframes in seconds, one or several: `seconds=(1, 5)`.
            minutes: Timeframes in minutes.
            hours: Timeframes in hours.
            days: Timeframes in days.
            weeks: Timeframes in weeks, which begin on Monday.
            months: Timeframes in months.
            tz: Time zone at whose midnight days, weeks and months begin; trading dates of a schedule come
                before it.
            grace: How long after its end a bucket still takes events, such as "2s": for all timeframes, or by
                timeframe (`{"1m": "2s", "1h": "1m"}`), where one that is left out has the grace of its
                source.
            gaps: What a bucket without events gives.
            late: What happens to events that come after their bucket is final.

        Returns:
            The query so far.

        Raises:
            QueryError: If no timeframe is given, or the function does not return a datetime.
            TimeframeError: If a timeframe, the time zone or a duration is not valid.
        """
        units = {"s": seconds, "m": minutes, "h": hours, "d": days, "wk": weeks, "mo": months}
        window = make_tumbling(time, self.draft.rows, units, tz, grace)
        return Windowed(
            replace(self.draft, window=window, gaps=choice_of("gaps", Gaps, gaps), late=choice_of("late", Late, late))
        )

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
        """Group events into buckets of one size that overlap.

        Args:
            time: Function of the row (or rows) that returns the event time.
            size: Length of a bucket, such as "5m".
            advance: Time from the start of a bucket to that of the next, such as "1m"; it divides the size.
            grace: How long after its end a bucket still takes events, such as "2s".
            gaps: What a bucket without events gives.
            late: What happens to events that come after their bucket is final.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function does not return a datetime.
            TimeframeError: If a timeframe or duration is not valid.
        """
        window = make_hopping(time, self.draft.rows, size, advance, grace)
        return Windowed(
            replace(self.draft, window=window, gaps=choice_of("gaps", Gaps, gaps), late=choice_of("late", Late, late))
        )

    def group_by(self, key: Callable[[*Rows], object]) -> Unwindowed[*Rows]:
        """Make one row for each value of a key, over all events, without a window.

        Args:
            key: Function of the row (or rows) that returns an expression or a tuple of them, none of which
                may be NULL.

        Returns:
            The query so far.

        Raises:
            QueryError: If the function cannot be recorded or returns something that cannot be a key.
        """
        return Unwindowed(self.draft.with_group_by(record("group_by", key, *self.draft.rows)))

    def select(self, target: Callable[[*Rows], R]) -> Selected[R]:
        """Describe the result of each event, without a window or a key.

        Args:
            target: Function of the row (or rows) that returns an object of the entity.

        Returns:
            The complete query.

        Raises:
            QueryError: If the function cannot be recorded.
        """
        return Selected(replace(self.draft, selected=record("select", target, *self.draft.rows)))


class Joined(Where[*Rows]):
    """The query after `join`."""

    def based_on(
        self,
        schedule: type[O],
        *,
        open: Callable[[O], datetime],
        close: Callable[[O], datetime],
        day: Callable[[O], date] | None = None,
    ) -> Where[*Rows]:
        """Read only events inside of sessions: `open <= time < close` of a schedule row with the same key.

        Args:
            schedule: Entity of the sessions; its leading key parts are the group key.
            open: Function of a session that returns its start, inclusive.
            close: Function of a session that returns its end, exclusive.
            day: Function of a session that returns its trading date; days, weeks and months are then those of
                trading dates.

        Returns:
            The query so far.

        Raises:
            QueryError: If a function does not return a datetime, or `day` not a date.
        """
        return Where(replace(self.draft, schedule=make_schedule(self.draft.entity_of(schedule), open, close, day)))


class Source(Joined[T]):
    """The query after `from_`."""

    def join(
        self,
        other: type[O],
        *,
        on: Callable[[T, O], bool],
        how: Literal["inner", "left"] = "inner",
        within: str | timedelta | None = None,
        grace: str | timedelta | None = None,
    ) -> Joined[T, O]:
        """Put the matching row of a table, or matching events of another stream, beside each event.

        All later functions take both rows. Runs on ksqlDB only.

        Args:
            other: Entity to join: of a table the newest row of the key, of a stream every event `within` a
                time.
            on: Function of both rows that returns one equality of their fields, or several joined by `&`.
            how: `inner` drops events without a match; `left` keeps them, with NULL in the other's fields.
            within: How far apart the events of two streams may be, such as "5s".
            grace: How late events of two streams may be, such as "1m".

        Returns:
            The query so far, over both rows.

        Raises:
            QueryError: If the condition is not such an equality, or the two entities cannot be joined.
        """
        clause = make_join(self.draft.source, self.draft.entity_of(other), on, how, within=within, grace=grace)
        return Joined(replace(self.draft, join=clause))


class Query:
    """The start of a query, as `to_query` gives it to a function."""

    def __init__(self, entity_of: EntityLookup = entity_model) -> None:
        """Begin a query.

        Args:
            entity_of: Returns the metadata of an entity.
        """
        self._entity_of = entity_of

    def from_(self, source: type[T]) -> Source[T]:
        """Name the entity whose events the query reads.

        Args:
            source: The entity, a class decorated by `@kandle.stream` or `@kandle.table`.

        Returns:
            The query so far.

        Raises:
            ModelError: If the class is not an entity.
        """
        return Source(Draft(self._entity_of(source), self._entity_of))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") and name.endswith("__"):
                raise AttributeError(name)
            raise QueryError(_not_possible(self, name))


def build(target: EntityModel, declare: Callable[[Query], Any], entity_of: EntityLookup = entity_model) -> QueryModel:
    """Build the query model of a declaration.

    Args:
        target: The entity that the query makes.
        declare: Function that gets a `Query` and returns its last stage.
        entity_of: Returns the metadata of the entities that the query reads.

    Returns:
        The checked model.

    Raises:
        QueryError: If the query is not complete or not valid; names stage and expression.
    """
    stage = declare(Query(entity_of))
    if isinstance(stage, Limited):
        return stage.draft.to_model(target)
    if isinstance(stage, Stage):
        raise QueryError(f"{target.name}: the query is not complete; next comes one of {_next_stages(stage)}")
    raise QueryError(
        f"{target.name}: the function returns {stage!r} instead of a query; write lambda q: q.from_(...)... up to .select(...)"
    )
