"""The tasks of the partitions that a worker owns: begun as of the last commit, and committed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kandle.log.port import TopicPartition, batches_by_partition
from kandle.log.records import Batch, Write
from kandle.runtime.repartition import Repartitioner
from kandle.runtime.state import Replica, state_is_gone
from kandle.runtime.surroundings import Surroundings
from kandle.runtime.task import Task

logger = logging.getLogger("kandle")

Positions = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Pending:
    """What is to be committed: outputs, changes of the state and positions of all tasks, all or nothing."""

    positions: dict[TopicPartition, int]
    parts: Sequence[tuple[Task | Repartitioner, Sequence[Write]]]

    @property
    def writes(self) -> list[Write]:
        """The writes of all tasks."""
        return [write for _, writes in self.parts for write in writes]

    def committed(self, offsets: Sequence[int]) -> None:
        """The commit was made, and these are the offsets of the first records of its writes."""
        first = iter(offsets)
        for task, writes in self.parts:
            task.committed(list(islice(first, len(writes))))


class Tasks:
    """A task for each owned partition of the query, and a repartitioner for each of a source that is not keyed as it groups.

    `restored` gives the state of a partition that has come, as of the last commit.
    """

    def __init__(self, around: Surroundings, group: str, restored: Callable[[Surroundings, int], Replica] = Replica) -> None:
        self._around = around
        self._topics = around.topics
        self._group = group
        self._restored = restored
        self._copies: dict[int, Repartitioner] = {}
        self.by_partition: dict[int, Task] = {}

    @property
    def _every(self) -> list[Task | Repartitioner]:
        return [*self.by_partition.values(), *self._copies.values()]

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return any(each.is_dirty for each in self._every)

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return any(task.has_finals for task in self.by_partition.values())

    @property
    def is_urgent(self) -> bool:
        """Whether something waits that others wait for: finals, and events for the tasks of other partitions."""
        return self.has_finals or any(copy.is_dirty for copy in self._copies.values())

    @property
    def waiting_events(self) -> int:
        """Events processed since the last commit."""
        return sum(task.waiting_events for task in self.by_partition.values())

    def take(self, batches: Sequence[Batch]) -> None:
        """Give every task the records of its partition."""
        found = batches_by_partition(batches)
        for number, copy in self._copies.items():
            copy.take(found.get(TopicPartition(self._topics.source, number), ()))
        for task in self.by_partition.values():
            task.take(found.get(task.events, ()), found.get(task.heartbeats, ()))

    def pending(self, *, live: bool) -> Pending | None:
        """What is to be committed, if anything is; without `live` the live bars wait for the next commit."""
        dirty = [each for each in self._every if each.is_dirty]
        if not dirty:
            return None
        parts = [(each, each.writes(live=live)) for each in dirty]
        positions: dict[TopicPartition, int] = {}
        for each in dirty:
            positions |= each.positions()
        return Pending(positions, parts)

    def start(self, partitions: Collection[TopicPartition], committed: Positions) -> dict[TopicPartition, int]:
        """Begin the tasks of partitions that have come, as of the last commit; gives the positions to read on from."""
        begin: dict[TopicPartition, int] = {}
        for partition in partitions:
            if self._is_copied(partition):
                self._copies[partition.partition] = Repartitioner(
                    self._topics, partition.partition, self._around.counters, self._around.log, self._around.clock
                )
                begin[partition] = self._begin(partition, committed)
        ours = (self._topics.events, self._topics.heartbeats)
        for number in sorted({each.partition for each in partitions if each.topic in ours} - self.by_partition.keys()):
            task = self._task(number, committed)
            positions = {each: self._begin(each, committed) for each in (task.events, task.heartbeats)}
            task.start_at(positions[task.events], positions[task.heartbeats])
            self.by_partition[number] = task
            begin |= positions
        return begin

    def _is_copied(self, partition: TopicPartition) -> bool:
        return partition.topic == self._topics.source and self._topics.is_repartitioned

    def _task(self, number: int, committed: Positions) -> Task:
        """The task of a partition; StateError if its positions are there, but its state is not."""
        replica = self._restored(self._around, number)
        task = Task(self._around, number, replica)
        # The first commit of a task writes a snapshot, whatever it has seen.
        if not replica.has_state and (task.events in committed or task.heartbeats in committed):
            raise state_is_gone(
                self._topics,
                f"partition {number} is empty, but group {self._group} has read {task.events.topic} up to "
                f"{committed.get(task.events, 0)}",
            )
        return task

    def _begin(self, partition: TopicPartition, committed: Positions) -> int:
        first = self._around.log.first(partition)
        if first > committed.get(partition, first):
            logger.error(
                "records %d to %d of partition %d of %s are gone (retention) before they were processed",
                *(committed[partition], first - 1, partition.partition, partition.topic),
            )
        return max(first, committed.get(partition, first))

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """End the tasks of partitions that go; what they have not committed is done again by the next owner."""
        for partition in partitions:
            every = self._copies if self._is_copied(partition) else self.by_partition
            every.pop(partition.partition, None)

    def clear(self) -> None:
        """End all tasks."""
        self.by_partition.clear()
        self._copies.clear()
