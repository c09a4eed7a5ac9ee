"""What a server has beside what a statement would create."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kandle.ksql.rest.results import Description
from kandle.ksql.statements import Create, CreateAs

Creating = Create | CreateAs

TOKENS = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'|\d+(?:\.\d+)?|\w+|\S")
LEFT_OUT = ("(", ")", "AS", "INNER", "OUTER", ";")
"""What ksqlDB adds to a query, or takes away, when it writes down how it has understood it."""


def differences(statement: Creating, found: Description) -> list[str]:
    """In words, how a stream or table that is there differs from what the statement would create; nothing if it does not."""
    if found.kind != statement.kind.upper():
        return [f"it is a {found.kind.lower()}, not a {statement.kind}"]
    declared = _declared(statement, found) if isinstance(statement, Create) else ()
    return [*_topic(statement, found), *_columns(statement, found), *declared, *_window(statement, found)]


def _topic(statement: Creating, found: Description) -> Iterator[str]:
    there = {
        "KAFKA_TOPIC": found.topic,
        "KEY_FORMAT": found.key_format,
        "VALUE_FORMAT": found.value_format,
        "PARTITIONS": found.partitions,
    }
    for name, has in there.items():
        wanted = statement.properties.get(name, has)
        if wanted != has:
            yield f"{name} is {has}, not {wanted}"


def _columns(statement: Creating, found: Description) -> Iterator[str]:
    there = {column.name: column for column in found.columns}
    wanted = _wanted(statement)
    for name, kind in wanted.items():
        if name not in there:
            yield f"column {name} is missing"
        elif kind is not None and str(there[name].type) != kind:
            yield f"column {name} is {there[name].type}, not {kind}"
    for name in there:
        if name not in wanted:
            yield f"column {name} is not declared"


def _declared(statement: Create, found: Description) -> Iterator[str]:
    """What decides how records are read: the key, and the time."""
    wanted = [column.name for column in statement.columns if column.role.endswith("KEY")]
    there = [column.name for column in found.columns if column.is_key]
    if wanted != there:
        yield f"its key is ({', '.join(there)}), not ({', '.join(wanted)})"
    time = str(statement.properties.get("TIMESTAMP", "")).strip("`")
    if time != found.timestamp.strip("`"):
        yield f"its TIMESTAMP is {found.timestamp or 'that of the records'}, not {time or 'that of the records'}"


def _wanted(statement: Creating) -> dict[str, str | None]:
    """Columns with their types, where the statement itself says them."""
    if isinstance(statement, Create):
        return {column.name: str(column.type) for column in statement.columns}
    return {item.name: None for item in statement.select.items}


def _window(statement: Creating, found: Description) -> Iterator[str]:
    window = statement.select.window if isinstance(statement, CreateAs) else None
    wanted = None if window is None else window.split(" ", 1)[0]
    if (found.window or None) != wanted:
        yield f"its windows are {found.window or 'none'}, not {wanted or 'none'}"


def is_same_query(one: str, other: str) -> bool:
    """Whether two CREATE .. AS SELECT have the same query, one of them perhaps as ksqlDB writes it: names with their sources,
    parentheses around everything, no AS."""
    return _words(one) == _words(other)


def _words(statement: str) -> list[str]:
    found = TOKENS.findall(statement[statement.upper().find("SELECT") :])
    words = [each if each[0] in "`'" else each.upper() for each in found]
    plain = [word for at, word in enumerate(words) if word not in LEFT_OUT and word != "." and words[at + 1 : at + 2] != ["."]]
    # A source without an alias has its own name as one.
    return [word for at, word in enumerate(plain) if not (word[0] == "`" and plain[at - 1 : at] == [word])]
