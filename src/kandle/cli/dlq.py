"""The command `kandle dlq`: dead letters, listed and shown, replayed into their topics or into a handler, or dropped."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from kandle.cli.contexts import (
    AsJson,
    ConfigFile,
    DataFolder,
    LogChoice,
    load_context,
    load_function,
    opened_log,
    options_of,
    with_section,
)
from kandle.cli.output import Columns, cell, iso, json_line, printable
from kandle.cli.topics import as_text, shortened
from kandle.context.context import Context, declared_sets
from kandle.context.options import Options
from kandle.errors import DataError, ModelError, OptionsError, UnknownTopicError, unknown_name
from kandle.log.port import Log
from kandle.plan.topics import dead_letter_name
from kandle.sets.dead_letters import KINDS, DeadLetterSet
from kandle.sets.letters import DeadLetter, LetterFilter, every_letter, key_texts, letter_topics, newest_letters
from kandle.sets.replaying import LettersDone, LetterWork, drop, finish, replay
from kandle.time.timeframe import parse_instant

dlq_app = typer.Typer()

TopicName = Annotated[str, typer.Argument(help="The topic of the records, of the bars, or of the letters themselves.")]
Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help=f"One of: {', '.join(KINDS)}.")]
ErrorClass = Annotated[str | None, typer.Option("--error-class", metavar="NAME", help="Class of the error, such as ValueError.")]
GroupName = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Consumer group of the handler.")]
Partition = Annotated[int | None, typer.Option("--partition", metavar="N", min=0, help="Partition of the records.")]
KeyParts = Annotated[list[str] | None, typer.Option("--key", metavar="PART", help="First part of the key; again for more parts.")]
Since = Annotated[str | None, typer.Option("--since", metavar="T", help="Letters written at or after this time.")]
Until = Annotated[str | None, typer.Option("--until", metavar="T", help="Letters written before this time.")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--letter", metavar="P:OFFSET", help="One letter, as `kandle dlq list` names it; again for more."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
IncludeDone = Annotated[bool, typer.Option("--all", help="Include letters that were replayed or dropped.")]


@dlq_app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Show, replay and drop dead letters."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@dlq_app.command("list")
def list_command(  # noqa: PLR0913 - options of a command line
    topic: Annotated[str | None, typer.Argument(help="The topic of the records, of the bars, or of the letters.")] = None,
    count: Annotated[int, typer.Option("-n", "--last", min=1, metavar="N", help="Number of letters.")] = 20,
    kind: Kind = None,
    error_class: ErrorClass = None,
    group: GroupName = None,
    partition: Partition = None,
    key: KeyParts = None,
    since: Since = None,
    until: Until = None,
    include_done: IncludeDone = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest last; without a topic how many there are of each.

    Example: kandle dlq list ticks --error-class ValueError --since 2024-03-08T14:00Z
    """
    chosen = _filter(kind, error_class, group, partition, key, since, until, None, include_done=include_done)
    with opened_log(options_of(config, data, log_choice)) as log:
        if topic is None:
            _list_topics(log, chosen, as_json=as_json)
            return
        letters = newest_letters(log, _letter_topic(log, topic), chosen, count)
        if as_json:
            for letter in letters:
                typer.echo(json_line(_content(log, letter)))
            return
        table = Columns(("letter", "written", "state", "kind", "partition", "offset", "key", "class", "error"), right=(4, 5))
        for line in table.lines([_row(log, letter) for letter in letters]):
            typer.echo(line)


@dlq_app.command("show")
def show_command(
    topic: TopicName,
    ids: Annotated[list[str], typer.Argument(metavar="P:OFFSET...", help="Letters, as `kandle dlq list` names them.")],
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Show all of some dead letters: record, headers, error and traceback.

    Example: kandle dlq show ticks 0:17
    """
    chosen = LetterFilter(ids=_ids(ids), is_done=True)
    with opened_log(options_of(config, data, log_choice)) as log:
        name = _letter_topic(log, topic)
        letters = newest_letters(log, name, chosen)
        if missing := chosen.ids - {(letter.letter_partition, letter.letter_offset) for letter in letters}:
            gone = ", ".join(f"{part}:{offset}" for part, offset in sorted(missing))
            raise DataError(f"topic {name} has no letter {gone}; see `kandle dlq list {topic} --all`")
        for letter in letters:
            if as_json:
                typer.echo(json_line(_content(log, letter)))
            else:
                for line in _page(_content(log, letter)):
                    typer.echo(line)


@dlq_app.command("replay")
def replay_command(  # noqa: PLR0913 - options of a command line
    topic: TopicName,
    handler: Annotated[
        str | None,
        typer.Option("--handler", metavar="MODULE:FUNCTION", help="Have a function called with each object instead."),
    ] = None,
    kind: Kind = None,
    error_class: ErrorClass = None,
    group: GroupName = None,
    partition: Partition = None,
    key: KeyParts = None,
    since: Since = None,
    until: Until = None,
    letter: Ids = None,
    yes: Yes = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Write the records of dead letters to their topic again, each exactly once.

    Everybody who reads the topic gets them again. With --handler nothing is written: the function is called with the objects.

    Example: kandle dlq replay ticks --error-class TimeoutError
    """
    options = options_of(config, data, log_choice)
    chosen = _filter(kind, error_class, group, partition, key, since, until, letter)
    with opened_log(options) as log:
        name = _letter_topic(log, topic)
        where = "a handler" if handler is not None else "their topic"
        count = _asked(log, name, chosen, f"replay {{}} of {name} into {where}", yes=yes)
        if handler is None:
            _report(_finished(log, options, name, chosen, replay(log)) if count else LettersDone(0), "replayed", as_json=as_json)
            return
    _report(_handled(options, name, chosen, handler) if count else LettersDone(0), "replayed", as_json=as_json)


@dlq_app.command("drop")
def drop_command(  # noqa: PLR0913 - options of a command line
    topic: TopicName,
    kind: Kind = None,
    error_class: ErrorClass = None,
    group: GroupName = None,
    partition: Partition = None,
    key: KeyParts = None,
    since: Since = None,
    until: Until = None,
    letter: Ids = None,
    yes: Yes = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Have dead letters count as done; records before the first open letter are deleted.

    Example: kandle dlq drop ticks --until 2024-03-08
    """
    options = options_of(config, data, log_choice)
    chosen = _filter(kind, error_class, group, partition, key, since, until, letter)
    with opened_log(options) as log:
        name = _letter_topic(log, topic)
        count = _asked(log, name, chosen, f"drop {{}} of {name}", yes=yes)
        _report(_finished(log, options, name, chosen, drop()) if count else LettersDone(0), "dropped", as_json=as_json)


def _filter(  # noqa: PLR0913 - options of a command line
    kind: Sequence[str] | None,
    error_class: str | None,
    group: str | None,
    partition: int | None,
    key: Sequence[str] | None,
    since: str | None,
    until: str | None,
    ids: Sequence[str] | None,
    *,
    include_done: bool = False,
) -> LetterFilter:
    for name in kind or ():
        if name not in KINDS:
            raise OptionsError(unknown_name(f"--kind {name}: there is no such kind", name, KINDS))
    return LetterFilter(
        kinds=tuple(kind or ()),
        error_class=error_class,
        group=group,
        partition=partition,
        key=tuple(key or ()),
        since=None if since is None else parse_instant(since),
        until=None if until is None else parse_instant(until),
        ids=_ids(ids or ()),
        is_done=include_done,
    )


def _ids(texts: Sequence[str]) -> frozenset[tuple[int, int]]:
    ids = set()
    for text in texts:
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise OptionsError(f"{text!r} is not a letter; write PARTITION:OFFSET, such as 0:17")
        ids.add((int(partition), int(offset)))
    return frozenset(ids)


def _letter_topic(log: Log, topic: str) -> str:
    """Return the topic of letters that is meant by its own name, by that of its records, or by that of bars."""
    topics = letter_topics(log)
    name = topic if topic in topics else dead_letter_name(topic)
    if name not in topics:
        raise UnknownTopicError(unknown_name(f"there are no dead letters of {topic}", name, topics))
    return name


def _list_topics(log: Log, chosen: LetterFilter, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    for topic in letter_topics(log):
        classes: Counter[str] = Counter()
        newest = None
        for letter in every_letter(log, topic, chosen):
            classes[letter.error_class or ""] += letter.count
            newest = letter.written if newest is None else max(newest, letter.written)
        rows.append({"topic": topic, "letters": classes.total(), "newest": newest, "classes": dict(classes.most_common())})
    if as_json:
        for row in rows:
            typer.echo(json_line(row))
        return
    table = Columns(("topic", "letters", "newest", "classes"), right=(1,))
    lines = [
        [
            row["topic"],
            str(row["letters"]),
            cell(row["newest"]),
            ", ".join(f"{count} {name}" for name, count in row["classes"].items()),
        ]
        for row in rows
    ]
    for line in table.lines(lines):
        typer.echo(line)


def _row(log: Log, letter: DeadLetter) -> list[str]:
    error = letter.error if letter.count == 1 else f"({letter.count} records) {letter.error}"
    return [
        letter.id,
        iso(letter.written),
        letter.state,
        letter.kind,
        str(letter.partition),
        str(letter.offset),
        shortened(printable(" ".join(key_texts(log, letter)))),
        letter.error_class or "",
        shortened(printable(error)),
    ]


def _content(log: Log, letter: DeadLetter) -> dict[str, Any]:
    """Return a letter by name, for JSON and for the page of one letter."""
    return {
        "letter": letter.id,
        "letter_topic": letter.letter_topic,
        "state": letter.state,
        "written": letter.written,
        "kind": letter.kind,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": letter.time,
        "count": letter.count,
        "key": list(key_texts(log, letter)),
        "headers": [[name, None if value is None else as_text(value)] for name, value in letter.raw_headers],
        "payload": as_text(letter.payload),
        "group": letter.group,
        "attempts": letter.attempts,
        "entity": letter.entity,
        "field": letter.field,
        "value": letter.value,
        "timeframe": letter.timeframe,
        "start": letter.start,
        "error_class": letter.error_class,
        "error": letter.error,
        "traceback": letter.traceback,
    }


def _page(content: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one letter; what it does not have is left out."""
    trace = content.pop("traceback")
    content["key"] = " ".join(content["key"])
    content["headers"] = " ".join(f"{name}={cell(value)}" for name, value in content["headers"])
    for name, value in content.items():
        if value not in (None, ""):
            yield f"{name.replace('_', ' '):14}{cell(value)}"
    if trace is not None:
        yield ""
        yield from (f"  {printable(line)}" for line in trace.splitlines())
    yield ""


def _asked(log: Log, topic: str, chosen: LetterFilter, question: str, *, yes: bool) -> int:
    """Return the number of open letters that are chosen, once the user has agreed to what will be done with them."""
    count = sum(1 for _ in every_letter(log, topic, replace(chosen, is_done=False)))
    letters = "1 letter" if count == 1 else f"{count} letters"
    if count and not yes:
        question = question.format(letters)
        if not sys.stdin.isatty():
            raise OptionsError(f"this would {question}; add --yes, since there is nobody to ask")
        typer.confirm(f"{question[0].upper()}{question[1:]}?", abort=True, err=True)
    return count


def _finished(log: Log, options: Options, topic: str, chosen: LetterFilter, work: LetterWork) -> LettersDone:
    instance = options.runtime.instance or f"{socket.gethostname()}-{os.getpid()}"
    return finish(log, topic, f"{instance}-dlq", chosen, work)


def _handled(options: Options, topic: str, chosen: LetterFilter, handler: str) -> LettersDone:
    """Have a function called with the objects of letters, as the set of a context makes them."""
    function = load_function(handler)
    with load_context(None, options)(with_section(options, "runtime", enabled=False)) as market:
        return replace(_letter_set(market, topic), _chosen=chosen).replay(function)


def _letter_set(market: Context, topic: str) -> DeadLetterSet[Any]:
    for name in declared_sets(type(market)):
        letters: DeadLetterSet[Any] = getattr(market, name).dead_letters()
        if topic in letters.topics:
            return letters
    raise ModelError(
        f"{type(market).__name__} has no set whose dead letters are in {topic}, so there are no objects for a handler"
    )


def _report(result: LettersDone, verb: str, *, as_json: bool) -> None:
    """Say how many letters are done; any that were refused end the command with an error."""
    if as_json:
        refused = [{"letter": refusal.letter.id, "reason": refusal.reason} for refusal in result.refused]
        typer.echo(json_line({verb: result.done, "refused": refused}))
    else:
        typer.echo(f"{result.done} {verb}")
        for refusal in result.refused:
            typer.echo(f"letter {refusal.letter.id} is left as it is: {printable(refusal.reason)}", err=True)
    if result.refused:
        raise typer.Exit(2)
