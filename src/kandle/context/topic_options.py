"""Settings of topics in the options: which topics a context has, and what the settings mean for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kandle.context.options import Options
from kandle.context.sections import TopicOptions
from kandle.context.spelling import name_sections
from kandle.errors import ModelError, OptionsError, TimeframeError, unknown_name
from kandle.model.entity import EntityModel
from kandle.model.settings import TopicSettings
from kandle.plan.plan import Plan, hop_name
from kandle.plan.plan import plan as plan_of
from kandle.plan.query_topics import QueryTopicSettings, Retentions, context_topics, ksqldb_topics, topic_names
from kandle.plan.topics import dead_letter_name
from kandle.query.query import Hopping, QueryModel, Tumbling
from kandle.serde.port import InstantRule, InstantUnit
from kandle.time.timeframe import Timeframe

OF_ENTITIES = ("key_format", "value_format", "partitioner")
"""Options that only the topic of an entity has."""

OF_ONE_TOPIC = ("cleanup", "consumer")
"""Options that the entity of bars cannot have for all topics of its bars."""


def topic_settings(options: Options, topic: str) -> TopicSettings:
    """Return the settings of one topic.

    Args:
        options: The options of the context.
        topic: The name of the topic, for which there is a section.

    Raises:
        OptionsError: A setting of the brokers has no valid value.
    """
    origin = origin_of(options, topic)
    try:
        return options.topics[topic].settings(origin)
    except ValueError as error:
        raise OptionsError(f"{origin}{error}") from error


def origin_of(options: Options, topic: str) -> str:
    """Return where the settings of a topic are, to start a message with: `kandle.toml, line 3: topics.ticks: `."""
    return f"{options.place_of(['topics', topic])}topics.{topic}: "


def query_topic_settings(options: Options) -> QueryTopicSettings:
    """Return how the topics that queries write are created."""
    return QueryTopicSettings(
        options.heartbeat.settings,
        Retentions(live=options.runtime.live_retention),
        {topic: topic_settings(options, topic) for topic in options.topics},
        options.log.create,
    )


def instant_rule(options: Options) -> InstantRule:
    """Return how instants are written on a cluster whose fields do not say it: in milliseconds where ksqlDB reads them."""
    usual: InstantUnit = "millis" if options.engine.kind == "ksqldb" else "micros"
    is_fixed = options.fields.instants is not None or options.engine.kind == "ksqldb"
    return InstantRule(options.fields.instants or usual, is_fixed=is_fixed, is_cut=options.fields.finer == "cut")


def unfollowed_options(options: Options) -> list[str]:
    """Return in words which settings of topics the log of the options does not follow."""
    if options.log.kind != "embedded":
        return []
    return [
        f"the embedded log has no use for {', '.join(names)} of topic {topic}: they are for log.kind = 'kafka'"
        for topic, section in options.topics.items()
        if (names := _unfollowed(topic_settings(options, topic), section))
    ]


def _unfollowed(settings: TopicSettings, section: TopicOptions) -> list[str]:
    configs = [f"configs.{name}" for name, _ in settings.configs]
    given = {"replication": section.replication, "consumer": section.consumer, "producer": section.producer}
    return [*(name for name, value in given.items() if value), *configs]


@dataclass(frozen=True, slots=True)
class ContextTopics:
    """The topics of a context, against which settings are checked.

    Args:
        context: The name of the context.
        options: Its options.
        entities: Its entities.
        plans: The plans of its queries.
    """

    context: str
    options: Options
    entities: Sequence[EntityModel]
    plans: Sequence[Plan]

    def check(self) -> None:
        """Check that no two topics have the same name, and that all settings are for topics that there are.

        Raises:
            ModelError: A topic does not exist, or two have the same name.
            OptionsError: A setting is not possible for its topic.
        """
        targets = {plan.query.target.topic: plan for plan in self.plans}
        own, known = _own(self.entities), _all(self.entities, self.plans, self._derived())
        for topic, section in self.options.topics.items():
            origin, given = origin_of(self.options, topic), section.model_fields_set
            if topic not in known:
                raise ModelError(unknown_name(f"{origin}{self.context} has no such topic", topic, known))
            if topic in targets:
                names = ", ".join(bar.final_topic for bar in targets[topic].emitted)
                self._refuse(origin, given, OF_ONE_TOPIC, f"it is for single topics of bars, such as {names}")
            if topic not in own:
                self._refuse(origin, given, OF_ENTITIES, "it is for topics of entities only")
            if topic in targets or topic not in own:
                self._refuse(origin, given, ("producer",), "queries write in transactions, with the properties of kafka.producer")
            if self.options.engine.kind == "ksqldb" and any(plan.base.live_topic == topic for plan in self.plans):
                self._refuse(origin, given - {"consumer"}, sorted(given), "ksqlDB creates this topic; set it there")
            if topic not in targets and not any(bar.final_topic == topic for plan in self.plans for bar in plan.emitted):
                self._refuse(origin, given, ("grace",), "it is for bars and their finals only")
        self._check_query_topics()

    def _derived(self) -> list[str]:
        """Return the names of the topics that queries write; ModelError if one has two meanings."""
        settings = query_topic_settings(self.options)
        owners: dict[str, str] = {entity.topic: entity.name for entity in self.entities}
        names = []
        for plan in self.plans:
            name = plan.query.target.name
            for topic in topic_names(plan, settings.heartbeats, with_ksqldb=self.options.engine.kind == "ksqldb"):
                if topic in owners:
                    raise ModelError(
                        f"the topic {topic!r} would have both records of {owners[topic]} and what the query of {name} writes; "
                        "give one another name (bars.live_topic, bars.final_topic, heartbeat.topic, or that of the entity)"
                    )
                owners[topic] = name
                names.append(topic)
        return names

    def _refuse(self, origin: str, given: Iterable[str], options: Sequence[str], why: str) -> None:
        wrong = [option for option in options if option in given]
        if wrong:
            raise OptionsError(f"{origin}{wrong[0]}: {why}")

    def _check_query_topics(self) -> None:
        """Raise OptionsError for settings that are not possible for a topic of a query."""
        topics_of = ksqldb_topics if self.options.engine.kind == "ksqldb" else context_topics
        topics_of(self.plans, settings=query_topic_settings(self.options))


def _own(entities: Iterable[EntityModel]) -> set[str]:
    """Return the topics of entities, those of earlier versions of their keys among them."""
    return {version.topic for entity in entities for version in (*entity.former, entity)}


def _all(entities: Iterable[EntityModel], plans: Sequence[Plan], derived: Iterable[str]) -> list[str]:
    """Return all topics of a context: of entities, of what queries write, and of dead letters of readers, also of bars."""
    own = _own(entities)
    bars = [topic for plan in plans for bar in plan.emitted for topic in (bar.final_topic, bar.live_topic)]
    return [*own, *derived, *map(dead_letter_name, [*own.difference(plan.query.target.topic for plan in plans), *bars])]


def name_topics(options: Options, entities: Sequence[EntityModel], queries: Iterable[QueryModel]) -> None:
    """Give sections of topics that variables of the environment name the names of the topics, those of queries included.

    Args:
        options: The options, in which the names are replaced.
        entities: The entities of the context.
        queries: Its queries, as they are declared.

    Raises:
        OptionsError: A variable may mean several topics.
    """
    if not options.names_in_variables("topics"):
        return
    plans = [plan_of(replace(query, topics=options.bars.names)) for query in queries if query.has_tumbling]
    with_ksqldb = options.engine.kind == "ksqldb"
    derived = {topic for one in plans for topic in topic_names(one, options.heartbeat.settings, with_ksqldb=with_ksqldb)}
    name_sections(options, "topics", _all(entities, plans, derived))


def with_topic_options(query: QueryModel, options: Options) -> QueryModel:
    """Return a query whose topics are called as the options say, and whose graces are theirs.

    Args:
        query: The query as it was declared.
        options: The options of the context.

    Raises:
        OptionsError: A grace is for a timeframe that the query does not have.
    """
    query = replace(query, topics=options.bars.names)
    if isinstance(query.window, Hopping):
        graces = _graces(query, [hop_name(query.window)], options)
        return replace(query, window=replace(query.window, grace=next(iter(graces.values()), query.window.grace)))
    if isinstance(query.window, Tumbling):
        by_name = {str(timeframe): timeframe for timeframe in query.window.timeframes}
        graces = _graces(query, list(by_name), options)
        window = replace(
            query.window,
            grace_by_timeframe={**query.window.grace_by_timeframe, **{by_name[name]: grace for name, grace in graces.items()}},
        )
        return replace(query, window=window)
    return query


def _graces(query: QueryModel, names: Sequence[str], options: Options) -> dict[str, int]:
    """Return the grace of timeframes as the options give it: for all, for some, and for the topic of the finals."""
    target = query.target.topic
    graces: dict[str, int] = {}
    for_all = options.topics[target].grace if target in options.topics else None
    if isinstance(for_all, Mapping):
        for name, grace in for_all.items():
            graces[_timeframe(name, names, f"{origin_of(options, target)}grace: {query.target.name}")] = grace
    elif for_all is not None:
        graces = dict.fromkeys(names, for_all)
    for name in names:
        section = options.topics.get(query.topics.names(target, name)[1])
        if section is None or section.grace is None:
            continue
        if not isinstance(section.grace, int):
            final = query.topics.names(target, name)[1]
            raise OptionsError(f"{origin_of(options, final)}grace: the topic has bars of {name} alone; give one duration")
        graces[name] = section.grace
    return graces


def _timeframe(name: str, names: Sequence[str], subject: str) -> str:
    """Return the name of a timeframe as the query has it: `60s` is `1m`."""
    try:
        text = name if name in names else str(Timeframe.parse(name))
    except TimeframeError:
        text = name
    if text not in names:
        raise OptionsError(unknown_name(f"{subject} has no bars of {name}", name, names))
    return text
