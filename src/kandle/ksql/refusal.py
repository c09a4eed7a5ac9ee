"""What ksqlDB cannot do, said where it is found; the compiler adds the expression."""

from __future__ import annotations

from kandle.errors import QueryError


class RefusedError(QueryError):
    """A reason and a way out, without the expression."""
