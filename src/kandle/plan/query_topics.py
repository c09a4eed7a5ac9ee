"""The topics of a query: names, columns, settings, and how their records are encoded.

This is the only derivation of them. The runtime creates the topics that it lists, the Kafka log encodes records as it
says, and `kandle avro`, `kandle explain`, `kandle doctor` and the report of deleted topics show the same list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from kandle.errors import OptionsError
from kandle.model.entity import EntityModel
from kandle.model.markers import FormatName
from kandle.model.settings import UNCHANGED, TopicSettings
from kandle.plan.plan import BarPlan, Plan
from kandle.plan.topics import (
    TopicSpec,
    changelog_topic,
    dead_letter_name,
    dead_letter_topic,
    entity_topic,
    heartbeat_topic,
    with_settings,
)
from kandle.query.nodes import Column
from kandle.query.query import Late
from kandle.time.timeframe import DAY, HOUR


class TopicRole(Enum):
    """What a topic is for in a query."""

    SOURCE = "source"
    SCHEDULE = "schedule"
    INTERVALS = "session intervals"
    REPARTITION = "repartition"
    LIVE = "live"
    FINAL = "final"
    LATE = "late"
    HEARTBEATS = "heartbeats"
    CHANGELOG = "changelog"
    DEAD_LETTERS = "dead letters"


@dataclass(frozen=True, slots=True)
class TopicContent:
    """What the records of a topic are, and how their keys and values are encoded.

    `text` says it in words ("final 5m bars"). `entity` is the class whose fields the columns are, with their defaults,
    aliases and datetime formats; None for records of kandle's own. The last part of a `windowed` key is the start of a
    window in the encoding of ksqlDB.
    """

    role: TopicRole
    text: str
    entity: EntityModel | None = None
    key_format: FormatName = "AVRO"
    value_format: FormatName = "AVRO"
    windowed: bool = False


@dataclass(frozen=True, slots=True)
class QueryTopic:
    """One topic of a query: what it should be, and what its records are."""

    spec: TopicSpec
    content: TopicContent


@dataclass(frozen=True, slots=True)
class AggregatedTable:
    """A windowed table of ksqlDB whose rows are base buckets.

    The key columns of `topic` are those of the group key, in its order, and last the start of the window. `columns` says
    which column of the topic holds which partial aggregate.
    """

    topic: TopicSpec
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Retentions:
    """How long derived records are kept, in microseconds; live bars at least for two of their buckets."""

    live: int = HOUR
    repartition: int = 7 * DAY


DEFAULT_RETENTIONS = Retentions()


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """The topic of a query's heartbeats.

    Attributes:
        topic: Its name, in which `{bars}` stands for the topic of the bars and `{base}` for the base timeframe.
        retention: How long heartbeats are kept, in microseconds.
        replication: Its replication; None takes that of the bars.
    """

    topic: str = "{bars}_hb_{base}"
    retention: int = 7 * DAY
    replication: int | None = None

    def name(self, plan: Plan) -> str:
        """Return the name of the topic for a query."""
        return self.topic.format(bars=plan.query.target.topic, base=plan.base.timeframe)


DEFAULT_HEARTBEATS = HeartbeatSettings()


@dataclass(frozen=True, slots=True)
class QueryTopicSettings:
    """How the topics that queries write are created.

    Attributes:
        settings: How the topics are created.
        topics: Settings of single topics by name, which count more.
        creates: Whether missing topics are created unless their own settings say otherwise.
    """

    heartbeats: HeartbeatSettings = DEFAULT_HEARTBEATS
    retentions: Retentions = DEFAULT_RETENTIONS
    topics: Mapping[str, TopicSettings] = field(default_factory=dict)
    creates: bool = True

    def applied(self, spec: TopicSpec) -> TopicSpec:
        """Return a topic with its own settings.

        Args:
            spec: The topic as the model has it.

        Raises:
            OptionsError: A setting is not possible for this topic.
        """
        spec = spec if self.creates else replace(spec, is_created=False)
        return with_settings(spec, self.topics.get(spec.name, UNCHANGED))

    def of_query(self, topic: QueryTopic, query: str, source: str) -> QueryTopic:
        """Return a topic that a query writes with its own settings.

        Args:
            topic: The topic as the model has it.
            query: The name of what the query makes, for messages.
            source: The topic whose partitions its tasks follow, for messages.

        Raises:
            OptionsError: A setting is not possible for this topic.
        """
        own, spec = self.topics.get(topic.spec.name, UNCHANGED), topic.spec
        if own.partitions not in (None, spec.partitions):
            raise OptionsError(
                f"{own.origin}partitions = {own.partitions}: the topics of {query} belong together partition by partition, "
                f"and have {spec.partitions}, as many as {source}; set partitions for the topic of {query}, which all follow"
            )
        if topic.content.role is TopicRole.CHANGELOG and (own.retention, own.retention_bytes, own.cleanup) != (None, None, None):
            raise OptionsError(
                f"{own.origin}retention and cleanup are not for the state of {query}: kandle itself removes what is not needed "
                "any more, and all else must be kept"
            )
        return replace(topic, spec=self.applied(spec))


DEFAULT_SETTINGS = QueryTopicSettings()


@dataclass(frozen=True, slots=True)
class QueryTopics:
    """The topics of one query.

    `events` is the topic that its tasks read: the source itself, the source by group key (the repartition topic), or the
    `table` of base buckets that ksqlDB aggregates. `former` are the topics of earlier versions of the source's key that there
    are, which are copied as the source is. `inputs` are the topics of the source and the schedule and that of the `table`;
    `created` are those that the query writes and that are created when it starts. `dead_letters` is created with its first
    record.
    """

    plan: Plan
    events: str
    heartbeats: str
    partitions: int
    inputs: tuple[QueryTopic, ...]
    created: tuple[QueryTopic, ...]
    dead_letters: QueryTopic
    table: AggregatedTable | None = None
    former: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        """What aggregates the events: `embedded`, or `ksqldb`."""
        return "embedded" if self.table is None else "ksqldb"

    @property
    def group(self) -> str:
        """The consumer group of the query; also the start of its transactional ids."""
        return query_group(self.plan)

    @property
    def source(self) -> str:
        """The topic of the source."""
        return self.plan.query.source.topic

    @property
    def changelog(self) -> str:
        """The topic of the state."""
        return changelog_name(self.plan)

    @property
    def late(self) -> str | None:
        """The topic of late events; None if they go nowhere."""
        names = [topic.spec.name for topic in self.created if topic.content.role is TopicRole.LATE]
        return names[0] if names else None

    @property
    def sources(self) -> tuple[str, ...]:
        """The topics of all versions of the source's key, the oldest first."""
        return (*self.former, self.source)

    @property
    def specs(self) -> tuple[TopicSpec, ...]:
        """The topics that are created when the query starts."""
        return tuple(topic.spec for topic in self.created)

    @property
    def all(self) -> tuple[QueryTopic, ...]:
        """Every topic that the query reads or writes."""
        return (*self.inputs, *self.created, self.dead_letters)

    @property
    def is_repartitioned(self) -> bool:
        """Whether kandle itself copies the source by group key."""
        return self.events != self.source and self.table is None

    @property
    def read(self) -> tuple[str, ...]:
        """What the group of the query reads; heartbeats last, so that no event that stands before one is missed."""
        first = () if self.table is not None else self.sources
        return tuple(dict.fromkeys((*first, self.events, self.heartbeats)))

    @property
    def required(self) -> tuple[str, ...]:
        """The names of the topics that must be there while the query runs."""
        return tuple(dict.fromkeys((*self.read, *(spec.name for spec in self.specs))))

    def is_written_live(self, bar: BarPlan) -> bool:
        """Return whether kandle writes the live bars of a timeframe; those that ksqlDB aggregates are there already."""
        return self.table is None or bar.live_topic != self.events


def query_topics(
    plan: Plan,
    source_partitions: int | None = None,
    settings: QueryTopicSettings = DEFAULT_SETTINGS,
    state_partitions: int | None = None,
) -> QueryTopics:
    """Return the topics of a query that kandle aggregates itself.

    A query keeps the number of partitions with which its state began. If its source has more by now, keys have moved
    between partitions there, so that events are copied by group key to as many partitions as before.

    Args:
        plan: The plan of the query.
        source_partitions: The partitions that the source's topic has; None takes the declared number.
        settings: How the topics are created.
        state_partitions: The partitions that the topic of the state has; None if there is no state yet.

    Returns:
        All topics that the query reads or writes.
    """
    query = plan.query
    source = query.source.partitions if source_partitions is None else source_partitions
    # One partition is what an entity has that says nothing; then bars go where their events are.
    partitions = query.target.partitions if query.target.partitions > 1 else min(source, state_partitions or source)
    is_together = is_keyed_by_group(plan) and query.source.partitioner == "murmur2"
    # A key that has changed is in another partition than before.
    is_repartitioned = bool(query.source.former) or partitions != source or (partitions > 1 and not is_together)
    own = entity_topic(replace(query.source, settings=UNCHANGED))
    copy = replace(own, partitions=partitions, compacted=False, replication=query.target.replication)
    events = repartition_name(plan) if is_repartitioned else query.source.topic
    copies = [replace(copy, name=events, retention=settings.retentions.repartition)] if is_repartitioned else []
    copies += [replace(copy, name=late_name(plan))] if query.late is Late.TOPIC else []
    bars = [spec for bar in plan.emitted for spec in _bar_topics(plan, bar, partitions, settings.retentions)]
    beats = _heartbeat_topic(plan, partitions, settings.heartbeats)
    topics = _assembled(plan, events, beats, [*bars, *copies], contents_of(plan), settings)
    first, *others = topics.inputs
    return replace(topics, inputs=(replace(first, spec=replace(first.spec, partitions=source)), *others))


def aggregated_topics(
    plan: Plan,
    table: AggregatedTable,
    settings: QueryTopicSettings = DEFAULT_SETTINGS,
) -> QueryTopics:
    """Return the topics of a query whose base bars ksqlDB aggregates.

    Args:
        plan: The plan of the query.
        table: What ksqlDB aggregates; its topic is the server's to create.
        settings: How the topics are created.

    Returns:
        All topics that the query reads or writes, without those that are the server's own.
    """
    partitions = table.topic.partitions
    specs = [spec for bar in plan.emitted for spec in _bar_topics(plan, bar, partitions, settings.retentions)]
    bars = [spec for spec in specs if spec.name != table.topic.name]
    beats = _heartbeat_topic(plan, partitions, settings.heartbeats)
    contents = contents_of(plan) | ksqldb_contents_of(plan)
    topics = _assembled(plan, table.topic.name, beats, bars, contents, settings)
    inputs = (*topics.inputs, QueryTopic(table.topic, contents[plan.base.live_topic]))
    return replace(topics, inputs=inputs, table=table)


def context_topics(
    plans: Sequence[Plan],
    partitions: Mapping[str, int] | None = None,
    settings: QueryTopicSettings = DEFAULT_SETTINGS,
) -> list[QueryTopics]:
    """Return the topics of all queries of a context.

    Args:
        plans: The plans of the queries, in the order of their declaration.
        partitions: The number of partitions of each topic that exists; sources that do not have the declared number.
        settings: How the topics are created.

    Returns:
        The topics of each query, in the order of the plans.
    """
    known = {} if partitions is None else partitions
    topics = [query_topics(plan, known.get(plan.query.source.topic), settings, known.get(changelog_name(plan))) for plan in plans]
    return [_with_former(with_fitting_heartbeats(query, known), known) for query in topics]


def _with_former(topics: QueryTopics, known: Mapping[str, int]) -> QueryTopics:
    """Return the topics of a query with those of earlier versions of its source's key that there are."""
    former = tuple(entity.topic for entity in topics.plan.query.source.former if entity.topic in known)
    return replace(topics, former=former) if former else topics


def ksqldb_topics(
    plans: Sequence[Plan],
    partitions: Mapping[str, int] | None = None,
    settings: QueryTopicSettings = DEFAULT_SETTINGS,
) -> list[QueryTopics]:
    """Return the topics of all queries of a context whose base bars ksqlDB aggregates, as far as the declarations tell.

    The table of each query has further columns, which only the server knows; see `aggregated_topics`.

    Args:
        plans: The plans of the queries, in the order of their declaration.
        partitions: The number of partitions of each topic that exists; tables that do not have the declared number.
        settings: How the topics are created.

    Returns:
        The topics of each query, in the order of the plans.
    """
    known = {} if partitions is None else partitions
    topics = []
    for plan in plans:
        query, table = plan.query, plan.base.live_topic
        declared = query.target.partitions if query.target.partitions > 1 else query.source.partitions
        spec = replace(entity_topic(query.target, table), partitions=known.get(table, declared), compacted=True)
        query_topics = aggregated_topics(plan, AggregatedTable(spec, {}), settings)
        topics.append(with_fitting_heartbeats(query_topics, known))
    return topics


def with_fitting_heartbeats(topics: QueryTopics, partitions: Mapping[str, int]) -> QueryTopics:
    """Return the topics of a query, with another topic for heartbeats if the usual one has not the partitions of the query.

    Its name then ends with the number of partitions, so that all processes choose the same one.

    Args:
        topics: The topics as they are declared.
        partitions: The number of partitions of each topic that exists.
    """
    other = f"{topics.heartbeats}_{topics.partitions}"
    is_usual = partitions.get(topics.heartbeats, topics.partitions) == topics.partitions
    if is_usual and other not in partitions:
        return topics
    created = tuple(
        replace(topic, spec=replace(topic.spec, name=other)) if topic.spec.name == topics.heartbeats else topic
        for topic in topics.created
    )
    return replace(topics, heartbeats=other, created=created)


def _assembled(
    plan: Plan,
    events: str,
    heartbeats: TopicSpec,
    derived: Sequence[TopicSpec],
    contents: Mapping[str, TopicContent],
    settings: QueryTopicSettings,
) -> QueryTopics:
    """Return the topics of a query: `derived` ones are bars and copies of events, all others are added here."""
    partitions, replication = heartbeats.partitions, heartbeats.replication
    state = changelog_topic(changelog_name(plan), partitions, replication)
    dead = dead_letter_topic(dead_letter_name(plan.query.target.topic), partitions, replication)
    *created, dead_letters = (
        settings.of_query(QueryTopic(spec, contents.get(spec.name, HEARTBEAT_CONTENT)), plan.query.target.name, events)
        for spec in (*derived, heartbeats, state, dead)
    )
    inputs = [QueryTopic(entity_topic(entity), contents[entity.topic]) for entity in read_entities(plan)]
    return QueryTopics(
        plan=plan,
        events=events,
        heartbeats=heartbeats.name,
        partitions=partitions,
        inputs=tuple(inputs),
        created=tuple(created),
        dead_letters=dead_letters,
    )


HEARTBEAT_CONTENT = TopicContent(TopicRole.HEARTBEATS, "heartbeats")
"""The content of a heartbeats' topic, whose name depends on the options."""


def contents_of(plan: Plan) -> dict[str, TopicContent]:
    """Return by name what the topics hold that a query reads or may write, all but its heartbeats.

    Whether there is a repartition topic depends on the partitions of the source, which are not needed here.
    """
    query = plan.query
    source, target = query.source, query.target
    contents = {
        source.topic: _entity_content(TopicRole.SOURCE, f"events of {source.name}", source),
        repartition_name(plan): _entity_content(TopicRole.REPARTITION, f"events of {source.name} by group key", source),
        late_name(plan): _entity_content(TopicRole.LATE, f"late events of {source.name}", source),
        changelog_name(plan): TopicContent(TopicRole.CHANGELOG, f"state of {target.name}"),
        dead_letter_name(plan.query.target.topic): TopicContent(TopicRole.DEAD_LETTERS, f"what {target.name} cannot be made of"),
    }
    if query.schedule is not None:
        schedule = query.schedule.entity
        contents[schedule.topic] = _entity_content(TopicRole.SCHEDULE, f"sessions, rows of {schedule.name}", schedule)
    for bar in plan.emitted:
        contents[bar.live_topic] = _entity_content(TopicRole.LIVE, f"live {bar.name} bars", target)
        contents[bar.final_topic] = _entity_content(TopicRole.FINAL, f"final {bar.name} bars", target)
    return contents


def topic_names(plan: Plan, heartbeats: HeartbeatSettings = DEFAULT_HEARTBEATS, *, with_ksqldb: bool = False) -> list[str]:
    """Return the names of all topics that a query may write, the one of its heartbeats included.

    Args:
        plan: The plan of the query.
        heartbeats: The name of the heartbeats' topic.
        with_ksqldb: Whether ksqlDB aggregates the base bars, and reads topics of its own.
    """
    contents = contents_of(plan) | (ksqldb_contents_of(plan) if with_ksqldb else {})
    read = {entity.topic for entity in read_entities(plan)}
    unused = set() if plan.query.late is Late.TOPIC else {late_name(plan)}
    return [*(name for name in contents if name not in read | unused), heartbeats.name(plan)]


def ksqldb_contents_of(plan: Plan) -> dict[str, TopicContent]:
    """Return by name what those topics hold that are encoded otherwise where ksqlDB aggregates the base bars."""
    base, schedule = plan.base, plan.query.schedule
    content = _entity_content(TopicRole.LIVE, f"live {base.name} bars", plan.query.target)
    contents = {base.live_topic: replace(content, windowed=True)}
    if schedule is not None:
        contents[intervals_name(schedule.entity)] = TopicContent(
            TopicRole.INTERVALS, f"session intervals of {schedule.entity.name} by key", None, "KAFKA", "KAFKA"
        )
    return contents


def _entity_content(role: TopicRole, text: str, entity: EntityModel) -> TopicContent:
    return TopicContent(role, text, entity, entity.key_format, entity.value_format)


def read_entities(plan: Plan) -> list[EntityModel]:
    """Return the source of a query, and its schedule if it has one."""
    schedule = plan.query.schedule
    return [plan.query.source, *([] if schedule is None else [schedule.entity])]


def query_group(plan: Plan) -> str:
    """Return the name of the consumer group of a query, which depends on the topic of its bars only."""
    return f"kandle-{plan.query.target.topic}"


def bars_of_group(group: str, topics: Iterable[TopicSpec]) -> str | None:
    """Return the topic of the bars of a query by the name of its consumer group; None if it is the group of no query.

    Args:
        group: The name of a consumer group.
        topics: The topics that there are: a query has one for its state.
    """
    bars = group.removeprefix("kandle-")
    return bars if bars != group and f"{bars}_changelog" in {spec.name for spec in topics} else None


def changelog_name(plan: Plan) -> str:
    """Return the name of the topic of a query's state."""
    return f"{plan.query.target.topic}_changelog"


def repartition_name(plan: Plan) -> str:
    """Return the name of the topic that has the source's events by group key, where their own topic has not."""
    return f"{plan.query.target.topic}_repartition"


def late_name(plan: Plan) -> str:
    """Return the name of the topic of events that came too late."""
    return f"{plan.query.target.topic}_late"


def intervals_name(schedule: EntityModel) -> str:
    """Return the name of the topic from which ksqlDB reads the session intervals of a schedule's keys."""
    return f"{schedule.topic}_by_key"


def is_keyed_by_group(plan: Plan) -> bool:
    """Return whether all events of a group key have the same key in the source, so that they are in one partition."""
    query = plan.query
    grouped = {node.name for node in query.group_by if isinstance(node, Column)}
    keys = [part.name for part in query.source.keys]
    return bool(keys) and grouped.issuperset(keys)


def _heartbeat_topic(plan: Plan, partitions: int, settings: HeartbeatSettings) -> TopicSpec:
    replication = plan.query.target.replication if settings.replication is None else settings.replication
    return heartbeat_topic(settings.name(plan), partitions, replication, settings.retention)


def _bar_topics(plan: Plan, bar: BarPlan, partitions: int, retentions: Retentions) -> tuple[TopicSpec, TopicSpec]:
    """Return the topics of the live and the final bars of a timeframe."""
    spec = replace(entity_topic(plan.query.target), partitions=partitions, compacted=False)
    final = replace(spec, name=bar.final_topic)
    # The live bar of a quiet key may be as old as its bucket.
    retention = max(retentions.live, 2 * bar.timeframe.nominal + bar.grace)
    return replace(spec, name=bar.live_topic, retention=retention, compacted=bool(spec.keys)), final
