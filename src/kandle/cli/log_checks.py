"""Checks of a log: its file, its topics against the model, its groups, the schedule, the clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kandle.cli.contexts import has_log
from kandle.cli.findings import Finding, fine, problem, warning
from kandle.cli.output import iso_instant
from kandle.cli.topics import bounds, newest, size_text
from kandle.errors import SchemaError
from kandle.log.embedded.database import FILE
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import GroupState, Log
from kandle.log.schema import differences, merged_columns
from kandle.model.entity import EntityModel
from kandle.plan.plan import HEARTBEATS, Plan
from kandle.plan.topics import QueryTopics, Retentions, TopicSpec, context_topics, entity_topic, read_entities
from kandle.runtime.preparing import check_partitions, deleted_topics, source_partitions
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND

LITTLE_SPACE, TOO_LITTLE_SPACE = 2 << 30, 256 << 20
"""Bytes of free disk space below which there is a warning, and a problem."""

MOST_SHOWN = 5
CLOCK_TOLERANCE = 2 * SECOND
GREAT_LAG = 100_000
"""Records that a group may be behind before there is a warning."""


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Whether the data folder is there, can be written, and has room."""
    if folder.exists() and not folder.is_dir():
        yield problem("data folder", f"{folder} is a file, and a log is a folder", "name another with --data")
        return
    if not folder.is_dir():
        yield problem("data folder", f"{folder} does not exist", "`kandle run` makes it; or name another with --data")
        return
    if not has_log(folder):
        yield problem("data folder", f"{folder} has no log", "`kandle run` makes it; or name another folder with --data")
        return
    locked = [path for path in (folder, folder / FILE) if not os.access(path, os.W_OK)]
    if locked:
        yield problem("data folder", f"{locked[0]} cannot be written", "change its owner or its permissions")
    else:
        yield fine("data folder", f"{folder} can be written")
    yield _space(folder)


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    what = f"{size_text(free)} are free on the disk of {folder}"
    if free < TOO_LITTLE_SPACE:
        return problem("disk space", what, "free some; a full disk stops all writers")
    if free < LITTLE_SPACE:
        return warning("disk space", what, "free some, or give topics a retention")
    return fine("disk space", what)


def integrity_findings(log: EmbeddedLog) -> Iterator[Finding]:
    """Whether each record in the file is as it was written."""
    found = log.check()
    for what in found[:MOST_SHOWN]:
        yield problem("log file", what, "stop all processes and run `kandle doctor --repair`")
    if len(found) > MOST_SHOWN:
        yield problem("log file", f"{len(found) - MOST_SHOWN} more places are damaged", "run `kandle doctor --repair`")
    if not found:
        rows = sum(state.rows for spec in log.topics() for state in log.partitions(spec.name))
        yield fine("log file", f"{rows:,} records in {len(log.topics())} topics are sound")


def topic_findings(log: Log, wanted: Iterable[TopicSpec], deleted: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether the topics of the model are there and as declared; `deleted` says more of those that have been there."""
    there = {spec.name: spec for spec in log.topics()}
    specs, known = list(wanted), deleted if deleted is not None else {}
    found = [finding for spec in specs for finding in _topic(there.get(spec.name), spec, known)]
    yield from found or [fine("topics", f"{len(specs)} topics are as the model declares them")]


def _topic(there: TopicSpec | None, wanted: TopicSpec, deleted: Mapping[str, str]) -> Iterator[Finding]:
    if there is not None:
        yield from _differences(there, wanted)
    elif wanted.name in deleted:
        yield problem("topics", deleted[wanted.name], "`kandle run` makes it anew; restore it before that if you can")
    else:
        yield problem("topics", f"there is no topic {wanted.name}", "`kandle run` makes it")


def missing_of_before(log: Log, plans: Sequence[Plan], topics: Sequence[QueryTopics]) -> dict[str, str]:
    """Return a message for each topic that a query once had and that is gone, by topic."""
    existing = {spec.name for spec in log.topics()}
    by_target = {each.plan.query.target.topic: each for each in topics}
    messages: dict[str, str] = {}
    for plan in plans:
        wanted = [entity.topic for entity in read_entities(plan)]
        if plan.query.target.topic in by_target:
            wanted += [spec.name for spec in by_target[plan.query.target.topic].specs]
        messages |= deleted_topics(log, plan, wanted, existing)
    return messages


def topics_of_queries(log: Log, plans: Sequence[Plan], retentions: Retentions, prefix: str = HEARTBEATS) -> list[QueryTopics]:
    """Return the topics of each query whose source exists; until then their partitions are not known."""
    partitions = source_partitions(log, plans)
    return [topics for topics in context_topics(plans, partitions, prefix, retentions) if topics.source in partitions]


def wanted_topics(entities: Sequence[EntityModel], plans: Sequence[Plan], topics: Sequence[QueryTopics]) -> Iterator[TopicSpec]:
    """Yield the topics that a model needs: those of its entities, and those of its queries."""
    made = {plan.query.target.topic for plan in plans}
    yield from (entity_topic(entity) for entity in entities if entity.topic not in made)
    for each in topics:
        yield from each.specs


def partition_findings(log: Log, topics: Sequence[QueryTopics]) -> Iterator[Finding]:
    """Yield a problem for each topic of a query that has not the partitions that its tasks need."""
    existing = {spec.name: spec for spec in log.topics()}
    for each in topics:
        for spec in each.specs:
            try:
                check_partitions(each, existing.get(spec.name, spec).partitions, spec)
            except SchemaError as error:
                yield problem("topics", str(error), "")


def _differences(there: TopicSpec, wanted: TopicSpec) -> Iterator[Finding]:
    try:
        merged_columns(there, wanted)
    except SchemaError as error:
        yield problem("topics", str(error), "")
        return
    for difference in differences(there, wanted):
        yield warning("topics", f"{difference}; it stays as it is", "declare it as it is, or begin with another data folder")


def group_findings(log: Log, prefix: str = "") -> Iterator[Finding]:
    """Who reads, and how far behind; groups with such names."""
    states = log.groups(prefix)
    if not states:
        yield fine("groups", "there are none")
    for state in states:
        yield _group(log, state)


def _group(log: Log, state: GroupState) -> Finding:
    members = sorted({owner for owner in state.owners.values() if owner is not None})
    lag = _lag(log, state)
    who = f"members {', '.join(members)}" if members else "no member"
    what = f"group {state.group}: {who}, {len(state.owners)} partitions, lag {lag:,} records"
    if lag and not members:
        return warning("groups", what, "nobody reads on; start `kandle run`, or leave it if it is a reader that has ended")
    free = sum(owner is None for owner in state.owners.values())
    if free and members:
        return warning("groups", f"{what}, {free} partitions without owner", "look again in a few seconds")
    if lag > GREAT_LAG:
        return warning("groups", what, "start another process, or look whether this one is slow")
    return fine("groups", what)


def _lag(log: Log, state: GroupState) -> int:
    """Records that the group has not committed yet."""
    places = {*state.owners, *state.positions}
    ranges = {place: (start, end) for topic in {each.topic for each in places} for place, start, end in bounds(log, topic)}
    return sum(max(0, ranges[place][1] - max(state.positions.get(place, 0), ranges[place][0])) for place in places)


def schedule_findings(log: Log, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Whether the sessions on which queries are based are there."""
    there = {spec.name for spec in log.topics()}
    for query in (each.query for each in plans):
        if query.schedule is None:
            continue
        topic = query.schedule.entity.topic
        rows = sum(state.rows for state in log.partitions(topic)) if topic in there else 0
        if rows:
            yield fine("schedule", f"{rows:,} rows in topic {topic} for {query.target.name}")
        else:
            yield problem("schedule", f"topic {topic} has no rows, so {query.target.name} has no sessions", "add its rows")


def newest_times(log: Log, topics: Iterable[TopicSpec]) -> dict[str, int]:
    """When the newest record of each topic that has one was written, in microseconds."""
    found = {spec.name: newest(log, spec.name, 1) for spec in topics}
    times = {name: [int(batch.timestamps[-1]) for batch in batches if len(batch)] for name, batches in found.items()}
    return {name: max(each) for name, each in times.items() if each}


def clock_findings(clock: Clock, times: Mapping[str, int]) -> Iterator[Finding]:
    """Whether the clock is behind the newest record of some topic.

    To be asked once the times are known: others go on writing while they are looked for.
    """
    now = clock.now()
    topic = max(times, key=times.__getitem__, default="")
    if topic and times[topic] > now + CLOCK_TOLERANCE:
        ahead = (times[topic] - now) / SECOND
        what = f"it is {iso_instant(now)}, but a record of topic {topic} was written {ahead:,.1f} s later than that"
        yield problem(
            "clock",
            what,
            "set the clock of this machine or of the one that wrote it, or wait; was it written with another [clock]?",
        )
    else:
        yield fine("clock", f"it is {iso_instant(now)}, after all records")
