"""A consumer of the embedded log: reads the partitions that its membership owns, and commits positions together with records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kandle.errors import ReplacedError
from kandle.log.embedded.connection import Connection
from kandle.log.embedded.keeping import LeaseKeeper
from kandle.log.embedded.membership import RENEWALS, GroupMember, write_position
from kandle.log.embedded.notification import LONGEST_WAIT
from kandle.log.port import GroupSpec, Listener, TopicPartition, report_removed
from kandle.log.records import AnyWrite, Batch

MAX_POLL_BYTES = 64 << 20
"""With so many bytes of records in memory a poll returns."""


class EmbeddedConsumer:
    """A member of a group, as the port `Consumer` describes it.

    Args:
        connection: A connection to the log.
        spec: How the group is joined.
        listener: Learns of partitions that come and go.
    """

    def __init__(self, connection: Connection, spec: GroupSpec, listener: Listener | None) -> None:
        self._database = connection.database
        self._batches = connection.batches
        self._catalog = connection.catalog
        self._notifier = connection.notifier
        self._clock = connection.clock
        self._membership = GroupMember(connection, spec)
        self.keeper = LeaseKeeper(self._membership, spec, connection.clock)
        self._spec = spec
        self._listener = listener
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._last_read: dict[str, int] = {}
        self._is_closed = False
        self._is_woken = False
        self._removed = 0
        # It exists before the first look for records, so that none can come unnoticed.
        self._waiter = self._notifier.add_waiter()

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._membership.owned)

    @property
    def statistics(self) -> Mapping[str, int]:
        return {}

    @property
    def removed(self) -> int:
        return self._removed

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        deadline = self._clock.steady() + timeout
        # A clock that is moved by hand does not move while this waits.
        waited = 0
        while True:
            self.keeper.note_life()
            if not self._is_closed and self._membership.is_due():
                self._renew()
            before = dict(self._positions)
            try:
                batches = self._read(max_rows)
            except BaseException:
                # What was read of other partitions is not returned, so it has to come again.
                self._positions = before
                raise
            left = min(deadline - self._clock.steady(), timeout - waited)
            if batches or left <= 0 or self._is_woken:
                self._is_woken = False
                return batches
            pause = min(left, self._spec.lease // RENEWALS, LONGEST_WAIT)
            waited += 0 if self._waiter.wait(pause) else pause

    def wake(self) -> None:
        self._is_woken = True
        self._waiter.wake()

    def _renew(self) -> None:
        """Renew the lease, and tell the listener what that has changed."""
        try:
            renewal = self._membership.renew()
        except ReplacedError:
            lost = list(self._membership.owned)
            self._membership.owned.clear()
            if lost and self._listener is not None:
                self._listener.lost(lost)
            raise
        if renewal.is_new_generation:
            self._notifier.notify_all()
        for partition in (*renewal.lost, *renewal.taken):
            self._positions.pop(partition, None)
        if renewal.lost and self._listener is not None:
            self._listener.lost(renewal.lost)
        self._give_up(renewal.surplus)
        self._membership.owned.update(renewal.taken)
        if renewal.taken and self._listener is not None:
            self._listener.assigned(sorted(renewal.taken))

    def _give_up(self, partitions: Sequence[TopicPartition]) -> None:
        """Let the listener finish, then free the partitions for their new owners."""
        if not partitions:
            return
        if self._listener is not None:
            self._listener.revoked(partitions)
        self._membership.give_up(partitions)
        for partition in partitions:
            self._positions.pop(partition, None)
        self._notifier.notify_all()

    def _read(self, max_rows: int) -> list[Batch]:
        """Read topics in the order of the group's spec, so that records of a later topic are at least as new."""
        batches: list[Batch] = []
        for topic in self._spec.topics:
            rows, size = max_rows, self._spec.max_bytes or MAX_POLL_BYTES
            for partition in self._in_turn(topic):
                position = self._position(partition)
                read = self._batches.read(partition, position, rows, most_bytes=size)
                if not read or (len(read[0]) and int(read[0].offsets[0]) > position):
                    self._skip_removed(partition, position)
                if not read:
                    continue
                self._positions[partition] = read[-1].next_offset
                self._last_read[topic] = partition.partition
                batches += read
                rows -= sum(len(batch) for batch in read)
                size -= sum(batch.memory for batch in read)
                if rows <= 0 or size <= 0:
                    break
        return batches

    def _in_turn(self, topic: str) -> list[TopicPartition]:
        """Return the partitions to be read of a topic; those behind the last one that was read come first."""
        owned = sorted(self._membership.owned)
        readable = [partition for partition in owned if partition.topic == topic and partition not in self._paused]
        last = self._last_read.get(topic, -1)
        return sorted(readable, key=lambda partition: (partition.partition <= last, partition.partition))

    def _skip_removed(self, partition: TopicPartition, position: int) -> None:
        """Say so if records at the position were removed by retention; a compaction leaves nothing out that counts."""
        first, _ = self._batches.bounds(partition)
        if first > position and not self._catalog.known(partition.topic)[1].compacted:
            self._removed += report_removed(self._spec.group, partition, position, first)
            self._positions[partition] = first

    def _position(self, partition: TopicPartition) -> int:
        """Return where to read on: where the group has committed, else where its spec says."""
        if partition not in self._positions:
            committed = self.committed([partition]).get(partition)
            first, end = self._batches.bounds(partition)
            start = first if self._spec.reset == "earliest" else end
            self._positions[partition] = start if committed is None else committed
        return self._positions[partition]

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        rows = self._database.rows("SELECT topic, partition, next FROM position WHERE name = ?", [self._spec.group])
        positions = {TopicPartition(topic, number): offset for topic, number, offset in rows}
        return {partition: positions[partition] for partition in partitions if partition in positions}

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[AnyWrite] = ()) -> list[int]:
        self.keeper.note_life()
        prepared = self._batches.prepare(writes)
        with self._database.transaction():
            for partition, offset in offsets.items():
                self._membership.check_owned(partition)
                write_position(self._database, self._spec.group, partition, offset)
            first = self._batches.append(prepared)
        if any(len(write) for write in writes):
            self._notifier.notify_all()
        return first

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            try:
                self._give_up(list(self._membership.owned))
            finally:
                self.keeper.close()
            self._membership.leave()
            self._notifier.notify_all()
        finally:
            self._notifier.remove_waiter(self._waiter)
