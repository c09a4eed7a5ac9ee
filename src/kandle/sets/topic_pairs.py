"""Topics whose records become those of another topic, since the key of their entity has a new version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kandle.errors import ModelError
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.query.nodes import describe

ROWS_AT_ONCE = 20_000

GROUP = "kandle-rekey-"
"""How the names of the groups begin whose positions say how far a topic is copied."""


@dataclass(frozen=True, slots=True)
class TopicPair:
    """A topic that is copied into another one.

    Attributes:
        version: The entity of the old topic.
        entity: The entity of the new one, the next version of the key.
        old: The name of the old topic.
        new: The name of the new topic.
        parts: The columns whose values decide the partition in the new topic.
    """

    version: EntityModel
    entity: EntityModel
    old: str
    new: str
    parts: tuple[str, ...]

    @property
    def group(self) -> str:
        """The group whose positions say how far the old topic is copied."""
        return f"{GROUP}{self.new}"


def entity_pair(entity: EntityModel) -> TopicPair:
    """Return the topics of an entity and of the version of its key before it."""
    previous = entity.former[-1]
    return TopicPair(previous, entity, previous.topic, entity.topic, tuple(part.name for part in entity.keys))


def bar_pairs(plan: Plan) -> list[TopicPair]:
    """Return the topics of finals of a query, and of the version of their key before it, by timeframe.

    Bars are in the partition of their group key, as the query itself writes them.

    Raises:
        ModelError: A part of the group key is no field of the bars, so that the partition of a bar is not known.
    """
    query = plan.query
    entity, previous = query.target, query.target.former[-1]
    parts = []
    for key in query.group_by:
        filled = [item.field for item in query.projection if item.expression == key]
        if not filled:
            raise ModelError(f"{entity.name} has no field for {describe(key)}, a part of its group key; add one")
        parts.append(filled[0])
    return [TopicPair(previous, entity, bar.former_topics[-1], bar.final_topic, tuple(parts)) for bar in plan.emitted]


def topic_batches(log: Log, topic: str) -> Iterator[Batch]:
    """Yield all records of a topic, up to the ends that it has now."""
    for number, end in enumerate(log.ends(topic)):
        partition = TopicPartition(topic, number)
        offset = log.first(partition)
        while offset < end and (batches := log.read(partition, offset, ROWS_AT_ONCE)):
            yield from batches
            offset = batches[-1].next_offset
