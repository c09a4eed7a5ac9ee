"""What the brokers of a cluster do: transactions with their markers and time-outs, and groups with sessions and generations.

**Transactions.** A transactional id has an epoch, which grows when a producer opens it. That aborts what is open under the id,
and what an older producer sends is refused from then on. Records of a transaction stand in their partitions at once, but readers
see nothing from the first of them on until its marker is written, which may be a while after the commit has returned:

    partition     0 .. 9     10 .. 12 (open)     commit returns           marker at 13
    readers see   .. 9       .. 9                .. 9                     .. 13
    end           10         13                  13                       14

**Groups.** A member has a name that outlives its process (static membership). Whoever joins under a name takes the place, and the
partitions, of the member before; that one learns it with its next request. Partitions move in two steps: their owner gives them
up with its next poll, and only then another member gets them with one of its own. A member that is silent for its session is out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random

from kandle.errors import FencedError, UnavailableError
from kandle.log.embedded.compaction import TOMBSTONE_RETENTION
from kandle.log.embedded.membership import assign
from kandle.log.kafka.catalog import COUNT_INTERVAL
from kandle.log.port import Maintenance, TopicPartition
from kandle.plan.topics import TopicSpec
from kandle.serde.codec import TopicCodec, topic_codec
from kandle.serde.registry import EmbeddedRegistry, MemoryJournal
from kandle.time.clock import Clock
from kandle.time.timeframe import SECOND
from tests.simulation.logs.state import Life, WorldState
from tests.simulation.logs.storage import Chunk, Partition, Prepared
from tests.simulation.logs.topics import Topics


@dataclass(slots=True)
class OpenTransaction:
    """What a transaction has written that is neither committed nor aborted."""

    deadline: int
    chunks: list[tuple[Partition, Chunk]] = field(default_factory=list)
    group: str = ""
    positions: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class TransactionalId:
    """A transactional id; `epoch` counts the producers that have opened it."""

    epoch: int = 0
    open: OpenTransaction | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker that is not written yet: when it will be, and the first offset that readers wait for until then."""

    due: int
    partition: Partition
    first: int


@dataclass(frozen=True, slots=True)
class Membership:
    """A member as the brokers know it: `id` tells it from others that have had its name."""

    id: int
    topic: str
    life: Life


class SessionGroup:
    """A consumer group of the brokers."""

    def __init__(self, name: str, topics: Topics) -> None:
        self.name, self._topics = name, topics
        self.generation = 0
        self.members: dict[str, Membership] = {}
        self.owners: dict[TopicPartition, str] = {}
        self.target: dict[TopicPartition, str] = {}
        """The member that should own each partition."""
        self._counts: dict[str, int] = {}
        self._counted_at = 0

    def join(self, member: str, membership: Membership) -> None:
        """Let a member in, or let it take the place of the one before under its name."""
        known = self.members.get(member)
        self.members[member] = membership
        # What the one before was to give up is nobody's: the newcomer never owned it, so nobody would give it up.
        surplus = [partition for partition, owner in self.owners.items() if owner == member != self.target.get(partition)]
        for partition in surplus:
            del self.owners[partition]
        if known is None or known.topic != membership.topic:
            self._rebalance()

    def leave(self, member: str) -> None:
        """Have a member be out; what it owned is free."""
        del self.members[member]
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner != member}
        self._rebalance()

    def expire(self, now: int) -> None:
        """Remove members whose sessions are over."""
        for name in [name for name, member in self.members.items() if member.life.is_over(now)]:
            self.leave(name)

    def count(self, now: int) -> None:
        """Look now and then whether there are more partitions, as the leader of the group does."""
        if 0 <= now - self._counted_at < COUNT_INTERVAL:
            return
        self._counted_at = now
        if any(len(self._topics.get(topic).partitions) != count for topic, count in self._counts.items()):
            self._rebalance()

    def _rebalance(self) -> None:
        self.generation += 1
        self.target, self._counts = {}, {}
        for topic in sorted({member.topic for member in self.members.values()}):
            count = self._counts[topic] = len(self._topics.get(topic).partitions)
            subscribers = sorted(name for name, member in self.members.items() if member.topic == topic)
            current = {number: self.owners.get(TopicPartition(topic, number)) for number in range(count)}
            self.target |= {TopicPartition(topic, number): owner for number, owner in assign(current, subscribers).items()}

    @property
    def is_settled(self) -> bool:
        """Whether every partition belongs to the member that should own it."""
        return self.owners == self.target

    def check(self, member: str, number: int) -> None:
        """Raise FencedError unless a member is in the group with this number."""
        known = self.members.get(member)
        if known is None or known.id != number:
            reason = "its session is over" if known is None else "another process has its name"
            raise FencedError(f"commit of group {self.name}: {member} has lost its partitions, {reason}; nothing was written")


@dataclass(frozen=True, slots=True)
class Claim:
    """A transactional id that may have a transaction open for a partition of a group."""

    group: str
    partition: TopicPartition
    transactional_id: str


class Claims:
    """The claims of all members; see `kandle.log.kafka.takeover`, which keeps them in a topic."""

    def __init__(self) -> None:
        self._claims: dict[Claim, tuple[int, int]] = {}
        self._newest: dict[tuple[str, int], int] = {}
        self._number = 0

    def ids(self, group: str, partitions: Collection[TopicPartition]) -> dict[str, list[TopicPartition]]:
        """Return the transactional ids that have claims to partitions, with these partitions."""
        by_id: dict[str, list[TopicPartition]] = {}
        for claim in self._claims:
            if claim.group == group and claim.partition in partitions:
                by_id.setdefault(claim.transactional_id, []).append(claim.partition)
        return by_id

    def add(self, group: str, partitions: Collection[TopicPartition], transactional_id: str, process: int) -> None:
        """Claim partitions."""
        for partition in partitions:
            self._number += 1
            self._claims[Claim(group, partition, transactional_id)] = (process, self._number)
            self._newest[transactional_id, process] = self._number

    def remove(self, group: str, partitions: Collection[TopicPartition], transactional_id: str) -> None:
        """Remove claims."""
        for partition in partitions:
            self._claims.pop(Claim(group, partition, transactional_id), None)

    def has_successor(self, group: str, transactional_id: str, process: int) -> bool:
        """Return whether another process has made a claim under this id since the last one of this process."""
        own = self._newest.get((transactional_id, process))
        values = [
            value for claim, value in self._claims.items() if (claim.group, claim.transactional_id) == (group, transactional_id)
        ]
        return own is not None and any(owner != process and number > own for owner, number in values)


class BrokerState(WorldState):
    """What the processes of one cluster share.

    Args:
        random: Decides what is left to chance.
        clock: The clock of the brokers.
        topics: The topics.
        transaction: How long a transaction may be open, in microseconds.
    """

    def __init__(self, random: Random, clock: Clock, topics: Topics, transaction: int = 10 * SECOND) -> None:
        super().__init__(random, clock, topics)
        self.transaction = transaction
        self.groups: dict[str, SessionGroup] = {}
        self.claims = Claims()
        self.ids: dict[str, TransactionalId] = {}
        self._open: dict[str, OpenTransaction] = {}
        self._markers: list[Marker] = []
        self._registry = EmbeddedRegistry(MemoryJournal())
        self._codecs: dict[str, tuple[TopicSpec, TopicCodec]] = {}

    def expire(self) -> None:
        now = self.clock.steady()
        if now < self.faults.down_until:
            # Brokers that start again give every session its whole time; the next look is after that.
            return
        for group in self.groups.values():
            group.expire(now)
        if self._open:
            for transactional_id in [name for name, transaction in self._open.items() if transaction.deadline <= now]:
                self.end(transactional_id, is_committed=False)
                self.ids[transactional_id].epoch += 1
        if self._markers:
            self._write_markers([marker for marker in self._markers if marker.due <= now])

    def group(self, name: str) -> SessionGroup:
        """Return a group, which comes to be with the first question for it."""
        if name not in self.groups:
            self.groups[name] = SessionGroup(name, self.topics)
        return self.groups[name]

    def open_id(self, transactional_id: str) -> int:
        """Open a transactional id for a new producer, and return its epoch; what is open under the id is aborted."""
        identity = self.ids.setdefault(transactional_id, TransactionalId())
        if identity.open is not None:
            self.end(transactional_id, is_committed=False)
        self.write_markers()
        identity.epoch += 1
        return identity.epoch

    def check_epoch(self, transactional_id: str, epoch: int) -> None:
        """Raise FencedError if another producer has opened the id, or the transaction has taken too long."""
        self.expire()
        if self.ids[transactional_id].epoch != epoch:
            raise FencedError(f"transactional id {transactional_id}: fenced by a newer producer; nothing was written")

    def begin(self, transactional_id: str) -> OpenTransaction:
        """Begin a transaction; the producer waits for the markers of the one before."""
        self.write_markers()
        transaction = OpenTransaction(self.clock.steady() + self.transaction)
        self.ids[transactional_id].open = self._open[transactional_id] = transaction
        return transaction

    def write(self, transaction: OpenTransaction, prepared: Prepared, time: int, *, is_stamped: bool) -> int:
        """Write records of a transaction, and return the offset of the first."""
        partition = prepared.partition
        if all(other is not partition for other, _ in transaction.chunks):
            partition.unstable.append(partition.end)
        chunk = partition.append(prepared, time, is_stamped=is_stamped)
        transaction.chunks.append((partition, chunk))
        return chunk.first

    def end(self, transactional_id: str, *, is_committed: bool) -> None:
        """Commit or abort a transaction."""
        transaction = self._open.pop(transactional_id)
        self.ids[transactional_id].open = None
        if is_committed and transaction.positions:
            self.positions.setdefault(transaction.group, {}).update(transaction.positions)
        firsts: dict[int, tuple[Partition, int]] = {}
        for partition, chunk in transaction.chunks:
            firsts.setdefault(id(partition), (partition, chunk.first))
            if not is_committed:
                partition.remove(chunk)
        now, delay = self.clock.steady(), self.faults.marker_delay
        markers = [Marker(now + self.random.randint(0, delay), *first) for first in firsts.values()] if delay else [
            Marker(now, *first) for first in firsts.values()
        ]  # fmt: skip
        self._markers += markers
        self._write_markers([marker for marker in markers if marker.due <= now])

    def write_markers(self) -> None:
        """Write the markers of all transactions that have ended, since somebody waits for them."""
        if self._markers:
            self._write_markers(list(self._markers))

    def _write_markers(self, markers: list[Marker]) -> None:
        for marker in sorted(markers, key=lambda marker: marker.due):
            self._markers.remove(marker)
            marker.partition.unstable.remove(marker.first)
            marker.partition.mark()

    def settled(self, group: str, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return committed positions; UnavailableError while an open transaction may change them."""
        for transaction in self._open.values():
            if transaction.group == group and any(partition in transaction.positions for partition in partitions):
                names = ", ".join(f"{partition.topic} {partition.partition}" for partition in sorted(partitions))
                raise UnavailableError(f"group {group}: a transaction that changes positions in {names} is open")
        positions = self.positions.get(group, {})
        return {partition: positions[partition] for partition in partitions if partition in positions}

    def codec(self, spec: TopicSpec) -> TopicCodec:
        """Return what encodes and decodes records of a topic, where somebody wants their bytes."""
        known = self._codecs.get(spec.name)
        if known is None or known[0].columns != spec.columns:
            known = self._codecs[spec.name] = (spec, topic_codec(spec.name, spec.columns, spec.keys, self._registry))
        return known[1]

    def clean(self) -> Maintenance:
        rows = size = 0
        now = self.clock.now()
        for topic in self.topics.by_name.values():
            for partition in topic.partitions:
                due = min(partition.due(topic.spec, now), partition.stable)
                removed = [partition.drop_before(due)]
                partition.first = max(partition.first, due)
                if topic.spec.compacted and topic.spec.keys:
                    removed.append(partition.compact(topic.spec.keys, partition.stable, now - TOMBSTONE_RETENTION))
                rows += sum(count for count, _ in removed)
                size += sum(count for _, count in removed)
        return Maintenance(rows, size)

    def add_partitions(self, topic: str, count: int) -> None:
        """Have a topic have so many partitions."""
        self.topics.get(topic).add_partitions(count)
