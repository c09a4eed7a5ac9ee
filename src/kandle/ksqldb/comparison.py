"""Comparison of statements with the streams and tables of a server: which exist there, and which of them differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kandle.ksql.script import Script
from kandle.ksql.statements import Create, CreateAs
from kandle.ksql.types import quoted
from kandle.ksqldb.dropping import StatementServer
from kandle.ksqldb.results import SourceDescription

CreateStatement = Create | CreateAs

ADVICE = "ksqlDB cannot change it; drop it and everything made from it (see --drop), then create it again"

TOKENS = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'|\d+(?:\.\d+)?|\w+|\S")
IGNORED_TOKENS = ("(", ")", "AS", "INNER", "OUTER", ";")
"""Tokens that ksqlDB adds or omits when it formats a query."""


@dataclass(frozen=True, slots=True)
class ScriptDifference:
    """What applies to one stream or table: create it, keep it, or it differs for these reasons."""

    action: str
    kind: str
    name: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = f": {'; '.join(self.reasons)}; {ADVICE}" if self.reasons else ""
        return f"{self.action:<8} {self.kind:<7} {self.name}{reasons}"


async def compare_script(local: Script, server: StatementServer) -> list[ScriptDifference]:
    """Compare each stream and table of a script with those of a server.

    Args:
        local: The script of the model.
        server: The server, such as an open `KsqlClient`.

    Returns:
        One entry per stream and table, in the order of the script.
    """
    statements = [statement for statement in local.statements if isinstance(statement, Create | CreateAs)]
    existing = {source.name for source in (*await server.streams(), *await server.tables())}
    return [await _difference(server, statement, existing) for statement in statements]


async def _difference(server: StatementServer, statement: CreateStatement, existing: set[str]) -> ScriptDifference:
    name = statement.creates.name
    if name not in existing:
        return ScriptDifference("create", statement.kind, name)
    description = await server.describe(name)
    reasons = differences(statement, description)
    if not reasons and isinstance(statement, CreateAs) and not is_same_query(statement.text, description.statement):
        reasons = [f"its query is a different one (DESCRIBE {quoted(name)} EXTENDED; shows it)"]
    return ScriptDifference("differs" if reasons else "keep", statement.kind, name, tuple(reasons))


def differences(statement: CreateStatement, existing: SourceDescription) -> list[str]:
    """Compare a statement with an existing stream or table of the same name.

    Queries are not compared, see `is_same_query`.

    Args:
        statement: The statement that would create it.
        existing: The stream or table on the server.

    Returns:
        One text per difference.
    """
    if existing.kind != statement.kind.upper():
        return [f"it is a {existing.kind.lower()}, not a {statement.kind}"]
    read = _key_and_time(statement, existing) if isinstance(statement, Create) else ()
    return [*_topic(statement, existing), *_columns(statement, existing), *read, *_window(statement, existing)]


def _topic(statement: CreateStatement, existing: SourceDescription) -> Iterator[str]:
    properties = {
        "KAFKA_TOPIC": existing.topic,
        "KEY_FORMAT": existing.key_format,
        "VALUE_FORMAT": existing.value_format,
        "PARTITIONS": existing.partitions,
    }
    for name, value in properties.items():
        wanted = statement.properties.get(name, value)
        if wanted != value:
            yield f"{name} is {value}, not {wanted}"


def _columns(statement: CreateStatement, existing: SourceDescription) -> Iterator[str]:
    columns = {column.name: column for column in existing.columns}
    wanted = _wanted_columns(statement)
    for name, kind in wanted.items():
        if name not in columns:
            yield f"column {name} is missing"
        elif kind is not None and str(columns[name].type) != kind:
            yield f"column {name} is {columns[name].type}, not {kind}"
    for name in columns:
        if name not in wanted:
            yield f"column {name} is not declared"


def _wanted_columns(statement: CreateStatement) -> dict[str, str | None]:
    """Return types by column; None where the statement does not contain the type."""
    if isinstance(statement, Create):
        return {column.name: str(column.type) for column in statement.columns}
    return {item.name: None for item in statement.select.items}


def _key_and_time(statement: Create, existing: SourceDescription) -> Iterator[str]:
    """Compare what determines how records are read: the key and the timestamp."""
    wanted = [column.name for column in statement.columns if column.role.endswith("KEY")]
    keys = [column.name for column in existing.columns if column.is_key]
    if wanted != keys:
        yield f"its key is ({', '.join(keys)}), not ({', '.join(wanted)})"
    time = str(statement.properties.get("TIMESTAMP", "")).strip("`")
    if time != existing.timestamp.strip("`"):
        yield f"its TIMESTAMP is {existing.timestamp or 'that of the records'}, not {time or 'that of the records'}"


def _window(statement: CreateStatement, existing: SourceDescription) -> Iterator[str]:
    window = statement.select.window if isinstance(statement, CreateAs) else None
    wanted = None if window is None else window.split(" ", 1)[0]
    if (existing.window or None) != wanted:
        yield f"its windows are {existing.window or 'none'}, not {wanted or 'none'}"


def is_same_query(one: str, other: str) -> bool:
    """Return whether two CREATE ... AS SELECT have the same query.

    One of them may be formatted by ksqlDB, which writes names with their sources, adds parentheses and omits AS.
    """
    return _words(one) == _words(other)


def _words(statement: str) -> list[str]:
    tokens = TOKENS.findall(statement[statement.upper().find("SELECT") :])
    words = [token if token[0] in "`'" else token.upper() for token in tokens]
    plain = [
        word
        for index, word in enumerate(words)
        if word not in IGNORED_TOKENS and word != "." and words[index + 1 : index + 2] != ["."]
    ]
    # The alias of a source without one is its own name.
    return [word for index, word in enumerate(plain) if not (word[0] == "`" and plain[index - 1 : index] == [word])]
