"""The ksqlDB server of a context: settings of its client and its engine, from the options."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from kandle.context.model import Model
from kandle.context.options import Options
from kandle.context.topic_options import query_topic_settings
from kandle.errors import OptionsError
from kandle.ksql.program import ScriptRole
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.engine import EXACTLY_ONCE, EngineSpec, KsqlRuntime
from kandle.ksqldb.facade import Ksql
from kandle.ksqldb.settings import KsqlSettings, TlsSettings
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.positions import KafkaProgress
from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.runtime.query_runtime import RuntimeSpec
from kandle.sets.host import ContextHost
from kandle.time.clock import Clock


def ksql_settings(options: Options) -> KsqlSettings:
    """Return the settings of the client of ksqlDB."""
    ksqldb = options.ksqldb
    return KsqlSettings(
        url=ksqldb.url,
        user=ksqldb.user,
        password=ksqldb.password,
        tls=TlsSettings(ksqldb.ca, ksqldb.certificate, ksqldb.key, ksqldb.key_password, ksqldb.verify),
        http=ksqldb.http,
        timeout=ksqldb.timeout,
        patience=ksqldb.patience,
        properties=ksqldb.properties,
    )


def engine_spec(options: Options) -> EngineSpec:
    """Return the settings of the engine: how queries are created on the server, and how they are supervised."""
    ksqldb = options.ksqldb
    properties = ScriptRole.LIVE.properties | EXACTLY_ONCE | ksqldb.properties
    topics = query_topic_settings(options)
    return EngineSpec(ksql_settings(options), properties, ksqldb.retention, ksqldb.watch, ksqldb.on_failure, topics)


def ksql_access(host: ContextHost, options: Options, model: Model, clock: Clock) -> Ksql:
    """Return what users of a context see as `context.ksql`."""
    return Ksql(host, lambda: KsqlClient(ksql_settings(options), clock, model.entity))


def check_options(options: Options, plans: Sequence[Plan]) -> None:
    """Raise OptionsError for options with which ksqlDB cannot aggregate."""
    if options.log.kind != "kafka":
        raise OptionsError("engine.kind = 'ksqldb' needs the topics of a Kafka cluster; set log.kind = 'kafka' too")
    _check_registry(options, plans)


def ksql_runtime(options: Options, log: Log, clock: Clock, plans: Sequence[Plan], spec: RuntimeSpec) -> KsqlRuntime:
    """Return the runtime of queries that ksqlDB aggregates."""
    assert isinstance(log, KafkaLog)
    _register(log, plans)
    return KsqlRuntime(log, clock, plans, spec, engine_spec(options), KafkaProgress(log.admin, log.positions))


def _register(log: KafkaLog, plans: Sequence[Plan]) -> None:
    """Register the schemas of events first, since ksqlDB would register schemas that are not compatible with them."""
    for topic in dict.fromkeys(source.topic for plan in plans for source in plan.query.sources):
        log.codec(topic).encode(pl.DataFrame(schema=log.topic(topic).schema))


def _check_registry(options: Options, plans: Sequence[Plan]) -> None:
    """Raise OptionsError for Avro without a registry, since ksqlDB cannot read the schemas that kandle stores in a topic."""
    entities = [entity for plan in plans for entity in (plan.query.source, plan.query.target)]
    avro = sorted({entity.name for entity in entities if "AVRO" in (entity.key_format, entity.value_format)})
    if avro and options.schema_registry.url is None:
        raise OptionsError(
            f"{', '.join(avro)}: AVRO with engine.kind = 'ksqldb' needs the schema registry of that ksqlDB; set "
            "schema_registry.url, or declare key_format and value_format JSON"
        )
