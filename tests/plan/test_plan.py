"""From a query to timeframes, roll-up edges, grace and topics."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

import pytest

import kandle
from kandle import Key, Timeframe, Timestamp, explain, plan
from kandle import functions as f
from kandle.errors import PlanError
from kandle.model.entity import entity_model
from kandle.plan.plan import BarRole, Plan, divides, edges, lineage
from kandle.plan.query_topics import query_topics
from kandle.query.query import QueryModel, Schedule
from kandle.query.stages import Query, build


@kandle.stream("hits")
@dataclass(frozen=True)
class Hit:
    page: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    weight: int


@kandle.stream("pages")
@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    hits: int


def query(**window: Any) -> QueryModel:
    grouped = Query().from_(Hit).where(lambda h: h.weight > 0).tumbling(lambda h: h.at, **window).group_by(lambda h: h.page)
    selected = grouped.select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))
    model: QueryModel = build(entity_model(Page), lambda q: selected)
    return model


def sources(found: Plan) -> dict[str, str | None]:
    return {bar.name: bar.source for bar in found.bars}


def test_the_ladder_of_timeframes() -> None:
    found = plan(query(seconds=1, minutes=(1, 5, 15), hours=1, days=1, weeks=1, months=(1, 3)))
    assert sources(found) == {
        "1s": None,
        "1m": "1s",
        "5m": "1m",
        "15m": "1m",
        "1h": "1m",
        "1d": "1h",
        "1wk": "1d",
        "1mo": "1d",
        "3mo": "1mo",
    }
    assert [bar.name for bar in lineage(found, found.bars[-1])] == ["1s", "1m", "1h", "1d", "1mo", "3mo"]
    assert ("1h", "1d") in edges(found)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"minutes": (5, 15), "hours": 1}, {"5m": None, "15m": "5m", "1h": "5m"}),
        ({"minutes": (2, 3, 6), "seconds": 30}, {"30s": None, "2m": "30s", "3m": "30s", "6m": "30s"}),
        (
            {"minutes": (15, 30), "hours": 1, "days": 1, "tz": "Asia/Kolkata"},
            {"15m": None, "30m": "15m", "1h": "15m", "1d": "15m"},
        ),
        ({"hours": (1, 4), "days": 1, "tz": "America/New_York"}, {"1h": None, "4h": "1h", "1d": "1h"}),
        ({"days": 1, "weeks": (1, 2)}, {"1d": None, "1wk": "1d", "2wk": "1wk"}),
        ({"days": 1, "weeks": 2}, {"1d": None, "2wk": "1d"}),
    ],
)
def test_what_divides_a_timeframe_makes_it(window: dict[str, Any], expected: dict[str, str | None]) -> None:
    assert sources(plan(query(**window))) == expected


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (
            {"minutes": (2, 3)},
            "3m cannot be made from 2m, which does not divide it; add minutes=1, from which all timeframes of the query "
            "can be made",
        ),
        ({"minutes": 1, "seconds": 90}, "90s cannot be made from 1m, which does not divide it; add seconds=30, from which"),
        ({"minutes": (4, 6, 10)}, "6m cannot be made from 4m, which does not divide it; add minutes=2, from which"),
        ({"minutes": (2, 4, 7)}, "7m cannot be made from 2m, 4m, none of which divides it; add minutes=1, from which"),
        (
            {"hours": 1, "days": 1, "tz": "Asia/Kolkata"},
            "1d (days of Asia/Kolkata) cannot be made from 1h, which does not divide it; add minutes=30, from which",
        ),
        (
            {"hours": 4, "days": 1, "tz": "America/New_York"},
            "1d (days of America/New_York) cannot be made from 4h, which does not divide it; add hours=1, from which",
        ),
        ({"weeks": 1, "months": 1}, "1mo cannot be made from 1wk, which does not divide it; add days=1, from which"),
        ({"days": (2, 3)}, "3d cannot be made from 2d, which does not divide it; add days=1, from which"),
        (
            {"minutes": (1, 5), "grace": {"1m": "5s", "5m": "2500ms"}},
            "the grace of 5m (2s500ms) is below that of 1m (5s), from which it is made; give 5m at least 5s",
        ),
    ],
)
def test_what_cannot_be_derived_is_refused_by_name(window: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        plan(query(**window))


@pytest.mark.parametrize(
    "window",
    [
        {"minutes": (2, 3)},
        {"minutes": 1, "seconds": 90},
        {"seconds": (7, 11), "minutes": 13},
        {"hours": 5, "days": 1},
        {"days": (2, 3), "weeks": 1, "months": 5},
        {"hours": 7, "weeks": 1, "tz": "Australia/Lord_Howe"},
    ],
)
def test_the_timeframe_that_an_error_advises_makes_all_others(window: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="cannot be made from") as refused:
        plan(query(**window))
    advice = re.search(r"add (\w+)=(\d+)", str(refused.value))
    assert advice is not None
    unit, value = advice[1], int(advice[2])
    declared = window.get(unit, ())
    wider = window | {unit: (*(declared if isinstance(declared, tuple) else (declared,)), value)}
    assert len(sources(plan(query(**wider)))) == 1 + len(declared_in(window))


def declared_in(window: dict[str, Any]) -> list[int]:
    """Return the timeframes that a window declares."""
    values = [value for name, value in window.items() if name != "tz"]
    return [number for value in values for number in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize(
    ("child", "parent", "zone", "expected"),
    [
        ("1m", "5m", "UTC", True),
        ("7m", "1h", "UTC", False),
        ("1h", "1d", "UTC", True),
        ("5h", "1d", "UTC", False),
        ("30m", "1d", "Australia/Lord_Howe", True),
        ("1h", "1mo", "Australia/Lord_Howe", False),
        ("1d", "1wk", "UTC", True),
        ("2d", "1wk", "UTC", False),
        ("1wk", "1mo", "UTC", False),
        ("1mo", "12mo", "UTC", True),
    ],
)
def test_division(child: str, parent: str, zone: str, expected: bool) -> None:
    assert divides(Timeframe.parse(child), Timeframe.parse(parent), zone) is expected


def test_grace_is_inherited_from_what_a_timeframe_is_made_of() -> None:
    found = plan(query(minutes=(1, 5), hours=1, days=1, grace={"1m": "2s", "1h": "5s"}))
    assert {bar.name: bar.grace // 1_000_000 for bar in found.bars} == {"1m": 2, "5m": 2, "1h": 5, "1d": 5}


def test_topics_are_named_after_the_bar_and_its_timeframe() -> None:
    found = plan(query(minutes=1, months=1))
    assert [(bar.live_topic, bar.final_topic) for bar in found.bars] == [
        ("pages_1m_live", "pages_1m_final"),
        ("pages_1mo_live", "pages_1mo_final"),
    ]
    assert [bar.role for bar in found.bars] == [BarRole.BASE, BarRole.ROLL_UP]


def test_by_trading_date_days_are_made_from_the_base_since_an_hour_can_hold_two_of_them() -> None:
    column = query(minutes=1).window.time  # type: ignore[union-attr]
    scheduled = replace(
        query(minutes=(1, 5), hours=1, days=1, weeks=1), schedule=Schedule(entity_model(Hit), column, column, column)
    )
    assert sources(plan(scheduled)) == {"1m": None, "5m": "1m", "1h": "1m", "1d": "1m", "1wk": "1d"}
    with pytest.raises(PlanError, match=r"limit\(3\) ranks the bars of one bucket, but 1d, 1wk by trading date"):
        plan(replace(scheduled, limit=3))


def test_hopping_windows_are_made_from_panes() -> None:
    grouped = Query().from_(Hit).hopping(lambda h: h.at, size="5m", advance="1m", grace="2s").group_by(lambda h: h.page)
    selected = grouped.select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))
    found = plan(build(entity_model(Page), lambda q: selected))
    assert [(bar.name, bar.role, bar.is_emitted) for bar in found.bars] == [
        ("1m", BarRole.PANE, False),
        ("5m_every_1m", BarRole.ROLL_UP, True),
    ]


@pytest.mark.parametrize(("size", "advance"), [("5m", "2m"), ("1d", "1h"), ("1m", "5m")])
def test_an_advance_that_does_not_divide_the_size_is_refused(size: str, advance: str) -> None:
    grouped = Query().from_(Hit).hopping(lambda h: h.at, size=size, advance=advance).group_by(lambda h: h.page)
    selected = grouped.select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))
    with pytest.raises(PlanError, match=f"a hopping window of {size} cannot advance by {advance}"):
        plan(build(entity_model(Page), lambda q: selected))


def test_a_query_without_a_window_has_no_plan() -> None:
    selected = Query().from_(Hit).select(lambda h: Page(page=h.page, start=h.at, hits=h.weight))
    with pytest.raises(PlanError, match=r"Page has no window over time.*add \.tumbling"):
        plan(build(entity_model(Page), lambda q: selected))


def test_an_explanation_lists_the_topics_with_their_settings() -> None:
    found = plan(query(minutes=1, late="topic"))
    text = explain(found, query_topics(found, source_partitions=2))
    assert text.split("\n\ntopics\n")[-1].splitlines() == [
        "  reads      hits             2 partitions  kept for ever       AVRO  events of Hit",
        "  writes     pages_1m_live    2 partitions  kept 1h, compacted  AVRO  live 1m bars",
        "  writes     pages_1m_final   2 partitions  kept for ever       AVRO  final 1m bars",
        "  writes     pages_late       2 partitions  kept for ever       AVRO  late events of Hit",
        "  writes     pages_hb_1m      2 partitions  kept 7d, compacted  AVRO  heartbeats",
        "  writes     pages_changelog  2 partitions  kept for ever       AVRO  state of Page",
        "  on demand  pages_dlq        2 partitions  kept for ever       AVRO  what Page cannot be made of",
    ]


def test_an_explanation_is_a_tree_that_a_person_can_read() -> None:
    text = explain(plan(query(minutes=(1, 5), hours=1, days=1, grace="2s")))
    assert text == (
        "Page <- Hit (topic hits)\n"
        "  where Hit.weight > 0\n"
        "  by Hit.page\n"
        "  over Hit.at, tumbling, days of UTC, gaps carry, late drop\n"
        "\n"
        "events of Hit\n"
        "└─ 1m base, grace 2s, topics pages_1m_live, pages_1m_final\n"
        "   ├─ 5m roll-up, grace 2s, topics pages_5m_live, pages_5m_final\n"
        "   └─ 1h roll-up, grace 2s, topics pages_1h_live, pages_1h_final\n"
        "      └─ 1d roll-up, grace 2s, topics pages_1d_live, pages_1d_final\n"
        "\n"
        "page  = Hit.page\n"
        "start = w.start\n"
        "hits  = f.count()   [rolls up as sum of counts]"
    )
