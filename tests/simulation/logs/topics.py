"""The topics of a world: how they come to be, and which records fit them; the same under the rules of either log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from kandle.errors import LogError, UnknownTopicError
from kandle.log.embedded.catalog import _check_spec as check_spec
from kandle.log.port import TopicPartition, TopicState
from kandle.log.records import Records, Write
from kandle.log.schema import (
    check_records,
    differences,
    header_columns,
    merged_columns,
    with_columns,
    with_declared,
    with_headers,
)
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec, entity_topic, missing_topics
from tests.simulation.logs.storage import Partition, Topic, in_schema

NO_ENTITIES: Mapping[str, EntityModel] = MappingProxyType({})


class Topics:
    """All topics by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Topic] = {}

    def ensure(self, spec: TopicSpec, kept: TopicSpec) -> TopicState:
        """Create a topic, or compare an existing one with a spec and add new nullable columns.

        Args:
            spec: What the topic should be.
            kept: What the log keeps of it.
        """
        check_spec(spec)
        topic = self.by_name.get(spec.name)
        if topic is None:
            if not spec.is_created:
                raise UnknownTopicError(missing_topics([spec]))
            self.by_name[spec.name] = Topic(len(self.by_name) + 1, kept)
            return TopicState(kept)
        merged = merged_columns(topic.spec, spec)
        if merged != topic.spec.columns:
            topic.spec = replace(topic.spec, columns=merged)
        return TopicState(topic.spec, differences(topic.spec, spec))

    def get(self, name: str) -> Topic:
        """Return a topic; UnknownTopicError names those that there are."""
        topic = self.by_name.get(name)
        if topic is None:
            raise UnknownTopicError(f"there is no topic {name!r}; there are {', '.join(self.names()) or 'none'}")
        return topic

    def partition(self, partition: TopicPartition) -> Partition:
        """Return what a partition holds."""
        return self.get(partition.topic).partitions[partition.partition]

    def names(self) -> list[str]:
        """Return the names of all topics in order."""
        return sorted(self.by_name)


class TopicViews:
    """Topics as one process sees them: with the columns that only its declarations have."""

    def __init__(self, topics: Topics, declared: Mapping[str, EntityModel]) -> None:
        self._topics, self._declared = topics, declared
        self._views: dict[str, tuple[TopicSpec, TopicSpec]] = {}

    def declared(self, name: str) -> EntityModel | None:
        """Return the entity of a topic as the process declares it; None if it declares none."""
        return self._declared.get(name)

    def spec(self, name: str) -> TopicSpec:
        """Return the spec of a topic; the same object for the same stored spec."""
        stored = self._topics.get(name).spec
        entity = self._declared.get(name)
        if entity is None:
            return stored
        known = self._views.get(name)
        if known is None or known[0] is not stored:
            known = self._views[name] = (stored, with_declared(stored, entity_topic(entity, name)))
        return known[1]


def checked(spec: TopicSpec, write: Write) -> Records:
    """Return records as they are stored; SchemaError or LogError if they do not fit their topic."""
    if not 0 <= write.partition < spec.partitions:
        raise LogError(f"topic {spec.name} has partitions 0 to {spec.partitions - 1}, not {write.partition}")
    headers = header_columns(spec.columns)
    records = with_columns(with_headers(write.records, headers), headers) if headers else write.records
    check_records(spec, records)
    return in_schema(records, spec)
