"""Queries over changed trees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kandle import functions as f
from kandle.query.nodes import Column, describe
from kandle.query.query import over_one_row, rewrite_query
from tests.query.declarations import Bar, Tick, bar, built
from tests.query.test_joining import Quote


def test_fields_of_the_other_entity_of_a_join_get_names_of_their_own() -> None:
    query = built(
        lambda q: (
            q.from_(Tick)
            .join(Quote, on=lambda t, o: t.name == o.name, within="5s")
            .where(lambda t, o: t.time < o.time)
            .tumbling(lambda t, o: o.time, minutes=1)
            .group_by(lambda t, o: t.name)
            .having(lambda t, o, w: f.sum(o.size) > 1)
            .select(lambda t, o, w: Bar(name=t.name, start=w.start, high=f.max(t.price), total=f.sum(t.size + o.size)))
        )
    )
    found = over_one_row(query)
    assert found.where is not None and found.window is not None and found.having is not None
    texts = [found.where, found.window.time, *found.group_by, found.having, found.projection[-1].expression]
    assert [describe(node) for node in texts] == [
        "Tick.time < Quote.Quote.time",
        "Quote.Quote.time",
        "Tick.name",
        "f.sum(Quote.Quote.size) > 1",
        "f.sum(Tick.size + Quote.Quote.size)",
    ]


def test_whether_a_value_may_be_null_follows_its_changed_parts() -> None:
    query = built(
        lambda q: (
            q.from_(Tick)
            .tumbling(lambda t: t.time, minutes=1)
            .group_by(lambda t: t.name)
            .select(lambda t, w: bar(t, w, total=f.max(f.if_(t.active, t.size, f.abs(t.size)))))
        )
    )

    def optional(node: Any) -> Any:
        return replace(node, nullable=True) if isinstance(node, Column) and node.name == "size" else node

    before, after = query.projection[-1].expression, rewrite_query(query, optional).projection[-1].expression
    assert (before.nullable, after.nullable) == (False, True)
    assert describe(before) == describe(after)
    assert over_one_row(query) is query
