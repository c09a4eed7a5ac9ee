"""Creation of the streams, tables and queries of programs: what is missing is created, what differs is an error."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from kandle.errors import KsqlError, KsqlUnavailableError
from kandle.ksql.program import Program
from kandle.ksql.statements import Create, CreateAs
from kandle.ksqldb.comparison import CreateStatement, differences
from kandle.ksqldb.dropping import StatementServer
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.plan.topics import TopicColumn, TopicSpec

logger = logging.getLogger("kandle")

STATEMENTS = "_kandle_statements"
NAME, TEXT = "name", "statement"
SPEC = TopicSpec(
    STATEMENTS, (TopicColumn(NAME, "str", pl.String()), TopicColumn(TEXT, "str", pl.String())), (NAME,), compacted=True
)
ROWS_AT_ONCE = 10_000


class StatementLog:
    """The statements that have created streams and tables, by their names, in a topic of the log.

    ksqlDB does not return a statement as it was sent, so a changed query is only recognised by comparing it with this topic.
    """

    def __init__(self, log: Log, *, creates: bool = True) -> None:
        self._log = log
        log.ensure(replace(SPEC, is_created=creates))

    def statements(self) -> dict[str, str]:
        """Return the latest statement of each name."""
        statements: dict[str, str] = {}
        partition = TopicPartition(STATEMENTS, 0)
        offset = self._log.first(partition)
        while batches := self._log.read(partition, offset, ROWS_AT_ONCE):
            for batch in batches:
                statements |= dict(batch.records.frame.select(NAME, TEXT).iter_rows())
            offset = batches[-1].next_offset
        return statements

    def write(self, name: str, statement: str) -> None:
        """Write the statement that has created a stream or table."""
        self._log.append([Write(STATEMENTS, 0, Records(pl.DataFrame({NAME: [name], TEXT: [statement]})))])


def create_statements(programs: Iterable[Program]) -> list[CreateStatement]:
    """Return the CREATE statements of programs in order, one per stream or table."""
    statements: dict[str, CreateStatement] = {}
    for program in programs:
        for statement in (*program.declarations.values(), *program.statements):
            if isinstance(statement, Create | CreateAs):
                statements.setdefault(statement.creates.name, statement)
    return list(statements.values())


async def provide(
    server: StatementServer, statement_log: StatementLog, programs: Sequence[Program], properties: Mapping[str, object]
) -> list[str]:
    """Create the streams and tables of programs that are missing.

    Args:
        server: The server.
        statement_log: The statements of earlier runs; those of this run are added.
        programs: The programs.
        properties: Properties of ksqlDB for the new queries.

    Returns:
        The names of what was created.

    Raises:
        KsqlError: An existing stream or table differs, and nothing was created; or the server refuses a statement.
    """
    statements = create_statements(programs)
    existing = await _names(server)
    earlier = statement_log.statements()
    for statement in statements:
        if statement.creates.name in existing:
            await _check(server, statement, earlier.get(statement.creates.name))
    missing = [statement for statement in statements if statement.creates.name not in existing]
    if missing:
        await _create(server, missing, properties)
    for statement in missing:
        statement_log.write(statement.creates.name, statement.text)
        logger.info("ksqlDB: created %s %s", statement.kind, statement.creates.name)
    return [statement.creates.name for statement in missing]


async def _create(server: StatementServer, missing: Sequence[CreateStatement], properties: Mapping[str, object]) -> None:
    """Execute all statements by one request, since the server checks all statements of a request before it executes any."""
    try:
        await server.execute("\n".join(statement.text for statement in missing), properties)
    except KsqlUnavailableError:
        raise
    except KsqlError as error:
        created = sorted(await _names(server) & {statement.creates.name for statement in missing})
        outcome = (
            f"{', '.join(created)} were created before; remove them by `kandle script --drop`"
            if created
            else "nothing was created"
        )
        message = f"{error.message}; {outcome}\n{error.statement or ''}".rstrip()
        raise KsqlError(message, error.code, error.statement) from error


async def _names(server: StatementServer) -> set[str]:
    return {source.name for source in (*await server.streams(), *await server.tables())}


async def _check(server: StatementServer, statement: CreateStatement, earlier: str | None) -> None:
    """Raise KsqlError if an existing stream or table is not what the statement would create."""
    name = statement.creates.name
    reasons = differences(statement, await server.describe(name))
    if earlier is not None and earlier != statement.text:
        reasons.append(f"it was created by another statement: {_first_difference(earlier, statement.text)}")
    if reasons:
        raise KsqlError(
            f"{statement.kind} {name} of ksqlDB differs from its declaration: {'; '.join(reasons)}. ksqlDB cannot change it: "
            "drop it and what is created from it (`kandle script --drop`), and it is created again from the oldest events "
            "that are kept",
            statement=statement.text,
        )


def _first_difference(earlier: str, current: str) -> str:
    """Return the first pair of lines that differ."""
    for old, new in zip(earlier.splitlines(), current.splitlines(), strict=False):
        if old != new:
            return f"{old.strip()!r} then, {new.strip()!r} now"
    return "one of them has more lines"
