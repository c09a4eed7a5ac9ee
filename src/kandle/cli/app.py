"""The application `kandle` of the command line: its commands, their errors and exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kandle import __version__
from kandle.backfill.backfill import backfill
from kandle.backfill.readers import input_size
from kandle.cli.avro import avro_command
from kandle.cli.bars import bars_command
from kandle.cli.contexts import ContextName, is_context_name, load_context
from kandle.cli.demo import demo_command
from kandle.cli.dlq import dlq_app
from kandle.cli.doctor import doctor_command
from kandle.cli.groups import groups_app
from kandle.cli.output import console, progress_bar, show_summary
from kandle.cli.rekey import rekey_command
from kandle.cli.run import run_command
from kandle.cli.script import script_command
from kandle.cli.topics import topics_app
from kandle.errors import KandleError
from kandle.interrupts import INTERRUPTED, end_when_interrupted, raise_when_interrupted
from kandle.query.query import Gaps

FAILED = 2

app = typer.Typer(name="kandle", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"kandle {__version__}")
        raise typer.Exit


@app.callback(epilog="Every command accepts --debug, which shows the traceback of an error.")
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Turn event streams into time bars."""


def backfill_command(  # noqa: PLR0913 - each is an option of the command
    ticks: Annotated[list[str], typer.Option("--ticks", metavar="PATH...", help="Files or glob patterns, read in this order.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the bars: one file per timeframe.")],
    context: ContextName = None,
    more_ticks: Annotated[list[str] | None, typer.Argument(metavar="PATH", hidden=True)] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="NAME", help="Entity of the bars, if the context has several.")
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="parquet, csv or ndjson.")] = "parquet",
    gaps: Annotated[Gaps | None, typer.Option("--gaps", help="What to write for buckets without events.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="PATH", help="File with schedule rows.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="Start of the time that the input covers.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="End of that time; gaps are filled up to it.")] = None,
    complete_only: Annotated[
        bool, typer.Option("--complete-only", help="Leave out bars that the input covers only in part.")
    ] = False,
    expire_after: Annotated[
        str | None,
        typer.Option(
            "--expire-after", metavar="DURATION", help="Silence after which a key gets no more gap bars: 7d, auto, never."
        ),
    ] = None,
    max_silence: Annotated[
        str | None,
        typer.Option("--max-silence", metavar="DURATION", help="How far an event may be ahead of all before it, such as 400d."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False,
) -> None:
    """Make final bars from files of events.

    Reads CSV, NDJSON, Parquet and Arrow files, and writes one file per timeframe.

    Example: kandle backfill app:Market --ticks trades.csv.gz --out bars --format csv
    """
    name, paths = _split_arguments(context, [*ticks, *(more_ticks or [])])
    market = load_context(name)
    with progress_bar(input_size(paths), is_wanted=not (quiet or as_json)) as progress:
        result = backfill(
            market,
            entity,
            ticks=paths,
            schedule=schedule,
            out=out,
            format=format,
            gaps=gaps,
            start=start,
            until=until,
            complete_only=complete_only,
            expire_after=expire_after,
            max_silence=max_silence,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(result.summary.to_dict()))
    else:
        show_summary(console(), result.summary)


def _split_arguments(context: str | None, paths: list[str]) -> tuple[str | None, list[str]]:
    """Tell the context and the paths apart: after `--ticks *.csv`, a shell passes all files but the first as arguments."""
    if context is not None and not is_context_name(context) and Path(context).exists():
        return None, [paths[0], context, *paths[1:]]
    return context, paths


def explain_command(context: ContextName = None) -> None:
    """Print what is made from what.

    Shows queries, timeframes and their grace, how each field rolls up, and the topics with their settings.

    Example: kandle explain app:Market
    """
    typer.echo(load_context(context).explain())


app.command("demo")(demo_command)
app.command("backfill")(backfill_command)
app.command("run")(run_command)
app.command("bars")(bars_command)
app.add_typer(topics_app, name="topics")
app.add_typer(groups_app, name="groups")
app.add_typer(dlq_app, name="dlq")
app.command("rekey")(rekey_command)
app.command("explain")(explain_command)
app.command("script")(script_command)
app.command("avro")(avro_command)
app.command("doctor")(doctor_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code.

    Args:
        arguments: The arguments of the command line; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    rest = [argument for argument in given if argument != "--debug"]
    sys.exit(_run(rest or ["--help"], is_debug="--debug" in given))


def _run(arguments: list[str], *, is_debug: bool) -> int:
    """Run a command and return its exit code: 0, or 2 after an error, which is one line on standard error."""
    warnings.showwarning = _show_warning
    try:
        raise_when_interrupted()
        code = app(arguments, prog_name="kandle", standalone_mode=False)
        end_when_interrupted()
    except (KandleError, typer.TyperException) as error:
        if is_debug:
            traceback.print_exc()
        message = str(error) if isinstance(error, KandleError) else _usage_message(error)
        typer.echo(f"kandle: error: {' '.join(message.split())}", err=True)
        return FAILED
    except (typer.Abort, KeyboardInterrupt):
        end_when_interrupted()
        typer.echo("kandle: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code if isinstance(code, int) else 0


def _usage_message(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments, and the command that shows the valid ones."""
    context = getattr(error, "ctx", None)
    return f"{error.format_message().rstrip('.?')}; see {'kandle' if context is None else context.command_path} --help"


def _show_warning(message: Warning | str, *details: object, **others: object) -> None:
    typer.echo(f"kandle: warning: {message}", err=True)
