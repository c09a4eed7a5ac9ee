"""Consumer groups under the rules of the embedded log: leases say who owns a partition, epochs fence whoever has lost one.

The rules are those of `kandle.log.embedded.membership`, on dictionaries in place of tables. The thread that keeps a lease
while its member works is not there: `Life` says what it would have done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kandle.errors import FencedError, ReplacedError
from kandle.log.embedded.membership import RENEWALS, Renewal, assign
from kandle.log.port import Fence, GroupSpec, TopicPartition
from tests.simulation.logs.state import Life, Process, WorldState


@dataclass(slots=True)
class Member:
    """A member as its group knows it."""

    session: int
    topics: tuple[str, ...]
    life: Life


@dataclass(frozen=True, slots=True)
class Lease:
    """Who owns a partition."""

    owner: str | None = None
    session: int | None = None
    epoch: int = 0


@dataclass(slots=True)
class LeaseGroup:
    """A group: `generation` counts its changes."""

    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    leases: dict[TopicPartition, Lease] = field(default_factory=dict)

    def has_members(self, now: int) -> bool:
        """Return whether the lease of some member has not ended."""
        return any(not member.life.is_over(now) for member in self.members.values())

    def check_fence(self, fence: Fence) -> None:
        """Raise FencedError if a claim does not hold any more."""
        lease = self.leases.get(fence.partition, Lease())
        if lease.owner is None or lease.epoch != fence.epoch:
            topic, partition = fence.partition
            raise FencedError(f"partition {partition} of {topic} belongs to another member of group {fence.group} by now")


class LeaseMember:
    """One member's part in its group."""

    def __init__(self, state: WorldState, process: Process, group: LeaseGroup, spec: GroupSpec) -> None:
        self._state, self._group, self._spec = state, group, spec
        self._session = state.number()
        self._generation = -1
        now = state.clock.steady()
        self._life = Life(process, spec.lease, spec.stall, now, now)
        self._is_known = False
        self.owned: dict[TopicPartition, int] = {}
        """Owned partitions with their epochs."""

    def note_life(self) -> None:
        """Note that the member has shown itself."""
        self._life.seen = self._state.clock.steady()

    def is_due(self) -> bool:
        """Return whether it is time to renew the lease, or the group has changed."""
        age = self._state.clock.steady() - self._life.renewed
        return not self._is_known or not 0 <= age < self._spec.lease // RENEWALS or self._generation != self._group.generation

    def renew(self) -> Renewal:
        """Renew the lease, remove dead members, and take what is free of the own share.

        Raises:
            ReplacedError: Another process has joined the group under this member's name.
        """
        before, now = self._group.generation, self._state.clock.steady()
        self._register(now)
        self._remove_dead_members(now)
        leases = self._group.leases
        lost = tuple(part for part, epoch in self.owned.items() if not self._holds(leases.get(part, Lease()), epoch))
        share = self._share()
        taken: dict[TopicPartition, int] = {}
        for partition in sorted(share):
            lease = leases.get(partition, Lease())
            if lease.owner is None:
                taken[partition] = lease.epoch + 1
                leases[partition] = Lease(self._spec.member, self._session, lease.epoch + 1)
        self._generation, self._is_known = self._group.generation, True
        for partition in lost:
            del self.owned[partition]
        surplus = tuple(partition for partition in self.owned if partition not in share)
        return Renewal(lost, surplus, taken, self._group.generation != before)

    def _holds(self, lease: Lease, epoch: int | None) -> bool:
        return lease.session == self._session and lease.epoch == epoch

    def _register(self, now: int) -> None:
        """Enter the own name, in the place of an earlier process of the same name."""
        known = self._group.members.get(self._spec.member)
        if known is None or known.session != self._session:
            if known is not None and self._is_known:
                raise ReplacedError(
                    f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                    "give each process a name of its own (option runtime.instance)"
                )
            self._free_partitions_of(self._spec.member)
            self._group.generation += 1
            self._group.members[self._spec.member] = Member(self._session, self._spec.topics, self._life)
        self._life.renewed = now

    def _remove_dead_members(self, now: int) -> None:
        for name, member in sorted(self._group.members.items()):
            if member.session != self._session and member.life.is_over(now):
                self._free_partitions_of(name)
                del self._group.members[name]
                self._group.generation += 1

    def _free_partitions_of(self, owner: str) -> None:
        for partition, lease in self._group.leases.items():
            if lease.owner == owner and lease.session != self._session:
                self._group.leases[partition] = Lease(epoch=lease.epoch)

    def _share(self) -> dict[TopicPartition, None]:
        """Return the partitions that this member should own.

        Topics with as many partitions and the same subscribers are shared out alike.
        """
        members, leases = self._group.members, self._group.leases
        topics = sorted({topic for member in members.values() for topic in member.topics})
        alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for topic in topics:
            subscribers = tuple(name for name in sorted(members) if topic in members[name].topics)
            alike.setdefault((self._state.topics.get(topic).spec.partitions, subscribers), []).append(topic)
        share: dict[TopicPartition, None] = {}
        for (count, subscribers), names in alike.items():
            current = {number: leases.get(TopicPartition(names[0], number), Lease()).owner for number in range(count)}
            for number, owner in assign(current, subscribers).items():
                if owner == self._spec.member:
                    share |= dict.fromkeys(TopicPartition(topic, number) for topic in names)
        return share

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Free partitions for their new owners."""
        for partition in partitions:
            lease = self._group.leases.get(partition, Lease())
            if lease.session == self._session:
                self._group.leases[partition] = Lease(epoch=lease.epoch)
            self.owned.pop(partition, None)
        self._group.generation += 1

    def leave(self) -> None:
        """Be no member any more."""
        known = self._group.members.get(self._spec.member)
        if known is not None and known.session == self._session:
            del self._group.members[self._spec.member]
        self._group.generation += 1

    def check_owned(self, partitions: Mapping[TopicPartition, int]) -> None:
        """Raise FencedError if another member owns one of the partitions by now."""
        for partition in partitions:
            lease = self._group.leases.get(partition)
            if lease is None or not self._holds(lease, self.owned.get(partition)):
                raise FencedError(
                    f"partition {partition.partition} of {partition.topic} is not owned by {self._spec.member} in group "
                    f"{self._spec.group} any more; nothing was written"
                )
