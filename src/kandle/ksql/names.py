"""Names and texts as they stand in statements."""

from __future__ import annotations

import re

from kandle.errors import QueryError

RESERVED = ("ROWTIME", "ROWPARTITION", "ROWOFFSET", "WINDOWSTART", "WINDOWEND")
"""Names of ksqlDB's own columns, in every case of letters."""

_SOURCE = re.compile(r"[A-Za-z0-9_-]+")


def quoted(name: str) -> str:
    """A column's name in backticks, which keep its case and make every word usable."""
    check_name(name)
    return _in_backticks(name)


def check_name(name: str, where: str = "") -> None:
    """QueryError for a name that no column can have; `where` says whose it is."""
    if name.upper() in RESERVED:
        raise QueryError(
            f"{where}no column of ksqlDB can be called {name!r}: it has a column of its own of that name; rename the field"
        )


def source_name(name: str) -> str:
    """A stream's or table's name in backticks."""
    if not _SOURCE.fullmatch(name):
        raise QueryError(f"ksqlDB cannot have a stream or table {name!r}: names are made of letters, digits, _ and -")
    return _in_backticks(name)


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def _in_backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
