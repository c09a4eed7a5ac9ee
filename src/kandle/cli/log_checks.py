"""Checks of a log: its folder and file, topics compared with the model, groups, schedule, clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kandle.cli.contexts import has_log
from kandle.cli.findings import Finding, fine, problem, warning
from kandle.cli.lags import Lags
from kandle.cli.output import iso_instant
from kandle.cli.topics import newest, size_text
from kandle.context.adapters import log_file
from kandle.errors import SchemaError
from kandle.log.port import GroupState, Log
from kandle.log.schema import differences, merged_columns
from kandle.model.entity import EntityModel
from kandle.plan.declaration import QueryDeclaration
from kandle.plan.plan import Plan
from kandle.plan.query_topics import (
    DEFAULT_HEARTBEATS,
    DEFAULT_SETTINGS,
    HeartbeatSettings,
    QueryTopics,
    QueryTopicSettings,
    context_topics,
    ksqldb_topics,
    read_entities,
)
from kandle.plan.topics import DECLARATIONS, TopicSpec, entity_topic, missing_topics
from kandle.runtime.generations import QueryGenerations
from kandle.runtime.preparing import check_partitions, deleted_topics, other_heartbeats, topic_partitions
from kandle.runtime.schedule import ScheduleProvider
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND

LITTLE_SPACE, TOO_LITTLE_SPACE = 2 << 30, 256 << 20
"""Free disk space in bytes below which there is a warning, and a problem."""

MOST_SHOWN = 5
"""Damaged places that are listed by name."""

CLOCK_TOLERANCE = 2 * SECOND
"""How far ahead of the clock a record may be, in microseconds."""

GREAT_LAG = 100_000
"""Records that a group may lag before there is a warning."""


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Check that the data folder exists, contains a log, can be written, and has room."""
    if folder.exists() and not folder.is_dir():
        yield problem("data folder", f"{folder} is a file, not a folder", "name a folder with --data")
        return
    if not folder.is_dir():
        yield problem("data folder", f"{folder} does not exist", "`kandle run` creates it; or name another folder with --data")
        return
    if not has_log(folder):
        yield problem("data folder", f"{folder} contains no log", "`kandle run` creates it; or name another folder with --data")
        return
    locked = [path for path in (folder, log_file(folder)) if not os.access(path, os.W_OK)]
    if locked:
        message = f"{locked[0]} cannot be written; readers can use it, writers cannot"
        yield problem("data folder", message, "change its owner or permissions, or how its disk is mounted")
    else:
        yield fine("data folder", f"{folder} can be written")
    yield _space(folder)


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    message = f"{size_text(free)} free on the disk of {folder}"
    if free < TOO_LITTLE_SPACE:
        return problem("disk space", message, "free some space; a full disk stops all writers")
    if free < LITTLE_SPACE:
        return warning("disk space", message, "free some space, or give topics a retention")
    return fine("disk space", message)


def integrity_findings(log: Log, damages: Sequence[str]) -> Iterator[Finding]:
    """Report the damages in the file of the embedded log, or the number of sound records."""
    for damage in damages[:MOST_SHOWN]:
        yield problem("log file", damage, "stop all processes and run `kandle doctor --repair`")
    if len(damages) > MOST_SHOWN:
        more = len(damages) - MOST_SHOWN
        yield problem("log file", f"{more:,} more batches are damaged", "run `kandle doctor --repair`")
    if not damages:
        rows = sum(state.rows for spec in log.topics() for state in log.partitions(spec.name))
        yield fine("log file", f"{rows:,} records in {len(log.topics())} topics are sound")


def topic_findings(log: Log, wanted: Iterable[TopicSpec], deleted: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Check that the topics of the model exist as declared; `deleted` has messages for topics that once existed."""
    existing = {spec.name: spec for spec in log.topics()}
    specs, known = list(wanted), deleted if deleted is not None else {}
    findings = [finding for spec in specs for finding in _topic(existing.get(spec.name), spec, known)]
    yield from findings or [fine("topics", f"{len(specs)} topics are as the model declares them")]


def _topic(existing: TopicSpec | None, wanted: TopicSpec, deleted: Mapping[str, str]) -> Iterator[Finding]:
    if existing is not None:
        yield from _differences(existing, wanted)
    elif wanted.name in deleted:
        yield problem(
            "topics", deleted[wanted.name], "`kandle run` creates it again without its records; restore it first if you can"
        )
    elif not wanted.is_created:
        yield problem("topics", missing_topics([wanted]), "")
    else:
        yield problem("topics", f"topic {wanted.name} does not exist", "`kandle run` creates it")


def missing_of_before(log: Log, plans: Sequence[Plan], topics: Sequence[QueryTopics]) -> dict[str, str]:
    """Return a message for each topic that a query once had and that is gone, by topic."""
    existing = {spec.name for spec in log.topics()}
    by_target = {query.plan.query.target.topic: query for query in topics}
    messages: dict[str, str] = {}
    for plan in plans:
        wanted = [entity.topic for entity in read_entities(plan)]
        if plan.query.target.topic in by_target:
            wanted += [spec.name for spec in by_target[plan.query.target.topic].specs]
        messages |= deleted_topics(log, plan, wanted, existing)
    return messages


def topics_of_queries(log: Log, plans: Sequence[Plan], settings: QueryTopicSettings = DEFAULT_SETTINGS) -> list[QueryTopics]:
    """Return the topics of each query whose source exists; until then their partitions are not known."""
    partitions = topic_partitions(log)
    return [topics for topics in context_topics(plans, partitions, settings) if topics.source in partitions]


def ksqldb_topics_of_queries(
    log: Log, plans: Sequence[Plan], settings: QueryTopicSettings = DEFAULT_SETTINGS
) -> list[QueryTopics]:
    """Return the topics of each query whose base bars ksqlDB aggregates, once ksqlDB has created the topic of its table."""
    partitions = topic_partitions(log)
    return [topics for topics in ksqldb_topics(plans, partitions, settings) if topics.events in partitions]


def wanted_topics(entities: Sequence[EntityModel], plans: Sequence[Plan], topics: Sequence[QueryTopics]) -> Iterator[TopicSpec]:
    """Yield the topics that a model needs: those of its entities, and those of its queries."""
    targets = {plan.query.target.topic for plan in plans}
    yield from (entity_topic(entity) for entity in entities if entity.topic not in targets)
    for query in topics:
        yield from query.specs


def partition_findings(
    log: Log, topics: Sequence[QueryTopics], heartbeats: HeartbeatSettings = DEFAULT_HEARTBEATS
) -> Iterator[Finding]:
    """Check that the topics of each query have the number of partitions that its tasks need."""
    existing = {spec.name: spec for spec in log.topics()}
    for query in topics:
        reason = other_heartbeats(query, heartbeats.name(query.plan), topic_partitions(log))
        if reason is not None:
            yield warning("topics", reason, "give them another name with the option heartbeat.topic, or let them be there")
        for spec in query.specs:
            try:
                check_partitions(query, existing.get(spec.name, spec).partitions, spec)
            except SchemaError as error:
                yield problem("topics", str(error), "")


def _differences(existing: TopicSpec, wanted: TopicSpec) -> Iterator[Finding]:
    try:
        merged_columns(existing, wanted)
    except SchemaError as error:
        yield problem("topics", str(error), "")
        return
    for difference in differences(existing, wanted):
        yield warning("topics", f"{difference}; kandle does not change it", "declare it as it is, or use another topic")


def group_findings(log: Log, prefix: str = "", groups: Collection[str] = ()) -> Iterator[Finding]:
    """Check that the groups whose names start with `prefix`, and those of some names, have members and little lag."""
    states = {state.group: state for start in (prefix, *groups) for state in log.groups(start)}
    states = {name: state for name, state in states.items() if name.startswith(prefix) or name in groups}
    if not states:
        yield fine("groups", "no consumer groups")
    lags = Lags(log, list(states.values()))
    for state in states.values():
        yield _group(state, lags)


def _group(state: GroupState, lags: Lags) -> Finding:
    members = sorted({owner for owner in state.owners.values() if owner is not None})
    lag, letters = lags.total(state), lags.letters_of(state.group)
    names = f"members {', '.join(members)}" if members else "no members"
    message = f"group {state.group}: {names}, {len(state.owners)} partitions, lag {lag:,} records"
    if lag and not members and letters is not None:
        return warning("groups", message, f"these are open dead letters: look at them with `kandle dlq list {letters}`")
    if lag and not members:
        return warning("groups", message, "start `kandle run`, or ignore it if this reader has ended for good")
    free = sum(owner is None for owner in state.owners.values())
    if free and members:
        return warning("groups", f"{message}, {free} partitions without an owner", "check again in a few seconds")
    if lag > GREAT_LAG:
        return warning("groups", message, "start another process, or find out why this one is slow")
    return fine("groups", message)


def declaration_findings(log: Log, declared: Sequence[tuple[Plan, QueryDeclaration]]) -> Iterator[Finding]:
    """Check that queries are declared as their bars are made."""
    if DECLARATIONS not in {spec.name for spec in log.topics()}:
        return
    for query_plan, content in declared:
        name, generations = query_plan.query.target.name, QueryGenerations(log, query_plan, content)
        newest = generations.newest()
        if newest is None:
            continue
        if differences := generations.differences(newest):
            message = f"{name} is declared otherwise by {newest.member} (there, generation {newest.number}): {differences}"
            advice = (
                f"declare it alike, give it another topic, or replace it: `kandle run --replace {query_plan.query.target.topic}`"
            )
            yield problem("declaration", message, advice)
        else:
            yield fine("declaration", f"{name} is declared as its bars are made (generation {newest.number}, {newest.member})")


def schedule_findings(log: Log, plans: Sequence[Plan], clock: Clock) -> Iterator[Finding]:
    """Check that queries with a schedule have sessions, and that the rows of all keys are right."""
    existing = {spec.name for spec in log.topics()}
    for plan in plans:
        if plan.query.schedule is None:
            continue
        name, topic = plan.query.target.name, plan.query.schedule.entity.topic
        rows = sum(state.rows for state in log.partitions(topic)) if topic in existing else 0
        if not rows:
            yield problem("schedule", f"topic {topic} has no rows, so {name} has no sessions", "add its rows")
            continue
        yield fine("schedule", f"{rows:,} rows in topic {topic} for {name}")
        for fault in ScheduleProvider(log, plan, clock).check():
            yield problem("schedule", f"{name}: {fault}", "write the row again, or remove it")


def newest_times(log: Log, topics: Iterable[TopicSpec]) -> dict[str, int]:
    """Return when the newest record of each topic was written, in microseconds since the epoch; empty topics are left out."""
    batches = {spec.name: newest(log, spec.name, 1) for spec in topics}
    times = {
        name: [int(batch.timestamps[-1]) for batch in newest_batches if len(batch)] for name, newest_batches in batches.items()
    }
    return {name: max(values) for name, values in times.items() if values}


def clock_findings(clock: Clock, times: Mapping[str, int]) -> Iterator[Finding]:
    """Check that no record is from the future.

    Call it after the times have been read, because other processes write in the meantime.
    """
    now = clock.now()
    topic = max(times, key=times.__getitem__, default="")
    if topic and times[topic] > now + CLOCK_TOLERANCE:
        ahead = (times[topic] - now) / SECOND
        message = f"the time is {iso_instant(now)}, but a record of topic {topic} was written {ahead:,.1f} s later"
        yield problem(
            "clock",
            message,
            "correct the clock of this machine or of the writer; a writer with a replay clock ([clock]) also causes this",
        )
    else:
        yield fine("clock", f"the time is {iso_instant(now)}, later than all records")
