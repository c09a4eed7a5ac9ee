"""Checks of whole scripts by the simulated server: what ksqlDB would refuse, and what a generated script must not omit.

assert check_script(text) == []                   # every statement accepted, and the house rules kept
assert check_script(text, generated=False) == []  # accepted as a person may have written it
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.ksqldb.simulator.errors import RefusedError, UnreadError
from tests.ksqldb.simulator.nodes import Call, Create, Field, InsertInto, Name, Query, SelectItem, Star, Statement
from tests.ksqldb.simulator.server import Server
from tests.ksqldb.simulator.statements import split_statements


def check_script(text: str, generated: bool = True, server: Server | None = None) -> list[str]:
    """Problems in words, each with the number of its statement; `server` may know sources already."""
    server = server or Server()
    problems = []
    try:
        statements = split_statements(text)
    except RefusedError as error:
        return [str(error)]
    for number, statement in enumerate(statements, start=1):
        for problem in _problems(statement, generated, server):
            problems.append(f"statement {number} ({' '.join(statement.split())[:60]}..): {problem}")
    return problems


def _problems(text: str, generated: bool, server: Server) -> Iterator[str]:
    try:
        statement = server.run(text)
    except (RefusedError, UnreadError) as error:
        yield str(error)
        return
    if generated:
        yield from house_problems(statement)


def house_problems(statement: Statement) -> Iterator[str]:
    """What a generated statement must not have although the server takes it."""
    if statement.unquoted:
        yield f"names without backticks: {', '.join(statement.unquoted)}"
    if isinstance(statement, Create):
        yield from _create_problems(statement)
        yield from _case_problems(statement)
    query = statement.query if isinstance(statement, Create | InsertInto) else None
    if query is not None:
        yield from _query_problems(query)


def _create_problems(statement: Create) -> Iterator[str]:
    column = statement.properties.get("TIMESTAMP")
    if column is not None and not str(column).startswith("`"):
        yield f"TIMESTAMP='{column}' needs backticks around the name"
    if "KAFKA_TOPIC" not in statement.properties:
        yield "KAFKA_TOPIC is not written out"
    if statement.query is None and not statement.columns:
        yield "columns are not declared: inferred ones are upper-cased"


def _case_problems(statement: Create) -> Iterator[str]:
    """The server takes such columns, and then finds the wrong one in a record."""
    names = [column.name for column in statement.columns]
    if statement.query is not None:
        names = [item.alias or _last_name(item) for item in statement.query.items]
    seen: dict[str, str] = {}
    for name in names:
        if seen.setdefault(name.upper(), name) != name:
            yield f"the columns {seen[name.upper()]} and {name} differ in the case of letters only"


def _last_name(item: SelectItem) -> str:
    return item.expression.name.rpartition(".")[2] if isinstance(item.expression, Name) else ""


def _query_problems(query: Query) -> Iterator[str]:
    window = query.window
    if window is not None and window.retention is None:
        yield "a window without RETENTION loses windows behind a gap"
    if window is not None and window.grace is None:
        yield "a window without GRACE PERIOD"
    for join in query.joins:
        if join.within is not None and join.within.grace is None:
            yield "a join of streams without GRACE PERIOD sends rows too early"
    for item in query.items:
        if item.alias is None and not isinstance(item.expression, Name | Field):
            yield f"an expression without a name of its own: {_text(item)}"


def _text(item: SelectItem) -> str:
    expression = item.expression
    return f"{expression.name}(..)" if isinstance(expression, Call) else "*" if isinstance(expression, Star) else str(expression)
