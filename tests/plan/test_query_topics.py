"""The topics of a query: which there are, with which settings, and how their records are encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

import pytest

import kandle
from kandle import Header, Key, Timestamp
from kandle import functions as f
from kandle.model.entity import entity_model
from kandle.plan.plan import Plan, plan
from kandle.plan.query_topics import (
    AggregatedTable,
    HeartbeatSettings,
    QueryTopicSettings,
    Retentions,
    TopicRole,
    aggregated_topics,
    contents_of,
    context_topics,
    intervals_name,
    ksqldb_contents_of,
    ksqldb_topics,
    query_topics,
)
from kandle.plan.topics import entity_topic
from kandle.query.query import Late, Schedule
from kandle.query.stages import Query, build
from kandle.time.timeframe import DAY, HOUR


@kandle.stream("hits", key_format="KAFKA", value_format="JSON", retention="3d")
@dataclass(frozen=True)
class Hit:
    page: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    weight: int
    trace: Annotated[str | None, Header("trace-id")] = None


@kandle.stream("pages")
@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    hits: int


def plan_of(group: Any = lambda h: h.page, **window: Any) -> Plan:
    grouped = Query().from_(Hit).tumbling(lambda h: h.at, **({"minutes": 1} | window)).group_by(group)
    selected = grouped.select(lambda h, w: Page(page=group(h), start=w.start, hits=f.count()))
    return plan(build(entity_model(Page), lambda q: selected))


def with_source(query_plan: Plan, **settings: Any) -> Plan:
    """The plan over a source with other settings."""
    return replace(query_plan, query=replace(query_plan.query, source=replace(query_plan.query.source, **settings)))


def test_a_source_that_is_keyed_as_the_query_groups_is_read_itself() -> None:
    topics = query_topics(plan_of(), source_partitions=3)
    assert (topics.events, topics.partitions, topics.is_repartitioned) == ("hits", 3, False)
    assert topics.read == ("hits", "pages_hb_1m")
    assert [spec.name for spec in topics.specs] == ["pages_1m_live", "pages_1m_final", "pages_hb_1m", "pages_changelog"]
    assert {spec.partitions for spec in topics.specs} == {3}


@pytest.mark.parametrize(
    ("query_plan", "partitions", "is_repartitioned"),
    [
        (plan_of(), 1, False),
        (plan_of(lambda h: f.upper(h.page)), 1, False),
        (plan_of(lambda h: f.upper(h.page)), 2, True),
        (with_source(plan_of(), partitioner="other"), 1, False),
        (with_source(plan_of(), partitioner="other"), 2, True),
    ],
)
def test_a_source_is_copied_where_events_of_a_key_are_in_several_partitions(
    query_plan: Plan, partitions: int, is_repartitioned: bool
) -> None:
    topics = query_topics(query_plan, source_partitions=partitions)
    assert topics.is_repartitioned is is_repartitioned
    assert ("pages_repartition" in {spec.name for spec in topics.specs}) is is_repartitioned
    assert topics.events == ("pages_repartition" if is_repartitioned else "hits")


def test_bars_with_partitions_of_their_own_have_the_source_copied() -> None:
    query_plan = plan_of()
    wider = replace(
        query_plan, query=replace(query_plan.query, target=replace(query_plan.query.target, partitions=4, replication=3))
    )
    topics = query_topics(wider, source_partitions=2)
    assert (topics.partitions, topics.is_repartitioned) == (4, True)
    assert {(spec.partitions, spec.replication) for spec in topics.specs} == {(4, 3)}


def test_settings_are_those_of_the_role() -> None:
    query_plan = with_source(plan_of(late=Late.TOPIC, days=1, grace="2s"), partitioner="other")
    topics = query_topics(
        query_plan, 2, QueryTopicSettings(HeartbeatSettings(retention=DAY), Retentions(live=HOUR, repartition=2 * DAY))
    )
    kept = {topic.spec.name: (topic.spec.retention, topic.spec.compacted) for topic in topics.created}
    assert kept == {
        "pages_1m_live": (HOUR, True),
        "pages_1m_final": (None, False),
        # Two of its buckets, and the grace: the live bar of a quiet key may be as old as its bucket.
        "pages_1d_live": (2 * DAY + 2_000_000, True),
        "pages_1d_final": (None, False),
        "pages_hb_1m": (DAY, True),
        "pages_changelog": (None, False),
        "pages_repartition": (2 * DAY, False),
        "pages_late": (3 * DAY, False),
    }
    assert (topics.dead_letters.spec.name, topics.dead_letters.spec.retention) == ("pages_dlq", None)


def test_copies_of_events_are_encoded_as_the_source_and_bars_as_the_target() -> None:
    contents = contents_of(plan_of(late=Late.TOPIC))
    formats = {name: (content.key_format, content.value_format) for name, content in contents.items()}
    assert {name for name, pair in formats.items() if pair == ("KAFKA", "JSON")} == {"hits", "pages_repartition", "pages_late"}
    assert {name for name, content in contents.items() if content.entity is not None and content.entity.cls is Page} == {
        "pages_1m_live",
        "pages_1m_final",
    }


def test_a_header_is_part_of_neither_key_nor_value() -> None:
    spec = entity_topic(entity_model(Hit))
    parts = (spec.key_columns, spec.value_columns, spec.header_columns)
    assert [[column.name for column in columns] for columns in parts] == [["page"], ["at", "weight"], ["trace"]]


def test_what_a_query_reads_has_the_partitions_that_its_source_has() -> None:
    topics = query_topics(plan_of(), source_partitions=5)
    assert [(topic.spec.name, topic.spec.partitions, topic.content.role) for topic in topics.inputs] == [
        ("hits", 5, TopicRole.SOURCE)
    ]


def test_each_query_has_a_topic_of_its_own_for_its_heartbeats_and_options_name_it() -> None:
    first = plan_of()
    second = replace(first, query=replace(first.query, target=replace(first.query.target, topic="sites", replication=3)))
    topics = context_topics([first, second, plan_of(minutes=5)], {"hits": 2})
    assert [(query.heartbeats, query.partitions) for query in topics] == [
        ("pages_hb_1m", 2),
        ("sites_hb_1m", 2),
        ("pages_hb_5m", 2),
    ]
    named = context_topics([first, second], {"hits": 2}, QueryTopicSettings(HeartbeatSettings("beats.{bars}", DAY, 2)))
    specs = [spec for query in named for spec in query.specs if spec.name == query.heartbeats]
    assert [(spec.name, spec.retention, spec.replication) for spec in specs] == [("beats.pages", DAY, 2), ("beats.sites", DAY, 2)]
    usual = next(spec for spec in topics[1].specs if spec.name == "sites_hb_1m")
    assert usual.replication == 3


def test_heartbeats_go_elsewhere_if_their_topic_has_other_partitions() -> None:
    (topics,) = context_topics([plan_of()], {"hits": 2, "pages_hb_1m": 3})
    assert (topics.heartbeats, topics.read) == ("pages_hb_1m_2", ("hits", "pages_hb_1m_2"))
    assert {spec.name: spec.partitions for spec in topics.specs}["pages_hb_1m_2"] == 2
    # Where they went once they stay, also after the wrong topic is gone.
    assert context_topics([plan_of()], {"hits": 2, "pages_hb_1m_2": 2})[0].heartbeats == "pages_hb_1m_2"


def test_the_group_of_a_query_depends_on_the_topic_of_its_bars_only() -> None:
    assert query_topics(plan_of()).group == query_topics(plan_of(minutes=5, days=1)).group == "kandle-pages"


def test_where_ksqldb_aggregates_its_table_is_read_and_not_created() -> None:
    query_plan = plan_of(minutes=(1, 5))
    spec = replace(entity_topic(query_plan.query.target, "pages_1m_live"), partitions=4)
    topics = aggregated_topics(query_plan, AggregatedTable(spec, {}))
    assert (topics.events, topics.read, topics.late) == ("pages_1m_live", ("pages_1m_live", "pages_hb_1m"), None)
    assert [created.name for created in topics.specs] == [
        *("pages_1m_final", "pages_5m_live", "pages_5m_final"),
        *("pages_hb_1m", "pages_changelog"),
    ]
    assert [topics.is_written_live(bar) for bar in query_plan.bars] == [False, True]
    assert topics.inputs[-1].content.windowed


def test_ksqldb_reads_session_intervals_as_plain_text() -> None:
    query_plan = plan_of()
    column = query_plan.query.window.time  # type: ignore[union-attr]
    scheduled = replace(query_plan, query=replace(query_plan.query, schedule=Schedule(entity_model(Hit), column, column, column)))
    contents = ksqldb_contents_of(scheduled)
    intervals = contents[intervals_name(entity_model(Hit))]
    assert (intervals.key_format, intervals.value_format, intervals.role) == ("KAFKA", "KAFKA", TopicRole.INTERVALS)
    assert contents["pages_1m_live"].windowed


def test_of_a_context_on_ksqldb_each_table_has_the_partitions_that_are_known_of_it() -> None:
    query_plan = plan_of(minutes=(1, 5))
    (declared,), (known,) = ksqldb_topics([query_plan]), ksqldb_topics([query_plan], {"pages_1m_live": 7})
    assert (declared.partitions, known.partitions) == (1, 7)
    assert known.specs == aggregated_topics(query_plan, AggregatedTable(known.table.topic, {})).specs  # type: ignore[union-attr]
    assert not known.is_repartitioned and "pages_1m_live" not in {spec.name for spec in known.specs}
