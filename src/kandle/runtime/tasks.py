"""The tasks of the partitions that a worker owns: started as of the last commit, and committed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kandle.errors import UnavailableError, UnknownTopicError
from kandle.log.port import TopicPartition, batches_by_partition
from kandle.log.records import Batch, Write
from kandle.runtime.repartition import Repartitioner
from kandle.runtime.state import Replica, TaskContext, state_is_gone
from kandle.runtime.task import Task

logger = logging.getLogger("kandle")

Positions = Mapping[TopicPartition, int]

RestoreReplica = Callable[[TaskContext, int], Replica]
"""Returns the state of a partition as of the last commit: from the changelog, or kept ready by a standby."""


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """One commit of all tasks: outputs, changes of the state and positions, all or nothing."""

    positions: dict[TopicPartition, int]
    parts: Sequence[tuple[Task | Repartitioner, Sequence[Write]]]

    @property
    def writes(self) -> list[Write]:
        """The writes of all tasks, in order."""
        return [write for _, writes in self.parts for write in writes]

    def committed(self, offsets: Sequence[int]) -> None:
        """Tell each task that the commit was made.

        Args:
            offsets: The offset of the first record of each write, in the order of `writes`.
        """
        first = iter(offsets)
        for task, writes in self.parts:
            task.committed(list(islice(first, len(writes))))


class Tasks:
    """A task for each owned partition of a query, and a repartitioner for each of a source that is not keyed as it groups.

    Args:
        context: What the tasks work with.
        group: The consumer group of the query.
        restore: Returns the state of a partition that was assigned.
    """

    def __init__(self, context: TaskContext, group: str, restore: RestoreReplica = Replica) -> None:
        self._context = context
        self._topics = context.topics
        self._group = group
        self._restore = restore
        self._repartitioners: dict[int, Repartitioner] = {}
        self._lag = 0
        self.by_partition: dict[int, Task] = {}

    @property
    def _all(self) -> list[Task | Repartitioner]:
        return [*self.by_partition.values(), *self._repartitioners.values()]

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for the next commit."""
        return any(task.is_dirty for task in self._all)

    @property
    def has_finals(self) -> bool:
        """Whether finals wait for the next commit."""
        return any(task.has_finals for task in self.by_partition.values())

    @property
    def is_urgent(self) -> bool:
        """Whether something waits that others wait for: finals, and events for the tasks of other partitions."""
        return self.has_finals or any(copy.is_dirty for copy in self._repartitioners.values())

    @property
    def waiting_events(self) -> int:
        """Events processed since the last commit."""
        return sum(task.waiting_events for task in self.by_partition.values())

    def lag(self) -> int:
        """Return how many events are not processed yet; the last known number while the log cannot be asked."""
        try:
            ends = self._context.log.ends(self._topics.events)
        except (UnavailableError, UnknownTopicError):
            return self._lag
        self._lag = sum(ends[number] - task.event_position for number, task in dict(self.by_partition).items())
        return self._lag

    def take(self, batches: Sequence[Batch]) -> None:
        """Give every task the records of its partition."""
        read = batches_by_partition(batches)
        for number, copy in self._repartitioners.items():
            copy.take(read.get(TopicPartition(self._topics.source, number), ()))
        for task in self.by_partition.values():
            task.take(read.get(task.events, ()), read.get(task.heartbeats, ()))

    def pending(self, *, live: bool) -> PendingCommit | None:
        """Return what is to be committed, or None if there is nothing; without `live` the live bars wait."""
        dirty = [task for task in self._all if task.is_dirty]
        if not dirty:
            return None
        parts = [(task, task.writes(live=live)) for task in dirty]
        positions: dict[TopicPartition, int] = {}
        for task in dirty:
            positions |= task.positions()
        return PendingCommit(positions, parts)

    def start(self, partitions: Collection[TopicPartition], committed: Positions) -> dict[TopicPartition, int]:
        """Start the tasks of partitions that were assigned, as of the last commit.

        Args:
            partitions: The partitions of all topics that were assigned.
            committed: The positions that the group has committed.

        Returns:
            The positions to read on from.

        Raises:
            StateError: The group has positions in a partition, but the state that belongs to them is gone.
        """
        begin: dict[TopicPartition, int] = {}
        for partition in partitions:
            if self._is_copied(partition):
                self._repartitioners[partition.partition] = Repartitioner(self._context, partition.partition)
                begin[partition] = self._position(partition, committed)
        ours = (self._topics.events, self._topics.heartbeats)
        assigned = {partition.partition for partition in partitions if partition.topic in ours}
        for number in sorted(assigned - self.by_partition.keys()):
            task = self._task(number, committed)
            positions = {topic: self._position(topic, committed) for topic in (task.events, task.heartbeats)}
            task.start_at(positions[task.events], positions[task.heartbeats])
            self.by_partition[number] = task
            begin |= positions
        return begin

    def _is_copied(self, partition: TopicPartition) -> bool:
        return partition.topic == self._topics.source and self._topics.is_repartitioned

    def _task(self, number: int, committed: Positions) -> Task:
        """Return the task of a partition; StateError if its positions are there, but its state is not."""
        replica = self._restore(self._context, number)
        task = Task(self._context, number, replica)
        # The first commit of a task always writes a snapshot.
        if not replica.has_state and (task.events in committed or task.heartbeats in committed):
            reason = (
                f"partition {number} is empty, but group {self._group} has read {task.events.topic} up to "
                f"{committed.get(task.events, 0)}"
            )
            raise state_is_gone(self._topics, reason)
        return task

    def _position(self, partition: TopicPartition, committed: Positions) -> int:
        first = self._context.log.first(partition)
        position = committed.get(partition, first)
        if first > position:
            logger.error(
                "records %d to %d of partition %d of %s are gone (retention) before they were processed",
                *(position, first - 1, partition.partition, partition.topic),
            )
        return max(first, position)

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """End the tasks of partitions that go; what they have not committed is done again by the next owner."""
        for partition in partitions:
            tasks = self._repartitioners if self._is_copied(partition) else self.by_partition
            tasks.pop(partition.partition, None)

    def clear(self) -> None:
        """End all tasks."""
        self.by_partition.clear()
        self._repartitioners.clear()
