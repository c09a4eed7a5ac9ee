"""`kandle script`: the model as statements of ksqlDB."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandle.cli.contexts import ContextName, load_context
from kandle.cli.output import write_text
from kandle.context.options import Options
from kandle.errors import OptionsError
from kandle.ksql.program import USUAL_STORE, Role, WindowStore
from kandle.ksql.script import Script, script
from kandle.ksql.statements import Create, CreateAs, duration
from kandle.ksql.types import quoted
from kandle.time.timeframe import parse_duration

if TYPE_CHECKING:
    from kandle.ksqldb.client import KsqlClient
    from kandle.ksqldb.provision import Creating


def script_command(  # noqa: PLR0913 - the options of a command
    context: ContextName = None,
    role: Annotated[
        Role,
        typer.Option("--role", help="live: ksqlDB aggregates, kandle closes, fills and rolls up. all: ksqlDB does all it can."),
    ] = Role.LIVE,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the script there, not to the screen.")] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="The statements that take all of it away, with the topics of its queries.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="What a server has of it: what would be created, is left, or differs ([ksqldb] url).")
    ] = False,
    retention: Annotated[
        str | None,
        typer.Option(
            "--retention",
            metavar="TIME",
            help="How long windows are kept: longer than the longest silence (7d; with --diff that of [ksqldb]).",
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="TIME",
            help="How long open bars of role live take late events, as kandle reads them (a day less than --retention).",
        ),
    ] = None,
) -> None:
    """Print the KSQL of a context.

    What its streams, tables and queries are on ksqlDB. It needs the model only: no server, no log and no configuration. The
    statements can be run as they stand; what limits them is said in their comments, and what ksqlDB cannot do is refused by name.
    """
    if diff and (drop or out is not None):
        raise OptionsError("--diff only compares and prints; leave --drop and --out out, or ask for them in a second call")
    market = load_context(context)
    model = market.model()
    store = _store(retention, grace, USUAL_STORE.retention if not diff else Options.load().ksqldb.retention)
    made = script(list(model.entities.values()), list(model.queries.values()), role, store)
    if diff:
        _print_differences(made)
        return
    title = f"-- {market.__name__} on ksqlDB, role {role.value}, write_text by kandle script."
    content = "\n".join(each.text for each in made.drops) if drop else made.text
    text = f"{title}\n\n{content}\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{len(made.drops if drop else made.statements)} statements are in {out}")


def _store(retention: str | None, grace: str | None, usual: int) -> WindowStore:
    found = WindowStore.of(
        usual if retention is None else parse_duration(retention), None if grace is None else parse_duration(grace)
    )
    if found.grace >= found.retention:
        raise OptionsError(
            f"--grace {grace} is not shorter than the time that windows are kept, --retention {retention or duration(usual)}: a "
            "late event needs its window; make one shorter or the other longer"
        )
    return found


def _print_differences(made: Script) -> None:
    """One line for each stream and table; the exit code is 1 if the server does not have all of it as it is here."""
    found = compared(made, Options.load())
    for each in found:
        typer.echo(str(each))
    if any(each.action != "leave" for each in found):
        raise typer.Exit(1)


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
    # The client library of HTTP is only loaded where it is needed.
    from kandle.context.ksqldb import ksql_settings
    from kandle.ksqldb.client import KsqlClient

    async with KsqlClient(ksql_settings(options)) as client:
        there = {source.name for source in (*await client.streams(), *await client.tables())}
        return [await _of(client, statement, there) for statement in statements]


async def _of(client: KsqlClient, statement: Creating, there: set[str]) -> Difference:
    from kandle.ksqldb.provision import differences, is_same_query

    name = statement.creates.name
    if name not in there:
        return Difference("create", statement.kind, name)
    found = await client.describe(name)
    reasons = differences(statement, found)
    if not reasons and isinstance(statement, CreateAs) and not is_same_query(statement.text, found.statement):
        reasons = [f"its query seems to be another one (DESCRIBE {quoted(name)} EXTENDED; shows it)"]
    return Difference("differs" if reasons else "leave", statement.kind, name, tuple(reasons))
