"""Checks of servers: Kafka brokers, access rights, the schema registry, ksqlDB."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kandle.cli.contexts import plans_in
from kandle.cli.findings import Finding, fine, problem, warning
from kandle.context.adapters import ksql_client
from kandle.context.context import Context
from kandle.context.kafka import SCHEMA_TOPIC, cluster_diagnosis, registry_of
from kandle.context.options import Options
from kandle.errors import KandleError
from kandle.log.port import TopicPartition
from kandle.plan.plan import Plan
from kandle.plan.topics import TopicSpec, config_differences

if TYPE_CHECKING:
    from kandle.ksqldb.results import RunningQuery, ServerHealth, ServerInfo

RUNNING = "RUNNING"
"""State of a healthy query."""


def broker_findings(options: Options) -> Iterator[Finding]:
    """Check that the brokers can be reached, and that there are enough of them."""
    diagnosis = cluster_diagnosis(options)
    try:
        brokers = diagnosis.brokers()
    except KandleError as error:
        yield problem("brokers", str(error), "")
        return
    yield fine("brokers", f"{len(brokers)} at {', '.join(brokers)}; {diagnosis.libraries}")
    if (options.kafka.replication or 1) > len(brokers):
        subject = f"kafka.replication is {options.kafka.replication}, but there are {len(brokers)} brokers"
        yield problem("replication", subject, "start more brokers, or reduce kafka.replication")


def topic_access_findings(options: Options, wanted: Iterable[TopicSpec]) -> Iterator[Finding]:
    """Check that this user may read and write the existing topics, and that their partitions have leaders and replicas."""
    names = [spec.name for spec in wanted]
    if not names:
        return
    findings = list(_topic_findings(options, names))
    yield from findings or [fine("access", "this user may read and write the topics")]


def config_findings(options: Options, wanted: Iterable[TopicSpec]) -> Iterator[Finding]:
    """Check that topics have the further settings of the brokers that are declared for them."""
    specs = {spec.name: spec for spec in wanted if spec.configs}
    for topic, config in cluster_diagnosis(options).configs(specs).items():
        for difference in config_differences(config, specs[topic]):
            yield warning("topics", f"{difference}; kandle does not change it", "set it on the topic, or declare it as it is")


def _topic_findings(options: Options, names: Sequence[str]) -> Iterator[Finding]:
    for topic in cluster_diagnosis(options).topic_access(names):
        subject = f"topic {topic.topic}"
        yield from _access_findings(subject, topic.refusal, topic.missing)
        lagging = list(topic.lagging)
        if topic.leaderless:
            leaderless = list(topic.leaderless)
            yield problem("brokers", f"{subject}: partitions {leaderless} have no leader", f"restart brokers {lagging}")
        elif lagging:
            advice = "restart them or look at their logs"
            yield warning("brokers", f"{subject}: brokers {lagging} lag behind or are down", advice)


def _access_findings(subject: str, refusal: str | None, missing: Sequence[str]) -> Iterator[Finding]:
    if refusal is not None:
        yield problem("access", refusal, "")
    if missing:
        yield problem(
            "access",
            f"{subject}: this user lacks the rights {', '.join(missing)}",
            "ask for an access rule (ACL) that grants them",
        )


def group_access_findings(options: Options, groups: Sequence[str]) -> Iterator[Finding]:
    """Check that this user may join these groups and write their transactions."""
    findings = [finding for group in groups for finding in _group_findings(options, group)]
    if groups:
        yield from findings or [fine("access", "this user may join the groups and write transactions")]


def _group_findings(options: Options, group: str) -> Iterator[Finding]:
    diagnosis = cluster_diagnosis(options)
    access = diagnosis.group_access(group)
    yield from _access_findings(f"group {group}", access.refusal, access.missing)
    try:
        diagnosis.check_transactions(group)
    except KandleError as error:
        yield problem("access", str(error), "")


def registry_findings(options: Options) -> Iterator[Finding]:
    """Check that the schema registry can be reached."""
    try:
        registry = registry_of(options)
        if registry is None:
            yield fine("registry", f"schemas are in topic {SCHEMA_TOPIC}")
            return
        registry.latest("kandle-doctor")
        registry.close()
    except KandleError as error:
        yield problem("registry", str(error), "")
    else:
        yield fine("registry", "the schema registry answers")


def times_of_topics(options: Options, topics: Iterable[TopicSpec]) -> dict[str, int]:
    """Return the latest time, in microseconds, at which a record of each topic was written according to its timestamp."""
    partitions = [TopicPartition(spec.name, number) for spec in topics for number in range(spec.partitions)]
    return cluster_diagnosis(options).latest_timestamps(partitions)


def event_time_findings(options: Options, plans: Sequence[Plan]) -> Iterator[Finding]:
    """Say what the times of events prove, by who stamps the records of their topics."""
    topics = dict.fromkeys(plan.query.source.topic for plan in plans)
    for topic, is_stamped in cluster_diagnosis(options).stamped_by_brokers(topics).items():
        if is_stamped:
            yield fine("clock", f"the brokers stamp topic {topic}: events appended within a minute of their times prove these")
        else:
            yield fine("clock", f"topic {topic} keeps the times of its producers, which prove nothing: heartbeats close buckets")


def replay_findings(options: Options) -> Iterator[Finding]:
    """Check that records are not written with times so old that brokers remove them."""
    if options.clock.start is not None:
        yield warning(
            "clock",
            "a replay clock is set; brokers remove records by their times, so topics with a retention may lose them at once",
            "remove [clock], or replay on the embedded log",
        )


def ksqldb_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    """Check that the ksqlDB server answers, is healthy, and runs the queries of the model."""
    try:
        info, health, queries = asyncio.run(_ask_ksqldb(options))
        doubt = info.doubt
    except KandleError as error:
        yield problem("ksqldb", str(error), "")
        return
    yield fine("ksqldb", f"version {info.version} at {options.ksqldb.url}, service {info.service_id}")
    if doubt is not None:
        yield warning("ksqldb", doubt, "")
    if not health.is_healthy:
        parts = [name for name, is_healthy in health.parts.items() if not is_healthy]
        yield problem("ksqldb", f"the server is not healthy: {', '.join(parts) or health.state}", "look at its log")
    if market is not None:
        yield from _ksqldb_query_findings(market, queries)


async def _ask_ksqldb(options: Options) -> tuple[ServerInfo, ServerHealth, tuple[RunningQuery, ...]]:
    # The HTTP client is an extra, so it is only loaded when a server is asked.

    async with ksql_client(options) as client:
        return await client.info(), await client.health(), await client.queries()


def _ksqldb_query_findings(market: Context, queries: tuple[RunningQuery, ...]) -> Iterator[Finding]:
    by_topic = {topic: query for query in queries for topic in query.topics}
    for plan in plans_in(market):
        topic = plan.base.live_topic
        query = by_topic.get(topic)
        if query is None:
            advice = "it is created when the context is opened; `kandle script --diff` shows what exists"
            yield warning("ksqldb", f"no query writes topic {topic}", advice)
        elif query.state != RUNNING:
            yield problem("ksqldb", f"query {query.id}, which writes {topic}, is {query.state}", f"run EXPLAIN {query.id};")
        else:
            yield fine("ksqldb", f"query {query.id} writes topic {topic}")
