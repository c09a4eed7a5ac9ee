"""The compiler of the query tree to expressions of ksqlDB."""

from __future__ import annotations

from kandle.ksql.terms import Scope, Term
from kandle.query.nodes import AnyNode

SOURCE = Scope()
"""The scope of source events: columns by their own names."""


def term(node: AnyNode, scope: Scope = SOURCE) -> Term:
    """The value of a node, of exactly the type that a column of it has."""
    raise NotImplementedError


def condition(node: AnyNode, scope: Scope = SOURCE) -> str:
    """Text that is TRUE exactly where the node is true, and FALSE, never NULL, where it is false or NULL."""
    raise NotImplementedError
