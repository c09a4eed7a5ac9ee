"""The topics of all versions of an entity's key as one topic of more partitions, for a copy that is kept of it.

Partitions of earlier versions have higher numbers: those of the version before are numbered from `PER_VERSION` on. Records are
those of the entity, with normalized keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kandle.log.port import Log, TopicIdentity, TopicPartition, TopicTail
from kandle.log.records import Batch
from kandle.log.versions import PER_VERSION, Adapt, adapters
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec


class MergedTopics:
    """The part of a log that a follower needs, for the topics of one entity.

    Args:
        log: The log.
        entity: The entity.
    """

    def __init__(self, log: Log, entity: EntityModel) -> None:
        self._log, self._entity = log, entity
        self._known: list[tuple[str, Adapt | None]] = []

    @property
    def _topics(self) -> list[tuple[str, Adapt | None]]:
        """The topics with what makes their records those of the entity, the newest first."""
        if not self._known:
            self._known = [*reversed(adapters(self._log, self._entity).items())]
        return self._known

    def identity(self, topic: str) -> TopicIdentity:
        """Return what tells these topics from all others."""
        identities = [self._log.identity(name) for name, _ in self._topics]
        return TopicIdentity(" ".join(one.id for one in identities), min(one.tombstones for one in identities))

    def topic(self, name: str) -> TopicSpec:
        """Return the topic of the newest version as it is."""
        return self._log.topic(name)

    def partition_count(self, topic: str) -> int:
        """Return the number of partitions of all topics."""
        return sum(self._log.partition_count(name) for name, _ in self._topics)

    def ends(self, topic: str) -> Mapping[int, int]:
        """Return the next offset of each partition by its number."""
        ends = [self._log.ends(name) for name, _ in self._topics]
        return {age * PER_VERSION + number: end for age, of_topic in enumerate(ends) for number, end in enumerate(of_topic)}

    def read(self, partition: TopicPartition, offset: int, max_rows: int) -> list[Batch]:
        """Return the records of a partition as they are."""
        age, number = divmod(partition.partition, PER_VERSION)
        return self._log.read(TopicPartition(self._topics[age][0], number), offset, max_rows)

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        """Read all partitions of all topics, and go on with what is appended."""
        tails: list[TopicTail] = []
        for age, (name, _) in enumerate(self._topics):
            own = {number % PER_VERSION: at for number, at in positions.items() if number // PER_VERSION == age}
            tails.append(self._log.tail(name, own))
        return _MergedTail(tails, [adapt for _, adapt in self._topics])


class _MergedTail:
    """A reader of several topics."""

    def __init__(self, tails: list[TopicTail], adapts: list[Adapt | None]) -> None:
        self._tails, self._adapts = tails, adapts

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        """Return the next records of any of the topics, the oldest first; those of the newest are waited for."""
        batches: list[Batch] = []
        for age in reversed(range(len(self._tails))):
            adapt = self._adapts[age]
            for batch in self._tails[age].poll(0 if age or batches else timeout, max_rows):
                adapted = batch if adapt is None else adapt(batch)
                batches.append(replace(adapted, partition=age * PER_VERSION + batch.partition))
        return batches

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Return the first and the next offset of each partition by its number."""
        bounds = [tail.bounds() for tail in self._tails]
        return {age * PER_VERSION + number: of for age, own in enumerate(bounds) for number, of in own.items()}

    def close(self) -> None:
        """Release what the readers hold."""
        for tail in self._tails:
            tail.close()
