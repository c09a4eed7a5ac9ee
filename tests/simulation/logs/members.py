"""Members of a group on a cluster; see `kandle.log.kafka.consumer`, `assignment` and `takeover`, whose rules these are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl

from kandle.errors import FencedError, ReplacedError
from kandle.log.kafka.assignment import Sharing, check_positions
from kandle.log.kafka.catalog import COUNT_INTERVAL
from kandle.log.kafka.consumer import Stalls
from kandle.log.kafka.reading import MAX_POLL_BYTES, MAX_POLL_ROWS
from kandle.log.kafka.settings import MIN_SESSION
from kandle.log.port import GroupSpec, Listener, TopicPartition, report_removed
from kandle.log.records import AnyWrite, Batch, Records
from kandle.plan.topics import TopicSpec
from kandle.time.timeframe import MINUTE
from tests.simulation.logs.brokers import BrokerState, Membership
from tests.simulation.logs.log import Limits, read
from tests.simulation.logs.producers import FencedProducers, Transactions, lose_answer
from tests.simulation.logs.state import Life, Process
from tests.simulation.logs.storage import Prepared

MAX_POLL_INTERVAL = 5 * MINUTE
"""How long a member may work between two polls, unless its spec says so."""


class LogOfMember(Protocol):
    """What a member needs of the log that it belongs to."""

    state: BrokerState
    process: Process

    @property
    def fenced(self) -> FencedProducers:
        """The fenced producers of the process."""

    def reader_spec(self, topic: str) -> TopicSpec:
        """Return a topic as the process sees it."""

    def counted(self, topic: str) -> int:
        """Return the number of partitions, asked for anew."""

    def prepare(self, writes: Sequence[AnyWrite]) -> list[Prepared]:
        """Check records."""

    def note_appended(self, first: Sequence[int], writes: Sequence[AnyWrite]) -> None:
        """Note where records stand that this process has appended."""


@dataclass(slots=True)
class Takeover:
    """Recovers partitions whose previous owner has died, and finds where to read on."""

    state: BrokerState
    spec: GroupSpec
    transactions: Transactions
    claimed: dict[TopicPartition, None]

    def begin(self, partitions: Sequence[TopicPartition], added: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where to read on; partitions that were `added` while the group reads are read from their beginning."""
        claims = self.state.claims.ids(self.spec.group, partitions)
        if claims.pop(self.transactions.id, None):
            self.transactions.open()
        for transactional_id, claimed in sorted(claims.items()):
            self.state.open_id(transactional_id)
            self.state.claims.remove(self.spec.group, claimed, transactional_id)
        committed = self.state.settled(self.spec.group, partitions)
        bounds = {}
        for partition in partitions:
            kept = self.state.topics.partition(partition)
            bounds[partition] = (kept.first, kept.end)
        check_positions(self.spec.group, committed, bounds)
        is_latest = self.spec.reset == "latest"
        return {part: limits[is_latest and part not in added] for part, limits in bounds.items()} | committed

    def claim(self, partitions: Iterable[TopicPartition]) -> None:
        """Claim owned partitions, before a transaction that concerns them."""
        fresh = [partition for partition in partitions if partition not in self.claimed]
        self.state.claims.add(self.spec.group, fresh, self.transactions.id, self.transactions.number)
        self.claimed.update(dict.fromkeys(fresh))

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Remove the claims to partitions that go to another member in order."""
        if self.transactions.is_settled:
            released = [partition for partition in partitions if partition in self.claimed]
            for partition in released:
                del self.claimed[partition]
            self.state.claims.remove(self.spec.group, released, self.transactions.id)

    def lose(self, partitions: Collection[TopicPartition]) -> None:
        """Note that partitions belong to others already."""
        lost = [partition for partition in partitions if partition in self.claimed]
        for partition in lost:
            del self.claimed[partition]
        if lost:
            self.transactions.discard()

    def has_namesake(self) -> bool:
        """Return whether another process has taken this member's place under its name."""
        return self.state.claims.has_successor(self.spec.group, self.transactions.id, self.transactions.number)


class KafkaRulesConsumer:
    """A member of a group."""

    def __init__(self, log: LogOfMember, spec: GroupSpec, listener: Listener | None) -> None:
        self._log, self._state, self._spec, self._listener = log, log.state, spec, listener
        self._group = log.state.group(spec.group)
        self._transactions = Transactions(log.state, log.process, f"{spec.group}-{spec.member}")
        self._takeover = Takeover(log.state, spec, self._transactions, {})
        self._sharing = Sharing({topic: log.counted(topic) for topic in spec.topics})
        session = max(spec.lease, MIN_SESSION)
        now = log.state.clock.steady()
        self._life = Life(log.process, session, max(spec.stall, session) if spec.stall else MAX_POLL_INTERVAL, now, now)
        self._stalls = Stalls(log.state.clock, session // 2)
        self._counted_at = now
        self._owned: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._held: dict[TopicPartition, None] = {}
        """Partitions that the brokers have assigned, without those that go with them."""
        self._pending: dict[TopicPartition, None] = {}
        self._replaced: ReplacedError | None = None
        self._is_ended = False
        self._removed = 0
        self._join()

    def _join(self) -> None:
        self._number = self._state.number()
        now = self._state.clock.steady()
        self._life = replace(self._life, seen=now, renewed=now)
        self._group.join(self._spec.member, Membership(self._number, self._sharing.subscribed, self._life))

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._owned)

    @property
    def statistics(self) -> Mapping[str, int]:
        return {}

    @property
    def removed(self) -> int:
        return self._removed

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        state = self._state
        if state.clock.steady() < state.faults.down_until:
            # The library waits until the brokers are back.
            self._stalls.note_poll()
            return []
        state.at(self._log.process, "poll")
        if self._is_ended:
            return []
        self._stalls.note_poll()
        if self._replaced is not None:
            self._check_replaced(self._replaced)
        self._check_membership()
        self._life.seen = state.clock.steady()
        self._group.count(self._life.seen)
        self._count_partitions()
        if self._pending:
            self._take_over()
        self._rebalance()
        return self._fetch(max_rows)

    def wake(self) -> None:
        """Do nothing: no poll waits."""

    def _check_membership(self) -> None:
        """Join again if the session was over; find out what it means if another process has the name."""
        known = self._group.members.get(self._spec.member)
        if known is None:
            self._lose_all()
            self._join()
        elif known.id != self._number:
            self._replaced = ReplacedError(f"group {self._spec.group}: FENCED_INSTANCE_ID")
            self._check_replaced(self._replaced)

    def _check_replaced(self, error: ReplacedError) -> None:
        self._lose_all()
        if not (self._stalls.are_recent and not self._takeover.has_namesake()):
            raise ReplacedError(
                f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                f"give each process its own name (option runtime.instance): {error}"
            ) from error
        self._replaced = None
        self._join()

    def _lose_all(self) -> None:
        lost = list(self._owned)
        self._held.clear()
        self._drop([*lost, *self._pending])
        self._takeover.lose(lost)
        if lost and self._listener is not None:
            self._listener.lost(lost)

    def _count_partitions(self) -> None:
        """Look now and then whether partitions were added to topics that the brokers do not assign."""
        now = self._state.clock.steady()
        if not self._sharing.others or 0 <= now - self._counted_at < COUNT_INTERVAL:
            return
        self._counted_at = now
        more = [topic for topic in self._sharing.others if self._sharing.set_count(topic, self._log.counted(topic))]
        if more:
            held = [partition for partition in self._owned if partition.topic == self._sharing.subscribed]
            self._pending.update(dict.fromkeys(part for part in self._sharing.together(held) if part not in self._owned))

    def _rebalance(self) -> None:
        """Give up what others should own, and take what is free of the own share."""
        group, member = self._group, self._spec.member
        surplus = sorted(partition for partition in self._held if group.target.get(partition) != member)
        if surplus:
            self._revoke(surplus)
        taken = [
            partition
            for partition, owner in group.target.items()
            if owner == member and partition not in self._held and group.owners.get(partition, member) == member
        ]
        if taken:
            self._held.update(dict.fromkeys(taken))
            group.owners |= dict.fromkeys(taken, member)
            self._pending.update(dict.fromkeys(part for part in self._sharing.together(taken) if part not in self._owned))
            self._take_over()

    def _revoke(self, surplus: Sequence[TopicPartition]) -> None:
        together = self._sharing.together(surplus)
        revoked = [partition for partition in together if partition in self._owned]
        try:
            if revoked and self._listener is not None:
                self._listener.revoked(revoked)
            self._takeover.release(revoked)
        finally:
            self._drop(together)
            for partition in surplus:
                self._held.pop(partition, None)
                if self._is_member() and self._group.owners.get(partition) == self._spec.member:
                    del self._group.owners[partition]

    def _is_member(self) -> bool:
        known = self._group.members.get(self._spec.member)
        return known is not None and known.id == self._number

    def _take_over(self) -> None:
        """Own what is pending; if the brokers cannot be asked, it stays pending for the next poll."""
        pending = sorted(self._pending)
        if not pending:
            return
        self._state.at(self._log.process, "takeover")
        added = [partition for partition in pending if self._sharing.is_added(partition)]
        begin = self._takeover.begin(pending, added)
        self._pending.clear()
        epoch = max([self._log.process.clock.now(), *(older + 1 for older in self._owned.values())])
        self._owned.update(dict.fromkeys(pending, epoch))
        self._log.fenced.set_owned(self._spec.group, self._owned)
        self._positions |= begin
        if self._listener is not None:
            self._listener.assigned(pending)

    def _drop(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self._pending.pop(partition, None)
            self._owned.pop(partition, None)
            self._positions.pop(partition, None)
        self._log.fenced.set_owned(self._spec.group, self._owned, dropped=partitions)

    def _fetch(self, max_rows: int) -> list[Batch]:
        """Return records of the partitions, of which any may come first, in the order of the group's topics."""
        rows, size = min(max_rows, MAX_POLL_ROWS), min(self._spec.max_bytes or MAX_POLL_BYTES, MAX_POLL_BYTES)
        readable = [partition for partition in sorted(self._owned) if partition not in self._paused]
        if len(readable) > 1:
            self._state.random.shuffle(readable)
        polled: dict[TopicPartition, list[Batch]] = {}
        for partition in readable:
            if rows <= 0 or size <= 0:
                break
            if self._is_late(partition):
                continue
            batches = polled[partition] = self._read(partition, Limits(0, rows, size, is_exact=True))
            rows -= sum(map(len, batches))
            size -= sum(batch.memory for batch in batches)
        order = {topic: number for number, topic in enumerate(self._spec.topics)}
        return [
            batch
            for partition in sorted(polled, key=lambda partition: (order[partition.topic], partition.partition))
            for batch in polled[partition]
        ]

    def _is_late(self, partition: TopicPartition) -> bool:
        """Return whether the records of a partition do not come with this poll."""
        faults = self._state.faults
        return self._state.is_away(partition) or (bool(faults.fetch_delay) and self._state.random.random() < faults.fetch_delay)

    def _read(self, partition: TopicPartition, limits: Limits) -> list[Batch]:
        """Return the records of a partition from its position on, and move the position behind them."""
        kept, position = self._state.topics.partition(partition), self._positions[partition]
        if not kept.first <= position <= kept.end:
            check_positions(self._spec.group, self._positions, {partition: (kept.first, kept.end)})
            self._removed += report_removed(self._spec.group, partition, position, kept.first)
            position = self._positions[partition] = kept.first
        spec = self._log.reader_spec(partition.topic)
        batches, following = read_committed(self._state, spec, partition, position, limits)
        self._positions[partition] = following
        batches = [believed(batch, self._log.process.clock.now()) for batch in batches]
        return [self._with_bytes(batch, spec) for batch in batches] if self._spec.with_bytes else batches

    def _with_bytes(self, batch: Batch, spec: TopicSpec) -> Batch:
        if batch.keys is not None:
            return batch
        keys, values = self._state.codec(spec).encode(batch.records.frame, batch.records.tombstones)
        return replace(batch, keys=keys, values=values)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        self._state.at(self._log.process, "committed")
        return self._state.settled(self._spec.group, partitions)

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[AnyWrite] = ()) -> list[int]:
        for partition in offsets:
            if partition not in self._owned:
                raise FencedError(
                    f"partition {partition.partition} of {partition.topic} is not owned by {self._spec.member} in group "
                    f"{self._spec.group} any more; nothing was written"
                )
        prepared = self._log.prepare(writes)
        partitions = [TopicPartition(write.topic, write.partition) for write in writes]
        self._state.at(self._log.process, "commit", partitions=partitions, is_write=True)
        if not any(map(len, prepared)):
            self._commit_positions(offsets)
            return [0 for _ in writes]
        self._takeover.claim(offsets)
        first = self._transactions.commit(prepared, self._spec.group, offsets, self._check_in_group)
        self._log.note_appended(first, writes)
        return first

    def _commit_positions(self, offsets: Mapping[TopicPartition, int]) -> None:
        if offsets:
            self._check_in_group()
            self._state.positions.setdefault(self._spec.group, {}).update(offsets)
            self._state.at(self._log.process, "commit", "after", list(offsets))
            lose_answer(self._state, self._log.process, f"commit of group {self._spec.group}")

    def _check_in_group(self) -> None:
        """Raise FencedError if the member is not in its group any more, or the group is busy."""
        self._group.check(self._spec.member, self._number)
        chance = self._state.faults.refused_commits
        if chance and not self._group.is_settled and self._state.random.random() < chance:
            raise FencedError(f"commit of group {self._spec.group}: members come and go; nothing was written")

    def close(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        self._state.at(self._log.process, "leave")
        try:
            if self._is_member():
                self._revoke(sorted(self._held))
        finally:
            self._drop(list(self._owned))
            if self._is_member():
                self._group.leave(self._spec.member)


def read_committed(
    state: BrokerState, spec: TopicSpec, partition: TopicPartition, offset: int, limits: Limits
) -> tuple[list[Batch], int]:
    """Return committed records from an offset on, and the next offset to read; a batch without records says only that.

    Args:
        state: The brokers.
        spec: The topic as the reader sees it.
        partition: The partition.
        offset: The first offset to read.
        limits: Where to stop; `until` does not count.
    """
    stable = state.topics.partition(partition).stable
    batches, is_whole = read(state, spec, partition, offset, replace(limits, until=stable))
    following = batches[-1].next_offset if batches else offset
    if not is_whole or following >= stable:
        return batches, following
    if batches:
        batches[-1] = replace(batches[-1], end=stable)
    else:
        nothing = np.zeros(0, np.int64)
        batches = [Batch(spec.name, partition.partition, nothing, nothing, Records(pl.DataFrame(schema=spec.schema)), stable)]
    return batches, stable


def believed(batch: Batch, now: int) -> Batch:
    """Return a batch as its reader believes it: no producer's time lies after the own one."""
    if batch.has_append_times or not len(batch) or (int(batch.timestamps[-1]) <= now and int(batch.timestamps.max()) <= now):
        return batch
    return replace(batch, timestamps=np.minimum(batch.timestamps, now))
