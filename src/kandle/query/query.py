"""The query model: what one `to_query` declaration says, as immutable values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from kandle.model.entity import EntityModel
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Cast, Column
from kandle.query.signatures import AGGREGATES, SCALARS
from kandle.time.timeframe import Timeframe


class Gaps(Enum):
    """What a bucket inside a session without events gives."""

    CARRY = "carry"
    NULL = "null"
    SKIP = "skip"


class Late(Enum):
    """What happens to an event whose bucket is already final (it is counted in any case)."""

    DROP = "drop"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Join:
    """`join`: rows of another entity beside those of the source; `within` and `grace` in microseconds, for two streams only.

    `on` has pairs of expressions that must be equal, the source's first.
    """

    entity: EntityModel
    on: tuple[tuple[AnyNode, AnyNode], ...]
    how: Literal["inner", "left"] = "inner"
    within: int | None = None
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """`based_on`: sessions `open <= t < close` of rows with the same key; `day` is the trading date."""

    entity: EntityModel
    open: AnyNode
    close: AnyNode
    day: AnyNode | None = None


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows that follow each other, in several timeframes at once; grace in microseconds."""

    time: AnyNode
    timeframes: tuple[Timeframe, ...]
    zone: str = "UTC"
    grace: int = 0
    grace_by_timeframe: Mapping[Timeframe, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows of `size` that start every `advance` and so overlap; grace in microseconds."""

    time: AnyNode
    size: Timeframe
    advance: Timeframe
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Projection:
    """One field of the target entity and the expression that fills it, of the field's own type."""

    field: str
    expression: AnyNode


@dataclass(frozen=True, slots=True)
class Order:
    """One ordering key over the fields of the target."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class QueryModel:
    """A whole query: source and target entities and one value per clause."""

    target: EntityModel
    source: EntityModel
    projection: tuple[Projection, ...]
    join: Join | None = None
    schedule: Schedule | None = None
    where: AnyNode | None = None
    window: Tumbling | Hopping | None = None
    group_by: tuple[AnyNode, ...] = ()
    having: AnyNode | None = None
    order_by: tuple[Order, ...] = ()
    limit: int | None = None
    gaps: Gaps = Gaps.CARRY
    late: Late = Late.DROP

    @property
    def sources(self) -> tuple[EntityModel, ...]:
        """All entities that are read: the source, what it is joined with, the schedule."""
        clauses = (self.join, self.schedule)
        return (self.source, *(clause.entity for clause in clauses if clause is not None))

    @property
    def has_tumbling(self) -> bool:
        """Whether some windows over time must be closed by somebody."""
        return self.window is not None


Change = Callable[[Any], Any]
"""What becomes of a node whose children are changed already."""


def rewrite(node: Any, change: Change) -> Any:
    """The tree with every node changed, children first; whether a call may be NULL is said anew."""
    if isinstance(node, Call | Aggregate):
        arguments = tuple(rewrite(argument, change) for argument in node.arguments)
        table = SCALARS if isinstance(node, Call) else AGGREGATES
        node = replace(node, arguments=arguments, nullable=table[node.function].nullable(arguments))
    elif isinstance(node, Cast):
        node = replace(node, argument=rewrite(node.argument, change))
    elif isinstance(node, Case):
        branches = tuple(Branch(rewrite(each.condition, change), rewrite(each.value, change)) for each in node.branches)
        node = replace(node, branches=branches, otherwise=rewrite(node.otherwise, change))
    return change(node)


def rewrite_query(query: QueryModel, change: Change) -> QueryModel:
    """The query with every node of its clauses over events and bars changed."""
    window = query.window
    return replace(
        query,
        where=None if query.where is None else rewrite(query.where, change),
        window=None if window is None else replace(window, time=rewrite(window.time, change)),
        group_by=tuple(rewrite(key, change) for key in query.group_by),
        having=None if query.having is None else rewrite(query.having, change),
        projection=tuple(replace(item, expression=rewrite(item.expression, change)) for item in query.projection),
    )


def over_one_row(query: QueryModel) -> QueryModel:
    """A joined query over rows that hold the fields of both entities, those of the other one as `<Entity>.<field>`."""
    if query.join is None:
        return query
    other = query.join.entity.name

    def renamed(node: Any) -> Any:
        is_other = isinstance(node, Column) and node.entity == other
        return replace(node, name=f"{other}.{node.name}") if is_other else node

    return rewrite_query(query, renamed)
