"""A plan as a tree that a person can read."""

from __future__ import annotations

from collections.abc import Iterator

from kandle.plan.plan import BarPlan, Plan
from kandle.query.nodes import AnyNode, Cast, aggregates, describe
from kandle.query.query import Hopping, Join, QueryModel
from kandle.query.signatures import AGGREGATES
from kandle.time.timeframe import SECOND


def explain(plan: Plan) -> str:
    """The query clause by clause, then the tree of timeframes with grace and topics, then how each field rolls up."""
    return "\n".join([*_query_lines(plan), "", *_tree_lines(plan), "", *_field_lines(plan.query)])


def _query_lines(plan: Plan) -> Iterator[str]:
    query = plan.query
    yield f"{query.target.name} <- {query.source.name} (topic {query.source.topic})"
    if query.join is not None:
        yield f"  {_join(query.join)}"
    if query.schedule is not None:
        days = f", trading date {describe(query.schedule.day)}" if query.schedule.day is not None else ""
        sessions = f"{describe(query.schedule.open)} <= t < {describe(query.schedule.close)}"
        yield f"  based on {query.schedule.entity.name} (topic {query.schedule.entity.topic}): {sessions}{days}"
    if query.where is not None:
        yield f"  where {describe(query.where)}"
    yield f"  by {', '.join(map(describe, query.group_by)) or 'nothing: one series of bars'}"
    yield f"  over {_window(plan)}"
    if query.having is not None:
        yield f"  having {describe(query.having)}"
    if query.order_by:
        yield f"  order by {', '.join(order.field + (' descending' if order.descending else '') for order in query.order_by)}"
    if query.limit is not None:
        yield f"  limit {query.limit} for each bucket"


def _join(join: Join) -> str:
    on = " & ".join(f"{describe(left)} == {describe(right)}" for left, right in join.on)
    within = "" if join.within is None else f", within {join.within / SECOND:g}s"
    grace = "" if join.grace is None else f", grace {join.grace / SECOND:g}s"
    return f"{join.how} join {join.entity.name} (topic {join.entity.topic}) on {on}{within}{grace}"


def _window(plan: Plan) -> str:
    window = plan.query.window
    assert window is not None
    time, tail = describe(window.time), f"gaps {plan.query.gaps.value}, late {plan.query.late.value}"
    if isinstance(window, Hopping):
        return f"{time}, hopping {window.size} every {window.advance}, {tail}"
    days = "by trading date" if plan.by_trading_day else f"of {plan.zone}"
    return f"{time}, tumbling, days {days}, {tail}"


def _tree_lines(plan: Plan) -> Iterator[str]:
    yield f"events of {plan.query.source.name}"
    yield from _branch(plan, None, "")


def _branch(plan: Plan, source: str | None, indent: str) -> Iterator[str]:
    below = [bar for bar in plan.bars if bar.source == source]
    for position, bar in enumerate(below):
        last = position == len(below) - 1
        yield f"{indent}{'└─' if last else '├─'} {_bar(bar)}"
        yield from _branch(plan, bar.name, indent + ("   " if last else "│  "))


def _bar(bar: BarPlan) -> str:
    grace = f"{bar.name} {bar.role.value}, grace {bar.grace / 1_000_000:g}s"
    return f"{grace}, topics {bar.live_topic}, {bar.final_topic}" if bar.is_emitted else f"{grace}, not emitted"


def _field_lines(query: QueryModel) -> Iterator[str]:
    width = max(len(item.field) for item in query.projection)
    for item in query.projection:
        rules = "; ".join(dict.fromkeys(AGGREGATES[found.function].merge for found in aggregates(item.expression)))
        suffix = f"   [rolls up as {rules}]" if rules else ""
        yield f"{item.field:<{width}} = {describe(_as_written(item.expression))}{suffix}"


def _as_written(expression: AnyNode) -> AnyNode:
    """The expression without the conversion to the type of its field."""
    return expression.argument if isinstance(expression, Cast) else expression
