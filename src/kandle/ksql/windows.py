"""The window clauses of ksqlDB: what it can cut time into, and how long it keeps that."""

from __future__ import annotations

from kandle.errors import QueryError
from kandle.ksql.program import WindowStore
from kandle.ksql.statements import duration
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel
from kandle.time.timeframe import DAY, Timeframe, Unit


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
