"""When heartbeats may be sent: only after all events of their time are where the tasks read them.

Tasks read their events from the source itself, from a copy of it by group key, or from what ksqlDB has made of it. A program
in between may lag. A heartbeat that overtook it would close a bucket whose events are still on their way:

    source       e1 e2 e3 | the bucket of e1..e3 is over: the barrier takes 3 as its target
    copied up to 1        | the heartbeat waits
    copied up to 2        | the heartbeat waits
    copied up to 3        | the target is reached, so the heartbeat follows e3 in the topic that the tasks read

Events that come into the source after the target was taken are not waited for: they are late for the bucket anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kandle.log.port import Log, TopicPartition
from kandle.plan.query_topics import QueryTopics
from kandle.runtime.planner import DueHeartbeat


class Barrier(Protocol):
    """Says whether all that was in the source at some moment has arrived where the tasks read."""

    def start(self) -> None:
        """Take the present end of the source as the target."""

    def is_reached(self) -> bool:
        """Return whether the target is reached; ask again later if not."""


class NoBarrier:
    """The barrier of tasks that read the source itself, in which nothing can lag."""

    def start(self) -> None:
        """Do nothing."""

    def is_reached(self) -> bool:
        """Return True."""
        return True


class CopyBarrier:
    """Waits until kandle itself has copied the source by group key.

    Args:
        log: The log of the topics.
        group: The consumer group of the query, whose committed positions say how far the copy has come.
        sources: The topics that are copied.
    """

    def __init__(self, log: Log, group: str, sources: Sequence[str]) -> None:
        self._log = log
        self._group = group
        self._sources = sources
        self._ends: dict[str, Sequence[int]] = {}

    def start(self) -> None:
        """Take the present end of each partition of the source as the target."""
        self._ends = {source: self._log.ends(source) for source in self._sources}

    def is_reached(self) -> bool:
        """Return whether the group has committed every target; records that retention has removed count as copied."""
        return all(self._is_copied(source, ends) for source, ends in self._ends.items())

    def _is_copied(self, source: str, ends: Sequence[int]) -> bool:
        copied = self._log.committed(self._group, source)
        first = [self._log.first(TopicPartition(source, number)) for number in range(len(ends))]
        return all(max(copied.get(number, 0), first[number]) >= end for number, end in enumerate(ends))


def default_barrier(log: Log, topics: QueryTopics) -> Barrier:
    """Return the barrier of a query that kandle aggregates itself."""
    return CopyBarrier(log, topics.group, topics.sources) if topics.is_repartitioned else NoBarrier()


class HeartbeatGate:
    """Holds heartbeats back until the barrier is reached.

    It waits for one group of heartbeats at a time; those that fall due meanwhile get a target of their own afterwards, so
    that a source that never stands still cannot hold the first ones back for ever.
    """

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._waiting: list[DueHeartbeat] | None = None

    def passed(self, beats: Sequence[DueHeartbeat]) -> list[DueHeartbeat]:
        """Return the heartbeats that may be sent now.

        Args:
            beats: Heartbeats that are due; those of earlier calls that did not pass are among them.

        Returns:
            The heartbeats of the call that began the wait, or nothing while it lasts.
        """
        if self._waiting is None:
            self._barrier.start()
            self._waiting = list(beats)
        if not self._barrier.is_reached():
            return []
        passed, self._waiting = self._waiting, None
        return passed

    def reset(self) -> None:
        """Forget what was waited for, because another process led in the meantime."""
        self._waiting = None
