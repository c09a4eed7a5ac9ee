"""Trees with some of their nodes changed, and queries over such trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kandle.query.nodes import Aggregate, Branch, Call, Case, Cast, Column
from kandle.query.query import QueryModel
from kandle.query.signatures import AGGREGATES, SCALARS

Change = Callable[[Any], Any]
"""What becomes of a node whose children are changed already."""


def rewritten(node: Any, change: Change) -> Any:
    """The tree with every node changed, children first; whether a call may be NULL is said anew."""
    if isinstance(node, Call | Aggregate):
        arguments = tuple(rewritten(argument, change) for argument in node.arguments)
        table = SCALARS if isinstance(node, Call) else AGGREGATES
        node = replace(node, arguments=arguments, nullable=table[node.function].nullable(arguments))
    elif isinstance(node, Cast):
        node = replace(node, argument=rewritten(node.argument, change))
    elif isinstance(node, Case):
        branches = tuple(Branch(rewritten(each.condition, change), rewritten(each.value, change)) for each in node.branches)
        node = replace(node, branches=branches, otherwise=rewritten(node.otherwise, change))
    return change(node)


def rewritten_query(query: QueryModel, change: Change) -> QueryModel:
    """The query with every node of its clauses over events and bars changed."""
    window = query.window
    return replace(
        query,
        where=None if query.where is None else rewritten(query.where, change),
        window=None if window is None else replace(window, time=rewritten(window.time, change)),
        group_by=tuple(rewritten(key, change) for key in query.group_by),
        having=None if query.having is None else rewritten(query.having, change),
        projection=tuple(replace(item, expression=rewritten(item.expression, change)) for item in query.projection),
    )


def over_one_row(query: QueryModel) -> QueryModel:
    """A joined query over rows that hold the fields of both entities, those of the other one as `<Entity>.<field>`."""
    if query.join is None:
        return query
    other = query.join.entity.name

    def renamed(node: Any) -> Any:
        is_other = isinstance(node, Column) and node.entity == other
        return replace(node, name=f"{other}.{node.name}") if is_other else node

    return rewritten_query(query, renamed)
