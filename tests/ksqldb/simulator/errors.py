"""What the reading of KSQL says no with."""

from __future__ import annotations


class RefusedError(ValueError):
    """The server would answer a statement with an error: the message says which."""


class KsqlSyntaxError(RefusedError):
    """The text is no KSQL."""


class RowFailedError(ArithmeticError):
    """An expression failed on one row: the server logs it and goes on with NULL, or without the row."""


class UnreadError(NotImplementedError):
    """The server may well know this, but this reading does not: no verdict."""
