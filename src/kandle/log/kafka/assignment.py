"""Partitions of a group member: which it owns, how they come and go, and how it takes them over.

**Sharing.** The brokers assign the last topic of the group's spec; partitions of the other topics go with those of
that one (`Sharing`), so topics are assigned alike with every assignor. Partitions that are added to one of the
others while it is read are noticed within seconds and taken over like those that are assigned.

**Rebalancing.** The library calls back within a poll of the member. Partitions move in two steps: their owner
gives them up with its next poll, and only then does the broker assign them to another member.

    member one    poll: revoked {2, 3}                 poll: 0, 1 only
                  `- listener commits a last time
                  `- partitions are dropped
    member two                          poll: assigned {2, 3}
                                        `- takeover: where to read on
                                        `- listener restores its state, and may seek
                                        `- the library starts to fetch

An owner that was silent for longer than its session gets `lost` instead: the partitions belong to others
already, so it must forget what it has not committed. Callbacks must not raise into the library; `Rebalancing`
keeps an error until the poll that the callback belongs to can raise it. If the brokers cannot be reached in
the middle of a takeover, the partitions stay pending and the next poll tries again.

How a dead owner's partitions are recovered is in `takeover.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import LogError
from kandle.log.kafka.failures import translate_errors
from kandle.log.kafka.producer import FencedProducers
from kandle.log.port import Listener, TopicPartition
from kandle.time.clock import Clock

logger = logging.getLogger("kandle.kafka")


class Assignment:
    """The partitions of one member with their epochs and positions.

    They are kept in step with those of the library's consumer. Pauses outlast the ownership: a paused
    partition that goes and comes back is still paused.
    """

    def __init__(self, group: str, fenced: FencedProducers, clock: Clock) -> None:
        self._group = group
        self._fenced = fenced
        self._clock = clock
        self._client: Any = None
        self._owned: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._is_assigning = False
        self._is_ended = False
        self._is_abandoned = False

    def set_client(self, client: Consumer) -> None:
        """Have this client read what is assigned from now on."""
        self._client = client
        self._is_abandoned = False

    def __contains__(self, partition: object) -> bool:
        return partition in self._owned

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)

    @property
    def epochs(self) -> dict[TopicPartition, int]:
        """The owned partitions with their epochs."""
        return dict(self._owned)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to read of each partition; a live view, to be copied where a snapshot is needed."""
        return self._positions

    @property
    def is_ended(self) -> bool:
        """Whether the member is leaving."""
        return self._is_ended

    @property
    def is_open(self) -> bool:
        """Whether partitions can be added: neither is the member leaving, nor is its client about to be closed."""
        return not self._is_ended and not self._is_abandoned

    def end(self) -> None:
        """Take no more partitions, since the member is leaving."""
        self._is_ended = True

    def abandon(self) -> None:
        """Ask the client for nothing more: it is about to be closed, and might never answer."""
        self._is_abandoned = True

    def add(self, partitions: Collection[TopicPartition], begin: Mapping[TopicPartition, int]) -> None:
        """Own partitions from now on. They are read after `start`; until then `seek` only notes positions."""
        epoch = max([self._clock.now(), *(older + 1 for older in self._owned.values())])
        self._is_assigning = True
        self._owned.update(dict.fromkeys(partitions, epoch))
        self._fenced.set_owned(self._group, self._owned)
        self._positions |= begin

    def start(self, partitions: Collection[TopicPartition]) -> None:
        """Have the library read partitions from their positions on.

        It waits for this answer to an assignment, also if there is nothing to read.
        """
        self._is_assigning = False
        self._client.incremental_assign([ClientPartition(*partition, self._positions[partition]) for partition in partitions])
        self._pause_again(partitions)

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Own partitions no longer."""
        for partition in partitions:
            self._owned.pop(partition, None)
            self._positions.pop(partition, None)
        self._fenced.set_owned(self._group, self._owned, dropped=partitions)
        if self._is_abandoned:
            return
        try:
            assigned = {(partition.topic, partition.partition) for partition in self._client.assignment()}
        except KafkaException:
            if not self._is_ended:
                raise
            # The client has failed, and has released everything.
            return
        released = [ClientPartition(*partition) for partition in partitions if partition in assigned]
        if released:
            # The library would remember a pause until the partition comes back.
            self._client.resume(released)
            self._client.incremental_unassign(released)

    def move(self, partition: TopicPartition, position: int) -> None:
        """Note that the records before a position have been returned to the caller."""
        self._positions[partition] = position

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these offsets."""
        self._positions.update(positions)
        if self._is_assigning:
            # `start` will read from there.
            return
        owned = [partition for partition in positions if partition in self._owned]
        with translate_errors(f"group {self._group}"):
            self._client.incremental_unassign([ClientPartition(*partition) for partition in owned])
            self._client.incremental_assign([ClientPartition(*partition, positions[partition]) for partition in owned])
        self._pause_again(owned)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Read these partitions no more until `resume`."""
        self._paused.update(partitions)
        self._pause_again(partitions)

    def _pause_again(self, partitions: Collection[TopicPartition]) -> None:
        paused = [
            ClientPartition(*partition) for partition in partitions if partition in self._paused and partition in self._owned
        ]
        if paused:
            self._client.pause(paused)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Read these partitions again."""
        self._paused.difference_update(partitions)
        owned = [partition for partition in partitions if partition in self._owned]
        if not owned:
            return
        self._client.resume([ClientPartition(*partition) for partition in owned])
        # The library has discarded what it had fetched before the pause.
        self.seek({partition: self._positions[partition] for partition in owned})


class Recovery(Protocol):
    """Prepares partitions for their new owner, and says who may still write for them; see `takeover.py`."""

    def begin(self, partitions: Collection[TopicPartition], added: Collection[TopicPartition] = ()) -> dict[TopicPartition, int]:
        """Return where to read on; those that were `added` while the group reads are read from their beginning."""

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Note that partitions go to another member in order."""

    def lose(self, partitions: Collection[TopicPartition]) -> None:
        """Note that partitions belong to others already."""


def check_positions(
    group: str, positions: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
) -> None:
    """Raise LogError for a position behind the end of its partition: the topic was created anew."""
    for partition, (_, end) in bounds.items():
        if positions.get(partition, 0) > end:
            raise LogError(
                f"topic {partition.topic}, partition {partition.partition}, ends at {end}, but group {group} has read it up to "
                f"{positions[partition]}: the topic was deleted and created again. Results of the old topic cannot be continued "
                "with the new one; start again with other topics for the results (a reader: with another consumer.group), or "
                "delete those topics and the group"
            )


class Sharing:
    """Which partitions of all topics of a group go together.

    The brokers assign the last topic. Its partition p brings along p of every other topic, and what lies as many
    partitions further as the last topic has: 4 partitions of the last topic make 8 of another one 0 and 4, 1 and
    5, and so on. So everybody comes to the same result, whenever they hear of partitions that were added.

    Args:
        partitions: The number of partitions of each topic, in the order of the group's spec.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._counts = dict(partitions)
        self._joined = dict(partitions)
        self.subscribed = list(partitions)[-1]

    @property
    def others(self) -> list[str]:
        """The topics that the brokers do not assign."""
        return [topic for topic in self._counts if topic != self.subscribed]

    def together(self, assigned: Collection[TopicPartition]) -> list[TopicPartition]:
        """Return partitions of the last topic with all that they bring along."""
        step = self._joined[self.subscribed]
        partitions: list[TopicPartition] = []
        for partition in assigned:
            if not self.others:
                partitions.append(partition)
            elif partition.partition < step:
                # Partitions that were added to the last topic have no counterparts, and nothing of the group in them.
                partitions += [
                    TopicPartition(topic, number)
                    for topic in self.others
                    for number in range(partition.partition, self._counts[topic], step)
                ]
                partitions.append(partition)
        return partitions

    def set_count(self, topic: str, count: int) -> bool:
        """Note how many partitions a topic has; return whether there are more than before."""
        is_more = count > self._counts[topic]
        self._counts[topic] = max(count, self._counts[topic])
        return is_more

    def is_added(self, partition: TopicPartition) -> bool:
        """Return whether a partition was added since the member has joined."""
        return partition.partition >= self._joined[partition.topic]


class Rebalancing:
    """Handles the callbacks with which the library assigns and revokes partitions of one member."""

    def __init__(self, assignment: Assignment, recovery: Recovery, sharing: Sharing, listener: Listener | None) -> None:
        self.assignment = assignment
        self._recovery = recovery
        self.sharing = sharing
        self._listener = listener
        self._pending: set[TopicPartition] = set()
        self._moved: set[TopicPartition] = set()
        self._error: BaseException | None = None

    def subscribe(self, client: Consumer) -> None:
        """Have the broker assign partitions to this client, which calls back within its polls."""
        client.subscribe(
            [self.sharing.subscribed], on_assign=self._callback(self._assigned), on_revoke=self._callback(self._revoked),
            on_lost=self._callback(self._lost),
        )  # fmt: skip

    def _callback(self, handle: Callable[[list[TopicPartition]], None]) -> Callable[[Any, list[Any]], None]:
        """Return a callback that adds the partitions that go together, and keeps the first error."""

        def call(_: Any, assigned: list[Any]) -> None:
            partitions = self.sharing.together([TopicPartition(owned.topic, owned.partition) for owned in assigned])
            self._moved.update(partitions)
            try:
                handle(partitions)
            except BaseException as error:
                self._error = self._error or error

        return call

    def raise_error(self) -> None:
        """Raise the error of a callback, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def forget_error(self) -> None:
        """Forget the error of a callback, since its reason is known."""
        self._error = None

    @property
    def moved(self) -> Collection[TopicPartition]:
        """Partitions that came or went during this poll."""
        return self._moved

    def begin_poll(self) -> None:
        """Take over what is pending from earlier polls, and forget what moved in them."""
        if self._pending:
            self._take_over()
        self._moved.clear()

    def extend(self) -> None:
        """Take over, with the next poll, what belongs to the owned partitions since there are more of some topic."""
        owned = [partition for partition in self.assignment if partition.topic == self.sharing.subscribed]
        self._pending.update(partition for partition in self.sharing.together(owned) if partition not in self.assignment)

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        if not self.assignment.is_open:
            # The library hands out what it was assigned before even while it closes.
            self._drop(partitions)
            return
        self._pending.update(partition for partition in partitions if partition not in self.assignment)
        self._take_over()

    def _take_over(self) -> None:
        """Own what is pending; if the brokers cannot be asked, it stays pending for the next poll."""
        pending = sorted(self._pending)
        assigned: list[TopicPartition] = []
        try:
            added = [partition for partition in pending if self.sharing.is_added(partition)]
            begin = self._recovery.begin(pending, added) if pending else {}
            self._pending.clear()
            self.assignment.add(pending, begin)
            assigned = pending
            if pending and self._listener is not None:
                self._listener.assigned(pending)
        finally:
            # The library needs an answer whatever happened; an error is raised by the poll.
            self.assignment.start(assigned)

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        revoked = [partition for partition in partitions if partition in self.assignment]
        try:
            if revoked and self._listener is not None:
                self._listener.revoked(revoked)
            self._recovery.release(revoked)
        finally:
            self._drop(partitions)

    def _lost(self, partitions: list[TopicPartition]) -> None:
        lost = [partition for partition in partitions if partition in self.assignment]
        self._drop(partitions)
        self._recovery.lose(lost)
        if lost and self._listener is not None:
            self._listener.lost(lost)

    def lose_all(self) -> None:
        """Drop all partitions, pending ones too, since they belong to others already."""
        self._lost([*self.assignment, *self._pending])

    def _drop(self, partitions: Collection[TopicPartition]) -> None:
        self._pending.difference_update(partitions)
        self.assignment.drop(partitions)
