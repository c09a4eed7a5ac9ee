"""Checks of a cluster: its brokers, what this user may do there, the registry of schemas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AclOperation, AdminClient, OffsetSpec  # type: ignore[attr-defined]

from kandle.cli.findings import Finding, fine, problem, warning
from kandle.context.kafka import kafka_settings, registry_of
from kandle.context.options import Options
from kandle.errors import KandleError, OptionsError
from kandle.log.kafka.codecs import SCHEMAS
from kandle.log.kafka.failures import REFUSED, Told, configured, meaning
from kandle.log.kafka.writing import Transactions
from kandle.plan.topics import TopicSpec
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

PATIENCE = 5.0
"""Seconds for one question."""

TOPIC_NEEDS = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
GROUP_NEEDS = (AclOperation.READ, AclOperation.DESCRIBE)


def _client(options: Options, on_error: Callable[[KafkaError], None] = lambda error: None) -> AdminClient:
    # Without this the library says every failed attempt on standard error.
    heard: Any = {"error_cb": on_error}
    with configured(options.kafka.bootstrap):
        return AdminClient(kafka_settings(options).client("kandle-doctor") | heard)


def broker_findings(options: Options) -> Iterator[Finding]:
    """Whether the brokers can be reached, and are enough."""
    where = options.kafka.bootstrap
    # Kept until the answer is there: a client that nobody holds gives none.
    heard: list[KafkaError] = []
    try:
        client = _client(options, heard.append)
    except OptionsError as error:
        yield problem("brokers", str(error), "")
        return
    try:
        cluster = client.describe_cluster(request_timeout=PATIENCE).result(2 * PATIENCE)
    except KafkaException as error:
        # Why they cannot be reached is told on the side, with their addresses.
        client.poll(0)
        cause = next((each for each in heard if each.code() in REFUSED), next(iter(heard), error.args[0]))
        yield problem("brokers", str(meaning(cause, f"Kafka at {where}")), "")
        return
    brokers = ", ".join(f"{node.host}:{node.port}" for node in cluster.nodes)
    libraries = f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"
    yield fine("brokers", f"{len(cluster.nodes)} at {brokers}; {libraries}")
    if options.kafka.replication > len(cluster.nodes):
        what = f"kafka.replication is {options.kafka.replication}, but there are {len(cluster.nodes)} brokers"
        yield problem("replication", what, "start more brokers, or set kafka.replication to less")


def topic_access_findings(options: Options, wanted: Iterable[TopicSpec]) -> Iterator[Finding]:
    """Whether this user may read and write the topics that are there, and whether all their partitions have what they need."""
    names = [spec.name for spec in wanted]
    if not names:
        return
    client = _client(options)
    futures = client.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=PATIENCE)
    found = [finding for name, future in futures.items() for finding in _topic(name, future)]
    yield from found or [fine("access", "the topics may be read and written")]


def _topic(name: str, future: Any) -> Iterator[Finding]:
    what = f"topic {name}"
    try:
        topic = future.result(2 * PATIENCE)
    except KafkaException as error:
        # One that is not there is named by the other checks.
        if error.args[0].code() in REFUSED:
            yield problem("access", str(meaning(error.args[0], what)), "")
        return
    yield from _missing(what, topic.authorized_operations, TOPIC_NEEDS)
    down = sorted({broker for each in topic.partitions for broker in _numbers(each.replicas) - _numbers(each.isr)})
    leaderless = [each.id for each in topic.partitions if each.leader is None or each.leader.id < 0]
    if leaderless:
        yield problem("brokers", f"{what}: nobody leads partitions {leaderless}", f"start brokers {down} again")
    elif down:
        yield warning("brokers", f"{what}: brokers {down} lag behind or are down", "start them again, or look at their logs")


def _numbers(nodes: Iterable[Any]) -> set[int]:
    return {node.id for node in nodes}


def _missing(what: str, allowed: Collection[AclOperation] | None, needed: Collection[AclOperation]) -> Iterator[Finding]:
    """What is not among what may be done; brokers without access rules say nothing of it."""
    missing = [operation.name.title().replace("_", "") for operation in needed if operation not in (allowed or needed)]
    if missing:
        yield problem("access", f"{what}: this user may not {', '.join(missing)}", "have it allowed by an access rule (ACL)")


def group_access_findings(options: Options, groups: Sequence[str]) -> Iterator[Finding]:
    """Whether this user may join these groups, and commit in their names."""
    found = [finding for group in groups for finding in (*_group(options, group), *_transactions(options, group))]
    if groups:
        yield from found or [fine("access", "groups may be joined, and transactions made")]


def _group(options: Options, group: str) -> Iterator[Finding]:
    client = _client(options)
    asked = client.describe_consumer_groups([group], include_authorized_operations=True, request_timeout=PATIENCE)
    try:
        answer = asked[group].result(2 * PATIENCE)
    except KafkaException as error:
        # One that is not there yet is no problem.
        if error.args[0].code() in REFUSED:
            yield problem("access", str(meaning(error.args[0], f"group {group}")), "")
        return
    yield from _missing(f"group {group}", answer.authorized_operations, GROUP_NEEDS)


def _transactions(options: Options, group: str) -> Iterator[Finding]:
    """Whether there may be transactions of such ids: one of its own is opened, which nobody else uses."""
    settings = replace(kafka_settings(options), patience=round(PATIENCE * SECOND))
    clock = SystemClock()
    probe = Transactions(settings, "kandle-doctor", f"{group}-kandle-doctor", Told(settings.bootstrap, clock))
    try:
        probe.open()
    except KandleError as error:
        yield problem("access", str(error), "")
    finally:
        probe.close()


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


def times_of_topics(options: Options, topics: Iterable[TopicSpec]) -> dict[str, int]:
    """The latest time at which a record of each topic was written, as its producer or broker said it; in microseconds.

    Records themselves do not tell: read, those of the future have the time at which they were read.
    """
    places = [Place(spec.name, number) for spec in topics for number in range(spec.partitions)]
    if not places:
        return {}
    found: dict[str, int] = {}
    client = _client(options)
    newest: OffsetSpec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    asked = client.list_offsets(dict.fromkeys(places, newest), request_timeout=PATIENCE)
    for place, future in asked.items():
        try:
            time = future.result(2 * PATIENCE).timestamp * MILLISECOND
        except KafkaException:
            # Topics that may not be read, are gone or have no leader are named by the other checks.
            continue
        if time >= 0:
            found[place.topic] = max(time, found.get(place.topic, time))
    return found


def replay_findings(options: Options) -> Iterator[Finding]:
    """Whether records are written with times at which brokers take them away."""
    if options.clock.start is not None:
        yield warning(
            "clock",
            "a replay clock is set; brokers take records away by their times, so what has a retention may be gone at once",
            "leave out [clock], or replay on the embedded log",
        )
