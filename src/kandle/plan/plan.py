"""From a query to its bars: the timeframes, what each is made from, when its buckets close, and its topics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from math import gcd

from kandle.errors import ModelError, PlanError
from kandle.query.query import Hopping, QueryModel, Tumbling
from kandle.time.timeframe import DAY, SECOND, Timeframe, Unit, duration_text
from kandle.time.zones import zone_offsets_divide


class BarRole(Enum):
    """What the bars of a timeframe are made from."""

    BASE = "base"
    """Events; the bars are written."""
    ROLL_UP = "roll-up"
    """Bars of a finer timeframe; the bars are written."""
    PANE = "pane"
    """Events; the bars are only a step towards those of a hopping window and are not written."""


@dataclass(frozen=True, slots=True)
class BarPlan:
    """One timeframe of a query.

    `source` names the timeframe whose bars these are made from; None stands for the events themselves. A bucket closes
    `grace` microseconds after its end. `advance` is set for hopping windows only.
    """

    name: str
    timeframe: Timeframe
    role: BarRole
    source: str | None
    grace: int
    live_topic: str
    final_topic: str
    advance: Timeframe | None = None
    former_topics: tuple[str, ...] = ()
    """The topics of finals with earlier versions of the bars' key, the oldest first."""

    @property
    def is_emitted(self) -> bool:
        """Whether these bars are written, or are only an intermediate step."""
        return self.role is not BarRole.PANE


@dataclass(frozen=True, slots=True)
class Plan:
    """All timeframes of a query, each after the one that it is made from.

    Days begin at midnight of `zone`, or with the trading date of the schedule if `by_trading_day`.
    """

    query: QueryModel
    bars: tuple[BarPlan, ...]
    zone: str
    by_trading_day: bool

    @property
    def base(self) -> BarPlan:
        """The timeframe whose bars are made from events."""
        return self.bars[0]

    @property
    def emitted(self) -> tuple[BarPlan, ...]:
        """The timeframes whose bars are written, finest first."""
        return tuple(bar for bar in self.bars if bar.is_emitted)


def plan(query: QueryModel) -> Plan:
    """Derive the timeframes of a query: what each is made from, its grace, and its topics.

    Args:
        query: A query with a tumbling or hopping window.

    Returns:
        The plan, finest timeframe first.

    Raises:
        PlanError: The query has no window, or a timeframe cannot be made from the others.
    """
    if not isinstance(query, QueryModel):
        raise ModelError("kandle.plan takes a query: write kandle.plan(Market.model().queries[Bar])")
    if query.window is None:
        raise PlanError(
            f"{query.target.name} has no window over time, so there are no bars to make; add .tumbling(...) to its query"
        )
    by_trading_day = query.schedule is not None and query.schedule.day is not None
    if isinstance(query.window, Hopping):
        return Plan(query, _with_former_topics(query, _hopping_bars(query, query.window)), "UTC", by_trading_day)
    _check_limit(query, query.window, by_trading_day)
    bars = _tumbling_bars(query, query.window, by_trading_day)
    return Plan(query, _with_former_topics(query, bars), query.window.zone, by_trading_day)


def _with_former_topics(query: QueryModel, bars: tuple[BarPlan, ...]) -> tuple[BarPlan, ...]:
    former = query.target.former
    return tuple(replace(bar, former_topics=tuple(_final_topic(query, one.topic, bar) for one in former)) for bar in bars)


def _final_topic(query: QueryModel, topic: str, bar: BarPlan) -> str:
    return query.topics.names(topic, bar.name)[1]


EXPIRY_WITHOUT_SCHEDULE = 7 * DAY


def expiry_of(query: QueryModel, expire_after: int | str) -> int | None:
    """Return how long a key may be without events before it gets no more gap bars until its next one.

    Live queries and backfills go by it alike.

    Args:
        query: The query.
        expire_after: Microseconds, `never` (as is 0), or `auto`: seven days without a schedule, never with one.

    Returns:
        Microseconds; None is for ever.
    """
    if expire_after == "auto":
        return EXPIRY_WITHOUT_SCHEDULE if query.schedule is None else None
    return int(expire_after) or None if expire_after != "never" else None


def check_embedded(query: QueryModel) -> None:
    """Check that kandle's own engine can run a query.

    Raises:
        PlanError: Only ksqlDB can run it.
    """
    if query.join is not None:
        raise PlanError(
            f"the query of {query.target.name} joins {query.source.name} with {query.join.entity.name}, which runs on ksqlDB "
            'only: set [engine] kind = "ksqldb" (`kandle script` prints its statements), or join the data before kandle'
        )


def _hopping_bars(query: QueryModel, window: Hopping) -> tuple[BarPlan, ...]:
    size, advance = window.size, window.advance
    if not (size.is_fixed and advance.is_fixed) or size.size % advance.size != 0:
        raise PlanError(
            f"a hopping window of {size} cannot advance by {advance}: the advance must divide the size, and both must be in "
            "seconds, minutes or hours"
        )
    name = hop_name(window)
    pane = BarPlan(str(advance), advance, BarRole.PANE, None, window.grace, *_topics(query, str(advance)))
    hop = BarPlan(name, size, BarRole.ROLL_UP, pane.name, window.grace, *_topics(query, name), advance)
    return (pane, hop)


def hop_name(window: Hopping) -> str:
    """Return the name of the bars of a hopping window, such as `20m_every_1m`."""
    return f"{window.size}_every_{window.advance}"


def _tumbling_bars(query: QueryModel, window: Tumbling, by_trading_day: bool) -> tuple[BarPlan, ...]:
    ordered = sorted(set(window.timeframes))
    bars: dict[Timeframe, BarPlan] = {}
    for timeframe in ordered:
        source = _source(timeframe, ordered, window.zone, by_trading_day)
        if source is None and timeframe != ordered[0]:
            raise PlanError(_underivable(timeframe, ordered, window.zone, by_trading_day))
        role = BarRole.BASE if source is None else BarRole.ROLL_UP
        grace = _grace(timeframe, window, bars[source] if source else None)
        source_name = str(source) if source else None
        topics = _topics(query, str(timeframe))
        bars[timeframe] = BarPlan(str(timeframe), timeframe, role, source_name, grace, *topics)
    return tuple(bars.values())


def _topics(query: QueryModel, name: str) -> tuple[str, str]:
    return query.topics.names(query.target.topic, name)


def _source(timeframe: Timeframe, ordered: list[Timeframe], zone: str, by_trading_day: bool) -> Timeframe | None:
    """Return the coarsest single unit (1s, 1m, 1h, 1d ...) that divides a timeframe, else the finest that does.

    None stands for the finest of all, and for a timeframe that no other divides.
    """
    dividing = [other for other in ordered if other < timeframe and divides(other, timeframe, zone)]
    if by_trading_day and not timeframe.is_fixed:
        # An hour can hold the end of one trading day and the start of the next; only the base is checked against that.
        dividing = [other for other in dividing if not other.is_fixed or other == ordered[0]]
    single = [other for other in dividing if other.value == 1]
    return single[-1] if single else next(iter(dividing), None)


def _underivable(timeframe: Timeframe, ordered: list[Timeframe], zone: str, by_trading_day: bool) -> str:
    """Return the message for a timeframe that none of the finer ones divides."""
    days = "" if timeframe.is_fixed or zone == "UTC" else f" (days of {zone})"
    finer = [str(other) for other in ordered if other < timeframe]
    reason = "which does not divide it" if len(finer) == 1 else "none of which divides it"
    missing = _missing(ordered, zone, by_trading_day)
    advice = ""
    if missing is not None:
        advice = f"; add {missing.unit.name.lower()}s={missing.value}, from which all timeframes of the query can be made"
    return f"{timeframe}{days} cannot be made from {', '.join(finer)}, {reason}{advice}"


UNITS = tuple(Timeframe(value, unit) for unit in reversed(Unit) for value in (30, 15, 5, 1) if value == 1 or unit is Unit.MINUTE)


def _missing(ordered: list[Timeframe], zone: str, by_trading_day: bool) -> Timeframe | None:
    """Return the coarsest usual timeframe with which all of these can be derived; None if there is none."""
    fixed = [timeframe.size // SECOND for timeframe in ordered if timeframe.is_fixed]
    common = [Timeframe(gcd(*fixed), Unit.SECOND)] if fixed else []
    for candidate in sorted({*common, *UNITS} - set(ordered), reverse=True):
        wider = sorted({candidate, *ordered})
        if all(_source(other, wider, zone, by_trading_day) is not None for other in wider[1:]):
            return candidate
    return None


def divides(child: Timeframe, parent: Timeframe, zone: str = "UTC") -> bool:
    """Return whether every bucket of `parent` always consists of whole buckets of `child`.

    Args:
        child: The finer timeframe.
        parent: The coarser timeframe.
        zone: The time zone in which days, weeks and months begin.
    """
    if child.is_fixed and parent.is_fixed:
        return parent.size % child.size == 0
    if child.is_fixed:
        return zone_offsets_divide(child.size, zone)
    if child.unit is parent.unit:
        return parent.value % child.value == 0
    return child == Timeframe(1, Unit.DAY) and parent.unit in (Unit.WEEK, Unit.MONTH)


def _grace(timeframe: Timeframe, window: Tumbling, source: BarPlan | None) -> int:
    """Return the timeframe's own grace, else its source's, else that of the whole window; never below its source's."""
    inherited = source.grace if source is not None else window.grace
    own = window.grace_by_timeframe.get(timeframe, inherited)
    if own < inherited:
        assert source is not None
        raise PlanError(
            f"the grace of {timeframe} ({duration_text(own)}) is below that of {source.name} ({duration_text(inherited)}), "
            f"from which it is made; give {timeframe} at least {duration_text(inherited)}"
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
    """Return the timeframes from the base up to `bar`, each made from the one before it."""
    by_name = {other.name: other for other in plan.bars}
    line = [bar]
    while line[0].source is not None:
        line.insert(0, by_name[line[0].source])
    return line


def edges(plan: Plan) -> list[tuple[str, str]]:
    """Return all roll-up edges as pairs of names, (source, derived)."""
    pairs = {pair for bar in plan.bars for pair in pairwise(step.name for step in lineage(plan, bar))}
    order = {bar.name: position for position, bar in enumerate(plan.bars)}
    return sorted(pairs, key=lambda edge: (order[edge[0]], order[edge[1]]))
