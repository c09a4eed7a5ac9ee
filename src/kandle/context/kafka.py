"""The Kafka log of a context: its settings from the options, its codecs from the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kandle.context.options import Options
from kandle.context.sections import EngineOptions
from kandle.log.kafka.catalog import SCHEMA_TOPIC, Declaration, Declarations
from kandle.log.kafka.diagnosis import ClusterDiagnosis
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.plan.query_topics import TopicContent, contents_of, ksqldb_contents_of
from kandle.plan.topics import DECLARATIONS
from kandle.serde.codec import Formats
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
    )


def registry_of(options: Options) -> Registry | None:
    """Return the schema registry of the options; None if schemas are stored in a topic."""
    registry = options.schema_registry
    if registry.url is None:
        return None
    # Its client is only needed, and only loaded, where there is a server.
    from kandle.log.kafka.registry import HttpRegistry, RegistrySettings

    return HttpRegistry(RegistrySettings(registry.url, registry.properties, registry.compatibility))


def declarations(entities: Iterable[EntityModel], plans: Sequence[Plan], engine: EngineOptions | None = None) -> Declarations:
    """Return what is known of a topic by its name: topics of entities, and of queries, have the records of an entity."""
    contents: dict[str, TopicContent] = {}
    for plan in plans:
        contents |= contents_of(plan)
        if engine is not None and engine.kind == "ksqldb":
            contents |= ksqldb_contents_of(plan)
    known = {entity.topic: Declaration(Formats(entity.key_format, entity.value_format), entity) for entity in entities}
    known |= {topic: _declared(content) for topic, content in contents.items()}
    # Readable for everybody, and without the schema registry, which may be down when a query starts.
    known[DECLARATIONS] = Declaration(Formats("JSON", "JSON"))
    unknown = Declaration()
    return lambda topic: known.get(topic, unknown)


def _declared(content: TopicContent) -> Declaration:
    return Declaration(Formats(content.key_format, content.value_format, windowed=content.windowed), content.entity)


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
