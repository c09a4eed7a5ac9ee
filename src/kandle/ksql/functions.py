"""ksqlDB's own table of functions, and which of their signatures accepts given types."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.ksql.types import KsqlType


def accepted(name: str, arguments: Sequence[KsqlType], expression: str = "") -> KsqlType:
    """The type of a call; a QueryError names expression, function and accepted signatures if ksqlDB would refuse it."""
    raise NotImplementedError
