"""Counters and health of a running context, as plain objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from kandle.time.timeframe import from_instant


class QueryState(Enum):
    """What the worker of a query is doing; `NO_QUERIES` is the state of a process that runs none."""

    STARTING = "starting"
    WAITING_FOR_SCHEDULE = "waiting for schedule"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    NO_QUERIES = "no queries"


@dataclass(slots=True)
class TimeframeCounters:
    """Counters of one timeframe of a query in one process, since it started.

    `gaps` are those finals that fill a gap. `failed` bars do not fit their entity: they have no final, but a dead letter.
    `newest` is the instant at which the newest final was complete, and `delay` how long after that, and its grace, it was
    committed; both in microseconds, None before the first final.
    """

    finals: int = 0
    gaps: int = 0
    live: int = 0
    failed: int = 0
    newest: int | None = None
    delay: int | None = None


@dataclass(slots=True)
class Counters:
    """Counters of one query in one process, since it started; what was rolled back does not count.

    `events` were processed; of these, `filtered` ones were left out by `where`, and `outside_sessions` ones by the schedule;
    `late` ones came after their final. `dead_letters` were written: `rejected` records could not be read, `failed` events could
    not be computed, and the others are bars that do not fit (see the timeframes). `repartitioned` events were
    copied by group key. Of the heartbeats that the leader sent, `heartbeats_backfilled` ones were due before it led;
    `heartbeats_refused` ones were ahead of the log's clock. The state of `restored` partitions was taken over, of which `warm`
    ones were ready in a standby. `removed` records were taken by retention before they could be processed. `fenced` commits
    were refused because another process owned the partitions. `recreated` queries of ksqlDB had failed.
    """

    events: int = 0
    dead_letters: int = 0
    rejected: int = 0
    failed: int = 0
    filtered: int = 0
    outside_sessions: int = 0
    late: int = 0
    repartitioned: int = 0
    heartbeats_sent: int = 0
    heartbeats_backfilled: int = 0
    heartbeats_applied: int = 0
    heartbeats_refused: int = 0
    restored: int = 0
    warm: int = 0
    fenced: int = 0
    commits: int = 0
    recreated: int = 0
    removed: int = 0
    timeframes: dict[str, TimeframeCounters] = field(default_factory=dict)

    def add(self, counts: Mapping[str, int], live: Mapping[str, int]) -> None:
        """Add what a commit has done: numbers by the name of their counter, and live bars by timeframe."""
        for name, number in counts.items():
            setattr(self, name, getattr(self, name) + number)
        for name, number in live.items():
            self.timeframes[name].live += number


@dataclass(frozen=True, slots=True)
class QueryHealth:
    """The state of one query in one process.

    `lag` counts what is left to be done in the owned `partitions`: events that are not processed or not copied by group key
    yet, and heartbeats that are not fully applied. `catching_up` says in words how far a long catching-up has come.
    `silent_keys` are configured or scheduled, but have had no event in the owned partitions. `schedule_sessions` is None
    without a schedule. `unscheduled_keys` names the first hundred keys that had events or are configured, but have no sessions
    in the schedule. `problem` says in words what is wrong. `standby` are partitions of other processes whose state is kept
    ready here. `client` are figures of the client library of Kafka, by name.
    """

    query: str
    group: str
    state: QueryState
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
    unscheduled_keys: tuple[str, ...] = ()
    catching_up: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The state of all queries of a context in one process.

    `dead_letters` counts the records that its consumers have made dead letters of, by the topic of the letters; those of
    queries are among their counters. `skipped` counts the messages that its consumers have skipped (`OnError.SKIP`), and
    `unreadable` the records that its reads have left out (`unreadable="skip"`), those of each read; both by topic.
    `dual_write_mismatch` counts records that this process has added, and that are in the topic of one version of their key
    only, although both are written.
    """

    instance: str
    queries: tuple[QueryHealth, ...]
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    dual_write_mismatch: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> QueryState:
        """The worst of the queries' states; `NO_QUERIES` where none runs, as in a context that only reads or writes."""
        order = [QueryState.FAILED, QueryState.WAITING_FOR_SCHEDULE, QueryState.STARTING, QueryState.STOPPED, QueryState.RUNNING]
        states = {query.state for query in self.queries}
        return next((state for state in order if state in states), QueryState.NO_QUERIES)

    @property
    def is_healthy(self) -> bool:
        """Whether all queries of this process run; without any there is nothing to be wrong with."""
        return self.state in (QueryState.RUNNING, QueryState.NO_QUERIES)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        content = asdict(self)
        for query in content["queries"]:
            query["state"] = query["state"].value
            query["partitions"] = list(query["partitions"])
            query["standby"] = list(query["standby"])
            query["unscheduled_keys"] = list(query["unscheduled_keys"])
            for counters in query["counters"]["timeframes"].values():
                newest = counters["newest"]
                counters["newest"] = None if newest is None else from_instant(newest).isoformat()
        return {
            "instance": self.instance,
            "state": self.state.value,
            "queries": list(content["queries"]),
            "dead_letters": dict(self.dead_letters),
            "skipped": dict(self.skipped),
            "unreadable": dict(self.unreadable),
            "dual_write_mismatch": self.dual_write_mismatch,
        }
