"""Pieces of expressions: text with the type that ksqlDB gives it, and what is known of NULL in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kandle.ksql.types import KsqlType
from kandle.query.nodes import AnyNode, Node


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that is TRUE where a value is there, and the text of its opposite; both never NULL themselves."""

    holds: str
    fails: str


@dataclass(frozen=True, slots=True)
class Term:
    """A value: its text, ksqlDB's type of it, whether it may be NULL.

    A *plain* term can be evaluated anywhere: where it has no value it is NULL. Any other that may be NULL gives an error in
    ksqlDB where an operand is NULL, which makes the whole expression around it NULL; so it stands alone, in an operand of the same
    kind, or behind its checks.
    """

    text: str
    type: KsqlType
    nullable: bool
    plain: bool = True
    checks: tuple[Check, ...] = ()
    """In their order all hold exactly where the value is not NULL; without any, `text IS NOT NULL` says so."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where leaves of the tree are found, and what aggregates need: event time, the order of arrival, names of arguments."""

    columns: Mapping[Node, Term] = field(default_factory=dict)
    """Whole subtrees that are columns already; a column without an entry is referred to by its own name."""
    time: AnyNode | None = None
    """Event time, for aggregates that go by it."""
    sequence: Term | None = None
    """Order of arrival, a BIGINT: with it the last of several events of one time is the one that came last."""
    arguments: Mapping[AnyNode, str] = field(default_factory=dict)
    """The names `_a0`, `_a1`, .. of the arguments of aggregates."""
