"""Appends in the name of a partition's owner: those of the owner before are refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kandle.errors import FencedError
from kandle.log.kafka.failures import Told
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.kafka.writing import Transactions
from kandle.log.port import Fence, TopicPartition


class Claims:
    """Which partitions members of this process own, and a transactional id for each claim that is written under."""

    def __init__(self, settings: KafkaSettings, name: str, told: Told) -> None:
        self._settings, self._name, self._told = settings, name, told
        self._held: dict[str, dict[TopicPartition, int]] = {}
        self._transactions: dict[Fence, Transactions] = {}

    def hold(self, group: str, owned: Mapping[TopicPartition, int], gone: Collection[TopicPartition] = ()) -> None:
        """A member owns these from now on, and no longer those that are gone."""
        held = {place: epoch for place, epoch in self._held.get(group, {}).items() if place not in gone}
        self._held[group] = held | dict(owned)

    def transactions(self, fence: Fence) -> Transactions:
        """The transactions of a claim: those of the owner before cannot be committed any more.

        FencedError if the claim does not hold.
        """
        if self._held.get(fence.group, {}).get(fence.partition) != fence.epoch:
            raise FencedError(
                f"partition {fence.partition.partition} of {fence.partition.topic} belongs to another member of group "
                f"{fence.group} by now; nothing was written"
            )
        if fence not in self._transactions:
            for old in [each for each in self._transactions if each.partition == fence.partition and each.group == fence.group]:
                self._transactions.pop(old).close()
            name = f"{fence.group}-{fence.partition.topic}-{fence.partition.partition}"
            self._transactions[fence] = Transactions(self._settings, self._name, name, self._told)
        return self._transactions[fence]

    def close(self) -> None:
        """Let go of the producers."""
        for each in self._transactions.values():
            each.close()
