"""A program: what one query becomes on ksqlDB, and the roles and windows that programs are made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kandle.errors import QueryError
from kandle.ksql.sessions import ScheduleTable
from kandle.ksql.statements import SetProperty, Statement, duration
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel
from kandle.time.timeframe import DAY, Timeframe, Unit

SHARED_PROPERTIES = {"auto.offset.reset": "earliest", "commit.interval.ms": "200"}
EMIT_INTERVAL = "ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__"


class ScriptRole(Enum):
    """What ksqlDB does of a query: open bars, from which kandle makes the finals, or everything."""

    LIVE = "live"
    ALL = "all"

    @property
    def properties(self) -> dict[str, str]:
        """Properties that the role's queries run with."""
        return SHARED_PROPERTIES if self is ScriptRole.LIVE else SHARED_PROPERTIES | {EMIT_INTERVAL: "0"}

    @property
    def settings(self) -> tuple[Statement, ...]:
        """The properties as statements."""
        return tuple(SetProperty(name, value) for name, value in self.properties.items())


@dataclass(frozen=True, slots=True)
class WindowStore:
    """How long ksqlDB keeps windows.

    Attributes:
        retention: How long a window is kept after its start, in microseconds. It must be longer than the
            longest silence between events, and than what is replayed after a restart.
        grace: How long after its end an open window takes late events, in microseconds.
    """

    retention: int = 7 * DAY
    grace: int = 6 * DAY

    @classmethod
    def of(cls, retention: int, grace: int | None = None) -> WindowStore:
        """Return a store that takes late events for `grace`, by default a day less than the retention."""
        return cls(retention, max(retention - DAY, 0) if grace is None else grace)


DEFAULT_STORE = WindowStore()
"""The store of programs that do not name one."""


@dataclass(frozen=True, slots=True)
class LiveTable:
    """The table of open bars of the base timeframe.

    Attributes:
        name: Name of the table.
        topic: Name of its topic.
        keys: Columns of the group key in the order of `group_by`; without it, the one column that is the same
            in all rows.
        start: Column with the start of the bucket.
        partials: Columns by the engine's name of the partial that they hold.
    """

    name: str
    topic: str
    keys: tuple[str, ...]
    start: str
    partials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Program:
    """What one query becomes on ksqlDB.

    Attributes:
        statements: The statements of this query alone, in order.
        notes: Its limits, written into the script as comments.
        live: The table of open bars, in role "live".
        schedule: The table of session intervals, of a query with a schedule.
        declarations: Statements that other queries may share, by the name of the stream or table; they come
            first.
    """

    statements: tuple[Statement, ...]
    notes: tuple[str, ...] = ()
    live: LiveTable | None = None
    schedule: ScheduleTable | None = None
    declarations: Mapping[str, Statement] = field(default_factory=dict)


def check_late(query: QueryModel) -> None:
    """Check that a query does not keep late events.

    Raises:
        QueryError: If it does.
    """
    if query.late is Late.TOPIC:
        raise QueryError(
            "late=Late.TOPIC: ksqlDB gives the bars of buckets, in which late events cannot be distinguished from others; choose "
            'Late.DROP, or set [engine] kind = "embedded"'
        )


def bucket_size(plan: Plan, bar: BarPlan, role: ScriptRole) -> int:
    """Return the length of a bar's buckets in microseconds.

    Raises:
        QueryError: If ksqlDB has no such windows: weeks, months, trading days, days of another zone than UTC.
    """
    timeframe = bar.timeframe
    if timeframe.is_fixed:
        return timeframe.size
    reason = _why_not(plan, timeframe)
    if reason is None:
        return timeframe.value * DAY
    way_out = (
        'use role "live", in which kandle makes them'
        if role is ScriptRole.ALL
        else f"declare a finer timeframe besides, for example {_finer_timeframe(plan)}, from which kandle makes it"
    )
    raise QueryError(f"{plan.query.target.name}: ksqlDB cannot make bars of {timeframe}: {reason}; {way_out}")


def _why_not(plan: Plan, timeframe: Timeframe) -> str | None:
    if plan.by_trading_day:
        return "its days are calendar days, not trading days"
    if timeframe.unit is not Unit.DAY:
        return "its longest unit of time is the day"
    return None if plan.zone == "UTC" else f"its days are days in UTC, not in {plan.zone}"


def _finer_timeframe(plan: Plan) -> str:
    return "hours=1" if plan.by_trading_day or plan.zone != "UTC" else "days=1 or hours=1"


def tumbling_window(size: int, retention: int, grace: int) -> str:
    """Return a WINDOW clause of windows that do not overlap; all lengths are in microseconds."""
    return f"TUMBLING (SIZE {duration(size)}, RETENTION {duration(retention)}, GRACE PERIOD {duration(grace)})"


def hopping_window(size: int, advance: int, retention: int, grace: int) -> str:
    """Return a WINDOW clause of windows that overlap; all lengths are in microseconds."""
    clauses = f"ADVANCE BY {duration(advance)}, RETENTION {duration(retention)}, GRACE PERIOD {duration(grace)}"
    return f"HOPPING (SIZE {duration(size)}, {clauses})"
