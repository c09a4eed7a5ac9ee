"""The Kafka log of a context, as its options and its model say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kandle.context.options import Options
from kandle.context.sections import EngineOptions
from kandle.ksql.program import schedule_topic
from kandle.log.kafka.codecs import Declarations, Declared
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.runtime.topics import derived_topics
from kandle.serde.formats import Formats
from kandle.serde.registry import Registry
from kandle.time.clock import Clock


def kafka_settings(options: Options) -> KafkaSettings:
    """How the brokers are reached."""
    kafka = options.kafka
    return KafkaSettings(
        bootstrap=kafka.bootstrap,
        properties=kafka.properties,
        consumer=kafka.consumer,
        producer=kafka.producer,
        protocol=kafka.protocol,
        session=kafka.session,
        transaction=kafka.transaction,
        patience=kafka.patience,
        statistics=kafka.statistics,
        replication=kafka.replication,
    )


def registry_of(options: Options) -> Registry | None:
    """The registry of the options; None if schemas are kept in a topic."""
    found = options.schema_registry
    if found.url is None:
        return None
    # Its client is only needed, and only loaded, where there is a server.
    from kandle.log.kafka.registry import HttpRegistry, RegistrySettings

    return HttpRegistry(RegistrySettings(found.url, found.properties, found.compatibility))


def declarations(entities: Iterable[EntityModel], plans: Sequence[Plan], engine: EngineOptions | None = None) -> Declarations:
    """By topic the entity whose records it has; topics of queries have those of their source or target."""
    by_topic = {entity.topic: entity for entity in entities}
    for plan in plans:
        by_topic |= derived_topics(plan)
    found = {topic: Declared(Formats(entity.key_format, entity.value_format), entity) for topic, entity in by_topic.items()}
    if engine is not None and engine.kind == "ksqldb":
        found |= _aggregated(plans)
    usual = Declared()
    return lambda topic: found.get(topic, usual)


def _aggregated(plans: Sequence[Plan]) -> dict[str, Declared]:
    """The topics of ksqlDB's tables of open bars, and of the sessions that it joins events with."""
    found = {}
    for plan in plans:
        target, schedule = plan.query.target, plan.query.schedule
        found[plan.base.live_topic] = Declared(Formats(target.key_format, target.value_format, windowed=True), target)
        if schedule is not None:
            found[schedule_topic(schedule.entity)] = Declared(Formats("KAFKA", "KAFKA"))
    return found


def kafka_log(options: Options, clock: Clock, declared: Declarations = lambda topic: Declared()) -> KafkaLog:
    """A log on the cluster of the options."""
    return KafkaLog(
        kafka_settings(options),
        clock,
        declared,
        registry_of(options),
        rule=options.schema_registry.compatibility,
    )
