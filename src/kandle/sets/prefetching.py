"""Reading ahead of a handler: a thread polls, keeps the membership in the group, and commits what is done.

The thread owns the consumer. Whoever handles messages takes entries from it, and says what has become of each:

    handler   take(7)  works ....... finish(7)         take(8)  works ...
    thread    poll  poll  poll  poll     commit(8) ──────┘ poll  poll
                                         the next entry of a partition is handed out when the last one is committed

So a process that is killed leaves at most one entry of each partition in doubt: the one in hand, or the one that was just
done. While the commit of one partition is under way, entries of others are handled; one commit takes what is done of all
partitions. With an interval, commits wait so long and take more with them: only for work whose results are in the commit itself.

A partition that goes to another member is given up after its entry in hand is done, or after `REVOKE_PATIENCE`; then, and when a
partition is lost, what is done too late is not committed, and the next owner handles that one entry again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from kandle.errors import FencedError, StateError, UnavailableError, UnwritableError
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition, batches_by_partition
from kandle.log.records import Batch, Write
from kandle.log.versions import Adapt
from kandle.sets.entries import Entry, EntrySource, Limits, Note, PartitionFlow
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

logger = logging.getLogger("kandle")

POLL_INTERVAL = 50 * MILLISECOND
"""Longest time between two polls while there are entries to hand out, and so until a rebalance is noticed."""

PATIENCE = 200 * MILLISECOND
"""Longest wait of one poll while there are none."""

VAIN_POLLS = 50
"""After so many polls without partitions, which take about ten seconds, others seem to have them all."""

OUTAGE_PATIENCE = 5 * MINUTE
"""How long a log that cannot be reached is waited for."""

STOP_PATIENCE = 5 * SECOND
"""How long it is waited for by a loop that was left."""

LAST_ATTEMPTS = 20
"""How often a commit is tried again before the group is left."""

OUTAGE_INTERVAL = 200 * MILLISECOND

REVOKE_PATIENCE = 5 * SECOND
"""How long a partition that another member waits for is kept for its entry in hand."""

CLOSED = "the messages are closed already; commit them inside of `with ...manual_commit() as messages:`"


class Prefetcher:
    """Reads the partitions of one member of a group ahead of the handler of their records.

    Any thread may call the methods; entries are handed out one after the other.

    Args:
        log: The log.
        spec: How the group is joined.
        limits: How much is read ahead, and when commits are made.
        clock: The clock of the context.
        source: What entries are made of, where they begin, and where what their commits append is put.
    """

    def __init__(self, log: Log, spec: GroupSpec, limits: Limits, clock: Clock, source: EntrySource) -> None:
        self._log = log
        self._spec = replace(spec, max_bytes=limits.bytes)
        self._limits = limits
        self._clock = clock
        self._unpack, self._beginning, self._outboxes = source.unpack, source.beginning, source.outboxes
        self._on_end, self._adapters_of, self._is_manual = source.on_end, source.adapters, source.is_manual
        self._adapters: Mapping[str, Adapt | None] = {}
        self._begun: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        self._changed = threading.Condition()
        self._alarm: Callable[[], None] | None = None
        self._flows: dict[TopicPartition, PartitionFlow] = {}
        self._last: TopicPartition | None = None
        self._requests: deque[tuple[TopicPartition, int, Future[None]]] = deque()
        self._commit_due: int | None = None
        self._is_stopping = False
        self._is_at_end = False
        self.has_looked = False
        """Whether all that stood in the partitions of this member has been read, or it seems to get none."""
        self._vain_polls = 0
        self._is_poll_late = False
        self._polled_at = clock.steady()
        self._is_uncertain = False
        """Whether the last commit may have been made although it has failed."""
        self._outage = 0
        self._error: BaseException | None = None
        self._is_raised = False
        self._consumer: Consumer | None = None
        self._can_wake = True
        self._thread = threading.Thread(target=self._run, name=f"kandle-{spec.group}-{spec.member}", daemon=True)
        self._thread.start()

    # What handlers call

    def take(self) -> Entry | None:
        """Hand out the next entry, of a partition whose last one is done.

        Returns:
            The entry; None if there is none now.

        Raises:
            KandleError: The thread has failed; nothing more comes.
        """
        with self._changed:
            if self._error is not None:
                self._is_raised = True
                raise self._error
            if self._is_stopping:
                return None
            for partition in self._in_turn():
                flow = self._flows[partition]
                if not self._is_free(flow):
                    continue
                flow.rests_until = None
                flow.taken = flow.ready.popleft()
                self._last = partition
                return flow.taken
            return None

    def _in_turn(self) -> list[TopicPartition]:
        last = self._last
        return sorted(self._flows, key=lambda partition: (last is not None and partition <= last, partition))

    def _is_free(self, flow: PartitionFlow) -> bool:
        """Return whether the next entry of a partition can be handed out, and unpack it."""
        waits = self._limits.interval == 0 and (flow.done is not None or flow.is_committing)
        if flow.taken is not None or flow.is_leaving or waits or self._rest(flow) > 0:
            return False
        while not flow.ready and flow.batches:
            batch = flow.next_rows()
            partition = TopicPartition(batch.topic, batch.partition)
            flow.ready.extend(Entry(partition, flow.epoch, offset, content) for offset, content in self._unpack(batch))
        return bool(flow.ready)

    def _rest(self, flow: PartitionFlow) -> int:
        return 0 if flow.rests_until is None else max(0, flow.rests_until - self._clock.steady())

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to hand out, now or once a commit or a rest is over."""
        with self._changed:
            return not any(flow.has_entries for flow in self._flows.values())

    @property
    def rest(self) -> int | None:
        """How long all partitions rest of which there is something to hand out, in microseconds; None if one does not."""
        with self._changed:
            rests = [self._rest(flow) for flow in self._flows.values() if flow.has_entries]
            return min(rests) if rests and min(rests) > 0 else None

    def end_rests(self) -> None:
        """Let all partitions go on: the clock is moved by hand, and nobody moves it."""
        with self._changed:
            for flow in self._flows.values():
                flow.rests_until = None

    def finish(self, entry: Entry, note: Note | None = None, rest: int | None = None) -> None:
        """Note that an entry is done, to be committed.

        Args:
            entry: The entry, as it was taken.
            note: Puts records that are appended by the same commit into the outbox.
            rest: How long nothing more of its partition is handed out, in microseconds.
        """
        with self._changed:
            flow = self._flow_of(entry)
            if flow is None:
                return
            flow.taken = None
            flow.done = entry.offset + 1
            if note is not None:
                flow.notes.append(note)
            flow.rests_until = None if rest is None else self._clock.steady() + rest
            if self._commit_due is None:
                self._commit_due = self._clock.steady() + self._limits.interval
            if self._is_commit_due():
                self._notify()

    def release(self, entry: Entry) -> None:
        """Note that an entry was handed out, and is committed by whoever has it: manual commits.

        Args:
            entry: The entry, as it was taken.
        """
        with self._changed:
            flow = self._flow_of(entry)
            if flow is not None:
                flow.taken = None
                self._changed.notify_all()

    def put_back(self, entry: Entry, rest: int) -> None:
        """Have an entry handed out again as the next one of its partition.

        Args:
            entry: The entry, as it was taken.
            rest: How long nothing of its partition is handed out, in microseconds.
        """
        with self._changed:
            flow = self._flow_of(entry)
            if flow is not None:
                flow.taken = None
                flow.ready.appendleft(replace(entry, attempt=entry.attempt + 1))
                flow.rests_until = self._clock.steady() + rest
                self._changed.notify_all()

    def _flow_of(self, entry: Entry) -> PartitionFlow | None:
        """Return the flow of an entry in hand; None if its partition was given up since, or it is done already."""
        flow = self._flows.get(entry.partition)
        return flow if flow is not None and flow.taken is entry else None

    def commit(self, partition: TopicPartition, following: int) -> Future[None]:
        """Commit a position.

        Args:
            partition: The partition.
            following: The offset of the first record that is not done.

        Returns:
            What is done when the position is committed; FencedError if the partition belongs to another member.
        """
        done: Future[None] = Future()
        with self._changed:
            if self._error is not None or self._is_stopping:
                done.set_exception(self._error or StateError(CLOSED))
            else:
                self._requests.append((partition, following, done))
                self._notify()
        return done

    def wait(self, timeout: int) -> None:
        """Block until something has changed.

        Args:
            timeout: The longest wait, in microseconds.
        """
        with self._changed:
            if not self._can_go_on():
                self._changed.wait(timeout / SECOND)

    def _can_go_on(self) -> bool:
        return self._error is not None or self._is_stopping or any(map(self._is_free, self._flows.values()))

    def call_when_changed(self, alarm: Callable[[], None]) -> None:
        """Call a function once, from any thread, when something has changed, or at once if there is something to take.

        Args:
            alarm: The function, in the place of the one before; it must not block.
        """
        with self._changed:
            if self._can_go_on():
                alarm()
            else:
                self._alarm = alarm

    def stop(self) -> None:
        """Have the thread commit what is done, leave the group and end; entries in hand are not done."""
        with self._changed:
            self._is_stopping = True
            self._notify()

    def join(self) -> None:
        """Wait for the end of the thread.

        Raises:
            KandleError: What was done could not be committed.
        """
        if self._thread is threading.current_thread():
            return
        self._thread.join()
        if self._error is not None and not self._is_raised:
            self._is_raised = True
            raise self._error

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is handed out, since the thread was told to end."""
        return self._is_stopping

    def _notify(self) -> None:
        """Wake everybody, also a poll that waits for records."""
        self._changed.notify_all()
        if self._consumer is not None and self._can_wake:
            self._consumer.wake()

    def _tell(self) -> None:
        """Wake those who wait for entries."""
        self._changed.notify_all()
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            # The event loop of the waiter may have been closed since.
            with suppress(RuntimeError):
                alarm()

    # The thread

    def _run(self) -> None:
        try:
            try:
                topic = self._spec.topics[-1]
                if self._beginning is not None:
                    self._beginning.check(topic, self._log.partition_count(topic))
                if self._adapters_of is not None:
                    self._adapters = self._adapters_of()
                    self._spec = replace(self._spec, topics=tuple(self._adapters))
                self._consumer = self._log.consumer(self._spec, self)
                while not self._is_stopping:
                    self._turn(self._consumer)
                self._commit_last(self._consumer)
            finally:
                if self._consumer is not None:
                    with self._changed:
                        self._is_stopping, self._can_wake = True, False
                    self._consumer.close()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._flows.clear()
            for _, _, done in self._requests:
                done.set_exception(self._error or StateError(CLOSED))
            self._requests.clear()
            self._tell()
        self._on_end(self._error)

    def _commit_last(self, consumer: Consumer) -> None:
        """Commit what is done, before the group is left."""
        self._commit(consumer, is_last=True)
        for _ in range(LAST_ATTEMPTS):
            if not any(flow.done is not None for flow in self._flows.values()):
                return
            # A commit that was refused is due again after a poll, which says whether the partition is still owned.
            consumer.poll(0, 1)
            self._commit(consumer, is_last=True)

    def _turn(self, consumer: Consumer) -> None:
        """Commit what is done, then read more, or wait until there is something to do."""
        self._commit(consumer)
        self._pause_full(consumer)
        with self._changed:
            has_entries = any(flow.has_entries for flow in self._flows.values())
            if has_entries and not self._is_poll_due():
                self._is_poll_late = not self._has_work() and not self._changed.wait(POLL_INTERVAL / SECOND)
                return
        owned = bool(self._flows)
        try:
            batches = consumer.poll(0 if has_entries else self._longest_poll(), min(self._limits.batch_rows, self._limits.rows))
        except UnavailableError as error:
            self._note_look(has_read_all=False)
            self._note_outage(error)
            return
        if not batches:
            self._note_look(has_read_all=owned)
        batches = [self._adapted(batch) for batch in batches]
        with self._changed:
            self._is_at_end, self._is_poll_late, self._polled_at = not batches, False, self._clock.steady()
            for partition, read in batches_by_partition(batches).items():
                if partition in self._flows:
                    for batch in read:
                        self._flows[partition].add(batch)
            if batches:
                self._tell()

    def _note_look(self, *, has_read_all: bool) -> None:
        self._vain_polls += 1
        self.has_looked = self.has_looked or has_read_all or self._vain_polls >= VAIN_POLLS

    def _adapted(self, batch: Batch) -> Batch:
        adapt = self._adapters.get(batch.topic)
        return batch if adapt is None else adapt(batch)

    def _is_poll_due(self) -> bool:
        """Return whether there is more to read and room for it, or the group has not been looked after for a while."""
        has_room = not self._is_at_end and any(not flow.is_paused for flow in self._flows.values())
        return has_room or self._is_poll_late or self._clock.steady() - self._polled_at >= POLL_INTERVAL

    def _longest_poll(self) -> int:
        due = self._commit_due
        return PATIENCE if due is None else max(0, min(PATIENCE, due - self._clock.steady()))

    def _has_work(self) -> bool:
        """Return whether there is something to commit now."""
        return bool(self._requests) or self._is_stopping or self._is_commit_due()

    def _is_commit_due(self) -> bool:
        """Return whether commits need not wait for more: their time has come, or nothing more is under way."""
        if self._commit_due is None:
            return False
        is_idle = not any(flow.has_entries or flow.taken is not None for flow in self._flows.values())
        waiting = sum(len(flow.notes) for flow in self._flows.values())
        elapsed = self._clock.steady() >= self._commit_due
        return elapsed or is_idle or self._is_stopping or waiting >= self._limits.rows

    def _pause_full(self, consumer: Consumer) -> None:
        """Pause partitions of which enough is read ahead, and resume those of which half of it is handled.

        Each has its share, so that one whose messages wait does not keep the others from being read.
        """
        with self._changed:
            share = max(1, len(self._flows))
            rows, size = max(1, self._limits.rows // share), max(1, self._limits.bytes // share)
            filled = {partition: max(flow.rows / rows, flow.bytes / size) for partition, flow in self._flows.items()}
            full = [partition for partition, flow in self._flows.items() if not flow.is_paused and filled[partition] >= 1]
            free = [partition for partition, flow in self._flows.items() if flow.is_paused and filled[partition] <= 0.5]
            for partition in (*full, *free):
                self._flows[partition].is_paused = partition in full
            self._paused.update(full)
            self._paused.difference_update(free)
        if full:
            consumer.pause(full)
        if free:
            consumer.resume(free)

    def _commit(self, consumer: Consumer, *, is_last: bool = False) -> None:
        """Commit what is done and what was asked for."""
        with self._changed:
            requests, self._requests = list(self._requests), deque()
            flows: dict[TopicPartition, PartitionFlow] = {}
            if is_last or self._is_commit_due():
                flows = {partition: flow for partition, flow in self._flows.items() if flow.done is not None}
                self._commit_due = None
            offsets = {partition: flow.done for partition, flow in flows.items() if flow.done is not None}
            notes = [note for flow in flows.values() for note in flow.notes]
            for flow in flows.values():
                flow.done, flow.notes, flow.is_committing = None, [], True
        for partition, following, done in requests:
            if done.set_running_or_notify_cancel():
                self._commit_requested(consumer, partition, following, done)
        if offsets:
            for note in notes:
                note()
            self._commit_done(consumer, offsets)
            with self._changed:
                for flow in flows.values():
                    flow.is_committing = False
                self._tell()

    def _commit_requested(self, consumer: Consumer, partition: TopicPartition, following: int, done: Future[None]) -> None:
        try:
            consumer.commit({partition: following})
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _commit_done(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            if self._is_uncertain:
                offsets = self._without_committed(consumer, offsets)
            if offsets:
                self._commit_with_outbox(consumer, offsets)
            self._outage = 0
        except FencedError:
            if len(offsets) == 1:
                # The next poll says whether the partition belongs to another member.
                self._postpone(offsets)
                return
            # One of the partitions does; the others are committed each for itself.
            for partition, following in offsets.items():
                self._commit_done(consumer, {partition: following})
        except UnavailableError as error:
            # Nobody knows whether the log has made the commit before it went away.
            self._is_uncertain = True
            self._postpone(offsets)
            self._note_outage(error)

    def _without_committed(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Return the positions that are not committed: an attempt whose answer was lost may have committed some."""
        committed = consumer.committed(offsets)
        settled = {partition: offset for partition, offset in offsets.items() if committed.get(partition, -1) >= offset}
        for outbox in self._outboxes:
            outbox.committed(settled)
        self._is_uncertain = False
        return {partition: offset for partition, offset in offsets.items() if partition not in settled}

    def _postpone(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Have positions committed after the next poll, unless their partitions are gone by then."""
        with self._changed:
            for partition, following in offsets.items():
                if flow := self._flows.get(partition):
                    flow.done = following if flow.done is None else max(flow.done, following)
            self._commit_due = self._clock.steady()
            self._is_poll_late = True

    def _note_outage(self, error: UnavailableError) -> None:
        """Wait a moment for the log to come back; raise the error if it has been away for too long, or the thread is to end."""
        if self._outage >= (STOP_PATIENCE if self._is_stopping else OUTAGE_PATIENCE):
            raise error
        if self._outage == 0:
            logger.error("group %s waits: %s", self._spec.group, error)
        self._outage += OUTAGE_INTERVAL
        with self._changed:
            self._changed.wait(OUTAGE_INTERVAL / SECOND)

    def _commit_with_outbox(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        parts = [(outbox, outbox.writes(offsets)) for outbox in self._outboxes]
        try:
            consumer.commit(offsets, [write for _, writes in parts for write in writes])
        except UnwritableError as error:
            replaced: list[Write] = []
            count = 0
            for outbox, writes in parts:
                refused = {number - count: rows for number, rows in error.rows.items() if 0 <= number - count < len(writes)}
                replaced += outbox.without(writes, refused) if refused else writes
                count += len(writes)
            consumer.commit(offsets, replaced)
        for outbox in self._outboxes:
            outbox.committed(offsets)

    # The listener of the consumer; called in the thread

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Read partitions from now on, and begin them where they are to begin."""
        assert self._consumer is not None
        begun: dict[TopicPartition, int] = {}
        fresh = [partition for partition in partitions if partition not in self._begun]
        if self._beginning is not None and fresh:
            # Offsets are those of the topic of the newest version.
            is_any = self._beginning.since is not None
            begun = self._beginning.of(self._log, [part for part in fresh if is_any or part.topic == self._spec.topics[-1]])
            self._consumer.seek(begun)
        self._begun.update(fresh)
        epochs = self._consumer.assignment
        with self._changed:
            for partition in partitions:
                # A pause outlasts the ownership; the next turn ends it.
                flow = self._flows[partition] = PartitionFlow(epochs.get(partition, 0), partition in self._paused)
                if partition in begun and not self._is_manual:
                    # The group goes on from here, whether or not the first message is done.
                    flow.done, self._commit_due = begun[partition], self._clock.steady()

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commit a last time, after the entries in hand of these partitions are done."""
        assert self._consumer is not None
        with self._changed:
            leaving = {partition: flow for partition, flow in self._flows.items() if partition in partitions}
            for flow in leaving.values():
                flow.is_leaving = True
        self._await_handlers(self._consumer, leaving)
        self._commit(self._consumer, is_last=True)
        self.lost(partitions)

    def _await_handlers(self, consumer: Consumer, leaving: Mapping[TopicPartition, PartitionFlow]) -> None:
        waited, has_waited = 0, True
        begun = self._clock.steady()
        while waited < REVOKE_PATIENCE and self._clock.steady() - begun < REVOKE_PATIENCE and not self._is_stopping:
            # Handlers of other partitions, and manual commits, wait for this thread.
            self._commit(consumer)
            with self._changed:
                if not any(flow.taken is not None for flow in leaving.values()):
                    return
                # What was postponed is due all the time.
                has_waited = not self._has_work() or not has_waited
                if has_waited:
                    self._changed.wait(POLL_INTERVAL / SECOND)
                    waited += POLL_INTERVAL

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions, with what was read of them."""
        for outbox in self._outboxes:
            outbox.forget(partitions)
        with self._changed:
            for partition in partitions:
                flow = self._flows.pop(partition, None)
                if flow is not None and (flow.done is not None or (flow.taken is not None and not self._is_stopping)):
                    logger.info(
                        "group %s: partition %d of %s has gone to another member, which may handle its last message again",
                        self._spec.group, partition.partition, partition.topic,
                    )  # fmt: skip
            self._changed.notify_all()
