"""Positions of the persistent queries of ksqlDB: the barrier of heartbeats where ksqlDB aggregates.

A query commits a position only after its output for the records before that position is in the log. So it is enough to
compare committed positions with the ends of topics. A query may move records to other partitions through an internal topic,
and a query may read the output of another query. So this is done in stages, and each stage reads its target only when the
one before is reached:

    stage 1   source, as committed by query A     target: the end of the source now
    stage 2   internal topic of A                 target: its end now, which includes the output of stage 1
    stage 3   output of A, as committed by B      target: its end now
    ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kandle.log.port import TopicPartition
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND

ASKED_EVERY = 20 * MILLISECOND
"""Minimum time between two requests to the brokers, in microseconds."""


class Progress(Protocol):
    """Positions of consumer groups of other programs."""

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return the first and the next offset of each partition, including open transactions."""

    def committed(self, group: str, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the committed offsets of a group; partitions without one are left out."""

    def inner_topics(self, group: str) -> list[str]:
        """Return the internal topics in which a query of Kafka Streams repartitions records by another key."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A persistent query of ksqlDB, with its consumer group and the topics that it reads."""

    group: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stage:
    """Topics that a query has to read up to their ends; the first stage of a query is followed by its internal topics."""

    group: str
    topics: Sequence[str]
    is_first: bool


class QueryBarrier:
    """Barrier that is reached when queries of ksqlDB have processed all records that were in the source at its start.

    Args:
        progress: Positions of consumer groups and ends of topics.
        hops: Returns the queries in the order in which the output of one is read by the next; None while they are
            created again.
        clock: The clock that limits requests to the brokers.
    """

    def __init__(self, progress: Progress, hops: Callable[[], Sequence[Hop] | None], clock: Clock) -> None:
        self._progress = progress
        self._hops = hops
        self._clock = clock
        self._begun: Sequence[Hop] | None = None
        self._stages: deque[_Stage] = deque()
        self._targets: Mapping[TopicPartition, tuple[int, int]] | None = None
        self._asked: int | None = None

    def start(self) -> None:
        """Begin with the first query; the first call of `is_reached` reads the end of the source."""
        self._begin(self._hops())

    def _begin(self, hops: Sequence[Hop] | None) -> None:
        self._begun = hops
        self._stages = deque(_Stage(hop.group, hop.sources, True) for hop in hops or ())
        self._targets = None

    def is_reached(self) -> bool:
        """Return whether all queries have processed the records.

        Queries that were created again since the start have to catch up first, so the barrier starts again with them.
        """
        hops = self._hops()
        if hops != self._begun:
            self._begin(hops)
        if hops is None:
            return False
        while self._stages:
            if not self._is_passed(self._stages[0]):
                return False
            stage = self._stages[0]
            # Internal topics may feed each other in any order, so all of them are checked as often as there are topics.
            inner = self._progress.inner_topics(stage.group) if stage.is_first else []
            self._stages.popleft()
            self._stages.extendleft(_Stage(stage.group, inner, False) for _ in inner)
            self._targets = None
        return self._hops() == hops

    def _is_passed(self, stage: _Stage) -> bool:
        if self._targets is None:
            self._targets = self._progress.bounds(stage.topics)
        now = self._clock.steady()
        if self._asked is not None and 0 <= now - self._asked < ASKED_EVERY:
            return False
        self._asked = now
        committed = self._progress.committed(stage.group, self._targets)
        is_passed = all(max(committed.get(partition, 0), first) >= end for partition, (first, end) in self._targets.items())
        if is_passed:
            # The next stage may be checked at once.
            self._asked = None
        return is_passed
