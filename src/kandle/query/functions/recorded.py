"""What the functions of the query language share: they record calls instead of computing them."""

from __future__ import annotations

from typing import Any

from kandle.errors import QueryError
from kandle.query.nodes import describe
from kandle.query.recording import Recorded, node_of
from kandle.query.signatures import aggregate, call


def record_aggregate(function: str, *arguments: Any) -> Any:
    """Record a call of an aggregate."""
    return Recorded(aggregate(function, *map(node_of, arguments)))


def record_call(function: str, *arguments: Any) -> Any:
    """Record a call of a scalar function."""
    return Recorded(call(function, *map(node_of, arguments)))


def display(value: Any) -> str:
    """Return an expression as text, for messages."""
    return describe(node_of(value))


def check_constants(function: str, **arguments: object) -> None:
    """Check that arguments are constants.

    Raises:
        QueryError: One of them is an expression.
    """
    for name, value in arguments.items():
        if isinstance(value, Recorded):
            raise QueryError(f"f.{function}: {name} must be a constant, not {display(value)}")
