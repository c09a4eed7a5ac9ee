"""From a query to its bars: which timeframes there are, what each is made from, when it is over, and its topics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from kandle.errors import PlanError
from kandle.model.entity import bar_topic
from kandle.query.query import Hopping, QueryModel, Tumbling
from kandle.time.buckets import zone_offsets_divide
from kandle.time.timeframe import Timeframe, Unit

HEARTBEATS = "hb"
"""What names of topics of heartbeats begin with."""


class Role(Enum):
    """What a timeframe does in the plan."""

    BASE = "base"
    ROLL_UP = "roll-up"
    PANE = "pane"


@dataclass(frozen=True, slots=True)
class BarPlan:
    """One timeframe's bars: `source` names the bars they are made from, None means the events themselves.

    `grace` is in microseconds after the bucket's end; `advance` is set for hopping windows only.
    """

    name: str
    timeframe: Timeframe
    role: Role
    source: str | None
    grace: int
    live_topic: str
    final_topic: str
    advance: Timeframe | None = None

    @property
    def is_emitted(self) -> bool:
        """Whether these bars come out, or are only an intermediate step."""
        return self.role is not Role.PANE


@dataclass(frozen=True, slots=True)
class Plan:
    """All bars of a query, sources before what is made from them; `zone` cuts days, unless trading days do."""

    query: QueryModel
    bars: tuple[BarPlan, ...]
    zone: str
    by_trading_day: bool

    @property
    def base(self) -> BarPlan:
        """The bars that are made from events."""
        return self.bars[0]

    @property
    def emitted(self) -> tuple[BarPlan, ...]:
        """The bars that come out, finest first."""
        return tuple(bar for bar in self.bars if bar.is_emitted)

    @property
    def heartbeat_topic(self) -> str:
        """Topic of the records that say that a base bucket is over."""
        return self.heartbeats_of(HEARTBEATS)

    def heartbeats_of(self, prefix: str) -> str:
        """The same where its name is to begin otherwise than usual."""
        return f"{prefix}_{self.base.timeframe}"


def plan(query: QueryModel) -> Plan:
    """The plan of a query; PlanError names a timeframe that cannot be derived."""
    if query.window is None:
        raise PlanError(
            f"{query.target.name} has no window over time, so there are no bars to make; add .tumbling(...) to its query"
        )
    by_trading_day = query.schedule is not None and query.schedule.day is not None
    if isinstance(query.window, Hopping):
        return Plan(query, _hopping_bars(query, query.window), "UTC", by_trading_day)
    _check_limit(query, query.window, by_trading_day)
    bars = _tumbling_bars(query, query.window, by_trading_day)
    return Plan(query, bars, query.window.zone, by_trading_day)


def check_embedded(query: QueryModel) -> None:
    """PlanError for a query that only ksqlDB can run."""
    if query.join is not None:
        raise PlanError(
            f"the query of {query.target.name} joins {query.source.name} with {query.join.entity.name}, which runs on ksqlDB "
            'only: set [engine] kind = "ksqldb" (`kandle script` prints its statements), or join the data before kandle'
        )


def _hopping_bars(query: QueryModel, window: Hopping) -> tuple[BarPlan, ...]:
    size, advance = window.size, window.advance
    if not (size.is_fixed and advance.is_fixed) or size.size % advance.size != 0:
        raise PlanError(
            f"a hopping window of {size} cannot advance by {advance}: the advance must divide the size, both in seconds, "
            "minutes or hours"
        )
    name = f"{size}_every_{advance}"
    pane = BarPlan(str(advance), advance, Role.PANE, None, window.grace, *_topics(query, str(advance)))
    hop = BarPlan(name, size, Role.ROLL_UP, pane.name, window.grace, *_topics(query, name), advance)
    return (pane, hop)


def _tumbling_bars(query: QueryModel, window: Tumbling, by_trading_day: bool) -> tuple[BarPlan, ...]:
    ordered = sorted(set(window.timeframes))
    bars: dict[Timeframe, BarPlan] = {}
    for timeframe in ordered:
        source = _source(timeframe, ordered, window.zone, by_trading_day)
        role = Role.BASE if source is None else Role.ROLL_UP
        grace = _grace(timeframe, window, bars[source] if source else None)
        source_name = str(source) if source else None
        topics = _topics(query, str(timeframe))
        bars[timeframe] = BarPlan(str(timeframe), timeframe, role, source_name, grace, *topics)
    return tuple(bars.values())


def _topics(query: QueryModel, name: str) -> tuple[str, str]:
    return bar_topic(query.target.topic, name, "live"), bar_topic(query.target.topic, name, "final")


def _source(timeframe: Timeframe, ordered: list[Timeframe], zone: str, by_trading_day: bool) -> Timeframe | None:
    """The coarsest single unit (1s, 1m, 1h, 1d ...) that divides the timeframe, else the finest that does."""
    finer = [other for other in ordered if other < timeframe]
    if not finer:
        return None
    dividing = [other for other in finer if divides(other, timeframe, zone)]
    if by_trading_day and not timeframe.is_fixed:
        # An hour can hold the end of one trading day and the start of the next; only the base is checked against that.
        dividing = [other for other in dividing if not other.is_fixed or other == ordered[0]]
    if not dividing:
        raise PlanError(_underivable(timeframe, finer, zone))
    single = [other for other in dividing if other.value == 1]
    return single[-1] if single else dividing[0]


def _underivable(timeframe: Timeframe, finer: list[Timeframe], zone: str) -> str:
    where = "" if timeframe.is_fixed or zone == "UTC" else f" (days of {zone})"
    return (
        f"{timeframe}{where} cannot be made from {', '.join(map(str, finer))}: none of these divides it; "
        "declare a finer timeframe that divides both, for example minutes=1 or seconds=1"
    )


def divides(child: Timeframe, parent: Timeframe, zone: str = "UTC") -> bool:
    """Whether every bucket of `parent` is a whole number of buckets of `child`, always."""
    if child.is_fixed and parent.is_fixed:
        return parent.size % child.size == 0
    if child.is_fixed:
        return zone_offsets_divide(child.size, zone)
    if child.unit is parent.unit:
        return parent.value % child.value == 0
    return child == Timeframe(1, Unit.DAY) and parent.unit in (Unit.WEEK, Unit.MONTH)


def _grace(timeframe: Timeframe, window: Tumbling, source: BarPlan | None) -> int:
    """The timeframe's own grace, else its source's, else that of the whole window; never below its source's."""
    inherited = source.grace if source is not None else window.grace
    own = window.grace_by_timeframe.get(timeframe, inherited)
    if own < inherited:
        assert source is not None
        raise PlanError(
            f"the grace of {timeframe} ({own} us) is below that of {source.name} ({inherited} us), from which it is made; "
            f"give {timeframe} at least as much"
        )
    return own


def _check_limit(query: QueryModel, window: Tumbling, by_trading_day: bool) -> None:
    days = [str(timeframe) for timeframe in window.timeframes if not timeframe.is_fixed]
    if query.limit is not None and by_trading_day and days:
        raise PlanError(
            f"limit({query.limit}) ranks the bars of one bucket, but {', '.join(days)} by trading date start and end "
            "differently for each key; leave out `day=` of based_on, or these timeframes"
        )


def lineage(plan: Plan, bar: BarPlan) -> list[BarPlan]:
    """The bars from the base up to `bar`."""
    by_name = {found.name: found for found in plan.bars}
    line = [bar]
    while line[0].source is not None:
        line.insert(0, by_name[line[0].source])
    return line


def edges(plan: Plan) -> list[tuple[str, str]]:
    """(source, derived) names of all roll-up edges."""
    every = {pair for bar in plan.bars for pair in pairwise(found.name for found in lineage(plan, bar))}
    order = {bar.name: position for position, bar in enumerate(plan.bars)}
    return sorted(every, key=lambda edge: (order[edge[0]], order[edge[1]]))
