"""The streams, tables and queries of programs on a ksqlDB: what is missing is created, what differs is refused by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from kandle.errors import KsqlError, KsqlUnavailableError
from kandle.ksql.differences import Creating, differences
from kandle.ksql.program import Program
from kandle.ksql.rest.port import Ksql
from kandle.ksql.statements import Create, CreateAs
from kandle.runtime.ksqldb.ledger import Ledger

logger = logging.getLogger("kandle")


def creating(programs: Iterable[Program]) -> list[Creating]:
    """The statements that create something, in their order, each once."""
    found: dict[str, Creating] = {}
    for program in programs:
        for statement in (*program.declares.values(), *program.statements):
            if isinstance(statement, Create | CreateAs):
                found.setdefault(statement.creates.name, statement)
    return list(found.values())


async def provide(server: Ksql, ledger: Ledger, programs: Sequence[Program], properties: Mapping[str, object]) -> list[str]:
    """Create what is missing, and give the names of it; KsqlError, and nothing created, if something that is there differs."""
    statements = creating(programs)
    there = await _names(server)
    known = ledger.all()
    for statement in statements:
        if statement.creates.name in there:
            await _check(server, statement, known.get(statement.creates.name))
    missing = [statement for statement in statements if statement.creates.name not in there]
    if missing:
        await _create(server, missing, properties)
    for statement in missing:
        ledger.keep(statement.creates.name, statement.text)
        logger.info("ksqlDB: created %s %s", statement.kind, statement.creates.name)
    return [statement.creates.name for statement in missing]


async def _create(server: Ksql, missing: Sequence[Creating], properties: Mapping[str, object]) -> None:
    """All in one request: the server looks at each of them before it carries out any."""
    try:
        await server.execute("\n".join(statement.text for statement in missing), properties)
    except KsqlUnavailableError:
        raise
    except KsqlError as error:
        made = await _names(server) & {statement.creates.name for statement in missing}
        so_far = (
            f"created were {', '.join(sorted(made))}; `kandle script --drop` takes them away" if made else "nothing was created"
        )
        raise KsqlError(f"{error.message}; {so_far}\n{error.statement or ''}".rstrip(), error.code, error.statement) from error


async def _names(server: Ksql) -> set[str]:
    return {source.name for source in (*await server.streams(), *await server.tables())}


async def _check(server: Ksql, statement: Creating, known: str | None) -> None:
    """KsqlError if what is there is not what the statement would create."""
    name = statement.creates.name
    found = differences(statement, await server.describe(name))
    if known is not None and known != statement.text:
        found.append(f"it was created with another statement: {_first_difference(known, statement.text)}")
    if found:
        raise KsqlError(
            f"{statement.kind} {name} of ksqlDB is not as declared: {'; '.join(found)}. ksqlDB cannot change it: drop it and "
            "what is made from it (`kandle script --drop`), and it is made anew from the oldest events that are kept",
            statement=statement.text,
        )


def _first_difference(one: str, other: str) -> str:
    """The first lines that are not the same."""
    for old, new in zip(one.splitlines(), other.splitlines(), strict=False):
        if old != new:
            return f"there {old.strip()!r}, here {new.strip()!r}"
    return "one of them has more lines"
