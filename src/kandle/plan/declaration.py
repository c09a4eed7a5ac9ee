"""What a query declares, as far as its bars depend on it.

Processes that make the same bars compare their declarations before they share the work. The content is readable JSON and depends
neither on the name of the context nor on those of classes; what may differ without harm (retention, pace) is not part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from kandle.model.entity import USUAL_BAR_TOPICS, BarTopics
from kandle.plan.plan import Plan, expiry_of
from kandle.plan.query_topics import DEFAULT_HEARTBEATS, HeartbeatSettings
from kandle.query.key_forms import group_normalizers
from kandle.query.nodes import AnyNode, Column, describe
from kandle.query.query import Join, QueryModel, Schedule, rewrite
from kandle.time.timeframe import duration_text

LABELS = {
    "engine": "engine",
    "source": "source topic",
    "partitioner": "partitioner of the source",
    "join": "join",
    "sessions": "sessions",
    "time": "time of an event",
    "where": "where",
    "group_by": "group key",
    "timeframes": "timeframe",
    "zone": "time zone",
    "fields": "field",
    "having": "having",
    "order_by": "order_by",
    "limit": "limit",
    "gaps": "gaps",
    "heartbeats": "heartbeat.topic",
    "topics": "topic of",
    "expire_after": "universe.expire_after",
}
"""What each part of a declaration is called; one without a label here is called by its name."""

FIXED = ("engine", "source", "partitioner", "join", "group_by", "topics")
"""Parts whose change makes other bars, of other keys or events or in other places, so that they need a topic of their own."""

USUAL = {"topics": asdict(USUAL_BAR_TOPICS)}
"""Parts that are left out where they are usual, as in the declarations of versions that knew nothing else."""


@dataclass(frozen=True, slots=True)
class QueryDeclaration:
    """The declaration of a query.

    Attributes:
        content: Its parts by name, as values of JSON.
    """

    content: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The content as JSON."""
        return json.dumps(self.content, ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """A short text that differs between different declarations."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:16]

    def bar_topics(self, bars: str) -> set[str]:
        """Return the topics of the live and of the final bars of all timeframes.

        Args:
            bars: The topic of the entity of the bars.
        """
        forms = BarTopics(**self.content.get("topics", USUAL["topics"]))
        return {name for timeframe in self.content["timeframes"] for name in forms.names(bars, timeframe)}

    @property
    def is_aggregated_elsewhere(self) -> bool:
        """Whether ksqlDB aggregates the events, so that kandle alone cannot begin anew with another declaration."""
        return bool(self.content["engine"] == "ksqldb")

    @classmethod
    def parse(cls, text: str) -> QueryDeclaration:
        """Return the declaration that `text` has printed."""
        return cls(json.loads(text))

    def changed(self, other: QueryDeclaration) -> list[str]:
        """Return the names of the parts that differ; a part that only one of them knows belongs to another version of kandle."""
        first, second = {**USUAL, **self.content}, {**USUAL, **other.content}
        return [name for name in first if name in second and first[name] != second[name]]

    def differences(self, other: QueryDeclaration, own: str, others: str) -> list[str]:
        """Return in words how another declaration differs.

        Args:
            other: The other declaration.
            own: What to call this one.
            others: What to call the other one.
        """
        return [
            f"{label}: {_value(first)} {own}, {_value(second)} {others}"
            for name in self.changed(other)
            for label, first, second in _parts(
                LABELS.get(name, name), self.content.get(name, USUAL.get(name)), other.content.get(name, USUAL.get(name))
            )
        ]


def _parts(label: str, first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs between two values, each entry of a mapping for itself."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        yield label, first, second
        return
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            yield from _parts(f"{label} {name}", first.get(name), second.get(name))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def declaration(
    plan: Plan,
    engine: str = "embedded",
    heartbeats: HeartbeatSettings = DEFAULT_HEARTBEATS,
    expire_after: int | str = "auto",
) -> QueryDeclaration:
    """Return the declaration of a query, with the options on which its bars depend.

    Args:
        plan: The plan of the query.
        engine: What aggregates its events: `embedded` or `ksqldb`.
        heartbeats: Where its heartbeats are: processes that obey different ones would each make all bars.
        expire_after: How long a key may be silent, see `expiry_of`.
    """
    query = plan.query
    window = query.window
    assert window is not None
    expiry = expiry_of(query, expire_after)
    names = _Names(query)
    content = {
        "engine": engine,
        "source": query.source.topic,
        "partitioner": query.source.partitioner,
        "join": None if query.join is None else names.join(query.join),
        "sessions": None if query.schedule is None else names.sessions(query.schedule),
        "time": names.text(window.time),
        "where": None if query.where is None else names.text(query.where),
        "group_by": names.group_key(),
        "timeframes": {
            bar.name: {"made from": bar.source or "events", "grace": duration_text(bar.grace)} for bar in plan.emitted
        },
        "zone": plan.zone,
        "fields": {item.field: names.text(item.expression) for item in query.projection},
        "having": None if query.having is None else names.text(query.having),
        "order_by": [f"{order.field}{' descending' if order.descending else ''}" for order in query.order_by],
        "limit": query.limit,
        "gaps": query.gaps.value,
        "heartbeats": heartbeats.name(plan),
        "expire_after": "never" if expiry is None else duration_text(expiry),
    }
    topics = asdict(query.topics)
    return QueryDeclaration(content if topics == USUAL["topics"] else content | {"topics": topics})


class _Names:
    """Expressions as text in which entities are called by their role, whatever the names of their classes."""

    def __init__(self, query: QueryModel) -> None:
        self._query = query
        self._roles = {query.source.name: "event"}
        if query.join is not None:
            self._roles.setdefault(query.join.entity.name, "joined")
        if query.schedule is not None:
            self._roles.setdefault(query.schedule.entity.name, "session")

    def text(self, node: AnyNode) -> str:
        return describe(rewrite(node, self._renamed))

    def group_key(self) -> list[str]:
        """Return the parts of the group key, with the form in which the events of a part are read."""
        texts = [self.text(key) for key in self._query.group_by]
        forms = group_normalizers(self._query)
        named = zip(self._query.group_by, texts, forms, strict=True)
        return [
            f"{text} ({getattr(form, '__qualname__', 'normalized')})" if form is not None and isinstance(key, Column) else text
            for key, text, form in named
        ]

    def _renamed(self, node: Any) -> Any:
        return replace(node, entity=self._roles.get(node.entity, node.entity)) if isinstance(node, Column) else node

    def join(self, join: Join) -> dict[str, Any]:
        return {
            "topic": join.entity.topic,
            "how": join.how,
            "on": [f"{self.text(left)} == {self.text(right)}" for left, right in join.on],
            "within": None if join.within is None else duration_text(join.within),
            "grace": None if join.grace is None else duration_text(join.grace),
        }

    def sessions(self, schedule: Schedule) -> dict[str, Any]:
        return {
            "topic": schedule.entity.topic,
            "open": self.text(schedule.open),
            "close": self.text(schedule.close),
            "trading date": None if schedule.day is None else self.text(schedule.day),
        }
