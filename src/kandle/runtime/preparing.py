"""Topics are there before anything runs on them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from kandle.errors import SchemaError
from kandle.log.port import Log, TopicSpec
from kandle.log.schema import entity_topic
from kandle.plan.plan import HEARTBEATS, Plan
from kandle.runtime.topics import (
    QueryTopics,
    Retentions,
    changelog_name,
    check_partitions,
    heartbeat_names,
    late_name,
    query_topics,
    read_entities,
    repartition_name,
)


def deleted_topics(log: Log, plan: Plan, wanted: Iterable[str], there: Collection[str]) -> dict[str, str]:
    """By topic what is to be said of those that are not there, though the query has a state and so has had them all.

    A query whose state is gone too says so itself, when it is asked to go on.
    """
    changelog = changelog_name(plan)
    if changelog not in there or not any(log.ends(changelog)):
        return {}
    name, lost = plan.query.target.name, _contents(plan)
    return {
        topic: f"there is no topic {topic}, though {name} was made before; if it was deleted, what is lost: "
        + lost.get(topic, "heartbeats that were not read yet")
        for topic in wanted
        if topic not in there
    }


def _contents(plan: Plan) -> dict[str, str]:
    """What is in the topics of a query, by name; heartbeats are in all others."""
    query = plan.query
    found = {
        query.source.topic: "events that were not read yet",
        repartition_name(plan): "events that were not read yet",
        late_name(plan): "late events so far",
    }
    if query.schedule is not None:
        found[query.schedule.entity.topic] = "the rows of the schedule"
    for bar in plan.emitted:
        found[bar.live_topic] = f"live {bar.name} bars, until they change again"
        found[bar.final_topic] = f"final {bar.name} bars so far"
    return found


logger = logging.getLogger("kandle")


def prepared_topics(
    log: Log, plans: Sequence[Plan], retentions: Retentions, heartbeats: str = HEARTBEATS, *, refuses: bool = False
) -> list[QueryTopics]:
    """Create what is missing; a topic that differs from its declaration is warned of and left as it is, or is refused.

    SchemaError also for one whose number of partitions the tasks of its query cannot work with.
    """
    there = {spec.name for spec in log.topics()}
    for plan in plans:
        warn_of_deleted(log, plan, [entity.topic for entity in read_entities(plan)], there)
        for entity in read_entities(plan):
            ensured(log, entity_topic(entity), refuses=refuses)
    found = []
    for plan, name in zip(plans, heartbeat_names(plans, heartbeats), strict=True):
        topics = query_topics(log, plan, name, retentions)
        prepare(log, topics, refuses=refuses)
        found.append(topics)
    return found


def warn_of_deleted(log: Log, plan: Plan, wanted: Iterable[str], there: Collection[str]) -> None:
    """Tell of topics that the query has had before and that are not there."""
    for what in deleted_topics(log, plan, wanted, there).values():
        logger.warning("%s; it is made anew", what)


def prepare(log: Log, topics: QueryTopics, *, refuses: bool = False) -> None:
    """Create what is missing of a query's topics; SchemaError for one that has not the partitions of its tasks."""
    known = {spec.name: spec for spec in log.topics()}
    for spec in topics.specs:
        # Before any is made: a start that is refused leaves nothing behind.
        check_partitions(topics, known.get(spec.name, spec).partitions, spec)
    warn_of_deleted(log, topics.plan, [spec.name for spec in topics.specs], known)
    for spec in topics.specs:
        # Those that others have made on a cluster are known only now.
        check_partitions(topics, ensured(log, spec, refuses=refuses).partitions, spec)


def ensured(log: Log, spec: TopicSpec, *, refuses: bool = False) -> TopicSpec:
    """The topic as it is, created if it was missing; what differs is warned of, or refused by SchemaError."""
    state = log.ensure(spec)
    if state.differences and refuses:
        way = 'change the topic or its declaration, or let it be: log.differences = "warn"'
        raise SchemaError(f"{'; '.join(state.differences)}; {way}")
    for difference in state.differences:
        logger.warning("%s; it stays as it is", difference)
    return state.spec
