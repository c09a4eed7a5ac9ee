"""When a heartbeat may be sent: only after all events of its time are where the tasks read them.

Tasks read their events from the source itself, from a copy of it by group key, or what ksqlDB has made of it. Whoever is in
between may lag: heartbeats wait for it, so that no final is made of a bucket whose events are still on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kandle.log.port import Log, TopicPartition
from kandle.plan.topics import QueryTopics
from kandle.runtime.planner import DueBeat
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND

ASKED_EVERY = 20 * MILLISECOND
PASSED = "passed"


class Barrier(Protocol):
    """Between the source and what the tasks read."""

    def passed(self, beats: Sequence[DueBeat]) -> list[DueBeat]:
        """Those heartbeats, of these or of an earlier call, that may be sent now; it has to be asked again for the others."""

    def reset(self) -> None:
        """Forget what was waited for: another process leads now."""


class NoBarrier:
    """The tasks read the source itself."""

    def passed(self, beats: Sequence[DueBeat]) -> list[DueBeat]:
        return list(beats)

    def reset(self) -> None:
        """There is nothing to forget."""


class StepBarrier:
    """Waits step by step for the heartbeats of one call; those that fall due meanwhile have their turn afterwards.

    `steps` begins the waiting, and yields as long as it has to be waited.
    """

    def __init__(self, steps: Callable[[], Iterator[None]]) -> None:
        self._steps = steps
        self._begun: Iterator[None] | None = None
        self._beats: list[DueBeat] = []

    def passed(self, beats: Sequence[DueBeat]) -> list[DueBeat]:
        if self._begun is None:
            self._beats, self._begun = list(beats), self._steps()
        try:
            is_passed = next(self._begun, PASSED) == PASSED
        except BaseException:
            # What has failed half-way would seem to be at its end when it is asked again.
            self._begun = None
            raise
        if not is_passed:
            return []
        self._begun = None
        return self._beats

    def reset(self) -> None:
        self._begun = None


def usual_barrier(log: Log, topics: QueryTopics, group: str) -> Barrier:
    """Where kandle itself aggregates: its own copies are waited for, if there are any."""
    if not topics.is_repartitioned:
        return NoBarrier()
    return StepBarrier(lambda: until_copied(log, group, topics.source))


def until_copied(log: Log, group: str, source: str) -> Iterator[None]:
    """Until a group of kandle's own has copied all that is in the source now to the partitions of its group keys."""
    ends = log.ends(source)
    while not _is_copied(log, group, source, ends):
        yield


def _is_copied(log: Log, group: str, source: str, ends: Sequence[int]) -> bool:
    copied = log.committed(group, source)
    first = [log.first(TopicPartition(source, number)) for number in range(len(ends))]
    return all(max(copied.get(number, 0), first[number]) >= end for number, end in enumerate(ends))


class Progress(Protocol):
    """How far the groups of others have come, with topics that are theirs."""

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First and next offset of each partition, open transactions included."""

    def committed(self, group: str, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The group's next offset of those partitions that it has committed one of."""

    def inner_topics(self, group: str) -> list[str]:
        """The topics in which a query of Kafka Streams brings records to the partitions of other keys, for itself alone."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A persistent query of ksqlDB: its consumer group, and the topics that it reads."""

    group: str
    sources: tuple[str, ...]


class QuerySteps:
    """Until queries of ksqlDB, one after the other, have made what the tasks read of all that is in the source now.

    A query commits a position only after what it has made of the records before it is in the log. So the source's end is waited
    for, then the end that each of its inner topics has by then, as often as there are inner topics, since one may feed the other.
    """

    def __init__(self, progress: Progress, hops: Callable[[], Sequence[Hop] | None], clock: Clock) -> None:
        self._progress = progress
        self._hops = hops
        self._clock = clock
        self._asked: int | None = None

    def __call__(self) -> Iterator[None]:
        # What queries that are made anew make is not whole before they have caught up in their turn.
        while not (yield from self._passed(self._hops())):
            yield

    def _passed(self, hops: Sequence[Hop] | None) -> Generator[None, None, bool]:
        """Whether all is through these queries; False, sooner or later, if there are others by now."""
        if hops is None:
            return False
        for _ in self._through(hops):
            if self._hops() != hops:
                return False
            yield
        return self._hops() == hops

    def _through(self, hops: Sequence[Hop]) -> Iterator[None]:
        for hop in hops:
            yield from self._until_committed(hop.group, hop.sources)
            inner = self._progress.inner_topics(hop.group)
            for _ in inner:
                yield from self._until_committed(hop.group, inner)

    def _until_committed(self, group: str, topics: Collection[str]) -> Iterator[None]:
        bounds = self._progress.bounds(topics)
        while not self._is_committed(group, bounds):
            yield

    def _is_committed(self, group: str, bounds: Mapping[TopicPartition, tuple[int, int]]) -> bool:
        now = self._clock.steady()
        if self._asked is not None and 0 <= now - self._asked < ASKED_EVERY:
            return False
        self._asked = now
        committed = self._progress.committed(group, bounds)
        is_reached = all(max(committed.get(place, 0), first) >= end for place, (first, end) in bounds.items())
        if is_reached:
            # What comes next may be asked at once.
            self._asked = None
        return is_reached
