"""Counters and health of a running context, as plain objects."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from kandle.errors import UnavailableError
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE, SECOND, from_instant


class State(Enum):
    """What a worker is doing."""

    STARTING = "starting"
    WAITING_FOR_SCHEDULE = "waiting for schedule"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(slots=True)
class TimeframeCounters:
    """Of one timeframe: finals made, those of them that fill gaps, live bars sent, when its newest final was complete and how
    long after that, with grace, it was committed (both in microseconds).
    """

    finals: int = 0
    gaps: int = 0
    live: int = 0
    newest: int | None = None
    delay: int | None = None


@dataclass(slots=True)
class Counters:
    """Of one query in one process, since it started.

    `rejected` records could not be read and are dead letters; of the partitions whose state was `restored`, `warm` ones were
    ready in a standby. Queries of ksqlDB that had failed were `recreated`.
    """

    events: int = 0
    rejected: int = 0
    filtered: int = 0
    outside_sessions: int = 0
    late: int = 0
    repartitioned: int = 0
    heartbeats_sent: int = 0
    heartbeats_applied: int = 0
    restored: int = 0
    warm: int = 0
    fenced: int = 0
    commits: int = 0
    recreated: int = 0
    timeframes: dict[str, TimeframeCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryHealth:
    """One query in one process; `lag` counts events of the owned partitions that are not processed yet.

    `silent_keys` are configured or scheduled, but have not had an event in the owned partitions. `standby` are partitions of
    others whose state is kept ready here. `client` are figures of the client library of Kafka.
    """

    query: str
    group: str
    state: State
    is_leader: bool
    partitions: tuple[int, ...]
    lag: int
    keys: int
    silent_keys: int
    open_buckets: int
    schedule_sessions: int | None
    problem: str | None
    counters: Counters
    standby: tuple[int, ...] = ()
    client: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Health:
    """A whole context in one process."""

    instance: str
    queries: tuple[QueryHealth, ...]

    @property
    def state(self) -> State:
        """The worst of the queries' states."""
        order = [State.FAILED, State.WAITING_FOR_SCHEDULE, State.STARTING, State.STOPPED, State.RUNNING]
        states = {query.state for query in self.queries}
        return next((state for state in order if state in states), State.STOPPED)

    @property
    def is_healthy(self) -> bool:
        """Whether all queries run."""
        return self.state is State.RUNNING

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        content = asdict(self)
        for query in content["queries"]:
            query["state"] = query["state"].value
            query["partitions"] = list(query["partitions"])
            query["standby"] = list(query["standby"])
            for counters in query["counters"]["timeframes"].values():
                newest = counters["newest"]
                counters["newest"] = None if newest is None else from_instant(newest).isoformat()
        return {"instance": self.instance, "state": self.state.value, "queries": list(content["queries"])}


logger = logging.getLogger("kandle")

SETTLED = 10 * SECOND
"""What fails again sooner than this, in microseconds, is the same outage: something may be written between two failures."""

LONGEST_SILENCE = 10 * MINUTE
"""The same where nothing was written: rounds without partitions go well in an outage, too, and attempts may take long."""


class Outage:
    """Failures of a group's worker, and what it writes in spite of them."""

    def __init__(self, group: str, clock: Clock) -> None:
        self._group = group
        self._clock = clock
        self._failed_at: int | None = None
        self._has_written = False

    def failed(self, error: UnavailableError) -> None:
        """Something failed that may go well later."""
        if self._failed_at is None or self._is_over():
            logger.error("%s: %s", self._group, error)
        self._failed_at, self._has_written = self._clock.steady(), False

    def written(self) -> None:
        """Something was committed."""
        self._has_written = True
        if self._is_over():
            logger.info("%s: goes on", self._group)
            self._failed_at = None

    def _is_over(self) -> bool:
        if self._failed_at is None:
            return False
        return self._clock.steady() - self._failed_at > (SETTLED if self._has_written else LONGEST_SILENCE)
