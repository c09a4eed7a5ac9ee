"""A worker's membership in the consumer group of its query: which partitions it owns, and what happens when they move.

When a partition moves, the old owner commits and stops before the new one starts, and the new one starts from that commit:

    old owner   ... process │ revoked: commit, drop the task │
    new owner                                                │ assigned: restore the state, seek, process ...

If the old owner does not answer (it is paused, or dead), its lease runs out and the partition is taken away without it. Its
next commit is refused (FencedError), so nothing of what it did since its last commit is ever visible:

    old owner   ... process │ paused ............................ │ commit: refused, back to the last commit
    new owner                       lease runs out │ assigned: restore from the old owner's last commit, process ...
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from kandle.errors import FencedError, KandleError, ReplacedError
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition
from kandle.log.records import Batch
from kandle.runtime.heartbeats import Leadership
from kandle.runtime.tasks import PendingCommit, Tasks

logger = logging.getLogger("kandle")


class Membership:
    """One member of a consumer group, which starts and ends tasks as partitions come and go.

    Args:
        log: The log of the group.
        group: The group, its topics, and the name of this member.
        tasks: The tasks of the owned partitions.
        leadership: The flag of who sends heartbeats, which belongs to the owner of one partition.
    """

    def __init__(self, log: Log, group: GroupSpec, tasks: Tasks, leadership: Leadership) -> None:
        self._log = log
        self._group = group
        self._tasks = tasks
        self._leadership = leadership
        self._flush: Callable[[], None] = lambda: None
        self._consumer: Consumer | None = None
        self._paused: set[TopicPartition] = set()
        self._is_revoking = False

    @property
    def is_joined(self) -> bool:
        """Whether the group was joined and not left since."""
        return self._consumer is not None

    @property
    def statistics(self) -> Mapping[str, int]:
        """Figures of the client library of the log, if there is one."""
        consumer = self._consumer
        return {} if consumer is None else consumer.statistics

    def join(self, flush: Callable[[], None]) -> None:
        """Join the group.

        Args:
            flush: Commits whatever is done; called before partitions go to another member.
        """
        self._flush = flush
        self._consumer = self._log.consumer(self._group, self)

    @property
    def _joined(self) -> Consumer:
        assert self._consumer is not None
        return self._consumer

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        """Read records, waiting up to `timeout` microseconds for the first; partitions come and go meanwhile.

        Of partitions of which enough was read nothing comes.
        """
        self._pause(set(self._tasks.crowded))
        consumer = self._joined
        before = consumer.removed
        batches = consumer.poll(timeout, max_rows)
        # The consumer of Kafka counts anew when it joins again.
        self._tasks.count_removed(max(0, consumer.removed - before))
        return batches

    def _pause(self, crowded: set[TopicPartition]) -> None:
        if resumed := self._paused - crowded:
            self._joined.resume(sorted(resumed))
        if paused := crowded - self._paused:
            self._joined.pause(sorted(paused))
        self._paused = crowded

    def commit(self, pending: PendingCommit) -> None:
        """Commit, and tell the tasks.

        Raises:
            FencedError: A partition is owned by another member by now.
        """
        pending.committed(self._joined.commit(pending.positions, pending.writes))

    def restore(self) -> None:
        """Start all tasks anew, as of the last commit."""
        if not self._is_revoking:
            # First hear which partitions have gone: to restore their state takes time, and others wait for the answer. The
            # records that come along are read again.
            self._joined.poll(0, 1)
        self._tasks.clear()
        self._begin(list(self._joined.assignment))

    def wake(self) -> None:
        """End a waiting `poll`; any thread may call this."""
        if self._consumer is not None:
            self._consumer.wake()

    def leave(self) -> KandleError | None:
        """Commit what is done and leave the group.

        Returns:
            The error that kept the member from leaving in order; its lease runs out by itself then.
        """
        if self._consumer is None:
            return None
        consumer, problem = self._consumer, None
        try:
            consumer.close()
        except (FencedError, ReplacedError) as error:
            logger.info("%s", error)
        except KandleError as error:
            # What was not committed is done again by the next owner.
            logger.error("leaving %s: %s", self._group.group, error)
            problem = error
        self._consumer = None
        self._paused = set()
        return problem

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Restore and start the tasks of partitions that were assigned."""
        logger.info("assigned to %s: %s", self._group.member, _describe(partitions))
        self._begin(partitions)
        if self._leadership.is_leader and self._leadership.partition in partitions:
            logger.info("%s leads: it sends the heartbeats of %s", self._group.member, self._group.group)

    def _begin(self, partitions: Collection[TopicPartition]) -> None:
        """Start the tasks of owned partitions as of the last commit, and read on from there."""
        owned = self._joined.assignment
        # Others wait for heartbeats, and need not wait for the state of these partitions.
        self._leadership.assigned(partitions, owned)
        committed = self._joined.committed(list(owned))
        self._joined.seek(self._tasks.start(partitions, committed))

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commit, then end the tasks of partitions that go to another member."""
        self._resign(partitions)
        self._is_revoking = True
        try:
            self._flush()
        finally:
            self._is_revoking = False
        self._tasks.drop(partitions)
        logger.info("revoked from %s: %s", self._group.member, _describe(partitions))

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """End the tasks of partitions that another member owns already."""
        self._resign(partitions)
        self._tasks.drop(partitions)
        logger.warning("lost by %s: %s", self._group.member, _describe(partitions))

    def _resign(self, partitions: Collection[TopicPartition]) -> None:
        """Send no more heartbeats if the partition that makes the leader goes."""
        was_leader = self._leadership.is_leader
        self._leadership.revoked(partitions)
        if was_leader and not self._leadership.is_leader:
            member, group = self._group.member, self._group.group
            logger.info("%s does not lead any more: it sends no more heartbeats of %s", member, group)


def _describe(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(f"{topic} {partition}" for topic, partition in sorted(partitions))
