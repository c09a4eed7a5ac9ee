"""Creates the topics of queries before they run, and reports those that were deleted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from kandle.errors import SchemaError, UnknownTopicError
from kandle.log.port import Log
from kandle.log.versions import written_versions
from kandle.plan.declaration import declaration
from kandle.plan.plan import Plan
from kandle.plan.query_topics import (
    DEFAULT_SETTINGS,
    HEARTBEAT_CONTENT,
    QueryTopics,
    QueryTopicSettings,
    TopicRole,
    changelog_name,
    contents_of,
    context_topics,
    read_entities,
    repartition_name,
)
from kandle.plan.topics import DECLARATIONS, TopicSpec, entity_topic, missing_topics
from kandle.runtime.generations import QueryGenerations

logger = logging.getLogger("kandle")

UNREAD, SO_FAR = " that were not read yet", " so far"

LOSSES = {
    TopicRole.SOURCE: UNREAD,
    TopicRole.REPARTITION: UNREAD,
    TopicRole.HEARTBEATS: UNREAD,
    TopicRole.LIVE: ", until they change again",
    TopicRole.FINAL: SO_FAR,
    TopicRole.LATE: SO_FAR,
}
"""What to add to the content of a deleted topic to say what is lost with it."""


def deleted_topics(log: Log, plan: Plan, wanted: Iterable[str], existing: Collection[str]) -> dict[str, str]:
    """Return a message for each wanted topic that was deleted: the query has a state, so it had all its topics once.

    A query whose state is gone too raises an error of its own when it starts.

    Args:
        log: The log of the topics.
        plan: The plan of the query.
        wanted: Names of topics that the query needs.
        existing: Names of the topics that the log has.

    Returns:
        The message by topic; empty if the query has no state or all topics are there.
    """
    changelog = changelog_name(plan)
    if changelog not in existing or not any(log.ends(changelog)):
        return {}
    name, contents = plan.query.target.name, contents_of(plan)
    messages = {}
    wanted = list(wanted)
    new = _new_topics(log, plan, wanted, existing)
    for topic in wanted:
        if topic not in existing and topic not in new:
            content = contents.get(topic, HEARTBEAT_CONTENT)
            loss = f"{content.text}{LOSSES.get(content.role, '')}"
            messages[topic] = (
                f"topic {topic} is missing, although {name} was computed before; if it was deleted, this is lost: {loss}"
            )
    return messages


def _new_topics(log: Log, plan: Plan, wanted: Iterable[str], existing: Collection[str]) -> set[str]:
    """Return the topics that a query has not had before: those of new timeframes, and what an older version named otherwise."""
    if DECLARATIONS not in existing:
        return set()
    newest = QueryGenerations(log, plan, declaration(plan)).newest()
    if newest is None:
        # An older version has run the query, with other heartbeats.
        return set(wanted) - contents_of(plan).keys()
    timeframes = newest.declaration.content["timeframes"]
    return {topic for bar in plan.emitted if bar.name not in timeframes for topic in (bar.live_topic, bar.final_topic)}


def prepare_topics(
    log: Log,
    plans: Sequence[Plan],
    settings: QueryTopicSettings = DEFAULT_SETTINGS,
    *,
    refuses: bool = False,
) -> list[QueryTopics]:
    """Create the missing topics of queries.

    Args:
        log: The log to create them in.
        plans: The plans of all queries of a context.
        settings: How the topics are created.
        refuses: Whether a topic with other settings than declared is an error; otherwise it is logged and left as it is.

    Returns:
        The topics of each query, in the order of the plans.

    Raises:
        SchemaError: A topic has other columns than declared, or a number of partitions that does not fit the query.
        UnknownTopicError: A topic is missing that others have to create.
    """
    existing = {spec.name for spec in log.topics()}
    for plan in plans:
        warn_of_deleted(log, plan, [entity.topic for entity in read_entities(plan)], existing)
    read = [entity for plan in plans for entity in read_entities(plan)]
    versions = [version for entity in read for version in written_versions(entity)]
    ensure_topics(log, [entity_topic(version) for version in versions], refuses=refuses)
    partitions = topic_partitions(log)
    prepared = context_topics(plans, partitions, settings)
    for topics in prepared:
        warn_of_other_heartbeats(topics, settings.heartbeats.name(topics.plan), partitions)
        create_topics(log, topics, refuses=refuses)
    return prepared


def topic_partitions(log: Log) -> dict[str, int]:
    """Return the number of partitions of each topic that exists."""
    return {spec.name: spec.partitions for spec in log.topics()}


def other_heartbeats(topics: QueryTopics, usual: str, partitions: Mapping[str, int]) -> str | None:
    """Return in words why the heartbeats of a query are not in their usual topic; None if they are."""
    if topics.heartbeats == usual:
        return None
    name = topics.plan.query.target.name
    number = partitions.get(usual)
    reason = (
        f"{usual} was deleted" if number is None else f"{usual} has {number} partitions, and {name} needs {topics.partitions}"
    )
    return f"the heartbeats of {name} are in topic {topics.heartbeats}, since {reason}"


def warn_of_other_heartbeats(topics: QueryTopics, usual: str, partitions: Mapping[str, int]) -> None:
    """Log a warning if the heartbeats of a query are not in their usual topic."""
    reason = other_heartbeats(topics, usual, partitions)
    if reason is not None:
        logger.warning("%s; option heartbeat.topic gives them another name", reason)


def check_source_partitions(log: Log, topics: QueryTopics) -> None:
    """Check that the tasks still read all partitions of their events, at this moment.

    Whoever adds partitions moves keys between them, so the events of a key are in two partitions, and one of them is
    read by nobody. A bucket that was closed then would lack them. So this is asked after events were read, and before
    finals are committed or heartbeats are sent. Where the source is copied by group key, partitions may be added at any
    time: they are copied too, and heartbeats wait for them.

    Raises:
        SchemaError: There are more partitions, or fewer, than tasks.
        UnavailableError: The log cannot be asked now.
    """
    if topics.is_repartitioned:
        return
    count = log.partition_count(topics.events)
    if count != topics.partitions:
        raise changed_partitions(topics, count)


def changed_partitions(topics: QueryTopics, count: int) -> SchemaError:
    """Return the error for a topic of events that has other partitions than there are tasks."""
    name = topics.plan.query.target.name
    if topics.table is not None:
        way = "create the query on ksqlDB again, and give the bars another topic"
    else:
        way = (
            f"start it again: it goes on with its state, and reads the events from {repartition_name(topics.plan)}, to which "
            f"it copies them by group key into {topics.partitions} partition{'' if topics.partitions == 1 else 's'}"
        )
    return SchemaError(
        f"topic {topics.events} has {count} partitions now, and had {topics.partitions} when {name} began: keys have moved "
        f"between its partitions, so {name} stops before it closes a bucket without all of its events; {way}"
    )


def warn_of_deleted(log: Log, plan: Plan, wanted: Iterable[str], existing: Collection[str]) -> None:
    """Log a warning for each topic that the query once had and that is gone."""
    for message in deleted_topics(log, plan, wanted, existing).values():
        logger.warning("%s; it is created again", message)


def create_topics(log: Log, topics: QueryTopics, *, refuses: bool = False) -> None:
    """Create the missing topics of a query.

    Raises:
        SchemaError: A topic has not the partitions of the query's tasks, or other columns than declared.
    """
    known = {spec.name: spec for spec in log.topics()}
    for spec in topics.specs:
        # Check all before the first is created: a refused start leaves nothing behind.
        check_partitions(topics, known.get(spec.name, spec).partitions, spec)
    warn_of_deleted(log, topics.plan, [spec.name for spec in topics.specs], known)
    dead_letters = topics.dead_letters.spec
    # That of dead letters is created with the first one; where others have to create it, it must be there before.
    specs = topics.specs if dead_letters.is_created else (*topics.specs, dead_letters)
    for wanted, actual in zip(specs, ensure_topics(log, specs, refuses=refuses), strict=True):
        # Another process may have created it meanwhile, with other partitions.
        check_partitions(topics, actual.partitions, wanted)


def check_partitions(topics: QueryTopics, partitions: int, wanted: TopicSpec) -> None:
    """Check that a topic of a query has as many partitions as there are tasks: task n works on partition n of every topic.

    Args:
        topics: The topics of the query.
        partitions: The number of partitions that the topic has.
        wanted: The topic as the query needs it.

    Raises:
        SchemaError: The numbers differ.
    """
    if partitions == wanted.partitions:
        return
    name = topics.plan.query.target.name
    raise SchemaError(
        f"topic {wanted.name} has {partitions} partitions, but {topics.events}, from which {name} is computed, has "
        f"{wanted.partitions}; all topics of a query need the same number; give {name} another topic, or start again with "
        f"topics of {wanted.partitions} partitions"
    )


def ensure_topics(log: Log, specs: Sequence[TopicSpec], *, refuses: bool = False) -> list[TopicSpec]:
    """Create topics that are missing, and return all as they are.

    Raises:
        UnknownTopicError: Some are missing that others have to create; the message names all of them with their settings, and
            nothing was created.
        SchemaError: A topic has other columns than declared; or, with `refuses`, other settings.
    """
    actual: dict[str, TopicSpec] = {}
    missing = []
    for spec in specs:
        if not spec.is_created:
            try:
                actual[spec.name] = ensure_topic(log, spec, refuses=refuses)
            except UnknownTopicError:
                missing.append(spec)
    if missing:
        raise UnknownTopicError(missing_topics(missing))
    return [actual.get(spec.name) or ensure_topic(log, spec, refuses=refuses) for spec in specs]


def ensure_topic(log: Log, spec: TopicSpec, *, refuses: bool = False) -> TopicSpec:
    """Create a topic if it is missing, and return it as it is.

    Raises:
        UnknownTopicError: The topic is missing, and others have to create it.
        SchemaError: The topic has other columns than declared; or, with `refuses`, other settings.
    """
    state = log.ensure(spec)
    if state.differences and refuses:
        way = 'change the topic or its declaration, or let it be: log.differences = "warn"'
        raise SchemaError(f"{'; '.join(state.differences)}; {way}")
    for difference in state.differences:
        logger.warning("%s; it stays as it is", difference)
    return state.spec
