"""How far the persistent queries of a ksqlDB have come: the barrier of heartbeats where ksqlDB aggregates.

A query commits a position only after what it has made of the records before it is in the log. So it is enough to compare
committed positions with ends. A query may bring records to other partitions through an inner topic of its own, and one query
may read what another has made, so this is done stage by stage, and each stage takes its target only when the one before is
reached:

    stage 1   source, as committed by query A     target: the end of the source now
    stage 2   inner topic of A                    target: its end now, with all that stage 1 has brought there
    stage 3   what A has made, as committed by B  target: its end now
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
"""The least time between two questions to the brokers, in microseconds."""


class Progress(Protocol):
    """How far consumer groups of other programs have come, in topics that are theirs."""

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return first and next offset of each partition, open transactions included."""

    def committed(self, group: str, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the group's next offset of those partitions that it has committed one of."""

    def inner_topics(self, group: str) -> list[str]:
        """Return the topics in which a query of Kafka Streams brings records to the partitions of other keys."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A persistent query of ksqlDB: its consumer group, and the topics that it reads."""

    group: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stage:
    """Topics that a query must have read up to their ends; after the first stage of a query follow its inner topics."""

    group: str
    topics: Sequence[str]
    is_first: bool


class QueryBarrier:
    """Says whether queries of ksqlDB have made what the tasks read of all that was in the source.

    Args:
        progress: Where positions and ends are asked for.
        hops: Returns the queries in the order in which one feeds the other; None while they are created again.
        clock: Says when the brokers may be asked again.
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
        """Begin with the first query; the end of the source is taken as the target with the first question."""
        self._begin(self._hops())

    def _begin(self, hops: Sequence[Hop] | None) -> None:
        self._begun = hops
        self._stages = deque(_Stage(hop.group, hop.sources, True) for hop in hops or ())
        self._targets = None

    def is_reached(self) -> bool:
        """Return whether everything has come through all queries.

        Queries that were created again since the start have to catch up first, so the wait begins anew with them.
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
            # One inner topic may feed another, so all of them are waited for as often as there are any.
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
        is_passed = all(max(committed.get(place, 0), first) >= end for place, (first, end) in self._targets.items())
        if is_passed:
            # The next stage may be asked for at once.
            self._asked = None
        return is_passed
