"""The tasks of the partitions that a worker owns: started as of the last commit, and committed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kandle.engine.operator import UNSEEN
from kandle.errors import StateError, StorageError, UnknownTopicError
from kandle.log.port import TopicPartition, batches_by_partition, report_removed
from kandle.log.records import Batch, Write
from kandle.log.versions import Adapt, adapters
from kandle.runtime.dead_letters import RefusedRows
from kandle.runtime.generations import QueryGenerations
from kandle.runtime.preparing import check_source_partitions
from kandle.runtime.repartition import Repartitioner
from kandle.runtime.replacing import StartingPoint, start_after_copies, starting_point
from kandle.runtime.resuming import resumed_position
from kandle.runtime.state import Replica, TaskContext, state_is_gone
from kandle.runtime.task import Task
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle")

Positions = Mapping[TopicPartition, int]

EVENTS_AT_ONCE = 200_000
"""Most events of a piece of work."""

FINALS_AT_ONCE = 40_000
"""About the most finals of a piece of work."""

FINALS_PER_COMMIT = 40_000
BYTES_PER_COMMIT = 32 << 20
LONGEST_ROUND = 500 * MILLISECOND
"""With so many finals, so many bytes of them, or after so much time in microseconds, no other piece is begun before a commit."""

SLOW_COMMIT = 2 * SECOND
"""After a commit that took longer, in microseconds, the next ones hold half as much: logs give up on what takes too long."""

LEAST_SHARE = 1 / 64
"""The least part of a full piece that is still worth a commit of its own."""

EVENTS_PER_COMMIT = 500_000
"""More events than this are not kept uncommitted."""

MOST_WAITING = 50_000
"""With more events waiting than this, no more are read of a partition until half of them are processed."""

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

    def without(self, refused: RefusedRows) -> PendingCommit:
        """Return the commit without records that the log refuses: they become dead letters of it.

        Args:
            refused: By the number of a write, the reason by the number of each of its records.
        """
        parts: list[tuple[Task | Repartitioner, Sequence[Write]]] = []
        begin = 0
        for task, writes in self.parts:
            own = {number: refused[begin + number] for number in range(len(writes)) if begin + number in refused}
            begin += len(writes)
            parts.append((task, task.without(writes, own) if own else writes))
        return PendingCommit(self.positions, parts)

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
        self._repartitioners: dict[TopicPartition, Repartitioner] = {}
        self._adapters: Mapping[str, Adapt | None] = {}
        """By topic of the source, how its records become events of the query."""
        self._lag = 0
        self._turn = 0
        self._share = 1.0
        self._crowded: set[TopicPartition] = set()
        self._are_partitions_checked = False
        """Whether the partitions of the events were counted after the newest records were read."""
        self._generations: QueryGenerations | None = None
        self.former: Positions = {}
        """Where the former group of the query stood, for partitions without a position in the own one."""
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
    def is_behind(self) -> bool:
        """Whether events were processed since the last commit that had waited for long."""
        return any(task.is_behind for task in self.by_partition.values())

    @property
    def waiting_events(self) -> int:
        """Events processed since the last commit."""
        return sum(task.output.events for task in self.by_partition.values())

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        return any(task.has_work for task in self.by_partition.values())

    @property
    def crowded(self) -> Collection[TopicPartition]:
        """Partitions of which nothing should be read for now, since enough of them waits."""
        for task in self.by_partition.values():
            most = MOST_WAITING // 2 if task.events in self._crowded else MOST_WAITING
            change = self._crowded.add if task.waiting_rows > most else self._crowded.discard
            change(task.events)
        self._crowded &= {task.events for task in self.by_partition.values()}
        return self._crowded

    def lag(self) -> int:
        """Return how much is left to be done; the last known number while the log cannot be asked.

        Events that are not processed or not copied by group key yet count, and heartbeats that are not fully applied.
        """
        tasks, copies = dict(self.by_partition), dict(self._repartitioners)
        log, topics = self._context.log, self._topics
        try:
            events = log.ends(topics.events) if tasks else ()
            heartbeats = log.ends(topics.heartbeats) if tasks else ()
            sources = {topic: log.ends(topic) for topic in {source.topic for source in copies}}
        except (StorageError, UnknownTopicError):
            return self._lag
        self._lag = sum(task.lag(events[number], heartbeats[number]) for number, task in tasks.items())
        self._lag += sum(copy.lag(sources[source.topic][source.partition]) for source, copy in copies.items())
        return self._lag

    def take(self, batches: Sequence[Batch]) -> None:
        """Give every task the records of its partition."""
        self._are_partitions_checked &= not batches
        read = batches_by_partition(map(self._adapted, batches))
        for source, copy in self._repartitioners.items():
            copy.take(read.get(source, ()))
        for task in self.by_partition.values():
            task.take(read.get(task.events, ()), read.get(task.heartbeats, ()))

    def _adapted(self, batch: Batch) -> Batch:
        adapt = self._adapters.get(batch.topic)
        return batch if adapt is None else adapt(batch)

    def work(self) -> bool:
        """Do what was read, piece by piece and partition by partition, until it is done or a commit is due.

        Returns:
            Whether there was anything to do.
        """
        began, is_done = self._context.clock.steady(), False
        while working := [number for number in sorted(self.by_partition) if self.by_partition[number].has_work]:
            # Those behind the last one come first, so that each has its turn.
            number = next((number for number in working if number > self._turn), working[0])
            if not self.by_partition[number].work(EVENTS_AT_ONCE, max(1, int(FINALS_AT_ONCE * self._share))):
                break
            self._turn, is_done = number, True
            if self._is_full or self._context.clock.steady() - began > LONGEST_ROUND:
                break
        return is_done

    def note_commit(self, duration: int) -> None:
        """Have commits that take long hold less, down to a part of what they may hold, and more again once they are fast."""
        if duration > SLOW_COMMIT:
            self._share = max(LEAST_SHARE, self._share / 2)
        elif duration < SLOW_COMMIT // 4:
            self._share = min(1.0, self._share * 2)

    @property
    def _waiting_finals(self) -> int:
        return sum(task.output.finals for task in self.by_partition.values())

    @property
    def _is_full(self) -> bool:
        """Whether as much as a commit should hold is done."""
        return (
            self._waiting_finals >= FINALS_PER_COMMIT * self._share
            or sum(task.output.bytes for task in self.by_partition.values()) >= BYTES_PER_COMMIT
            or self.waiting_events >= EVENTS_PER_COMMIT
        )

    def pending(self, *, live: bool) -> PendingCommit | None:
        """Return what is to be committed, or None if there is nothing; without `live` the live bars wait."""
        dirty = [task for task in self._all if task.is_dirty]
        if not dirty:
            return None
        is_closing = self.has_finals or any(task.pipeline.is_closing for task in self.by_partition.values())
        if is_closing and not self._are_partitions_checked:
            # Whoever goes on with the state closes the buckets up to where it says. One heartbeat may close so many that they
            # take many commits; what was added after the heartbeat was read cannot have events that are before it.
            check_source_partitions(self._context.log, self._topics)
            self._are_partitions_checked = True
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
            SchemaError: The topic of the events has other partitions than there are tasks.
            StateError: The group has positions in a partition, but the state that belongs to them is gone.
        """
        self._check_generation()
        check_source_partitions(self._context.log, self._topics)
        begin: dict[TopicPartition, int] = {}
        if self._topics.table is None:
            self._adapters = adapters(self._context.log, self._topics.plan.query.source)
        known = {**self.former, **committed}
        for partition in partitions:
            if self._is_copied(partition):
                begin[partition] = self._position(partition, known)
                copy = Repartitioner(self._context, partition)
                copy.start_at(begin[partition])
                self._repartitioners[partition] = copy
        ours = (self._topics.events, self._topics.heartbeats)
        assigned = {partition.partition for partition in partitions if partition.topic in ours}
        for number in sorted(assigned - self.by_partition.keys()):
            begin |= self._start_task(number, known)
        for partition in self.former.keys() & begin.keys() - committed.keys():
            # Positions of the former group are committed at once for the own one, so that they are taken over once.
            if self._is_copied(partition):
                self._repartitioners[partition].commit_soon(begin[partition])
            else:
                self.by_partition[partition.partition].commit_soon()
        return begin

    def _check_generation(self) -> None:
        """Raise StateError if another declaration has replaced the one that this process runs."""
        own = self._context.generation
        if own is None:
            return
        if self._generations is None:
            self._generations = QueryGenerations(self._context.log, self._topics.plan, own.declaration)
        self._generations.check(own)

    def _is_copied(self, partition: TopicPartition) -> bool:
        return partition.topic in self._topics.sources and self._topics.is_repartitioned

    def _start_task(self, number: int, committed: Positions) -> dict[TopicPartition, int]:
        """Start the task of a partition, and return the positions to read on from."""
        events = TopicPartition(self._topics.events, number)
        heartbeats = TopicPartition(self._topics.heartbeats, number)
        replica = self._restore(self._context, number)
        start = self._start_of_replacement(replica, events, heartbeats, committed)
        if start is None:
            known = self._known_positions(replica, events, heartbeats, committed)
            positions = {topic: self._position(topic, known) for topic in (events, heartbeats)}
        else:
            positions = {events: start.events, heartbeats: start.heartbeats}
            replica.guard = start.guard
        task = Task(self._context, number, replica)
        task.start_at(positions[events], positions[heartbeats])
        self.by_partition[number] = task
        return positions

    def _known_positions(
        self, replica: Replica, events: TopicPartition, heartbeats: TopicPartition, committed: Positions
    ) -> Positions:
        """Return the positions with which a partition goes on: those of the group, or what its state says if those are gone.

        Raises:
            StateError: The partition has positions and no state, or a state that does not say where it goes on.
        """
        number = events.partition
        # The first commit of a task always writes a snapshot.
        if not replica.has_state and (events in committed or heartbeats in committed):
            reason = (
                f"partition {number} is empty, but group {self._group} has read {events.topic} up to {committed.get(events, 0)}"
            )
            raise state_is_gone(self._topics, reason)
        # Before partitions were added to the source, the task read it itself; from there on its events are copied.
        was_direct = self._topics.is_repartitioned and TopicPartition(self._topics.source, number) in committed
        if not replica.has_state or events in committed or was_direct:
            return committed
        position = None
        # Copies of the source are made from the positions of the group, which are gone as well.
        if replica.last is not None and self._topics.events == self._topics.source:
            position = resumed_position(self._context.log, self._group, events, replica.last)
        if position is None:
            name = self._topics.plan.query.target.name
            raise StateError(
                f"partition {number} of {self._topics.changelog} has a state of {name}, but group {self._group} has no position "
                f"in {events.topic}: its events would count twice. If an older version of kandle made it, start once with the "
                f"name of the context, or the consumer.group, of that time; otherwise give {name} another topic"
            )
        return {**committed, events: position}

    def _start_of_replacement(
        self, replica: Replica, events: TopicPartition, heartbeats: TopicPartition, committed: Positions
    ) -> StartingPoint | None:
        """Return where a task begins whose declaration has replaced another one; None if it goes on with a state of its own."""
        generation = self._context.generation
        if replica.has_state:
            return None
        if generation is None or generation.number == 1:
            is_new = events not in committed and heartbeats not in committed
            return start_after_copies(self._context.log, self._topics.plan, events, heartbeats) if is_new else None
        closed = replica.former_closed
        if closed is None and generation.begin is None:
            # The former declaration has done nothing in this partition.
            return None
        position = (events, committed.get(events))
        closed = UNSEEN if closed is None else closed
        return starting_point(self._context.log, self._topics.plan, generation, position, heartbeats, closed)

    def _position(self, partition: TopicPartition, committed: Positions) -> int:
        first = self._context.log.first(partition)
        position = committed.get(partition, first)
        # A compaction takes only records away that newer ones have replaced.
        if first > position and not self._context.log.topic(partition.topic).compacted:
            self.count_removed(report_removed(self._group, partition, position, first))
        return max(first, position)

    def count_removed(self, count: int) -> None:
        """Count records that were removed from a topic before they were processed."""
        self._context.counters.removed += count

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """End the tasks of partitions that go; what they have not committed is done again by the next owner."""
        for partition in partitions:
            if self._is_copied(partition):
                self._repartitioners.pop(partition, None)
            else:
                self.by_partition.pop(partition.partition, None)

    def clear(self) -> None:
        """End all tasks."""
        self.by_partition.clear()
        self._repartitioners.clear()
