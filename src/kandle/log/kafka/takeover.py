"""What a member does before partitions are its own: it ends what the dead have left open, and finds where to read on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from kandle.errors import LogError
from kandle.log.kafka.writing import Transactions, fence
from kandle.log.port import GroupSpec, TopicPartition

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog

logger = logging.getLogger("kandle.kafka")


class Takeover:
    """Of partitions, by one member of a group."""

    def __init__(self, log: KafkaLog, spec: GroupSpec, transactions: Transactions) -> None:
        self._log = log
        self._spec = spec
        self._transactions = transactions

    def begin(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to read on: what the group committed, else where `reset` says. It may be called again if it fails."""
        self._end_transactions_of_the_dead(partitions)
        committed = self.committed(partitions)
        bounds = self._log.admin.bounds(list(partitions))
        check_positions(self._spec.group, committed, bounds)
        side = 0 if self._spec.reset == "earliest" else 1
        return {place: found[side] for place, found in bounds.items()} | committed

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's next offsets."""
        # Not asked of the library's consumer, which waits for its group, so not while it hears of partitions.
        return self._log.positions.settled(self._spec.group, partitions)

    def _end_transactions_of_the_dead(self, partitions: Collection[TopicPartition]) -> None:
        """Who committed for these partitions and is no member any more may have left a transaction open: nobody waits for it."""
        positions = self._log.positions.committed(self._spec.group, partitions)
        owners = {said for _, said in positions.values() if said}
        if self._transactions.id in owners:
            # The process before may have been killed within a commit, which would have to be waited for below.
            self._transactions.open()
        suspects = owners - {self._transactions.id}
        if not suspects:
            return
        members = {f"{self._spec.group}-{member}" for member, _ in self._log.admin.members(self._spec.group)}
        for transactional in sorted(suspects - members):
            logger.info("ending what %s has left open", transactional)
            fence(self._log.settings, transactional, self._log.told)


def check_positions(
    group: str, positions: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
) -> None:
    """LogError for a position behind the end of its partition: the topic is not the one that was read."""
    for place, (_, end) in bounds.items():
        if positions.get(place, 0) > end:
            raise LogError(
                f"topic {place.topic}, partition {place.partition}, ends at {end}, but group {group} has read it up to "
                f"{positions[place]}: it was deleted and made again. What was made of the old one cannot go on with the new one; "
                "begin anew with another consumer.group and other topics for what is made, or delete those and the group"
            )
