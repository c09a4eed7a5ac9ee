"""The log under the rules of the embedded log: one transaction at a time, leases, and no reader that sees half a commit.

A process that is killed in the middle of a call has written all or nothing, so there is no stage between the two.

Where it differs from the real one:

- There is no file: nothing is damaged, repaired, removed or locked for reading, and what a commit has written is there.
- Sizes are those of rows in memory, not of encoded batches; a compaction leaves the batches as they are and joins none.
- The lease of a member that works is kept as its thread would keep it, also by a clock that is moved by hand, as long as its
  process runs (`Life`); the real thread renews it a few times in each lease, so a lease may end a quarter sooner there.
- Polls and `wait` return at once. A full disk or a log that cannot be reached fails before anything is done, also in `renew`,
  `give_up` and `leave` of a member; no answer is lost, since the log is in the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from random import Random

import numpy as np

from kandle.errors import ReplacedError
from kandle.log.embedded.compaction import TOMBSTONE_RETENTION
from kandle.log.embedded.consumer import MAX_POLL_BYTES
from kandle.log.embedded.given_bytes import decoded_records, given_rejects, stored_records
from kandle.log.port import (
    Consumer,
    Fence,
    GroupSpec,
    GroupState,
    Listener,
    Maintenance,
    TopicPartition,
    TopicTail,
    moved_with_members,
    report_removed,
)
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records
from kandle.plan.topics import TopicSpec
from kandle.time.clock import Clock
from tests.simulation.logs.leases import LeaseGroup, LeaseMember
from tests.simulation.logs.log import Limits, SimulatedLog, bounds, read
from tests.simulation.logs.state import WorldState
from tests.simulation.logs.storage import Prepared, Topic
from tests.simulation.logs.topics import Topics, checked


class LeaseState(WorldState):
    """What the processes of one embedded log share.

    Attributes:
        groups: The groups by name.
        least_rows: New records for which a partition is compacted.
    """

    def __init__(self, random: Random, clock: Clock, topics: Topics, least_rows: int) -> None:
        super().__init__(random, clock, topics)
        self.groups: dict[str, LeaseGroup] = {}
        self.least_rows = least_rows

    def group(self, name: str) -> LeaseGroup:
        """Return a group, which comes to be with the first question for it."""
        return self.groups.setdefault(name, LeaseGroup())

    def clean(self) -> Maintenance:
        """Apply retention and compaction."""
        removed = [self._cleaned(topic) for topic in self.topics.by_name.values()]
        return Maintenance(sum(rows for rows, _ in removed), sum(size for _, size in removed))

    def _cleaned(self, topic: Topic) -> tuple[int, int]:
        now, spec = self.clock.now(), topic.spec
        rows = size = 0
        for partition in topic.partitions:
            removed = [partition.drop_before(partition.due(spec, now))]
            clean, dirty = partition.dirty_rows()
            if spec.compacted and spec.keys and dirty >= max(self.least_rows, clean // 2):
                removed.append(partition.compact(spec.keys, partition.end, now - TOMBSTONE_RETENTION))
            partition.first = partition.first_kept
            rows += sum(count for count, _ in removed)
            size += sum(count for _, count in removed)
        return rows, size


class EmbeddedRules(SimulatedLog):
    """A log of one process under the rules of the embedded log."""

    state: LeaseState

    @property
    def has_own_clock(self) -> bool:
        return self.clock is not self.state.clock

    def _kept(self, spec: TopicSpec) -> TopicSpec:
        return replace(spec, append_time=False, configs=(), is_created=True, is_growing=False)

    def prepare(self, writes: Sequence[AnyWrite]) -> list[Prepared]:
        """Check records, before anything is written."""
        return [self._prepare(write) for write in writes]

    def _prepare(self, write: AnyWrite) -> Prepared:
        spec = self.views.spec(write.topic)
        partitions = self.state.topics.get(write.topic).partitions
        if not isinstance(write, EncodedWrite):
            records = checked(spec, write)
            return Prepared(partitions[write.partition], spec.columns, records)
        partition = partitions[write.partition]
        records, given = stored_records(spec, write, self.views.declared(write.topic))
        if given is None:
            return Prepared(partition, spec.columns, records)
        rejects = given_rejects(spec, given, records, np.arange(len(write)), np.zeros(len(write), np.int64))
        rows = records.filter(given.is_null())
        return Prepared(partition, spec.columns, rows, {reject.offset: reject for reject in rejects})

    def store(self, prepared: Sequence[Prepared]) -> list[int]:
        """Append checked records; return the offset of each one's first record."""
        now = self.state.clock.now()
        first = []
        for write in prepared:
            first.append(write.partition.end)
            if len(write):
                write.partition.append(write, now)
        return first

    def append(self, writes: Sequence[AnyWrite], fence: Fence | None = None) -> list[int]:
        prepared = self.prepare(writes)
        partitions = [TopicPartition(write.topic, write.partition) for write in writes]
        self.state.at(self.process, "append", partitions=partitions, is_write=True)
        if fence is not None:
            self.state.group(fence.group).check_fence(fence)
        first = self.store(prepared)
        self.state.at(self.process, "append", "after", partitions)
        return first

    def decoded(self, write: EncodedWrite) -> Records:
        return decoded_records(self.views.spec(write.topic), write, self.views.declared(write.topic))

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        self.state.at(self.process, "read", partitions=[partition])
        spec = self.views.spec(partition.topic)
        limits = Limits(self.state.topics.partition(partition).end, max_rows, span=span)
        return read(self.state, spec, partition, offset, limits)[0]

    def rows_in(self, topic: str, span: tuple[int, int]) -> int:
        self.state.at(self.process, "rows_in")
        known = self.state.topics.get(topic)
        chunks = [chunk for part in known.partitions for chunk in part.from_offset(part.first, part.end)]
        return sum(chunk.rows for chunk in chunks if chunk.touches(known.spec.time, span))

    def tail(self, topic: str, positions: Mapping[int, int]) -> TopicTail:
        return EmbeddedRulesTail(self, topic, positions)

    def truncate(self, partition: TopicPartition, before: int) -> None:
        self.state.at(self.process, "truncate", partitions=[partition], is_write=True)
        kept = self.state.topics.partition(partition)
        kept.drop_before(before)
        kept.first = kept.first_kept

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        for topic in spec.topics:
            self.state.topics.get(topic)
        return EmbeddedRulesConsumer(self, spec, listener)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        self.state.at(self.process, "committed")
        positions = self.state.positions.get(group, {})
        return {partition.partition: offset for partition, offset in sorted(positions.items()) if partition.topic == topic}

    def set_positions(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        self.state.at(self.process, "set_positions", is_write=True)
        if self.has_members(group):
            raise moved_with_members(group)
        for partition in positions:
            self.state.topics.get(partition.topic)
        self.state.positions.setdefault(group, {}).update(positions)

    def has_members(self, group: str) -> bool:
        self.state.at(self.process, "has_members")
        return self.state.group(group).has_members(self.state.clock.steady())

    def groups(self, prefix: str = "") -> list[GroupState]:
        self.state.at(self.process, "groups")
        groups, positions = self.state.groups, self.state.positions
        names = sorted({name for name, group in groups.items() if group.leases} | {name for name in positions if positions[name]})
        return [
            GroupState(
                name,
                {partition: lease.owner for partition, lease in sorted(self.state.group(name).leases.items())},
                dict(sorted(positions.get(name, {}).items())),
                self.state.group(name).has_members(self.state.clock.steady()),
            )
            for name in names
            if name.startswith(prefix)
        ]

    def maintain(self) -> Maintenance:
        self.state.at(self.process, "maintain", is_write=True)
        return self.state.clean()

    def connect(self) -> EmbeddedRules:
        return EmbeddedRules(self.state, self.process, self.views)


class EmbeddedRulesTail:
    """A reader of all partitions of a topic."""

    def __init__(self, log: EmbeddedRules, topic: str, positions: Mapping[int, int]) -> None:
        self._log, self._topic = log, topic
        self._positions = {number: positions.get(number, 0) for number in range(log.partition_count(topic))}

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        batches: list[Batch] = []
        for number, position in self._positions.items():
            fresh = self._log.read(TopicPartition(self._topic, number), position, max_rows)
            if fresh:
                self._positions[number] = fresh[-1].next_offset
                batches += fresh
        return batches

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        return bounds(self._log.state, self._topic)

    def close(self) -> None:
        """Do nothing: it holds nothing."""


class EmbeddedRulesConsumer:
    """A member of a group under the rules of the embedded log; see `kandle.log.embedded.consumer`."""

    def __init__(self, log: EmbeddedRules, spec: GroupSpec, listener: Listener | None) -> None:
        self._log, self._state, self._spec, self._listener = log, log.state, spec, listener
        self._member = LeaseMember(log.state, log.process, log.state.group(spec.group), spec)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._last_read: dict[str, int] = {}
        self._is_closed = False
        self._removed = 0

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._member.owned)

    @property
    def statistics(self) -> Mapping[str, int]:
        return {}

    @property
    def removed(self) -> int:
        return self._removed

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        self._state.at(self._log.process, "poll")
        self._member.note_life()
        if not self._is_closed and self._member.is_due():
            self._renew()
        return self._read(max_rows)

    def wake(self) -> None:
        """Do nothing: no poll waits."""

    def _renew(self) -> None:
        """Renew the lease, and tell the listener what that has changed."""
        self._state.at(self._log.process, "renew", is_write=True)
        try:
            renewal = self._member.renew()
        except ReplacedError:
            lost = list(self._member.owned)
            self._member.owned.clear()
            if lost and self._listener is not None:
                self._listener.lost(lost)
            raise
        for partition in (*renewal.lost, *renewal.taken):
            self._positions.pop(partition, None)
        if renewal.lost and self._listener is not None:
            self._listener.lost(renewal.lost)
        self._give_up(renewal.surplus)
        self._member.owned.update(renewal.taken)
        if renewal.taken and self._listener is not None:
            self._listener.assigned(sorted(renewal.taken))

    def _give_up(self, partitions: Sequence[TopicPartition]) -> None:
        """Let the listener finish, then free the partitions for their new owners."""
        if not partitions:
            return
        if self._listener is not None:
            self._listener.revoked(partitions)
        self._state.at(self._log.process, "give_up", is_write=True)
        self._member.give_up(partitions)
        for partition in partitions:
            self._positions.pop(partition, None)

    def _read(self, max_rows: int) -> list[Batch]:
        """Read topics in the order of the group's spec, so that records of a later topic are at least as new."""
        batches: list[Batch] = []
        for topic in self._spec.topics:
            rows, size = max_rows, self._spec.max_bytes or MAX_POLL_BYTES
            spec = self._log.views.spec(topic)
            for partition in self._in_turn(topic):
                position, kept = self._position(partition), self._state.topics.partition(partition)
                fresh, _ = read(self._state, spec, partition, position, Limits(kept.end, rows, size))
                if not fresh or (len(fresh[0]) and int(fresh[0].offsets[0]) > position):
                    self._skip_removed(partition, position)
                if not fresh:
                    continue
                self._positions[partition] = fresh[-1].next_offset
                self._last_read[topic] = partition.partition
                batches += fresh
                rows -= sum(len(batch) for batch in fresh)
                size -= sum(batch.memory for batch in fresh)
                if rows <= 0 or size <= 0:
                    break
        return batches

    def _in_turn(self, topic: str) -> list[TopicPartition]:
        """Return the partitions to be read of a topic; those behind the last one that was read come first."""
        owned = sorted(self._member.owned)
        readable = [partition for partition in owned if partition.topic == topic and partition not in self._paused]
        last = self._last_read.get(topic, -1)
        return sorted(readable, key=lambda partition: (partition.partition <= last, partition.partition))

    def _skip_removed(self, partition: TopicPartition, position: int) -> None:
        """Say so if records at the position were removed by retention; a compaction leaves nothing out that counts."""
        first = self._state.topics.partition(partition).first
        if first > position and not self._state.topics.get(partition.topic).spec.compacted:
            self._removed += report_removed(self._spec.group, partition, position, first)
            self._positions[partition] = first

    def _position(self, partition: TopicPartition) -> int:
        """Return where to read on: where the group has committed, else where its spec says."""
        if partition not in self._positions:
            committed = self._state.positions.get(self._spec.group, {}).get(partition)
            kept = self._state.topics.partition(partition)
            start = kept.first if self._spec.reset == "earliest" else kept.end
            self._positions[partition] = start if committed is None else committed
        return self._positions[partition]

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        self._state.at(self._log.process, "committed")
        positions = self._state.positions.get(self._spec.group, {})
        return {partition: positions[partition] for partition in partitions if partition in positions}

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[AnyWrite] = ()) -> list[int]:
        self._member.note_life()
        prepared = self._log.prepare(writes)
        partitions = [*offsets, *(TopicPartition(write.topic, write.partition) for write in writes)]
        self._state.at(self._log.process, "commit", partitions=partitions, is_write=True)
        self._member.check_owned(offsets)
        if offsets:
            self._state.positions.setdefault(self._spec.group, {}).update(offsets)
        first = self._log.store(prepared)
        self._state.at(self._log.process, "commit", "after", partitions)
        return first

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._give_up(list(self._member.owned))
        self._state.at(self._log.process, "leave", is_write=True)
        self._member.leave()
