import io
import re
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from rich.console import Console

from kandle.cli.demo import Market, run_demo, write_inputs
from kandle.cli.demo_ticks import DAYS, INSTRUMENTS, end_of_ticks, generate, midnight
from kandle.time.timeframe import HOUR


def test_the_same_seed_gives_the_same_ticks_and_another_seed_others() -> None:
    first, again, other = generate(1), generate(1), generate(2)
    assert all(left.equals(right) for left, right in zip(first, again, strict=True))
    assert not first[0].equals(other[0])
    assert first[1].equals(other[1])


def test_files_are_the_same_to_the_last_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_inputs(tmp_path / name, 3)
    assert (tmp_path / "a" / "ticks.parquet").read_bytes() == (tmp_path / "b" / "ticks.parquet").read_bytes()


def test_ticks_lie_in_sessions_but_for_a_few_and_come_nearly_in_order() -> None:
    ticks, sessions = generate(7)
    joined = ticks.with_row_index().join(sessions, on="name")
    inside = joined.filter(pl.col("time").is_between(pl.col("begins"), pl.col("ends"), closed="left"))["index"].n_unique()
    assert 0 < ticks.height - inside < ticks.height / 100
    behind = (ticks["time"].cum_max() - ticks["time"]).dt.total_seconds()
    assert 0 < (behind > 60).sum() < 50
    assert (ticks["value"] > 0).all()
    assert ticks["name"].n_unique() == len(INSTRUMENTS) == 4


def test_a_lunch_break_and_a_session_over_midnight_are_among_the_sessions() -> None:
    _, sessions = generate(7)
    assert sessions.filter(name="ALPHA").height == 2 * len(DAYS)
    night = sessions.filter(name="OMEGA", day=date(2024, 3, 8)).row(0, named=True)
    assert night["begins"] == datetime(2024, 3, 7, 22, tzinfo=UTC)
    assert midnight(date(1970, 1, 2)) == 24 * HOUR
    assert end_of_ticks() == datetime(2024, 3, 8, 21, tzinfo=UTC)


def test_the_demo_shows_summary_bars_chart_and_files(tmp_path: Path) -> None:
    out = io.StringIO()
    run_demo(Console(file=out, width=200), tmp_path / "demo", 7)
    text = out.getvalue()
    assert re.search(r"ticks read in .* per second\), 12 late, 0 filtered, \d+ outside sessions, 0 outside the range", text)
    for timeframe in ("1m", "5m", "15m", "1h", "1d"):
        assert f"\n{timeframe}: 3 of " in text
        assert pl.read_parquet(tmp_path / "demo" / "bars" / f"bars_{timeframe}_final.parquet").height > 0
    assert "█" in text
    assert "└──" in text
    assert "\x1b[" not in text
    assert f"sessions are in {tmp_path / 'demo' / 'ticks.parquet'} and " in text


def test_the_demo_fills_every_minute_of_the_sessions(tmp_path: Path) -> None:
    run_demo(Console(file=io.StringIO()), tmp_path, 7)
    _, sessions = generate(7)
    minutes = (sessions["ends"] - sessions["begins"]).dt.total_minutes().sum()
    bars = pl.read_parquet(tmp_path / "bars" / "bars_1m_final.parquet")
    # Before an instrument's first tick there is no bar; with these ticks all have one in their first minute.
    assert bars.height == minutes
    assert bars.select("name", "start").is_unique().all()


def test_the_declaration_of_the_demo_has_one_query() -> None:
    assert [query.target.name for query in Market.model().queries.values()] == ["Bar"]
