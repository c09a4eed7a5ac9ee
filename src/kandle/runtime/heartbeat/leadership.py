"""Who sends heartbeats: the owner of partition 0 of the heartbeat topic in its consumer group."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kandle.log.port import Fence, TopicPartition


class Leadership:
    """A flag that an assignment raises and a revocation lowers at once; other partitions never touch it."""

    def __init__(self, group: str, topic: str) -> None:
        self._group = group
        self.partition = TopicPartition(topic, 0)
        self._fence: Fence | None = None

    @property
    def is_leader(self) -> bool:
        return self._fence is not None

    @property
    def fence(self) -> Fence | None:
        """What a leader's append must still hold; None on followers."""
        return self._fence

    def assigned(self, partitions: Collection[TopicPartition], epochs: Mapping[TopicPartition, int]) -> None:
        """These partitions have come."""
        if self.partition in partitions:
            self._fence = Fence(self._group, self.partition, epochs[self.partition])

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions go, or are gone."""
        if self.partition in partitions:
            self._fence = None
