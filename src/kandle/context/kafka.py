"""The Kafka log of a context, as its options and its model say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kandle.context.options import Options
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
        replication=kafka.replication,
    )


def registry_of(options: Options) -> Registry | None:
    """The registry of the options; None if schemas are kept in a topic."""
    found = options.schema_registry
    if found.url is None:
        return None
    # Its client is only needed, and only loaded, where there is a server.
    from kandle.serde.registry_http import HttpRegistry, RegistrySettings

    return HttpRegistry(RegistrySettings(found.url, found.properties, found.compatibility))


def declarations(entities: Iterable[EntityModel], plans: Sequence[Plan]) -> Declarations:
    """By topic the entity whose records it has; topics of queries have those of their source or target."""
    by_topic = {entity.topic: entity for entity in entities}
    for plan in plans:
        by_topic |= derived_topics(plan)
    found = {topic: Declared(Formats(entity.key_format, entity.value_format), entity) for topic, entity in by_topic.items()}
    usual = Declared()
    return lambda topic: found.get(topic, usual)


def kafka_log(options: Options, clock: Clock, declared: Declarations = lambda topic: Declared()) -> KafkaLog:
    """A log on the cluster of the options."""
    return KafkaLog(
        kafka_settings(options),
        clock,
        declared,
        registry_of(options),
        rule=options.schema_registry.compatibility,
    )
