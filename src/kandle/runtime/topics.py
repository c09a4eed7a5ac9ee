"""The topics of one query: where its events come from, where heartbeats, bars, late events and state go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from kandle.errors import SchemaError, StateError
from kandle.log.port import Column, Log, TopicSpec
from kandle.log.schema import entity_topic
from kandle.model.entity import EntityModel
from kandle.plan.plan import HEARTBEATS, BarPlan, Plan
from kandle.query.nodes import Column as SourceColumn
from kandle.query.query import Late
from kandle.runtime.aggregated import Aggregated
from kandle.store.changelog import changelog_topic
from kandle.time.timeframe import DAY, HOUR


@dataclass(frozen=True, slots=True)
class Retentions:
    """How long derived records are kept, in microseconds; live bars at least for two of their buckets."""

    live: int = HOUR
    heartbeats: int = 7 * DAY
    repartition: int = 7 * DAY


@dataclass(frozen=True, slots=True)
class QueryTopics:
    """Topics of one query.

    `events` is what its tasks read: the source itself, the source by group key, or what ksqlDB has aggregated.
    """

    plan: Plan
    source: str
    events: str
    heartbeats: str
    changelog: str
    late: str | None
    partitions: int
    specs: tuple[TopicSpec, ...]
    aggregated: Aggregated | None = None

    @property
    def is_repartitioned(self) -> bool:
        """Whether kandle itself copies the source by group key."""
        return self.events != self.source and self.aggregated is None

    @property
    def read(self) -> tuple[str, ...]:
        """What the group of the query reads; heartbeats last, so that no event that stands before one is missed."""
        first = () if self.aggregated is not None else (self.source,)
        return tuple(dict.fromkeys((*first, self.events, self.heartbeats)))

    @property
    def every(self) -> tuple[str, ...]:
        """All that is read or written."""
        return tuple(dict.fromkeys((*self.read, *(spec.name for spec in self.specs))))

    def state_is_gone(self, what: str) -> StateError:
        """The error for a changelog that was deleted, or made again: bars of half a bucket must not come of it."""
        name = self.plan.query.target.name
        return StateError(
            f"the state of {name} is gone: topic {self.changelog}, {what}; was it deleted or made again? What was open "
            "cannot go on. Restore the topic, or have the bars begin anew: with another consumer.group and another topic for "
            f"{name}, or delete the topics of its bars and the group"
        )

    def is_written_live(self, bar: BarPlan) -> bool:
        """Whether live bars of a timeframe are kandle's to write: those that ksqlDB aggregates are there already."""
        return self.aggregated is None or bar.live_topic != self.events


def aggregated_topics(plan: Plan, heartbeats: str, retentions: Retentions, aggregated: Aggregated) -> QueryTopics:
    """The topics of a query whose base bars ksqlDB aggregates."""
    target, table = plan.query.target, aggregated.topic
    bars = [spec for bar in plan.emitted for spec in bar_topics(target, bar, table.partitions, retentions)]
    specs = (
        *(spec for spec in bars if spec.name != table.name),
        heartbeat_topic(heartbeats, table.partitions, target.replication, retentions.heartbeats),
        changelog_topic(changelog_name(plan), table.partitions, target.replication),
    )
    source, changelog = plan.query.source.topic, changelog_name(plan)
    return QueryTopics(plan, source, table.name, heartbeats, changelog, None, table.partitions, specs, aggregated)


def query_topics(log: Log, plan: Plan, heartbeats: str, retentions: Retentions) -> QueryTopics:
    """The topics of a query on a log in which the topic of its source is."""
    query = plan.query
    source = log.topic(query.source.topic)
    # One partition is what an entity has that says nothing; then bars go where their events are.
    partitions = query.target.partitions if query.target.partitions > 1 else source.partitions
    is_together = is_keyed_by_group(plan) and query.source.partitioner == "murmur2"
    repartitioned = partitions != source.partitions or (partitions > 1 and not is_together)
    events = repartition_name(plan) if repartitioned else source.name
    late = late_name(plan) if query.late is Late.TOPIC else None
    specs = [
        *(spec for bar in plan.emitted for spec in bar_topics(query.target, bar, partitions, retentions)),
        heartbeat_topic(heartbeats, partitions, query.target.replication, retentions.heartbeats),
        changelog_topic(changelog_name(plan), partitions, query.target.replication),
    ]
    copy = replace(entity_topic(query.source), partitions=partitions, compacted=False, replication=query.target.replication)
    if repartitioned:
        specs.append(replace(copy, name=events, retention=retentions.repartition))
    if late is not None:
        specs.append(replace(copy, name=late))
    return QueryTopics(plan, source.name, events, heartbeats, changelog_name(plan), late, partitions, tuple(specs))


def read_entities(plan: Plan) -> list[EntityModel]:
    """The source of a query, and its schedule if it has one."""
    schedule = plan.query.schedule
    return [plan.query.source, *([] if schedule is None else [schedule.entity])]


def changelog_name(plan: Plan) -> str:
    """The topic of a query's state."""
    return f"{plan.query.target.topic}_changelog"


def repartition_name(plan: Plan) -> str:
    """The topic in which the events of the source are by group key, where they are not so in their own."""
    return f"{plan.query.target.topic}_repartition"


def late_name(plan: Plan) -> str:
    """The topic of events that came too late."""
    return f"{plan.query.target.topic}_late"


def derived_topics(plan: Plan) -> dict[str, EntityModel]:
    """The topics of a query that hold entities, by name: bars, and events that are copied."""
    source, target = plan.query.source, plan.query.target
    bars = {topic: target for bar in plan.emitted for topic in (bar.live_topic, bar.final_topic)}
    return bars | {repartition_name(plan): source, late_name(plan): source}


def bar_topics(target: EntityModel, bar: BarPlan, partitions: int, retentions: Retentions) -> tuple[TopicSpec, TopicSpec]:
    """Topics of the live and of the final bars of a timeframe."""
    spec = replace(entity_topic(target), partitions=partitions, compacted=False)
    final = replace(spec, name=bar.final_topic)
    # The live bar of a quiet key may be as old as its bucket.
    retention = max(retentions.live, 2 * bar.timeframe.nominal + bar.grace)
    return replace(spec, name=bar.live_topic, retention=retention, compacted=bool(spec.keys)), final


def heartbeat_topic(name: str, partitions: int, replication: int, retention: int) -> TopicSpec:
    """Heartbeats: the key is the start of a base bucket and the grace with which it is over.

    One record stands for all the keys of its partition, which only its owner knows. `position` is the next offset of the
    partition in the topic `events` when the heartbeat was sent: what comes behind it came too late for the bucket. On a cluster
    the topic may have heartbeats of others, whose events are in other topics.
    """
    instant = pl.Datetime("us", "UTC")
    columns = (
        Column("start", "timestamp", instant),
        Column("grace", "int", pl.Int64()),
        Column("instant", "timestamp", instant),
        Column("position", "int", pl.Int64()),
        Column("events", "str", pl.String(), nullable=True),
    )
    return TopicSpec(name, columns, ("start", "grace"), partitions, replication, retention, compacted=True, time="start")


def check_partitions(topics: QueryTopics, there: int, wanted: TopicSpec) -> None:
    """SchemaError where a topic of a query has other partitions than its tasks, each of which works on one of all topics."""
    if there == wanted.partitions:
        return
    name = topics.plan.query.target.name
    if wanted.name == topics.heartbeats:
        way = 'give the heartbeats of this context topics of their own: [heartbeat] prefix = "..."'
    else:
        way = f"give {name} another topic, or begin anew with topics that are made for {wanted.partitions}"
    raise SchemaError(
        f"topic {wanted.name} has {there} partitions, but {topics.events}, from which {name} is made, has {wanted.partitions}, "
        f"and partition by partition they belong together; {way}"
    )


def own_heartbeats(heartbeats: pl.DataFrame, events: str) -> pl.Series:
    """Which heartbeats are of these events; those of before had no topic's name."""
    return heartbeats["events"].is_null() | (heartbeats["events"] == events)


def is_keyed_by_group(plan: Plan) -> bool:
    """Whether all events of a group key are in one partition of the source as it is."""
    query = plan.query
    grouped = {node.name for node in query.group_by if isinstance(node, SourceColumn)}
    keys = [found.name for found in query.source.keys]
    return bool(keys) and grouped.issuperset(keys)


def heartbeat_names(plans: Sequence[Plan], prefix: str = HEARTBEATS) -> list[str]:
    """`hb_1m` for the first query with that base; others say whose heartbeats they are."""
    names: list[str] = []
    for plan in plans:
        usual = plan.heartbeats_of(prefix)
        names.append(usual if usual not in names else f"{plan.query.target.topic}_{usual}")
    return names
