"""Entities as topics."""

from __future__ import annotations

from dataclasses import replace

from kandle.log.port import Column, TopicSpec
from kandle.model.entity import EntityModel


def entity_topic(entity: EntityModel, name: str | None = None) -> TopicSpec:
    """The topic of an entity: its fields in their physical types; a table is compacted."""
    columns = tuple(
        Column(found.name, str(found.type), found.type.physical, found.nullable, found.header) for found in entity.fields
    )
    keys = entity.keys
    return TopicSpec(
        name=entity.topic if name is None else name,
        columns=columns,
        keys=tuple(found.name for found in keys),
        partitions=entity.partitions,
        replication=entity.replication,
        retention=entity.retention,
        compacted=entity.kind == "table",
        time=None if entity.timestamp is None else entity.timestamp.name,
    )


def kept(spec: TopicSpec, *, retention: int | None, compacted: bool) -> TopicSpec:
    """The same topic, kept otherwise."""
    return replace(spec, retention=retention, compacted=compacted)
