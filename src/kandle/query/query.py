"""The query model: the clauses of a query as immutable values, and ways to rewrite their expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from kandle.model.entity import USUAL_BAR_TOPICS, BarTopics, EntityModel
from kandle.model.types import DataType
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Cast, Column
from kandle.query.signatures import AGGREGATES, SCALARS
from kandle.time.timeframe import Timeframe


class Gaps(Enum):
    """The bar of a bucket without events, for a key that has had events before."""

    CARRY = "carry"
    """Each aggregate has the value that one event of no weight with the key's latest values would give: sums
    are 0.
    """

    NULL = "null"
    """Aggregates that would carry a value are NULL; sums and counts are 0."""

    SKIP = "skip"
    """There is no bar."""


class Late(Enum):
    """What happens to an event whose bucket is already final; it is counted in any case."""

    DROP = "drop"
    """It is left out."""

    TOPIC = "topic"
    """It is written to the topic `<topic of the bars>_late`."""


@dataclass(frozen=True, slots=True)
class Join:
    """The clause `join`: rows of another entity beside those of the source."""

    entity: EntityModel
    on: tuple[tuple[AnyNode, AnyNode], ...]
    """Pairs of expressions that must be equal, the source's first."""
    how: Literal["inner", "left"] = "inner"
    within: int | None = None
    """How far apart events of two streams may be, in microseconds; None for a table."""
    grace: int | None = None
    """How late events of two streams may be, in microseconds; None for a table."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The clause `based_on`: sessions `open <= time < close` of rows with the same key.

    `day` is the trading date of a session.
    """

    entity: EntityModel
    open: AnyNode
    close: AnyNode
    day: AnyNode | None = None


@dataclass(frozen=True, slots=True)
class Tumbling:
    """The clause `tumbling`: buckets that follow each other, in one or several timeframes.

    The graces are in microseconds.
    """

    time: AnyNode
    timeframes: tuple[Timeframe, ...]
    zone: str = "UTC"
    grace: int = 0
    grace_by_timeframe: Mapping[Timeframe, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hopping:
    """The clause `hopping`: buckets of `size` that start every `advance` and so overlap; grace in microseconds."""

    time: AnyNode
    size: Timeframe
    advance: Timeframe
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Projection:
    """One field of the target and the expression that fills it, which has the field's type.

    `wider` is set where events or aggregates fill the field as they are, and have values that the field cannot hold: their type.
    """

    field: str
    expression: AnyNode
    wider: DataType | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One field of the target to order bars by."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class QueryModel:
    """A whole query: its source and target entities and one value per clause."""

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
    topics: BarTopics = USUAL_BAR_TOPICS
    """How the topics of its bars are called."""

    @property
    def sources(self) -> tuple[EntityModel, ...]:
        """All entities that are read: the source, the one that it is joined with, and the schedule."""
        clauses = (self.join, self.schedule)
        return (self.source, *(clause.entity for clause in clauses if clause is not None))

    @property
    def has_tumbling(self) -> bool:
        """Whether the query has a window over time, whose buckets must be closed."""
        return self.window is not None


Change = Callable[[Any], Any]
"""Replacement of one node, whose children are replaced already."""


def rewrite(node: Any, change: Change) -> Any:
    """Return the tree with every node replaced, children first.

    Whether calls and aggregates may be NULL is determined again.
    """
    if isinstance(node, Call | Aggregate):
        arguments = tuple(rewrite(argument, change) for argument in node.arguments)
        table = SCALARS if isinstance(node, Call) else AGGREGATES
        node = replace(node, arguments=arguments, nullable=table[node.function].nullable(arguments))
    elif isinstance(node, Cast):
        node = replace(node, argument=rewrite(node.argument, change))
    elif isinstance(node, Case):
        branches = tuple(Branch(rewrite(branch.condition, change), rewrite(branch.value, change)) for branch in node.branches)
        node = replace(node, branches=branches, otherwise=rewrite(node.otherwise, change))
    return change(node)


def rewrite_query(query: QueryModel, change: Change) -> QueryModel:
    """Return the query with every node of its clauses over events and bars replaced."""
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
    """Return a joined query over rows that hold the fields of both entities.

    Fields of the joined entity are named `<Entity>.<field>`. A query without a join stays as it is.
    """
    if query.join is None:
        return query
    other = query.join.entity.name

    def rename(node: Any) -> Any:
        is_other = isinstance(node, Column) and node.entity == other
        return replace(node, name=f"{other}.{node.name}") if is_other else node

    return rewrite_query(query, rename)
