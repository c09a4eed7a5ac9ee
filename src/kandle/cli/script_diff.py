"""`kandle script --diff`: the script beside what a server has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kandle.context.ksqldb import ksql_settings
from kandle.context.options import Options
from kandle.ksql.differences import Creating, differences, is_same_query
from kandle.ksql.names import quoted
from kandle.ksql.rest.client import KsqlClient
from kandle.ksql.script import Script
from kandle.ksql.statements import Create, CreateAs

DROP = "ksqlDB cannot change it: drop it and what is made from it (--drop), then create it again"


@dataclass(frozen=True, slots=True)
class Difference:
    """What would become of one stream or table: create, leave, or differs with the reasons."""

    action: str
    kind: str
    name: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = f": {'; '.join(self.reasons)}; {DROP}" if self.reasons else ""
        return f"{self.action:<8} {self.kind:<7} {self.name}{reasons}"


def compared(made: Script, options: Options) -> list[Difference]:
    """Each stream and table of the script beside the server of the options."""
    creating = [each for each in made.statements if isinstance(each, Create | CreateAs)]
    return asyncio.run(_compared(creating, options))


async def _compared(statements: list[Creating], options: Options) -> list[Difference]:
    async with KsqlClient(ksql_settings(options)) as client:
        there = {source.name for source in (*await client.streams(), *await client.tables())}
        return [await _of(client, statement, there) for statement in statements]


async def _of(client: KsqlClient, statement: Creating, there: set[str]) -> Difference:
    name = statement.creates.name
    if name not in there:
        return Difference("create", statement.kind, name)
    found = await client.describe(name)
    reasons = differences(statement, found)
    if not reasons and isinstance(statement, CreateAs) and not is_same_query(statement.text, found.statement):
        reasons = [f"its query seems to be another one (DESCRIBE {quoted(name)} EXTENDED; shows it)"]
    return Difference("differs" if reasons else "leave", statement.kind, name, tuple(reasons))
