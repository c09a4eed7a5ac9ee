"""Records that cannot be read go to a topic of dead letters, as they are, in the commit that goes past them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import polars as pl

from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord, Write
from kandle.plan.topics import QueryTopics
from kandle.runtime.counters import Counters
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE

logger = logging.getLogger("kandle")

SAID_EVERY = MINUTE


class DeadLetters:
    """Dead letters of one partition, until the next commit."""

    def __init__(self, log: Log, clock: Clock, topics: QueryTopics, counters: Counters, source: TopicPartition) -> None:
        self._log, self._clock, self._counters = log, clock, counters
        self._spec = topics.dead_letters.spec
        self._source = source
        self._waiting: list[RejectedRecord] = []
        self._first: RejectedRecord | None = None
        self._unsaid = 0
        self._said_at: int | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, batches: Sequence[Batch]) -> None:
        """Have what cannot be read of these written with the next commit."""
        for batch in batches:
            self._waiting += batch.rejects

    def writes(self) -> list[Write]:
        """The dead letters; their topic is made with the first."""
        if not self._waiting:
            return []
        self._log.ensure(self._spec)
        rows = [(*self._source, each.offset, each.reason, each.key, each.value) for each in self._waiting]
        frame = pl.DataFrame(rows, schema=self._spec.schema, orient="row")
        return [Write(self._spec.name, self._source.partition % self._spec.partitions, Records(frame))]

    def committed(self) -> None:
        """They are written; it is said once a minute, of all that have come since."""
        self._counters.rejected += len(self._waiting)
        if self._waiting and self._unsaid == 0:
            self._first = self._waiting[0]
        self._unsaid += len(self._waiting)
        self._waiting = []
        now = self._clock.steady()
        if self._unsaid and (self._said_at is None or not 0 <= now - self._said_at < SAID_EVERY):
            self._say()
            self._said_at, self._unsaid = now, 0

    def _say(self) -> None:
        assert self._first is not None
        logger.warning(
            "%d records of %s, partition %d, cannot be read and are in topic %s; the first, at offset %d: %s",
            self._unsaid, self._source.topic, self._source.partition, self._spec.name, self._first.offset, self._first.reason,
        )  # fmt: skip
