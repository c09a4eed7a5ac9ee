"""Aggregates: what a row of the aggregation keeps of its events, how such rows merge, what value comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kandle.ksql.terms import Scope, Term
from kandle.query.nodes import Aggregate
from kandle.query.query import QueryModel

Columns = Mapping[str, Term]
"""Partial columns by name."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A column of the state of a bucket: from events, and from columns of the same names in rows of finer buckets in time order."""

    name: str
    collect: Term
    merge: Callable[[Columns], Term]


@dataclass(frozen=True, slots=True)
class Accumulator:
    """What one aggregate keeps, its value from those columns, and its value from events."""

    partials: tuple[Partial, ...]
    finish: Callable[[Columns], Term]
    value: Term


def query_scope(query: QueryModel, scope: Scope) -> Scope:
    """The scope with the query's event time and the names of its aggregates' arguments."""
    raise NotImplementedError


def accumulator(node: Aggregate, scope: Scope) -> Accumulator:
    """The accumulator of an aggregate; `scope` is a `query_scope`."""
    raise NotImplementedError


def partials(query: QueryModel, scope: Scope) -> tuple[Partial, ...]:
    """All partial columns of a query, by the names and in the order of the engine; times are BIGINT milliseconds."""
    raise NotImplementedError
