"""Consumer groups of the embedded log: leases say who owns a partition, epochs fence whoever has lost one.

There is no coordinator. The tables `member`, `lease` and `generation` are the group, and each member changes them in transactions
of its own. In each one it renews its lease, removes members whose lease is over, works out who should own what (all members come
to the same answer from the same rows), and takes what is free of its share. What it owns beyond its share it gives up after its
listener has finished with it. A partition is free only after its owner has given it up or has been removed.

    member one   owns p0, p1 (epoch 1) ----- renews: two has joined; revoked(p1), frees p1 ---- owns p0
    member two   joins: p1 is its share, but not free; owns nothing ------------------- takes p1 (epoch 2)

Every change of the group increments its generation, so that a member which looks for records sees at once that something has
changed; it need not wait until its next renewal.

A member that was paused (a stopped process, a long garbage collection) may believe that it owns what others have taken since:

    member one   owns p0 (epoch 1) | paused for longer than its lease              | commit: FencedError, nothing is written
    member two                     | renews: one's lease is over; takes p0 (epoch 2)

The commit looks for its session and epoch in the table `lease`, in the same transaction as its writes. An epoch never comes back,
so a fence that was given to somebody else (`Fence`) is as good.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kandle.errors import FencedError, ReplacedError
from kandle.log.embedded.connection import Connection
from kandle.log.embedded.database import Database
from kandle.log.port import Fence, GroupSpec, GroupState, TopicPartition

RENEWALS = 4
"""How many times a member renews its lease before it is over."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal has changed for a member.

    `lost` are partitions that others have taken, `surplus` those that it still owns and is to give up, `taken` its new ones
    with their epochs. `is_new_generation` says that the other members should look at the group.
    """

    lost: tuple[TopicPartition, ...]
    surplus: tuple[TopicPartition, ...]
    taken: Mapping[TopicPartition, int]
    is_new_generation: bool


@dataclass(frozen=True, slots=True)
class _Lease:
    """The row of a partition in the table `lease`."""

    owner: str | None = None
    session: str | None = None
    epoch: int = 0


class GroupMember:
    """One member's part in its group."""

    def __init__(self, connection: Connection, spec: GroupSpec) -> None:
        self._database = connection.database
        self._catalog = connection.catalog
        self._clock = connection.clock
        self._spec = spec
        self._session = uuid.uuid4().hex
        self._generation = -1
        self._renewed: int | None = None
        self.owned: dict[TopicPartition, int] = {}
        """Owned partitions with their epochs."""

    def is_due(self) -> bool:
        """Return whether it is time to renew the lease, or the group has changed."""
        now = self._clock.steady()
        is_late = self._renewed is None or not 0 <= now - self._renewed < self._spec.lease // RENEWALS
        return is_late or self._generation != self._stored_generation()

    def renew(self) -> Renewal:
        """Renew the lease, remove dead members, and take what is free of the own share.

        What was taken is owned once the caller has added it to `owned`, after it has given up the surplus.

        Returns:
            What has changed.

        Raises:
            ReplacedError: Another process has joined under this member's name.
        """
        with self._database.transaction():
            # Only now: while this waited for the lock, others may have renewed their leases.
            now = self._clock.steady()
            before = self._stored_generation()
            self._register(now)
            self._remove_dead_members(now)
            lost = self._lost()
            share = self._share()
            taken = self._take_free(share)
            generation = self._stored_generation()
        self._generation, self._renewed = generation, now
        for partition in lost:
            del self.owned[partition]
        surplus = tuple(partition for partition in self.owned if partition not in share)
        return Renewal(lost, surplus, taken, generation != before)

    def extend(self) -> None:
        """Renew the lease, and nothing else; any thread may call this.

        A member that others have removed, or whose name another process has by now, stays so.
        """
        with self._database.transaction():
            # Only now, as in `renew`.
            self._database.run(
                "UPDATE member SET expires = ? WHERE name = ? AND member = ? AND session = ?",
                [self._clock.steady() + self._spec.lease, self._spec.group, self._spec.member, self._session],
            )

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Free partitions for their new owners."""
        with self._database.transaction():
            for partition in partitions:
                self._database.run(
                    "UPDATE lease SET owner = NULL, session = NULL "
                    "WHERE name = ? AND topic = ? AND partition = ? AND session = ?",
                    [self._spec.group, *partition, self._session],
                )
                self.owned.pop(partition, None)
            self._increment_generation()

    def leave(self) -> None:
        """Be no member any more."""
        with self._database.transaction():
            self._database.run(
                "DELETE FROM member WHERE name = ? AND member = ? AND session = ?",
                [self._spec.group, self._spec.member, self._session],
            )
            self._increment_generation()

    def check_owned(self, partition: TopicPartition) -> None:
        """Raise FencedError if another member owns a partition by now; call it inside the transaction of a commit."""
        rows = self._database.rows(
            "SELECT session, epoch FROM lease WHERE name = ? AND topic = ? AND partition = ?", [self._spec.group, *partition]
        )
        if not rows or rows[0] != (self._session, self.owned.get(partition)):
            raise FencedError(
                f"partition {partition.partition} of {partition.topic} is not owned by {self._spec.member} in group "
                f"{self._spec.group} any more; nothing was written"
            )

    def _stored_generation(self) -> int:
        return int(self._database.value("SELECT number FROM generation WHERE name = ?", [self._spec.group]) or 0)

    def _increment_generation(self) -> None:
        self._database.run(
            "INSERT INTO generation (name, number) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET number = number + 1",
            [self._spec.group],
        )

    def _register(self, now: int) -> None:
        """Write the own row, in the place of that of an earlier process of the same name."""
        key = [self._spec.group, self._spec.member]
        session = self._database.value("SELECT session FROM member WHERE name = ? AND member = ?", key)
        if session != self._session:
            if session is not None and self._renewed is not None:
                raise ReplacedError(
                    f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                    "give each process a name of its own (option runtime.instance)"
                )
            self._free_partitions_of(self._spec.member)
            self._increment_generation()
        topics = json.dumps(sorted(self._spec.topics))
        self._database.run(
            "INSERT OR REPLACE INTO member (name, member, session, topics, expires, lease) VALUES (?, ?, ?, ?, ?, ?)",
            [*key, self._session, topics, now + self._spec.lease, self._spec.lease],
        )

    def _remove_dead_members(self, now: int) -> None:
        """Remove members whose lease is over."""
        for member, expires, lease in self._database.rows(
            "SELECT member, expires, lease FROM member WHERE name = ? AND session != ?", [self._spec.group, self._session]
        ):
            if not _is_alive(now, expires, lease):
                self._free_partitions_of(member)
                self._database.run("DELETE FROM member WHERE name = ? AND member = ?", [self._spec.group, member])
                self._increment_generation()

    def _free_partitions_of(self, owner: str) -> None:
        self._database.run(
            "UPDATE lease SET owner = NULL, session = NULL WHERE name = ? AND owner = ? AND session IS NOT ?",
            [self._spec.group, owner, self._session],
        )

    def _leases(self) -> dict[TopicPartition, _Lease]:
        rows = self._database.rows("SELECT topic, partition, owner, session, epoch FROM lease WHERE name = ?", [self._spec.group])
        return {TopicPartition(topic, partition): _Lease(*fields) for topic, partition, *fields in rows}

    def _lost(self) -> tuple[TopicPartition, ...]:
        """Return the partitions that others own by now."""
        leases = self._leases()
        stored = {partition: (lease.session, lease.epoch) for partition, lease in leases.items()}
        return tuple(partition for partition, epoch in self.owned.items() if stored.get(partition) != (self._session, epoch))

    def _share(self) -> set[TopicPartition]:
        """Return the partitions that this member should own.

        Topics with as many partitions and the same subscribers are shared out alike.
        """
        subscriptions = self._subscriptions()
        owners = {partition: lease.owner for partition, lease in self._leases().items()}
        alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for topic in sorted({topic for topics in subscriptions.values() for topic in topics}):
            subscribers = tuple(member for member, topics in subscriptions.items() if topic in topics)
            alike.setdefault((self._catalog.known(topic)[1].partitions, subscribers), []).append(topic)
        share: set[TopicPartition] = set()
        for (count, subscribers), topics in alike.items():
            current = {number: owners.get(TopicPartition(topics[0], number)) for number in range(count)}
            numbers = [number for number, owner in assign(current, subscribers).items() if owner == self._spec.member]
            share |= {TopicPartition(topic, number) for topic in topics for number in numbers}
        return share

    def _subscriptions(self) -> dict[str, list[str]]:
        """Return the topics of each member."""
        rows = self._database.rows("SELECT member, topics FROM member WHERE name = ? ORDER BY member", [self._spec.group])
        return {member: json.loads(topics) for member, topics in rows}

    def _take_free(self, share: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Take the partitions of the share that nobody owns."""
        leases = self._leases()
        taken = {}
        for partition in sorted(share):
            lease = leases.get(partition, _Lease())
            if lease.owner is None:
                taken[partition] = lease.epoch + 1
                self._database.run(
                    "INSERT OR REPLACE INTO lease (name, topic, partition, owner, session, epoch) VALUES (?, ?, ?, ?, ?, ?)",
                    [self._spec.group, *partition, self._spec.member, self._session, lease.epoch + 1],
                )
        return taken


def assign(current: Mapping[int, str | None], members: Sequence[str]) -> dict[int, str]:
    """Return the member that should own each number.

    Numbers of members differ by at most one, and as much as possible stays with its owner.

    Args:
        current: The owner of each number, None if it has none.
        members: All members, in an order that is the same for all of them.

    Returns:
        The future owner of each number.
    """
    owned = {member: [number for number, owner in sorted(current.items()) if owner == member] for member in members}
    quotient, remainder = divmod(len(current), len(members))
    order = sorted(members, key=lambda member: (-len(owned[member]), member))
    quotas = {member: quotient + (position < remainder) for position, member in enumerate(order)}
    staying = {number: member for member in members for number in owned[member][: quotas[member]]}
    vacancies = [member for member in order for _ in range(quotas[member] - min(quotas[member], len(owned[member])))]
    moving = [number for number in sorted(current) if number not in staying]
    return staying | dict(zip(moving, vacancies, strict=True))


def check_fence(database: Database, fence: Fence) -> None:
    """Raise FencedError if a claim does not hold any more; call it inside the transaction of an append."""
    topic, partition = fence.partition
    epoch = database.value(
        "SELECT epoch FROM lease WHERE name = ? AND topic = ? AND partition = ? AND owner IS NOT NULL",
        [fence.group, topic, partition],
    )
    if epoch != fence.epoch:
        raise FencedError(f"partition {partition} of {topic} belongs to another member of group {fence.group} by now")


def _is_alive(now: int, expires: int, lease: int) -> bool:
    """Return whether a lease has not ended; one that ends too far ahead was written before the machine started."""
    return now < expires <= now + 2 * lease


def has_members(database: Database, group: str, now: int) -> bool:
    """Return whether some member of a group has a lease that has not ended by a steady time."""
    leases = database.rows("SELECT expires, lease FROM member WHERE name = ?", [group])
    return any(_is_alive(now, expires, lease) for expires, lease in leases)


def write_position(database: Database, group: str, partition: TopicPartition, offset: int) -> None:
    """Write a position of a group; call it inside a transaction."""
    database.run(
        "INSERT INTO position (name, topic, partition, next) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (name, topic, partition) DO UPDATE SET next = excluded.next",
        [group, *partition, offset],
    )


def group_states(database: Database, prefix: str, now: int) -> list[GroupState]:
    """Return groups whose names begin with a prefix, with owners, positions and, at a steady time, whether they have members."""
    owners: dict[str, dict[TopicPartition, str | None]] = {}
    for group, topic, number, owner in database.rows("SELECT name, topic, partition, owner FROM lease"):
        owners.setdefault(group, {})[TopicPartition(topic, number)] = owner
    positions: dict[str, dict[TopicPartition, int]] = {}
    for group, topic, number, offset in database.rows("SELECT name, topic, partition, next FROM position"):
        positions.setdefault(group, {})[TopicPartition(topic, number)] = offset
    members = database.rows("SELECT name, expires, lease FROM member")
    alive = {group for group, expires, lease in members if _is_alive(now, expires, lease)}
    return [
        GroupState(name, owners.get(name, {}), positions.get(name, {}), name in alive)
        for name in sorted(owners.keys() | positions.keys())
        if name.startswith(prefix)
    ]
