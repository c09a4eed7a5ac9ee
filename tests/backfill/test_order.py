"""One wrong time in a file: it is named, with the way out, before it makes everything after it late."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pytest

import kandle
from kandle import Context, EventSet, Gaps, Key, Timestamp
from kandle import functions as f
from kandle.backfill import readers
from kandle.errors import DataError


@kandle.stream("meters")
@dataclass(frozen=True)
class Meter:
    site: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    watts: int = 1


@kandle.stream("loads")
@dataclass(frozen=True)
class Load:
    site: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    watts: int


def loads(gaps: Gaps = Gaps.CARRY, **sizes: Any) -> type[Context]:
    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Load).to_query(
            lambda q: (
                q.from_(Meter)
                .where(lambda m: m.watts > 0)
                .tumbling(lambda m: m.at, gaps=gaps, **sizes)
                .group_by(lambda m: m.site)
                .select(lambda m, w: Load(site=m.site, start=w.start, watts=f.sum(m.watts)))
            )
        )

    sets = {"meters": EventSet[Meter], "loads": EventSet[Load]}
    return type("Grid", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


MINUTES = loads(minutes=1)
FAR_AHEAD = ["2024-03-08T14:30:00", "2034-03-08T14:30:10", "2024-03-08T14:31:00", "2024-03-08T14:32:00"]


def meters(times: list[str], watts: int = 1) -> list[Meter]:
    return [Meter("roof", datetime.fromisoformat(f"{time}+00:00"), watts) for time in times]


def frame_of(times: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"site": ["roof"] * len(times), "at": [f"{time}Z" for time in times], "watts": [1] * len(times)})


def as_csv(path: Path, frame: pl.DataFrame) -> str:
    frame.write_csv(path / "meters.csv")
    return str(path / "meters.csv")


def as_ndjson(path: Path, frame: pl.DataFrame) -> str:
    frame.write_ndjson(path / "meters.ndjson")
    return str(path / "meters.ndjson")


def as_parquet(path: Path, frame: pl.DataFrame) -> str:
    frame.with_columns(pl.col("at").str.to_datetime(time_zone="UTC")).write_parquet(path / "meters.parquet")
    return str(path / "meters.parquet")


FORMS: dict[str, tuple[Callable[[Path, pl.DataFrame], Any], str]] = {
    "csv": (as_csv, "meters.csv"),
    "ndjson": (as_ndjson, "meters.ndjson"),
    "parquet": (as_parquet, "meters.parquet"),
    "frame": (lambda path, frame: frame, "frame"),
    "lazy": (lambda path, frame: frame.lazy(), "lazy frame"),
    "objects": (lambda path, frame: meters([time.removesuffix("Z") for time in frame["at"]]), "list of Meter"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 2, 500_000])
def test_a_time_far_ahead_is_an_error_that_names_input_row_and_time(
    form: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers.open_ticks, "__kwdefaults__", {"batch_rows": rows})
    make, name = FORMS[form]
    message = (
        rf"{re.escape(name)}, row 2 \(2034-03-08T14:30:10\+00:00\): no event before it is later than .*{re.escape(name)}, "
        r"row 1 \(2024-03-08T14:30:00\+00:00\), so that 5,258,880 buckets of 1m .*--until.*--max-silence 3653d"
    )
    with pytest.raises(DataError, match=message):
        kandle.backfill(MINUTES, ticks=make(tmp_path, frame_of(FAR_AHEAD)))


def test_a_first_event_at_the_epoch_is_named_too() -> None:
    with pytest.raises(DataError, match=r"frame, row 2 \(2024-.*later than frame, row 1 \(1970-01-01T00:00:00\+00:00\)"):
        kandle.backfill(MINUTES, ticks=frame_of(["1970-01-01T00:00:00", "2024-03-08T14:30:00"]))


def test_the_ways_out_that_the_error_names_lead_out() -> None:
    bars = kandle.backfill(MINUTES, ticks=frame_of(FAR_AHEAD), until="2024-03-08T14:33Z")
    assert (bars.summary.late, bars.summary.outside_range, bars["1m"]["watts"].to_list()) == (0, 1, [1, 1, 1])
    bars = kandle.backfill(MINUTES, ticks=frame_of(["1970-01-01T00:00:00", *FAR_AHEAD[2:]]), start="2000-01-01T00:00Z")
    assert (bars.summary.late, bars["1m"].height) == (0, 2)
    wrong = [*meters(FAR_AHEAD[:1]), *meters(FAR_AHEAD[1:2], watts=0), *meters(FAR_AHEAD[2:])]
    assert kandle.backfill(MINUTES, ticks=wrong)["1m"].height == 3
    allowed = kandle.backfill(MINUTES, ticks=frame_of(FAR_AHEAD), max_silence="3653d")
    assert allowed.summary.late == 2


@pytest.mark.parametrize("max_silence", ["2h", timedelta(hours=2)])
def test_max_silence_may_be_short_and_is_exact(max_silence: Any) -> None:
    exact = frame_of(["2024-03-08T14:30:00", "2024-03-08T16:30:00"])
    assert kandle.backfill(MINUTES, ticks=exact, max_silence=max_silence)["1m"].height == 121
    longer = frame_of(["2024-03-08T14:30:00", "2024-03-08T16:30:00.000001"])
    with pytest.raises(DataError, match=r"row 2 .*120 buckets of 1m .*--max-silence 1d"):
        kandle.backfill(MINUTES, ticks=longer, max_silence=max_silence)


@pytest.mark.parametrize(
    ("context", "days", "is_refused"),
    [
        (loads(seconds=1), 30, False),
        (loads(seconds=1), 32, True),
        (loads(minutes=1), 600, False),
        (loads(minutes=1), 700, True),
        (loads(hours=1), 4000, False),
        (loads(Gaps.SKIP, minutes=1), 4000, False),
    ],
)
def test_usual_silences_are_no_errors(context: type[Context], days: int, is_refused: bool) -> None:
    begin = datetime.fromisoformat("2010-03-08T14:30:00")
    ticks = frame_of([begin.isoformat(), (begin + timedelta(days=days)).isoformat()])
    if is_refused:
        with pytest.raises(DataError, match="would have no event"):
            kandle.backfill(context, ticks=ticks)
    else:
        assert kandle.backfill(context, ticks=ticks, expire_after="1d").summary.late == 0


def test_the_silence_of_one_key_is_none_of_the_input() -> None:
    begin = datetime.fromisoformat("2010-01-01T00:00:00+00:00")
    others = [Meter("cellar", begin + timedelta(days=300 * number)) for number in range(8)]
    ticks = [Meter("roof", begin), *others, Meter("roof", begin + timedelta(days=2200))]
    assert kandle.backfill(MINUTES, ticks=ticks).summary.late == 0


@pytest.mark.parametrize("rows", [1, 3, 500_000])
def test_the_summary_names_the_first_late_event_and_the_one_that_made_it_late(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Today's date on a tick of yesterday is too near for an error."""
    monkeypatch.setattr(readers.open_ticks, "__kwdefaults__", {"batch_rows": rows})
    first = as_csv(tmp_path, frame_of(["2024-03-07T14:30:00", "2024-03-07T14:30:30"]))
    second = as_parquet(
        tmp_path, frame_of(["2024-03-07T14:31:00", "2024-03-08T14:31:30", "2024-03-07T14:32:00", "2024-03-07T14:33:00"])
    )
    result = kandle.backfill(MINUTES, ticks=[first, second])
    expected = f"{second}, row 3 (2024-03-07T14:32:00+00:00) came after {second}, row 2 (2024-03-08T14:31:30+00:00)"
    assert (result.summary.late, result.summary.first_late) == (2, expected)
    assert expected in repr(result)
    assert json.loads(json.dumps(result.summary.to_dict()))["first_late"] == expected
    assert kandle.backfill(MINUTES, ticks=first).summary.first_late is None


def test_rows_are_counted_in_the_input_also_where_events_are_left_out() -> None:
    ticks = [*meters(["2020-01-01T00:00:00"]), *meters(["2024-03-08T14:30:00"], watts=0), *meters(FAR_AHEAD)]
    with pytest.raises(DataError, match=r"list of Meter, row 4 \(2034-.*row 3 \(2024-03-08T14:30:00"):
        kandle.backfill(MINUTES, ticks=ticks, start="2024-01-01T00:00Z")


@pytest.mark.parametrize(
    ("expire_after", "gaps"), [(None, 7 * 24), ("auto", 7 * 24), ("never", 21 * 24 - 1), ("2d", 48), (timedelta(hours=5), 5)]
)
def test_a_key_that_is_silent_for_weeks_gets_gap_bars_as_it_does_live(expire_after: Any, gaps: int) -> None:
    ticks = frame_of(["2024-03-01T00:00:00", "2024-03-22T00:00:00"])
    result = kandle.backfill(loads(hours=1), ticks=ticks, expire_after=expire_after)
    assert result.summary.timeframes[0].gaps == gaps


def test_the_options_say_when_keys_expire_in_a_backfill_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = frame_of(["2024-03-01T00:00:00", "2024-03-22T00:00:00"])
    monkeypatch.setenv("KANDLE_UNIVERSE__EXPIRE_AFTER", "3h")
    assert kandle.backfill(loads(hours=1), ticks=ticks).summary.timeframes[0].gaps == 3
    assert kandle.backfill(loads(hours=1), ticks=ticks, expire_after="1h").summary.timeframes[0].gaps == 1
