"""Heartbeats of role "all": rows without an event, which close windows and add nothing to them.

ksqlDB closes a window when a later row of the same partition arrives. Heartbeats are such rows, in the topic
of the events:

    time   key   price  size
    10:00  EUR   1.10   5       an event
    10:01  EUR   NULL   NULL    a heartbeat: the key and the time, NULL in all other fields

A field that has a value in every event distinguishes the two: the *anchor*, NULL in heartbeats and nowhere
else. Aggregates ignore NULL, so each argument only has to be NULL in heartbeats.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from kandle.errors import QueryError
from kandle.query.nodes import Aggregate, AnyNode, Branch, Call, Case, Cast, Column, Constant, Node, walk
from kandle.query.query import QueryModel, rewrite_query
from kandle.query.signatures import AGGREGATES, call

NULL_HANDLING = ("is_null", "is_not_null", "coalesce", "and", "or", "is_in", "greatest", "least")
"""Functions that may have a value although an argument is NULL."""


@dataclass(frozen=True, slots=True)
class HeartbeatQuery:
    """A query over a source with heartbeats.

    Attributes:
        query: The query, in which heartbeats add nothing to the aggregates.
        anchor: The field of the source that is NULL in heartbeats and nowhere else.
    """

    query: QueryModel
    anchor: Column

    @property
    def is_heartbeat(self) -> AnyNode:
        """An expression that is true for heartbeats."""
        return call("is_null", self.anchor)


def with_heartbeats(query: QueryModel) -> HeartbeatQuery:
    """Return the query over events and heartbeats.

    Raises:
        QueryError: If heartbeats cannot have the group key, or cannot be distinguished from events.
    """
    kept = heartbeat_fields(query)
    for field in query.source.headers:
        if field.name in kept:
            raise QueryError(
                f'{field.name} of {query.source.name} is a header, which ksqlDB cannot write into heartbeats of role "all", but '
                'they need the fields of the group key and the join; use another field there, or use role "live"'
            )
    anchors = [field for field in query.source.values if not field.nullable and field.name not in kept]
    if not anchors:
        raise QueryError(
            f'role "all" distinguishes heartbeats from events by a field of {query.source.name} that is NULL in '
            "heartbeats only, but all fields that are not Optional are keys or times; "
            'add such a field, or use role "live"'
        )
    anchor = Column(query.source.name, anchors[0].name, anchors[0].type, nullable=True)
    return HeartbeatQuery(rewrite_query(query, lambda node: _rewrite(query, kept, anchor, node)), anchor)


def heartbeat_fields(query: QueryModel) -> tuple[str, ...]:
    """Return the fields that heartbeats have: keys, time, and fields used in the group key and the join."""
    assert query.window is not None
    nodes: list[Node] = [query.window.time, *query.group_by]
    nodes += [] if query.join is None else [left for left, _ in query.join.on]
    source = query.source
    used = {part.name for node in nodes for part in walk(node) if isinstance(part, Column) and part.entity == source.name}
    return tuple(field.name for field in source.fields if field.name in used or field.key_order is not None or field.is_timestamp)


def _rewrite(query: QueryModel, kept: Collection[str], anchor: Column, node: Any) -> Any:
    if isinstance(node, Column) and node.entity == query.source.name and node.name not in kept:
        return replace(node, nullable=True)
    if not isinstance(node, Aggregate):
        return node
    arguments = node.arguments or (anchor,)
    only_events = tuple(_null_in_heartbeats(query, kept, anchor, argument) for argument in arguments)
    return replace(node, arguments=only_events, nullable=AGGREGATES[node.function].nullable(only_events))


def _null_in_heartbeats(query: QueryModel, kept: Collection[str], anchor: Column, argument: AnyNode) -> AnyNode:
    """Return the argument, NULL in heartbeats."""
    if _is_null_in_heartbeats(query, kept, argument):
        return argument
    is_event = call("is_not_null", anchor)
    return Case((Branch(is_event, argument),), Constant(None, argument.type), argument.type)


def _is_null_in_heartbeats(query: QueryModel, kept: Collection[str], node: Node) -> bool:
    if isinstance(node, Column):
        return node.entity == query.source.name and node.name not in kept
    if isinstance(node, Cast) or (isinstance(node, Call) and node.function not in NULL_HANDLING):
        return any(_is_null_in_heartbeats(query, kept, child) for child in node.children)
    return False
