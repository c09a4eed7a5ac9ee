"""The command `kandle rekey`: copies the history of an entity to the topic of the next version of its key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from kandle.cli.contexts import (
    AsJson,
    ConfigFile,
    DataFolder,
    LogChoice,
    check_log,
    clock_of,
    entities_in,
    is_context_name,
    load_context,
    options_of,
    plans_in,
)
from kandle.cli.output import json_line
from kandle.context.adapters import log_of
from kandle.context.options import Options
from kandle.context.topic_options import query_topic_settings
from kandle.errors import ModelError, OptionsError, StateError, UnknownTopicError, unknown_name
from kandle.log.port import Log
from kandle.log.versions import existing_topic
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.plan.query_topics import changelog_name, query_group
from kandle.plan.topics import entity_topic
from kandle.runtime.preparing import prepare_topics
from kandle.sets.rekeying import Progress as ProgressCallback
from kandle.sets.rekeying import RekeyResult, rekey
from kandle.sets.topic_pairs import TopicPair, bar_pairs, entity_pair

POLICIES = ("refuse", "skip")


def rekey_command(  # noqa: PLR0913 - each is an option of the command
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[CONTEXT] OLD NEW", help="The class with the former key and that with the new one, after the context."
        ),
    ],
    unreadable: Annotated[
        str,
        typer.Option("--unreadable", metavar="POLICY", help="For records that cannot be copied: refuse or skip."),
    ] = "refuse",
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy an entity's history to its next key version.

    Each record is copied exactly once, also if the command is killed and begun again. At the end both topics are read again and
    compared, and the groups that still read the old one are named.

    Example: kandle rekey app:Market BarV1 Bar
    """
    if unreadable not in POLICIES:
        raise OptionsError(f"--unreadable {unreadable}: choose one of {', '.join(POLICIES)}")
    context, old, new = _arguments(names)
    options = options_of(config, data, log_choice)
    check_log(options)
    market = load_context(context, options)(options)
    entities, plans = entities_in(market), plans_in(market)
    entity = next_version(entities, old, new)
    plan = next((plan for plan in plans if plan.query.target.cls is entity.cls), None)
    log = log_of(options, clock_of(options), entities, plans)
    try:
        for pair in _prepared(log, entity, plan, options):
            with _progress(pair, is_wanted=not (quiet or as_json)) as progress:
                result = rekey(log, pair, "skip" if unreadable == "skip" else "refuse", progress)
            for line in [json_line(_summary(pair, result))] if as_json else _lines(pair, result):
                typer.echo(line)
    finally:
        log.close()


def _arguments(names: Sequence[str]) -> tuple[str | None, str, str]:
    context = names[0] if is_context_name(names[0]) else None
    classes = names[1:] if context is not None else names
    if len(classes) != 2:
        raise OptionsError(f"kandle rekey {' '.join(names)}: give two classes, such as `kandle rekey app:Market BarV1 Bar`")
    return context, classes[0], classes[1]


def next_version(entities: Sequence[EntityModel], old: str, new: str) -> EntityModel:
    """Return the entity with the new key.

    Args:
        entities: The entities of the context.
        old: The name of the class with the former key.
        new: The name of the class with the new key.

    Raises:
        ModelError: There are no such versions, or they do not follow each other.
    """
    versions = {version.name: version for entity in entities for version in (*entity.former, entity)}
    if new not in versions:
        raise ModelError(unknown_name(f"the context has no entity {new!r}", new, list(versions)))
    entity = versions[new]
    if any(version is entity for version in (versions[old].former if old in versions else ())):
        raise ModelError(f"{new} is an earlier version of {old}: name the former class first, `kandle rekey {new} {old}`")
    if not entity.former:
        raise ModelError(f"{new} has no earlier version of its key; declare it with key_version=2, previous={old}, upgrade=...")
    previous = entity.former[-1]
    if previous.name != old:
        line = " -> ".join(version.name for version in (*entity.former, entity))
        raise ModelError(f"the version before {new} is {previous.name}, not {old!r}; copy one version after the other: {line}")
    return entity


def _prepared(log: Log, entity: EntityModel, plan: Plan | None, options: Options) -> list[TopicPair]:
    """Return the topics to copy, those of new ones created."""
    if plan is None:
        pairs = [entity_pair(entity)]
        log.topic(pairs[0].old)
        log.ensure(entity_topic(entity))
        return pairs
    pairs = [pair for pair in bar_pairs(plan) if existing_topic(log, pair.old)]
    if not pairs:
        raise UnknownTopicError(f"there are no finals of {entity.former[-1].name}, so that there is nothing to copy")
    prepare_topics(log, [plan], query_topic_settings(options))
    if log.committed(query_group(plan), plan.query.source.topic) or any(log.ends(changelog_name(plan))):
        raise StateError(
            f"the query of {entity.name} has begun, and makes its bars of the events that there are; finals of "
            f"{entity.former[-1].name} can be copied only before it begins. Reads of bars take older ones from there as they are"
        )
    return pairs


@contextmanager
def _progress(pair: TopicPair, *, is_wanted: bool) -> Iterator[ProgressCallback | None]:
    """Show a progress bar on standard error; give the callback that moves it, or None if there is no terminal."""
    terminal = Console(stderr=True)
    if not (is_wanted and terminal.is_terminal):
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,} records"))
    with Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True) as progress:
        task = progress.add_task(f"{pair.old} -> {pair.new}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _summary(pair: TopicPair, result: RekeyResult) -> dict[str, Any]:
    return {
        "old": pair.old,
        "new": pair.new,
        "copied": result.copied,
        "skipped": result.skipped,
        "records": result.new.records,
        "checksum": str(result.new),
        "readers": dict(result.readers),
        "since": result.since,
        "is_free": result.is_free,
    }


def _lines(pair: TopicPair, result: RekeyResult) -> Iterator[str]:
    yield f"{_records(result.copied)} copied from {pair.old} to {pair.new}"
    if result.skipped:
        yield f"{_records(result.skipped)} of {pair.old} left out, since no record of {pair.new} can be made of them"
    yield f"verified: {_records(result.new.records)} in both, checksum {result.new}"
    for name, state in sorted(result.readers.items()):
        yield f"group {name}: {READER_TEXTS[state]}"
    if result.since:
        yield f"{_records(result.since)} came to {pair.old} meanwhile: it is still written; run this again"
    if result.active:
        yield f"{pair.old} is still read; run this again once these programs read {pair.new}, and have read all of {pair.old}"
    elif result.is_free:
        yield f"nobody reads {pair.old} any more"


def _records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


READER_TEXTS = {
    "members": "has members",
    "moved": "has no members now, but its position has moved meanwhile",
    "stands": "has no members, and its position stands",
    "both": "reads the new topic too, and has all records of the old one",
    "behind": "reads the new topic too, and has not read all records of the old one yet",
}
"""What a group of the old topic does, in words."""
