"""Backfill as a whole: coverage, gaps, late events, schedules, and that nothing half-written is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pytest

import kandle
from kandle import Context, EventSet, Key, Late, TableSet, Timestamp
from kandle import functions as f
from kandle.errors import DataError, KandleError, ModelError


@kandle.stream("hits")
@dataclass(frozen=True)
class Hit:
    page: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    size: int = 1


@kandle.table("hours")
@dataclass(frozen=True)
class Hours:
    page: Annotated[str, Key(0)]
    opens: Annotated[datetime, Key(1)]
    closes: datetime


@kandle.stream("pages")
@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    hits: int


class Site(Context):
    hits: EventSet[Hit]
    pages: EventSet[Page]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Page).to_query(
            lambda q: (
                q.from_(Hit)
                .where(lambda h: h.size > 0)
                .tumbling(lambda h: h.at, minutes=(1, 5), hours=1, late=Late.TOPIC)
                .group_by(lambda h: h.page)
                .select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))
            )
        )


class Open(Context):
    hits: EventSet[Hit]
    hours: TableSet[Hours]
    pages: EventSet[Page]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Page).to_query(
            lambda q: (
                q.from_(Hit)
                .based_on(Hours, open=lambda s: s.opens, close=lambda s: s.closes)
                .tumbling(lambda h: h.at, minutes=1, hours=1)
                .group_by(lambda h: h.page)
                .select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))
            )
        )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"2024-03-08T{text}+00:00")


def hits(*rows: tuple[str, str] | tuple[str, str, int]) -> list[Hit]:
    return [Hit(row[0], moment(row[1]), *row[2:]) for row in rows]


def shown(frame: pl.DataFrame) -> list[tuple[str, str, int]]:
    return [(page, start.strftime("%H:%M"), count) for page, start, count in frame.rows()]


def csv(path: Path, rows: Sequence[str]) -> Path:
    path.write_text("page,at,size\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_the_end_of_the_input_closes_every_bucket_that_has_begun_and_says_which_it_does_not_cover() -> None:
    result = kandle.backfill(Site, ticks=hits(("a", "12:00:10"), ("b", "12:02:30")))
    assert shown(result["1m"]) == [("a", "12:00", 1), ("a", "12:01", 0), ("a", "12:02", 0), ("b", "12:02", 1)]
    assert shown(result["1h"]) == [("a", "12:00", 1), ("b", "12:00", 1)]
    assert [(bars.bars, bars.gaps, bars.incomplete) for bars in result.summary.timeframes] == [(4, 2, 2), (2, 0, 2), (2, 0, 2)]
    complete = kandle.backfill(Site, ticks=hits(("a", "12:00:10"), ("b", "12:02:30")), complete_only=True)
    assert shown(complete["1m"]) == [("a", "12:00", 1), ("a", "12:01", 0)]
    assert complete["1h"].height == 0


def test_what_the_input_covers_can_be_more_than_its_events() -> None:
    result = kandle.backfill(
        Site, ticks=hits(("a", "12:00:10")), start="2024-03-08T12:00Z", until=moment("12:03:00"), complete_only=True
    )
    assert shown(result["1m"]) == [("a", "12:00", 1), ("a", "12:01", 0), ("a", "12:02", 0)]
    assert [bars.incomplete for bars in result.summary.timeframes] == [0, 1, 1]


def test_a_bucket_that_begins_before_the_stated_start_is_incomplete() -> None:
    result = kandle.backfill(Site, ticks=hits(("a", "12:02:00")), start="2024-03-08T12:01Z", until="2024-03-08T12:05Z")
    assert [bars.incomplete for bars in result.summary.timeframes] == [0, 1, 1]


def test_events_outside_of_the_stated_range_are_counted_and_left_out() -> None:
    events = hits(("a", "11:59:59"), ("a", "12:00:00"), ("a", "12:01:00"))
    result = kandle.backfill(Site, ticks=events, start="2024-03-08T12:00Z", until="2024-03-08T12:01Z")
    assert (result.summary.outside_range, shown(result["1m"])) == (2, [("a", "12:00", 1)])


def test_everything_that_is_left_out_is_counted() -> None:
    events = hits(("a", "12:00:00"), ("a", "12:01:00", 0), ("a", "12:05:00"), ("a", "12:04:59"))
    result = kandle.backfill(Site, ticks=events)
    assert (result.summary.ticks_read, result.summary.filtered, result.summary.late) == (4, 1, 1)
    assert result.late is not None
    assert result.late["at"].to_list() == [moment("12:04:59")]


def test_late_events_go_to_a_file_where_the_query_says_so(tmp_path: Path) -> None:
    ticks = csv(tmp_path / "hits.csv", ["a,2024-03-08T12:00:00Z,1", "a,2024-03-08T12:05:00Z,1", "a,2024-03-08T12:04:59Z,3"])
    kandle.backfill(Site, ticks=ticks, out=tmp_path / "out", format="csv")
    assert (tmp_path / "out" / "pages_late.csv").read_text(encoding="utf-8") == "page,at,size\na,2024-03-08T12:04:59.000Z,3\n"


def test_a_schedule_is_needed_just_where_the_query_has_one() -> None:
    with pytest.raises(
        ModelError, match=r"Page is based on Hours: give the rows of Hours \(schedule=\.\.\. in Python, --schedule FILE"
    ):
        kandle.backfill(Open, ticks=hits(("a", "12:00:00")))
    with pytest.raises(ModelError, match="Page is not based on a schedule"):
        kandle.backfill(Site, ticks=hits(("a", "12:00:00")), schedule=[])


@pytest.mark.parametrize("kind", ["objects", "frame", "file"])
def test_a_schedule_comes_as_objects_as_a_frame_or_as_a_file(kind: str, tmp_path: Path) -> None:
    rows = [Hours("a", moment("12:00:00"), moment("12:02:00"))]
    frame = pl.DataFrame({"page": ["a"], "opens": [rows[0].opens], "closes": [rows[0].closes]})
    path = tmp_path / "hours.parquet"
    frame.write_parquet(path)
    schedule: Any = {"objects": rows, "frame": frame, "file": path}[kind]
    result = kandle.backfill(Open, ticks=hits(("a", "12:00:10"), ("a", "12:02:00"), ("b", "12:00:10")), schedule=schedule)
    assert shown(result["1m"]) == [("a", "12:00", 1), ("a", "12:01", 0)]
    assert result.summary.outside_sessions == 2


def test_after_the_last_session_of_its_schedule_an_hour_is_covered() -> None:
    rows = [Hours("a", moment("12:00:00"), moment("12:02:00"))]
    result = kandle.backfill(Open, ticks=hits(("a", "12:00:10")), schedule=rows, until="2024-03-08T12:02Z")
    assert [bars.incomplete for bars in result.summary.timeframes] == [0, 0]


@pytest.mark.parametrize("format", ["csv", "ndjson", "parquet"])
def test_an_error_in_the_last_row_leaves_no_file_and_what_was_there_before(format: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kandle.backfill(Site, ticks=hits(("a", "12:00:00")), out=out, format=format)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    rows = [f"a,2024-03-08T12:{minute:02}:00Z,1" for minute in range(60)]
    ticks = csv(tmp_path / "hits.csv", [*rows, "a,2024-03-08T13:00:00Z,many"])
    with pytest.raises(DataError, match=r"hits\.csv, row 61, column size: 'many' is not a whole number"):
        kandle.backfill(Site, ticks=ticks, out=out, format=format)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_files_and_frames_hold_the_same_bars(tmp_path: Path) -> None:
    events = hits(("a", "12:00:10"), ("b", "12:02:30"), ("a", "12:07:00"))
    frames = kandle.backfill(Site, ticks=events).frames
    result = kandle.backfill(Site, ticks=events, out=tmp_path)
    for name, frame in frames.items():
        assert pl.read_parquet(tmp_path / f"pages_{name}_final.parquet").equals(frame)
    assert [Path(str(bars.path)).name for bars in result.summary.timeframes] == [f"pages_{n}_final.parquet" for n in frames]


def test_a_timeframe_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(KandleError, match="no bars of '2m' here; there are 1m, 5m, 1h"):
        _ = kandle.backfill(Site, ticks=hits(("a", "12:00:00")))["2m"]


def test_a_backfill_is_a_mapping_of_timeframes_to_bars() -> None:
    bars = kandle.backfill(Site, ticks=hits(("a", "12:00:10"), ("b", "12:02:30")))
    assert (list(bars), len(bars)) == (["1m", "5m", "1h"], 3)
    assert bars[kandle.Period.minutes(5)] is bars["5m"] is dict(bars)["5m"]
    assert "1m" in bars
    assert kandle.Period.hours(1) in bars
    assert "2m" not in bars
    assert bars.get("2m") is None


def test_a_backfill_shows_itself_as_a_short_table(tmp_path: Path) -> None:
    lines = repr(kandle.backfill(Site, ticks=hits(("a", "12:00:10"), ("b", "12:02:30")))).splitlines()
    assert lines[0].startswith("2 events of ")
    assert repr(kandle.backfill(Site, ticks=hits(("a", "12:00:10")))).startswith("1 event of ")
    assert [line.split()[:2] for line in lines[1:]] == [["timeframe", "bars"], ["1m", "4"], ["5m", "2"], ["1h", "2"]]
    to_files = repr(kandle.backfill(Site, ticks=hits(("a", "12:00:10")), out=tmp_path))
    assert to_files.splitlines()[2].endswith("pages_1m_final.parquet")


def test_progress_is_told_after_every_batch() -> None:
    told: list[tuple[int, int]] = []
    kandle.backfill(Site, ticks=hits(("a", "12:00:00")), progress=lambda rows, size: told.append((rows, size)))
    assert told
    assert told[-1][0] == 1


def test_an_entity_without_a_window_cannot_be_backfilled() -> None:
    with pytest.raises(ModelError, match="Site: 'Hit' has no query with a window; choose from: Page"):
        kandle.backfill(Site, Hit, ticks=hits())
