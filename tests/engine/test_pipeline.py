"""The pipeline of a partition: closing, grace, late events, hopping windows, having, rankings, schedules, bad values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest

import kandle
from kandle import Gaps, Key, MaxLength, Precision, Timestamp
from kandle import functions as f
from kandle.engine.bars import Finals
from kandle.engine.pipeline import Pipeline
from kandle.engine.schedules import session_calendar
from kandle.errors import DataError, PlanError
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.plan import plan
from kandle.query.query import QueryModel
from kandle.query.stages import build
from kandle.time.timeframe import to_instant
from kandle.time.watermark import Watermark

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.stream("hits")
@dataclass(frozen=True)
class Hit:
    page: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    size: int = 1
    price: Annotated[Decimal, Precision(18, 2)] = Decimal(1)


@kandle.table("hours")
@dataclass(frozen=True)
class Open:
    page: Annotated[str, Key(0)]
    opens: Annotated[datetime, Key(1)]
    closes: datetime


@kandle.stream("pages")
@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key(0), MaxLength(8)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    hits: int
    total: int
    price: Annotated[Decimal, Precision(9, 2)]


def select(stage: Any) -> Any:
    return stage.select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count(), total=f.sum(h.size), price=f.last(h.price)))


def query(declare: Callable[[Any], Any]) -> QueryModel:
    model: QueryModel = build(entity_model(Page), declare)
    return model


def tumbling(**window: Any) -> QueryModel:
    return query(lambda q: select(q.from_(Hit).tumbling(lambda h: h.at, **window).group_by(lambda h: h.page)))


def hits(*rows: tuple[str, float] | tuple[str, float, int]) -> Any:
    """Events of a page so many seconds after noon."""
    objects = [Hit(row[0], NOON + timedelta(seconds=row[1]), *row[2:]) for row in rows]
    return mapping(entity_model(Hit)).to_frame(objects)


def shown(all_finals: Sequence[Finals] | Any) -> list[tuple[str, str, str, int, int]]:
    """(timeframe, page, start, hits, total) in the order in which they came out."""
    return [
        (finals.plan.name, page.page, page.start.strftime("%H:%M"), page.hits, page.total)
        for finals in all_finals
        for page in mapping(entity_model(Page)).from_frame(finals.bars)
    ]


def at(seconds: float) -> int:
    return to_instant(NOON + timedelta(seconds=seconds))


def test_a_bucket_closes_when_its_end_and_its_grace_have_passed_and_once() -> None:
    """
    12:00            12:01   +2s
    |   a            |       | final
    """
    pipeline = Pipeline(plan(tumbling(minutes=1, grace="2s")))
    pipeline.process(hits(("a", 10)))
    assert shown(pipeline.advance(at(61.999999))) == []
    assert shown(pipeline.advance(at(62))) == [("1m", "a", "12:00", 1, 1)]
    assert shown(pipeline.advance(at(62))) == []
    assert shown(pipeline.advance(at(61))) == []


def test_a_parent_comes_out_with_its_last_child_and_not_with_the_next_event() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=(1, 5))))
    pipeline.process(hits(("a", 10, 3), ("a", 250, 4)))
    names = [row[0] for row in shown(pipeline.advance(at(300)))]
    assert names == ["1m"] * 5 + ["5m"]


def test_a_timeframe_with_more_grace_comes_out_later() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=(1, 5), grace={"1m": "0s", "5m": "10s"}, gaps=Gaps.SKIP)))
    pipeline.process(hits(("a", 10)))
    assert shown(pipeline.advance(at(305))) == [("1m", "a", "12:00", 1, 1)]
    assert shown(pipeline.advance(at(310))) == [("5m", "a", "12:00", 1, 1)]


def test_an_event_of_a_closed_bucket_is_given_back() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=1)))
    pipeline.process(hits(("a", 10)))
    list(pipeline.advance(at(60)))
    processed = pipeline.process(hits(("a", 59.9), ("a", 60), ("b", 0)))
    assert processed.late["page"].to_list() == ["a", "b"]
    assert shown(pipeline.advance(at(120))) == [("1m", "a", "12:01", 1, 1)]


def test_by_the_watermark_an_event_is_late_when_its_bucket_was_over_before_it_came() -> None:
    """
    arrival: 12:00:10   12:01:02 (12:00 and its grace are over)   12:00:59 is late   12:01:01 is not
    """
    pipeline = Pipeline(plan(tumbling(minutes=1, grace="2s")))
    processed = pipeline.process(hits(("a", 10), ("a", 62), ("a", 59), ("b", 61)), Watermark())
    assert processed.late["at"].to_list() == [NOON + timedelta(seconds=59)]
    in_grace = Pipeline(plan(tumbling(minutes=1, grace="2s")))
    assert in_grace.process(hits(("a", 10), ("a", 61.999999), ("a", 59)), Watermark()).late.height == 0


def test_events_that_where_drops_do_not_move_the_watermark() -> None:
    model = query(
        lambda q: select(q.from_(Hit).where(lambda h: h.size > 0).tumbling(lambda h: h.at, minutes=1).group_by(lambda h: h.page))
    )
    watermark, pipeline = Watermark(), Pipeline(plan(model))
    processed = pipeline.process(hits(("a", 1), ("a", 10**6, 0), ("a", 2)), watermark)
    assert (processed.filtered, processed.late.height, watermark.value) == (1, 0, at(2))
    assert pipeline.process(hits(("a", 3, 0)), watermark).filtered == 1


def test_hopping_windows_count_every_event_in_each_window_that_holds_it() -> None:
    model = query(lambda q: select(q.from_(Hit).hopping(lambda h: h.at, size="3m", advance="1m").group_by(lambda h: h.page)))
    pipeline = Pipeline(plan(model))
    pipeline.process(hits(("a", 10, 1), ("a", 70, 10), ("a", 250, 100)))
    name = "3m_every_1m"
    assert shown(pipeline.finish(at(251))) == [
        (name, "a", "11:58", 1, 1),
        (name, "a", "11:59", 2, 11),
        (name, "a", "12:00", 2, 11),
        (name, "a", "12:01", 1, 10),
        (name, "a", "12:02", 1, 100),
        (name, "a", "12:03", 1, 100),
        (name, "a", "12:04", 1, 100),
    ]


def test_hopping_windows_without_an_event_are_filled() -> None:
    model = query(lambda q: select(q.from_(Hit).hopping(lambda h: h.at, size="2m", advance="1m").group_by(lambda h: h.page)))
    pipeline = Pipeline(plan(model))
    pipeline.process(hits(("a", 10), ("a", 300)))
    assert [(row[2], row[3]) for row in shown(pipeline.finish(at(301)))] == [
        ("11:59", 1), ("12:00", 1), ("12:01", 0), ("12:02", 0), ("12:03", 0), ("12:04", 1), ("12:05", 1),
    ]  # fmt: skip


def test_bars_that_having_drops_still_count_in_what_is_made_of_them() -> None:
    model = query(
        lambda q: select(
            q.from_(Hit)
            .tumbling(lambda h: h.at, minutes=(1, 5), gaps=Gaps.SKIP)
            .group_by(lambda h: h.page)
            .having(lambda h, w: f.sum(h.size) > 2)
        )
    )
    pipeline = Pipeline(plan(model))
    pipeline.process(hits(("a", 10, 2), ("a", 70, 2), ("b", 5, 1)))
    assert shown(pipeline.finish(at(71))) == [("5m", "a", "12:00", 2, 4)]


def test_a_limit_keeps_the_first_bars_of_every_bucket_of_every_timeframe() -> None:
    model = query(
        lambda q: (
            select(q.from_(Hit).tumbling(lambda h: h.at, minutes=(1, 5), gaps=Gaps.SKIP).group_by(lambda h: h.page))
            .order_by(lambda b: (f.descending(b.total), b.page))
            .limit(2)
        )
    )
    pipeline = Pipeline(plan(model))
    pipeline.process(hits(("a", 1, 5), ("b", 2, 7), ("c", 3, 5), ("d", 4, 1), ("d", 65, 9), ("c", 66, 1)))
    assert shown(pipeline.finish(at(67))) == [
        ("1m", "b", "12:00", 1, 7),
        ("1m", "a", "12:00", 1, 5),
        ("1m", "d", "12:01", 1, 9),
        ("1m", "c", "12:01", 1, 1),
        ("5m", "d", "12:00", 2, 10),
        ("5m", "b", "12:00", 1, 7),
    ]


def scheduled(**window: Any) -> QueryModel:
    return query(
        lambda q: select(
            q.from_(Hit)
            .based_on(Open, open=lambda s: s.opens, close=lambda s: s.closes)
            .tumbling(lambda h: h.at, **window)
            .group_by(lambda h: h.page)
        )
    )


def with_hours(model: QueryModel, *rows: tuple[str, int, int]) -> Pipeline:
    """A pipeline whose schedule has rows of (page, opens, closes), in seconds after noon."""
    objects = [Open(page, NOON + timedelta(seconds=a), NOON + timedelta(seconds=b)) for page, a, b in rows]
    return Pipeline(plan(model), session_calendar(model, [mapping(entity_model(Open)).to_frame(objects)]))


def test_a_parent_is_over_with_the_last_child_that_the_schedule_expects() -> None:
    """
    12:00   12:01   12:02   12:03  (next session tomorrow)
    | open  | open  | closed until tomorrow: the five minutes are over at 12:02
    """
    model = scheduled(minutes=(1, 5))
    pipeline = with_hours(model, ("a", 0, 120), ("a", 86_400, 90_000))
    processed = pipeline.process(hits(("a", 10), ("a", 130), ("b", 10)))
    assert processed.outside_sessions == 2
    assert shown(pipeline.advance(at(120))) == [
        ("1m", "a", "12:00", 1, 1),
        ("1m", "a", "12:01", 0, 0),
        ("5m", "a", "12:00", 1, 1),
    ]


def test_the_last_session_that_is_known_may_be_followed_by_others_so_its_bucket_waits_for_its_end() -> None:
    pipeline = with_hours(scheduled(minutes=(1, 5)), ("a", 0, 120))
    pipeline.process(hits(("a", 10)))
    assert [row[0] for row in shown(pipeline.advance(at(299)))] == ["1m", "1m"]
    assert [row[0] for row in shown(pipeline.advance(at(300)))] == ["5m"]


def test_days_by_trading_date_can_be_the_base_and_are_over_with_their_last_close() -> None:
    """
    session of the 8th: 22:00 of the 7th to 11:00, and 12:00 to 12:02; the next one begins a day later
    """
    model = query(
        lambda q: select(
            q.from_(Hit)
            .based_on(Open, open=lambda s: s.opens, close=lambda s: s.closes, day=lambda s: f.to_date(s.closes))
            .tumbling(lambda h: h.at, days=1)
            .group_by(lambda h: h.page)
        )
    )
    pipeline = with_hours(model, ("a", -50_400, -3_600), ("a", 0, 120), ("a", 86_400, 90_000), ("a", 172_800, 180_000))
    assert pipeline.process(hits(("a", -50_400), ("a", -1), ("a", 119))).outside_sessions == 1
    assert shown(pipeline.advance(at(119))) == []
    assert shown(pipeline.advance(at(120))) == [("1d", "a", "22:00", 2, 2)]
    assert pipeline.process(hits(("a", 100))).late.height == 1
    assert shown(pipeline.advance(at(90_000))) == [("1d", "a", "12:00", 0, 0)]


def test_a_schedule_must_be_given_just_where_the_query_has_one() -> None:
    with pytest.raises(PlanError, match="Page is based on Open, but no schedule rows were given"):
        Pipeline(plan(scheduled(minutes=1)))
    with pytest.raises(PlanError, match=r"Page is not based on a schedule.*add \.based_on"):
        model = scheduled(minutes=1)
        Pipeline(plan(tumbling(minutes=1)), session_calendar(model, [mapping(entity_model(Open)).to_frame([])]))


def test_a_long_silence_is_filled_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandle.engine.pipeline.ROWS_AT_ONCE", 10)
    pipeline = Pipeline(plan(tumbling(minutes=(1, 5))))
    pipeline.process(hits(("a", 0), ("b", 0)))
    pipeline.process(hits(("a", 6000)))
    all_finals = list(pipeline.finish(at(6001)))
    assert max(finals.bars.height for finals in all_finals) <= 12
    assert sum(finals.bars.height for finals in all_finals if finals.plan.name == "1m") == 2 * 101
    assert sum(int(finals.gaps.sum()) for finals in all_finals if finals.plan.name == "1m") == 2 * 101 - 3


def test_a_time_that_must_be_wrong_does_not_fill_a_disk() -> None:
    pipeline = Pipeline(plan(tumbling(seconds=1)))
    pipeline.process(hits(("a", -NOON.timestamp()), ("a", 0)))
    with pytest.raises(
        DataError, match=r"between 1970-01-01.* and 2024-03-08.* bars of 1s would have to be filled; is the time of an"
    ):
        list(pipeline.advance(at(10)))
    skipping = Pipeline(plan(tumbling(seconds=1, gaps=Gaps.SKIP)))
    skipping.process(hits(("a", -NOON.timestamp()), ("a", 0)))
    assert len(shown(skipping.advance(at(10)))) == 2


def test_a_value_that_does_not_fit_its_field_names_field_value_and_bar() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=1)))
    wrong = [Hit("a", NOON, price=Decimal("12345678.00"))]
    pipeline.process(mapping(entity_model(Hit)).to_frame(wrong))
    with pytest.raises(DataError, match=r"Page\.price|f\.cast\(f\.last\(Hit\.price\), Decimal\(9, 2\)\)"):
        list(pipeline.finish(at(1)))
    long_name = Pipeline(plan(tumbling(minutes=1)))
    long_name.process(hits(("a much longer name", 0)))
    with pytest.raises(
        DataError, match=r"Page\.page = a much longer name is longer than 8 characters \(bar page=a much longer name, start="
    ):
        list(long_name.finish(at(1)))


def test_new_keys_may_come_at_any_time_and_old_ones_go_on() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=1)))
    pipeline.process(hits(("b", 0)))
    assert shown(pipeline.advance(at(60))) == [("1m", "b", "12:00", 1, 1)]
    pipeline.process(hits(("a", 61)))
    assert shown(pipeline.advance(at(180))) == [
        ("1m", "a", "12:01", 1, 1),
        ("1m", "b", "12:01", 0, 0),
        ("1m", "a", "12:02", 0, 0),
        ("1m", "b", "12:02", 0, 0),
    ]


def test_nothing_comes_of_nothing() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=(1, 5))))
    assert not pipeline.has_events
    assert pipeline.process(hits()).late.height == 0
    assert shown(pipeline.advance(at(0))) == []
    assert pipeline.changes() == []
    assert shown(pipeline.finish(at(100))) == []


def test_live_bars_may_leave_in_parts() -> None:
    pipeline = Pipeline(plan(tumbling(minutes=1)))
    pipeline.process(hits(("a", 0), ("b", 0), ("c", 0), ("a", 30)))
    sizes = []
    while pipeline.has_changes:
        sizes.append(sum(frame.height for _, frame in pipeline.changes(2)))
    assert sizes == [2, 1]
    assert pipeline.changes(2) == []


def test_buckets_that_wait_for_their_live_bars_are_bounded_and_the_newest_of_each_key_waits_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while a long backlog is processed, where finals take all commits."""
    monkeypatch.setattr("kandle.engine.bars.MOST_TOUCHED", 10)
    pipeline = Pipeline(plan(tumbling(minutes=(1, 5))))
    for minute in range(100):
        pipeline.process(hits(("a", 60 * minute), ("b", 60 * minute)))
        list(pipeline.advance(at(60 * minute)))
        assert pipeline._live._touched_rows <= 12
    live = {bar.name: to_logical(entity_model(Page), frame)["start"].to_list() for bar, frame in pipeline.changes()}
    assert live == {"1m": [NOON + timedelta(minutes=99)] * 2, "5m": [NOON + timedelta(minutes=95)] * 2}
