"""The command `kandle groups`: consumer groups, their members and positions, and how positions are moved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kandle.cli.contexts import AsJson, ConfigFile, DataFolder, LogChoice, opened_log, options_of
from kandle.cli.lags import Lags
from kandle.cli.output import Columns, json_line
from kandle.errors import DataError, OptionsError, StateError, TimeframeError, UnknownTopicError, unknown_name
from kandle.log.port import GroupState, Log, TopicPartition, moved_with_members
from kandle.plan.query_topics import bars_of_group
from kandle.time.timeframe import parse_instant

groups_app = typer.Typer()

GroupName = Annotated[str, typer.Argument(help="Name of the group.")]


@groups_app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Show consumer groups, and move their positions."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@groups_app.command("list")
def list_command(
    prefix: Annotated[str, typer.Argument(help="How the names of the groups begin.")] = "",
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """List groups: what they are, whether they have members, and how many records they have not read.

    Example: kandle groups list market-
    """
    with opened_log(options_of(config, data, log_choice)) as log:
        states = log.groups(prefix)
        lags = Lags(log, states)
        rows = [_summary(lags, state) for state in states]
    if as_json:
        for row in rows:
            typer.echo(json_line(row))
        return
    table = Columns(("group", "kind", "state", "topics", "lag"), right=(4,))
    for line in table.lines(
        [[row["group"], row["kind"], row["state"], ", ".join(row["topics"]), str(row["lag"])] for row in rows]
    ):
        typer.echo(line)


@groups_app.command("describe")
def describe_command(
    group: GroupName, config: ConfigFile = None, data: DataFolder = None, log_choice: LogChoice = None, as_json: AsJson = False
) -> None:
    """Show the position, the end, the lag and the owner of each partition of a group.

    Example: kandle groups describe market-ticks
    """
    with opened_log(options_of(config, data, log_choice)) as log:
        state = _group(log, group)
        lags = Lags(log, [state])
        summary, rows = _summary(lags, state), _rows(log, lags, state)
    if as_json:
        typer.echo(json_line(summary | {"partitions": rows}))
        return
    typer.echo(f"{summary['group']}: {summary['kind']}, {summary['state']}")
    table = Columns(("topic", "partition", "position", "end", "lag", "owner"), right=(1, 2, 3, 4))
    for line in table.lines([["" if value is None else str(value) for value in row.values()] for row in rows]):
        typer.echo(line)


@groups_app.command("reset")
def reset_command(  # noqa: PLR0913 - options of a command line
    group: GroupName,
    to: Annotated[str, typer.Option("--to", metavar="WHERE", help="earliest, latest, a time, or an offset.")],
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="Only this topic; it may be new to the group.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, metavar="N", help="Only this partition.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Move the positions of a group that has no members, so that it reads records again or leaves some out.

    Example: kandle groups reset market-ticks --to 2024-03-08T14:00Z
    """
    with opened_log(options_of(config, data, log_choice)) as log:
        state = GroupState(group) if topic is not None and group not in _names(log) else _group(log, group)
        _check_movable(log, group)
        moved = _moved(log, _partitions(log, state, topic, partition), to)
        rows = [
            {"topic": part.topic, "partition": part.partition, "position": state.positions.get(part), "to": offset}
            for part, offset in moved.items()
        ]
        if not as_json:
            table = Columns(("topic", "partition", "position", "to"), right=(1, 2, 3))
            for line in table.lines([["none" if value is None else str(value) for value in row.values()] for row in rows]):
                typer.echo(line)
        if not yes:
            if not sys.stdin.isatty():
                raise OptionsError(f"this would move positions of {group}; add --yes, since there is nobody to ask")
            typer.confirm(f"Move these positions of {group}?", abort=True, err=True)
        log.set_positions(group, moved)
    if as_json:
        for row in rows:
            typer.echo(json_line(row))


def _names(log: Log) -> list[str]:
    return [state.group for state in log.groups()]


def _group(log: Log, name: str) -> GroupState:
    states = [state for state in log.groups(name) if state.group == name]
    if not states:
        raise OptionsError(unknown_name(f"there is no group {name!r}", name, _names(log)))
    return states[0]


def _summary(lags: Lags, state: GroupState) -> dict[str, Any]:
    of_partition = lags.of(state)
    return {
        "group": state.group,
        "kind": lags.kind(state.group),
        "state": "active" if state.has_members else "no members",
        "topics": sorted({partition.topic for partition in of_partition}),
        "lag": sum(lag or 0 for lag in of_partition.values()),
    }


def _rows(log: Log, lags: Lags, state: GroupState) -> list[dict[str, Any]]:
    of_partition = lags.of(state)
    ends = {topic: _ends(log, topic) for topic in {partition.topic for partition in of_partition}}
    return [
        {
            "topic": part.topic,
            "partition": part.partition,
            "position": state.positions.get(part),
            "end": ends[part.topic][part.partition] if part.partition < len(ends[part.topic]) else None,
            "lag": lag,
            "owner": state.owners.get(part),
        }
        for part, lag in sorted(of_partition.items())
    ]


def _ends(log: Log, topic: str) -> Sequence[int]:
    try:
        return log.ends(topic)
    except UnknownTopicError:
        return ()


def _check_movable(log: Log, group: str) -> None:
    """Raise StateError for the group of a query, and for one that has members."""
    bars = bars_of_group(group, log.topics())
    if bars is not None:
        raise StateError(
            f"{group} is the group of the query that makes {bars}: its positions belong to its state, and moving them would make "
            "wrong bars. To make bars from another place, change the declaration and start it with "
            f"`kandle run --replace {bars} --from TIME`, or give the bars another topic"
        )
    if log.has_members(group):
        raise moved_with_members(group)


def _partitions(log: Log, state: GroupState, topic: str | None, number: int | None) -> list[TopicPartition]:
    topics = sorted({partition.topic for partition in state.positions}) if topic is None else [topic]
    if not topics:
        raise OptionsError(f"group {state.group} has no positions yet; name a topic with --topic")
    partitions = [TopicPartition(name, part) for name in topics for part in range(log.partition_count(name))]
    chosen = [partition for partition in partitions if number is None or partition.partition == number]
    if not chosen:
        raise OptionsError(f"--partition {number}: {', '.join(topics)} has partitions 0 to {len(partitions) - 1}")
    return chosen


def _moved(log: Log, partitions: Sequence[TopicPartition], to: str) -> dict[TopicPartition, int]:
    """Return the position of each partition that a text means."""
    bounds = {part: (log.first(part), log.ends(part.topic)[part.partition]) for part in partitions}
    if to == "earliest":
        return {part: first for part, (first, _) in bounds.items()}
    if to == "latest":
        return {part: end for part, (_, end) in bounds.items()}
    if to.isdecimal():
        offset = int(to)
        for part, (first, end) in bounds.items():
            if not first <= offset <= end:
                raise DataError(f"--to {to}: topic {part.topic}, partition {part.partition}, has offsets {first} to {end}")
        return dict.fromkeys(partitions, offset)
    try:
        instant = parse_instant(to)
    except TimeframeError as error:
        raise OptionsError(f"--to {to}: write earliest, latest, an offset, or a time such as 2024-03-08T14:00Z") from error
    return {part: log.offset_at(part, instant) for part in partitions}
