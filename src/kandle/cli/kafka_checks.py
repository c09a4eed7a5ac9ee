"""Checks of a cluster: its brokers, what this user may do there, the registry of schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kandle.cli.findings import Finding, fine, problem, warning
from kandle.context.kafka import SCHEMA_TOPIC, cluster_diagnosis, registry_of
from kandle.context.options import Options
from kandle.errors import KandleError
from kandle.log.port import TopicPartition
from kandle.plan.topics import TopicSpec


def broker_findings(options: Options) -> Iterator[Finding]:
    """Check that the brokers can be reached, and that there are enough of them."""
    diagnosis = cluster_diagnosis(options)
    try:
        brokers = diagnosis.brokers()
    except KandleError as error:
        yield problem("brokers", str(error), "")
        return
    yield fine("brokers", f"{len(brokers)} at {', '.join(brokers)}; {diagnosis.libraries}")
    if options.kafka.replication > len(brokers):
        subject = f"kafka.replication is {options.kafka.replication}, but there are {len(brokers)} brokers"
        yield problem("replication", subject, "start more brokers, or set kafka.replication to less")


def topic_access_findings(options: Options, wanted: Iterable[TopicSpec]) -> Iterator[Finding]:
    """Check that this user may read and write the topics that exist, and that their partitions have what they need."""
    names = [spec.name for spec in wanted]
    if not names:
        return
    findings = list(_topic_findings(options, names))
    yield from findings or [fine("access", "the topics may be read and written")]


def _topic_findings(options: Options, names: Sequence[str]) -> Iterator[Finding]:
    for topic in cluster_diagnosis(options).topic_access(names):
        subject = f"topic {topic.topic}"
        yield from _access_findings(subject, topic.refusal, topic.missing)
        lagging = list(topic.lagging)
        if topic.leaderless:
            leaderless = list(topic.leaderless)
            yield problem("brokers", f"{subject}: nobody leads partitions {leaderless}", f"start brokers {lagging} again")
        elif lagging:
            advice = "start them again, or look at their logs"
            yield warning("brokers", f"{subject}: brokers {lagging} lag behind or are down", advice)


def _access_findings(subject: str, refusal: str | None, missing: Sequence[str]) -> Iterator[Finding]:
    if refusal is not None:
        yield problem("access", refusal, "")
    if missing:
        yield problem("access", f"{subject}: this user may not {', '.join(missing)}", "have it allowed by an access rule (ACL)")


def group_access_findings(options: Options, groups: Sequence[str]) -> Iterator[Finding]:
    """Check that this user may join these groups, and commit in their names."""
    findings = [finding for group in groups for finding in _group_findings(options, group)]
    if groups:
        yield from findings or [fine("access", "groups may be joined, and transactions made")]


def _group_findings(options: Options, group: str) -> Iterator[Finding]:
    diagnosis = cluster_diagnosis(options)
    access = diagnosis.group_access(group)
    yield from _access_findings(f"group {group}", access.refusal, access.missing)
    try:
        diagnosis.check_transactions(group)
    except KandleError as error:
        yield problem("access", str(error), "")


def registry_findings(options: Options) -> Iterator[Finding]:
    """Check that the registry of schemas can be reached."""
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


def replay_findings(options: Options) -> Iterator[Finding]:
    """Whether records are written with times at which brokers take them away."""
    if options.clock.start is not None:
        yield warning(
            "clock",
            "a replay clock is set; brokers take records away by their times, so what has a retention may be gone at once",
            "leave out [clock], or replay on the embedded log",
        )
