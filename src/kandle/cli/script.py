"""`kandle script`: the model as statements of ksqlDB."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kandle.cli.contexts import ContextName, load_context
from kandle.cli.files import written
from kandle.context.options import Options
from kandle.errors import OptionsError
from kandle.ksql.program import USUAL_STORE, Role, WindowStore
from kandle.ksql.script import Script, script
from kandle.ksql.statements import duration
from kandle.time.timeframe import parse_duration


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
    title = f"-- {market.__name__} on ksqlDB, role {role.value}, written by kandle script."
    content = "\n".join(each.text for each in made.drops) if drop else made.text
    text = f"{title}\n\n{content}\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        written(out, text)
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
    # The client library of HTTP is only loaded where it is needed.
    from kandle.cli.script_diff import compared

    found = compared(made, Options.load())
    for each in found:
        typer.echo(str(each))
    if any(each.action != "leave" for each in found):
        raise typer.Exit(1)
