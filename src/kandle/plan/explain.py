"""A plan as text: the query, the tree of timeframes, how fields roll up, and the topics with their settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kandle.errors import ModelError
from kandle.plan.plan import BarPlan, Plan
from kandle.plan.query_topics import QueryTopic, QueryTopics
from kandle.query.nodes import AnyNode, Cast, aggregates, describe
from kandle.query.query import Hopping, Join, QueryModel
from kandle.query.signatures import AGGREGATES
from kandle.time.timeframe import duration_text


def explain(plan: Plan, topics: QueryTopics | None = None) -> str:
    """Describe a plan: the query, the tree of timeframes with their grace, how each field rolls up, and the topics.

    Args:
        plan: The plan of a query, as `kandle.plan` returns it.
        topics: The topics of the query, to be listed with their settings; None leaves the list out.

    Returns:
        Several lines of text.

    Raises:
        ModelError: The argument is not a plan.
    """
    if not isinstance(plan, Plan):
        raise ModelError(f"kandle.explain takes a plan: write {_advice(plan)}")
    parts = [_query_lines(plan), _tree_lines(plan), _field_lines(plan.query)]
    if topics is not None:
        parts.append(_topic_lines(topics))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _advice(given: object) -> str:
    """Return what to write in the place of an argument that is not a plan."""
    if isinstance(given, QueryModel):
        return "kandle.explain(kandle.plan(query))"
    cls = given if isinstance(given, type) else type(given)
    context = cls.__name__ if hasattr(cls, "explain") else "Market"
    return f"{context}.explain(), which describes all queries of the context {context}"


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
        fields = ", ".join(order.field + (" descending" if order.descending else "") for order in query.order_by)
        yield f"  order by {fields}"
    if query.limit is not None:
        yield f"  limit {query.limit} for each bucket"


def _join(join: Join) -> str:
    on = " & ".join(f"{describe(left)} == {describe(right)}" for left, right in join.on)
    within = "" if join.within is None else f", within {duration_text(join.within)}"
    grace = "" if join.grace is None else f", grace {duration_text(join.grace)}"
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
    derived = [bar for bar in plan.bars if bar.source == source]
    for position, bar in enumerate(derived):
        last = position == len(derived) - 1
        yield f"{indent}{'└─' if last else '├─'} {_bar(bar)}"
        yield from _branch(plan, bar.name, indent + ("   " if last else "│  "))


def _bar(bar: BarPlan) -> str:
    text = f"{bar.name} {bar.role.value}, grace {duration_text(bar.grace)}"
    return f"{text}, topics {bar.live_topic}, {bar.final_topic}" if bar.is_emitted else f"{text}, not written"


def _field_lines(query: QueryModel) -> Iterator[str]:
    width = max(len(item.field) for item in query.projection)
    for item in query.projection:
        rules = "; ".join(dict.fromkeys(AGGREGATES[node.function].merge for node in aggregates(item.expression)))
        suffix = f"   [rolls up as {rules}]" if rules else ""
        yield f"{item.field:<{width}} = {describe(_as_written(item.expression))}{suffix}"


def _as_written(expression: AnyNode) -> AnyNode:
    """Return the expression without the conversion to the type of its field."""
    return expression.argument if isinstance(expression, Cast) else expression


def _topic_lines(topics: QueryTopics) -> Iterator[str]:
    yield "topics"
    table = [("reads", topic) for topic in topics.inputs]
    table += [("writes", topic) for topic in topics.created]
    table += [("on demand", topics.dead_letters)]
    rows = [(use, *_settings(topic)) for use, topic in table]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _settings(topic: QueryTopic) -> Sequence[str]:
    """Return name, partitions, retention, format and content of a topic, in words."""
    spec, content = topic.spec, topic.content
    copies = "" if spec.replication is None else f", replication {spec.replication}"
    partitions = f"{spec.partitions} partition{'' if spec.partitions == 1 else 's'}{copies}"
    kept = "kept for ever" if spec.retention is None else f"kept {duration_text(spec.retention)}"
    size = [] if spec.retention_bytes is None else [f"at most {spec.retention_bytes:,} bytes a partition"]
    compacted = ["compacted"] if spec.compacted else []
    configs = [f"{name}={value}" for name, value in spec.configs]
    others = [] if spec.is_created else ["created by others"]
    key, value = content.key_format, content.value_format
    format_ = value if key == value or not spec.keys else f"key {key}, value {value}"
    return spec.name, partitions, ", ".join([kept, *size, *compacted, *configs, *others]), format_, content.text
