"""Checks of a cluster: its brokers, what this user may do there, the registry of schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from kandle.cli.findings import Finding, fine, problem, warning
from kandle.context.kafka import kafka_settings, registry_of
from kandle.context.options import Options
from kandle.errors import KandleError
from kandle.log.kafka.codecs import SCHEMAS
from kandle.log.kafka.failures import meaning
from kandle.log.port import TopicSpec

PATIENCE = 5.0
"""Seconds for one question."""

NEEDED = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)


def _client(options: Options) -> AdminClient:
    # Without this the library says every failed attempt on standard error.
    silent: Any = {"error_cb": lambda error: None}
    return AdminClient(kafka_settings(options).client("kandle-doctor") | silent)


def broker_findings(options: Options) -> Iterator[Finding]:
    """Whether the brokers can be reached, and are enough."""
    where = options.kafka.bootstrap
    # Kept until the answer is there: a client that nobody holds gives none.
    client = _client(options)
    try:
        cluster = client.describe_cluster(request_timeout=PATIENCE).result(2 * PATIENCE)
    except KafkaException as error:
        yield problem("brokers", str(meaning(error.args[0], f"Kafka at {where}")), "")
        return
    brokers = ", ".join(f"{node.host}:{node.port}" for node in cluster.nodes)
    libraries = f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"
    yield fine("brokers", f"{len(cluster.nodes)} at {brokers}; {libraries}")
    if options.kafka.replication > len(cluster.nodes):
        what = f"kafka.replication is {options.kafka.replication}, but there are {len(cluster.nodes)} brokers"
        yield problem("replication", what, "start more brokers, or set kafka.replication to less")


def access_findings(options: Options, wanted: Iterable[TopicSpec]) -> Iterator[Finding]:
    """Whether this user may read and write the topics that are there."""
    names = [spec.name for spec in wanted]
    if not names:
        return
    client = _client(options)
    futures = client.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=PATIENCE)
    refused = False
    for name, future in futures.items():
        try:
            allowed = future.result(2 * PATIENCE).authorized_operations or []
        except KafkaException:
            # A topic that is not there, or may not even be described, is named by the other checks.
            continue
        missing = [operation.name.title() for operation in NEEDED if operation not in allowed]
        if allowed and missing:
            refused = True
            yield problem("access", f"topic {name}: this user may not {', '.join(missing)}", "have it allowed by an ACL")
    if not refused:
        yield fine("access", "the topics may be read and written")


def registry_findings(options: Options) -> Iterator[Finding]:
    """Where schemas are, and whether that can be reached."""
    try:
        registry = registry_of(options)
        if registry is None:
            yield fine("registry", f"schemas are in topic {SCHEMAS}")
            return
        registry.latest("kandle-doctor")
        registry.close()
    except KandleError as error:
        yield problem("registry", str(error), "")
    else:
        yield fine("registry", "the schema registry answers")


def replay_findings(options: Options) -> Iterator[Finding]:
    """Whether records are written with times at which brokers take them away."""
    if options.clock.start is not None:
        yield warning(
            "clock",
            "a replay clock is set; brokers take records away by their times, so what has a retention may be gone at once",
            "leave out [clock], or replay on the embedded log",
        )
