"""Heartbeats as rows of the source, with its keys and time and NULL in all else: queries to which they add nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from kandle.errors import QueryError
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Cast, Column, Constant, Node, walk
from kandle.query.query import QueryModel
from kandle.query.rewriting import rewritten_query
from kandle.query.signatures import AGGREGATES, call

NULL_HANDLING = ("is_null", "is_not_null", "coalesce", "and", "or", "is_in", "greatest", "least")
"""Functions that may have a value though an argument is NULL."""


@dataclass(frozen=True, slots=True)
class Beating:
    """A query over a source with heartbeats, and the field that is NULL in those and nowhere else."""

    query: QueryModel
    anchor: Column

    @property
    def heartbeat(self) -> AnyNode:
        """True for heartbeats."""
        return call("is_null", self.anchor)


def with_heartbeats(query: QueryModel) -> Beating:
    """The query such that heartbeats reach the windows and add nothing to their aggregates."""
    kept = kept_fields(query)
    for found in query.source.headers:
        if found.name in kept:
            raise QueryError(
                f"role all writes heartbeats into {query.source.name} with all that makes its key, but ksqlDB writes no headers, "
                f'and {found.name} is one; group by another field, or use role "live"'
            )
    anchors = [found for found in query.source.values if not found.nullable and found.name not in kept]
    if not anchors:
        raise QueryError(
            f"role all tells heartbeats by a NULL in a field of {query.source.name} that has a value in every event, but it has "
            'none besides its keys and times; add such a field, or use role "live"'
        )
    anchor = Column(query.source.name, anchors[0].name, anchors[0].type, nullable=True)

    return Beating(rewritten_query(query, lambda node: _of_heartbeats(query, kept, anchor, node)), anchor)


def kept_fields(query: QueryModel) -> tuple[str, ...]:
    """Fields of the source that heartbeats have: keys, time, what the group key and the join are made of."""
    assert query.window is not None
    nodes: list[Node] = [query.window.time, *query.group_by]
    nodes += [] if query.join is None else [left for left, _ in query.join.on]
    used = {
        found.name for node in nodes for found in walk(node) if isinstance(found, Column) and found.entity == query.source.name
    }
    return tuple(
        found.name for found in query.source.fields if found.name in used or found.key_order is not None or found.is_timestamp
    )


def _of_heartbeats(query: QueryModel, kept: Collection[str], anchor: Column, node: Any) -> Any:
    if isinstance(node, Column) and node.entity == query.source.name and node.name not in kept:
        return replace(node, nullable=True)
    if not isinstance(node, Aggregate):
        return node
    arguments = node.arguments or (anchor,)
    counted = tuple(_only_events(query, kept, anchor, argument) for argument in arguments)
    return replace(node, arguments=counted, nullable=AGGREGATES[node.function].nullable(counted))


def _only_events(query: QueryModel, kept: Collection[str], anchor: Column, argument: AnyNode) -> AnyNode:
    """The argument, NULL in heartbeats."""
    if _is_null_in_heartbeats(query, kept, argument):
        return argument
    return Case((Branch(call("is_not_null", anchor), argument),), Constant(None, argument.type), argument.type)


def _is_null_in_heartbeats(query: QueryModel, kept: Collection[str], node: Node) -> bool:
    if isinstance(node, Column):
        return node.entity == query.source.name and node.name not in kept
    if isinstance(node, Cast) or (isinstance(node, Call) and node.function not in NULL_HANDLING):
        return any(_is_null_in_heartbeats(query, kept, child) for child in node.children)
    return False
