"""Consumer groups of the embedded log: leases in the file say who owns a partition, epochs fence whoever has lost one.

There is no coordinator. Each member renews its leases now and then; in the same transaction it takes dead members for dead,
works out who should own what (all come to the same answer from the same rows), takes what is free and gives up what is not its
own any more. A partition is free only after its owner has given it up or is dead.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from kandle.errors import FencedError, ReplacedError
from kandle.log.embedded.bell import LONGEST_WAIT
from kandle.log.port import GroupSpec, Listener, TopicPartition
from kandle.log.records import Batch, Write

if TYPE_CHECKING:
    from kandle.log.embedded.log import EmbeddedLog

RENEWALS = 4
"""How many times a member is heard of within one lease."""


class EmbeddedConsumer:
    """A member of a group."""

    def __init__(self, log: EmbeddedLog, spec: GroupSpec, listener: Listener | None) -> None:
        self._log = log
        self._database = log.database
        self._spec = spec
        self._listener = listener
        self._session = uuid.uuid4().hex
        self._owned: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._generation = -1
        self._renewed: int | None = None
        self._is_closed = False
        self._is_woken = False
        # It is there before the first look for records, so that none can come unheard.
        self._bell = log.bells.hang()

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._owned)

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        deadline = self._log.clock.steady() + timeout
        # A clock that is moved by hand does not move while this waits.
        waited = 0
        while True:
            self._attend()
            batches = self._read(max_rows)
            left = min(deadline - self._log.clock.steady(), timeout - waited)
            if batches or left <= 0 or self._is_woken:
                self._is_woken = False
                return batches
            pause = min(left, self._spec.lease // RENEWALS, LONGEST_WAIT)
            waited += 0 if self._bell.wait(pause) else pause

    @property
    def statistics(self) -> Mapping[str, int]:
        return {}

    def wake(self) -> None:
        self._is_woken = True
        self._bell.ring()

    def _read(self, max_rows: int) -> list[Batch]:
        """Topics in the order of the group's spec, so that records of a later topic are at least as new."""
        found: list[Batch] = []
        for topic in self._spec.topics:
            for partition in sorted(each for each in self._owned if each.topic == topic and each not in self._paused):
                batches = self._log.read(partition, self._position(partition), max_rows)
                if batches:
                    self._positions[partition] = batches[-1].next_offset
                    found += batches
        return found

    def _position(self, partition: TopicPartition) -> int:
        if partition not in self._positions:
            committed = self.committed([partition]).get(partition)
            first, following = self._log.database.rows(
                "SELECT p.first, p.next FROM partition p JOIN topic t ON t.id = p.topic WHERE t.name = ? AND p.number = ?",
                partition,
            )[0]
            start = first if self._spec.reset == "earliest" else following
            self._positions[partition] = start if committed is None else committed
        return self._positions[partition]

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        found = self._database.rows("SELECT topic, partition, next FROM position WHERE name = ?", [self._spec.group])
        every = {TopicPartition(topic, number): following for topic, number, following in found}
        return {partition: every[partition] for partition in partitions if partition in every}

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Write] = ()) -> list[int]:
        prepared = self._log.prepare(writes)
        with self._database.transaction():
            for partition, following in offsets.items():
                self._check_owned(partition)
                self._database.run(
                    "INSERT INTO position (name, topic, partition, next) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (name, topic, partition) DO UPDATE SET next = excluded.next",
                    [self._spec.group, *partition, following],
                )
            first = self._log.write(prepared)
        if any(len(write.records) for write in writes):
            self._log.bells.ring_all()
        return first

    def _check_owned(self, partition: TopicPartition) -> None:
        found = self._database.rows(
            "SELECT session, epoch FROM lease WHERE name = ? AND topic = ? AND partition = ?", [self._spec.group, *partition]
        )
        if not found or found[0] != (self._session, self._owned.get(partition)):
            raise FencedError(
                f"partition {partition.partition} of {partition.topic} is not owned by {self._spec.member} in group "
                f"{self._spec.group} any more; nothing was written"
            )

    def _attend(self) -> None:
        """Renew the leases when it is time, and look what changed in the group whenever it changed."""
        now = self._log.clock.steady()
        due = self._renewed is None or not 0 <= now - self._renewed < self._spec.lease // RENEWALS
        if due or self._generation != self._group_generation():
            self._beat()

    def _group_generation(self) -> int:
        found = self._database.value("SELECT number FROM generation WHERE name = ?", [self._spec.group])
        return int(found or 0)

    def _beat(self) -> None:
        if self._is_closed:
            return
        with self._database.transaction():
            # Only now: while this waited for the lock, others may have renewed their leases.
            now = self._log.clock.steady()
            before = self._group_generation()
            self._renew(now)
            self._bury(now)
            lost = self._really_owned()
            target = self._target()
            taken = self._take(target)
            self._generation = self._group_generation()
        self._renewed = now
        if self._generation != before:
            self._log.bells.ring_all()
        self._drop(lost)
        self._give_up([partition for partition in self._owned if partition not in target])
        self._owned.update(taken)
        if taken and self._listener is not None:
            self._listener.assigned(sorted(taken))

    def _changed(self) -> None:
        self._database.run(
            "INSERT INTO generation (name, number) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET number = number + 1",
            [self._spec.group],
        )

    def _renew(self, now: int) -> None:
        """Be a member until now + lease; a member of the same name from before is replaced."""
        mine = [self._spec.group, self._spec.member]
        session = self._database.value("SELECT session FROM member WHERE name = ? AND member = ?", mine)
        if session != self._session:
            if session is not None and self._renewed is not None:
                self._replaced()
            self._free(self._spec.member)
            self._changed()
        topics = json.dumps(sorted(self._spec.topics))
        self._database.run(
            "INSERT OR REPLACE INTO member (name, member, session, topics, expires, lease) VALUES (?, ?, ?, ?, ?, ?)",
            [*mine, self._session, topics, now + self._spec.lease, self._spec.lease],
        )

    def _replaced(self) -> None:
        lost = list(self._owned)
        self._owned.clear()
        if lost and self._listener is not None:
            self._listener.lost(lost)
        raise ReplacedError(
            f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
            "give each process a name of its own (option runtime.instance)"
        )

    def _free(self, owner: str) -> None:
        """Partitions of a member that is gone belong to nobody."""
        self._database.run(
            "UPDATE lease SET owner = NULL, session = NULL WHERE name = ? AND owner = ? AND session IS NOT ?",
            [self._spec.group, owner, self._session],
        )

    def _bury(self, now: int) -> None:
        """Forget members whose lease is over; one that ends too far ahead was written before the machine started."""
        for member, expires, lease in self._database.rows(
            "SELECT member, expires, lease FROM member WHERE name = ? AND session != ?", [self._spec.group, self._session]
        ):
            if not now < expires <= now + 2 * lease:
                self._free(member)
                self._database.run("DELETE FROM member WHERE name = ? AND member = ?", [self._spec.group, member])
                self._changed()

    def _leases(self) -> dict[TopicPartition, tuple[str | None, str | None, int]]:
        found = self._database.rows(
            "SELECT topic, partition, owner, session, epoch FROM lease WHERE name = ?", [self._spec.group]
        )
        return {TopicPartition(topic, number): (owner, session, epoch) for topic, number, owner, session, epoch in found}

    def _really_owned(self) -> list[TopicPartition]:
        """Forget what others own by now, and say what it was."""
        leases = self._leases()
        lost = [
            partition
            for partition, epoch in self._owned.items()
            if leases.get(partition, (None, None, 0))[1:] != (self._session, epoch)
        ]
        for partition in lost:
            del self._owned[partition]
        return lost

    def _target(self) -> set[TopicPartition]:
        """What this member should own."""
        members = {
            member: json.loads(topics)
            for member, topics in self._database.rows(
                "SELECT member, topics FROM member WHERE name = ? ORDER BY member", [self._spec.group]
            )
        }
        owners = {partition: owner for partition, (owner, _, _) in self._leases().items()}
        counts = {
            topic: self._log.topic(topic).partitions for topic in sorted({each for found in members.values() for each in found})
        }
        alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for topic, count in counts.items():
            subscribers = tuple(member for member, topics in members.items() if topic in topics)
            alike.setdefault((count, subscribers), []).append(topic)
        mine: set[TopicPartition] = set()
        for (count, subscribers), topics in alike.items():
            held = {number: owners.get(TopicPartition(topics[0], number)) for number in range(count)}
            numbers = [number for number, owner in shared(held, subscribers).items() if owner == self._spec.member]
            mine |= {TopicPartition(topic, number) for topic in topics for number in numbers}
        return mine

    def _take(self, target: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Take the partitions of the target that nobody owns."""
        leases = self._leases()
        taken = {}
        for partition in sorted(target):
            owner, _, epoch = leases.get(partition, (None, None, 0))
            if owner is None:
                taken[partition] = epoch + 1
                self._database.run(
                    "INSERT OR REPLACE INTO lease (name, topic, partition, owner, session, epoch) VALUES (?, ?, ?, ?, ?, ?)",
                    [self._spec.group, *partition, self._spec.member, self._session, epoch + 1],
                )
                self._positions.pop(partition, None)
        return taken

    def _drop(self, lost: list[TopicPartition]) -> None:
        for partition in lost:
            self._positions.pop(partition, None)
        if lost and self._listener is not None:
            self._listener.lost(lost)

    def _give_up(self, partitions: list[TopicPartition]) -> None:
        """Let the listener finish, then free the partitions for their new owners."""
        if not partitions:
            return
        if self._listener is not None:
            self._listener.revoked(partitions)
        with self._database.transaction():
            for partition in partitions:
                self._database.run(
                    "UPDATE lease SET owner = NULL, session = NULL "
                    "WHERE name = ? AND topic = ? AND partition = ? AND session = ?",
                    [self._spec.group, *partition, self._session],
                )
                self._owned.pop(partition, None)
                self._positions.pop(partition, None)
            self._changed()
        self._log.bells.ring_all()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._give_up(list(self._owned))
        with self._database.transaction():
            self._database.run(
                "DELETE FROM member WHERE name = ? AND member = ? AND session = ?",
                [self._spec.group, self._spec.member, self._session],
            )
            self._changed()
        self._log.bells.ring_all()
        self._log.bells.forget(self._bell)


def shared(held: Mapping[int, str | None], members: Sequence[str]) -> dict[int, str]:
    """Who should own each number: shares differ by at most one, and as much as possible stays where it is."""
    by_owner = {member: [number for number, owner in sorted(held.items()) if owner == member] for member in members}
    share, rest = divmod(len(held), len(members))
    order = sorted(members, key=lambda member: (-len(by_owner[member]), member))
    quota = {member: share + (position < rest) for position, member in enumerate(order)}
    kept = {number: member for member in members for number in by_owner[member][: quota[member]]}
    free = [member for member in order for _ in range(quota[member] - min(quota[member], len(by_owner[member])))]
    left = [number for number in sorted(held) if number not in kept]
    return kept | dict(zip(left, free, strict=True))
