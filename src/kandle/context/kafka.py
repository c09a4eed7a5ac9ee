"""The Kafka log of a context: its settings from the options, its codecs from the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kandle.context.options import Options
from kandle.context.sections import client_properties
from kandle.context.topic_options import instant_rule
from kandle.log.kafka.catalog import SCHEMA_TOPIC, Declaration, Declarations
from kandle.log.kafka.diagnosis import ClusterDiagnosis
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import ClientProperties, KafkaSettings
from kandle.model.entity import EntityModel
from kandle.model.markers import FormatName
from kandle.plan.plan import Plan
from kandle.plan.query_topics import TopicContent, contents_of, ksqldb_contents_of
from kandle.plan.topics import DECLARATIONS
from kandle.serde.codec import Formats
from kandle.serde.port import InstantRule
from kandle.serde.registry import Registry
from kandle.time.clock import Clock

__all__ = ["SCHEMA_TOPIC", "cluster_diagnosis", "declarations", "kafka_log", "kafka_settings", "registry_of"]


def kafka_settings(options: Options) -> KafkaSettings:
    """Return the settings of the clients of the cluster."""
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
        creates=options.log.create,
        topics={
            topic: ClientProperties(client_properties(section.consumer), client_properties(section.producer))
            for topic, section in options.topics.items()
        },
    )


def registry_of(options: Options) -> Registry | None:
    """Return the schema registry of the options; None if schemas are stored in a topic."""
    registry = options.schema_registry
    if registry.url is None:
        return None
    # Its client is only needed, and only loaded, where there is a server.
    from kandle.log.kafka.registry import HttpRegistry, RegistrySettings

    return HttpRegistry(RegistrySettings(registry.url, registry.properties, registry.compatibility))


def declarations(entities: Iterable[EntityModel], plans: Sequence[Plan], options: Options | None = None) -> Declarations:
    """Return what is known of a topic by its name: topics of entities, and of queries, have the records of an entity."""
    instants = InstantRule("micros") if options is None else instant_rule(options)
    contents: dict[str, TopicContent] = {}
    for plan in plans:
        contents |= contents_of(plan)
        if options is not None and options.engine.kind == "ksqldb":
            contents |= ksqldb_contents_of(plan)
    versions = [version for entity in entities for version in (*entity.former, entity)]
    known = {entity.topic: _declared(entity.key_format, entity.value_format, entity, instants) for entity in versions}
    for plan in plans:
        for number, former in enumerate(plan.query.target.former):
            declared = _declared(former.key_format, former.value_format, former, instants)
            known |= {bar.former_topics[number]: declared for bar in plan.emitted}
    known |= {
        topic: _declared(content.key_format, content.value_format, content.entity, instants, windowed=content.windowed)
        for topic, content in contents.items()
    }
    # Readable for everybody, and without the schema registry, which may be down when a query starts.
    known[DECLARATIONS] = Declaration(Formats("JSON", "JSON"))
    unknown = Declaration()
    return lambda topic: known.get(topic, unknown)


def _declared(
    key: FormatName, value: FormatName, entity: EntityModel | None, instants: InstantRule, *, windowed: bool = False
) -> Declaration:
    return Declaration(Formats(key, value, windowed=windowed, instants=instants), entity)


def kafka_log(options: Options, clock: Clock, declared: Declarations | None = None) -> KafkaLog:
    """Open the log on the cluster of the options."""
    return KafkaLog(
        kafka_settings(options),
        clock,
        declarations((), ()) if declared is None else declared,
        registry_of(options),
        rule=options.schema_registry.compatibility,
    )


def cluster_diagnosis(options: Options) -> ClusterDiagnosis:
    """Return what asks the cluster of the options for what may be wrong."""
    return ClusterDiagnosis(kafka_settings(options))
