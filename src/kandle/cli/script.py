"""The command `kandle script`: the model as KSQL statements, and its comparison with a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandle.cli.contexts import ContextName, load_context
from kandle.cli.output import write_text
from kandle.context.adapters import ksql_client
from kandle.context.context import scripted_model
from kandle.context.options import Options
from kandle.context.topic_options import instant_rule
from kandle.errors import OptionsError
from kandle.ksql.program import DEFAULT_STORE, ScriptRole, WindowStore
from kandle.ksql.script import Script, script
from kandle.ksql.statements import duration
from kandle.time.timeframe import parse_duration

if TYPE_CHECKING:
    from kandle.ksqldb.comparison import ScriptDifference


IN_MILLISECONDS = "-- ksqlDB takes all instants for milliseconds: set fields.instants = millis where kandle writes these topics."


def script_command(  # noqa: PLR0913 - each is an option of the command
    context: ContextName = None,
    role: Annotated[
        ScriptRole,
        typer.Option("--role", help="live: ksqlDB aggregates, kandle closes, fills and rolls up. all: ksqlDB does all it can."),
    ] = ScriptRole.LIVE,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the script to a file.")] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Print the statements that drop everything, with the topics of the queries.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Compare with the server at [ksqldb] url: what is created, kept, or differs.")
    ] = False,
    retention: Annotated[
        str | None,
        typer.Option(
            "--retention",
            metavar="TIME",
            help="How long windows are kept; more than the longest silence [default: 7d; with --diff: ksqldb.retention].",
        ),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="TIME",
            help="How late events may be for open bars of role live [default: a day less than --retention].",
        ),
    ] = None,
) -> None:
    """Print the KSQL of a context.

    Prints its streams, tables and queries as statements that ksqlDB can run. Needs no server, log or configuration. Limits of
    the statements are explained in their comments; a construct that ksqlDB cannot express is an error that names it.

    Example: kandle script app:Market --role all --out market.sql
    """
    if diff and (drop or out is not None):
        raise OptionsError("--diff cannot be combined with --drop or --out; run the command twice")
    market = load_context(context)
    model = scripted_model(market)
    store = _store(retention, grace, DEFAULT_STORE.retention if not diff else Options.load().ksqldb.retention)
    result = script(list(model.entities.values()), list(model.queries.values()), role, store)
    if diff:
        _print_differences(result)
        return
    title = f"-- {market.__name__} on ksqlDB, role {role.value}, written by kandle script."
    content = "\n".join(statement.text for statement in result.drops) if drop else result.text
    unit = "" if drop or instant_rule(Options.load()).unit == "millis" else f"{IN_MILLISECONDS}\n"
    text = f"{title}\n{unit}\n{content}\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"{len(result.drops if drop else result.statements)} statements written to {out}")


def _store(retention: str | None, grace: str | None, default: int) -> WindowStore:
    store = WindowStore.of(
        default if retention is None else parse_duration(retention), None if grace is None else parse_duration(grace)
    )
    if store.grace >= store.retention:
        raise OptionsError(
            f"--grace {grace} must be shorter than --retention {retention or duration(default)}: a late event needs its window"
        )
    return store


def _print_differences(local: Script) -> None:
    """Print one line per stream and table; exit with code 1 unless the server has all of them as they are declared here."""
    comparison = asyncio.run(_compare(local, Options.load()))
    for difference in comparison:
        typer.echo(str(difference))
    if any(difference.action != "keep" for difference in comparison):
        raise typer.Exit(1)


async def _compare(local: Script, options: Options) -> list[ScriptDifference]:
    # The HTTP client is an extra, so it is only loaded when a server is asked.
    from kandle.ksqldb.comparison import compare_script

    async with ksql_client(options) as client:
        return await compare_script(local, client)
