"""What one query becomes on ksqlDB: statements in their order, and where kandle finds what it needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kandle.errors import QueryError
from kandle.ksql.statements import SetProperty, Statement, duration
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel
from kandle.time.timeframe import DAY, Timeframe, Unit

SHARED_PROPERTIES = {"auto.offset.reset": "earliest", "commit.interval.ms": "200"}
EMIT_INTERVAL = "ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__"


class Role(Enum):
    """Who makes finals: kandle from ksqlDB's open bars, or ksqlDB all by itself."""

    LIVE = "live"
    ALL = "all"

    @property
    def properties(self) -> dict[str, str]:
        """Properties that its queries run with."""
        return SHARED_PROPERTIES if self is Role.LIVE else SHARED_PROPERTIES | {EMIT_INTERVAL: "0"}

    @property
    def settings(self) -> tuple[Statement, ...]:
        """The properties as statements."""
        return tuple(SetProperty(name, value) for name, value in self.properties.items())


@dataclass(frozen=True, slots=True)
class WindowStore:
    """How long ksqlDB keeps windows, and how long after its end an open one takes events, in microseconds.

    `retention` must be longer than the longest silence, and than what is replayed after a restart.
    """

    retention: int = 7 * DAY
    grace: int = 6 * DAY

    @classmethod
    def of(cls, retention: int, grace: int | None = None) -> WindowStore:
        """The store of a retention; late events are taken until a day before a window goes, where nothing else is said."""
        return cls(retention, max(retention - DAY, 0) if grace is None else grace)


USUAL_STORE = WindowStore()


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The table of open bars of the base timeframe: which of its columns hold what.

    `keys` are in the order of `group_by`; without it, the one column that is the same for all. `partials` names the columns by
    the engine's names of what they hold.
    """

    name: str
    topic: str
    keys: tuple[str, ...]
    start: str
    partials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScheduleTable:
    """The table of session intervals by key that kandle writes: `id` is `keys.key_text` of the group key."""

    name: str
    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Program:
    """The statements of one query, without those of entities that others share; `notes` are its limits."""

    statements: tuple[Statement, ...]
    notes: tuple[str, ...] = ()
    live: LiveTable | None = None
    schedule: ScheduleTable | None = None
    declares: Mapping[str, Statement] = field(default_factory=dict)
    """Statements that several queries share, by the name of what they declare: they come first, and each once."""


def check_late(query: QueryModel) -> None:
    """QueryError for a query that keeps late events."""
    if query.late is Late.TOPIC:
        raise QueryError(
            "late=Late.TOPIC: ksqlDB gives rows of buckets, in which nobody can tell a late event from others; choose Late.DROP, "
            "or the embedded engine"
        )


def size_of(plan: Plan, bar: BarPlan, role: str) -> int:
    """The length of a bar's buckets, in microseconds; QueryError for buckets that ksqlDB does not have."""
    timeframe = bar.timeframe
    if timeframe.is_fixed:
        return timeframe.size
    reason = _why_not(plan, timeframe)
    if reason is None:
        return timeframe.value * DAY
    way_out = (
        'use role "live", in which kandle makes them'
        if role == "all"
        else f"declare a finer timeframe beside it, for example {_finer(plan)}, from which kandle makes it"
    )
    raise QueryError(f"{plan.query.target.name}: ksqlDB cannot make bars of {timeframe}: {reason}; {way_out}")


def _why_not(plan: Plan, timeframe: Timeframe) -> str | None:
    if plan.by_trading_day:
        return "its days are those of the clock, not trading dates"
    if timeframe.unit is not Unit.DAY:
        return "its longest unit of time is the day"
    return None if plan.zone == "UTC" else f"its days are those of UTC, not of {plan.zone}"


def _finer(plan: Plan) -> str:
    return "hours=1" if plan.by_trading_day or plan.zone != "UTC" else "days=1 or hours=1"


def tumbling(size: int, retention: int, grace: int) -> str:
    """Windows that follow each other."""
    return f"TUMBLING (SIZE {duration(size)}, RETENTION {duration(retention)}, GRACE PERIOD {duration(grace)})"


def hopping(size: int, advance: int, retention: int, grace: int) -> str:
    """Windows that overlap."""
    clauses = f"ADVANCE BY {duration(advance)}, RETENTION {duration(retention)}, GRACE PERIOD {duration(grace)}"
    return f"HOPPING (SIZE {duration(size)}, {clauses})"


def open_window(plan: Plan, store: WindowStore) -> str:
    """The window of open bars of the base timeframe: it takes late events for long, since kandle judges what is late."""
    size = size_of(plan, plan.base, "live")
    grace = max(store.grace, plan.base.grace)
    return tumbling(size, max(store.retention, size + grace), grace)
