"""Comparison of a script with a server: which streams and tables exist there, and which of them differ."""

from __future__ import annotations

from dataclasses import dataclass

from kandle.ksql.script import Script
from kandle.ksql.statements import Create, CreateAs
from kandle.ksql.types import quoted
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.provision import Creating, differences, is_same_query

ADVICE = "ksqlDB cannot change it; drop it and everything made from it (see --drop), then create it again"


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


async def compare_script(local: Script, client: KsqlClient) -> list[ScriptDifference]:
    """Compare each stream and table of a script with those of a server.

    Args:
        local: The script of the model.
        client: An open client of the server.

    Returns:
        One entry per stream and table, in the order of the script.
    """
    statements = [statement for statement in local.statements if isinstance(statement, Create | CreateAs)]
    existing = {source.name for source in (*await client.streams(), *await client.tables())}
    return [await _difference(client, statement, existing) for statement in statements]


async def _difference(client: KsqlClient, statement: Creating, existing: set[str]) -> ScriptDifference:
    name = statement.creates.name
    if name not in existing:
        return ScriptDifference("create", statement.kind, name)
    description = await client.describe(name)
    reasons = differences(statement, description)
    if not reasons and isinstance(statement, CreateAs) and not is_same_query(statement.text, description.statement):
        reasons = [f"its query is a different one (DESCRIBE {quoted(name)} EXTENDED; shows it)"]
    return ScriptDifference("differs" if reasons else "keep", statement.kind, name, tuple(reasons))
