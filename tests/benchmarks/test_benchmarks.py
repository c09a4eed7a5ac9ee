"""Each benchmark runs, once and small: what it measures is for people to look at, so only its lines are looked at here."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.processes import RunningProcess

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"[\d,.]+"


def lines_of(*words: str) -> list[str]:
    """Return the lines of a benchmark that ends well; standard error has at most what a worker logs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KANDLE_")}
    output, errors = RunningProcess([sys.executable, *words], ROOT, environment).ended()
    assert "Traceback" not in errors
    return output.splitlines()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_backfill_runs_beside_polars_and_duckdb(suffix: str) -> None:
    words = ("--ticks", "2000", "--rounds", "1", "--keys", "10", "--formats", suffix)
    head, *rows = lines_of("benchmarks/backfill.py", *words)
    assert head.startswith(f"2,000 ticks, 10 keys, {suffix} (")
    figures = [re.search(rf"M ticks/s +({NUMBER}) 1m bars  peak +{NUMBER} MiB", row) for row in rows]
    assert [row.split()[0] for row in rows] == ["kandle", "Polars", "Polars", "DuckDB"]
    # All count the same minutes with ticks.
    assert len({figure[1] for figure in figures if figure is not None}) == 1
    assert None not in figures


def test_the_log_is_measured_by_rows_in_a_batch() -> None:
    title, head, *rows = lines_of("-m", "benchmarks.log", "--rows", "200")
    assert title == "embedded log, durability normal"
    assert len(head.split("  ")) > 3
    assert [row.split()[0] for row in rows] == ["1", "10", "100", "1,000", "20,000", "100,000"]


def test_reads_of_a_little_of_much_are_measured() -> None:
    words = ("--rows", "400", "--finals", "2880", "--bars", "100", "--only", "embedded")
    title, *rows = lines_of("-m", "benchmarks.reading", *words)
    assert title == "embedded log: 400 rows of a table, 2,880 and 100 final bars"
    counts = [re.fullmatch(rf"  (.{{28}}) +({NUMBER}) +{NUMBER} ms.*", row) for row in rows]
    assert [count[2] for count in counts if count is not None] == ["200", "1", "1,440", "100", "100", "1"]


def test_records_are_measured_beside_fastavro() -> None:
    _, head, *rows = lines_of("-m", "benchmarks.serde", "--rows", "50")
    assert head.split()[-2:] == ["fastavro", "decode"]
    assert [row.split(",")[0].split()[0] for row in rows[:10]] == ["tick"] * 5 + ["bar"] * 5
    assert re.fullmatch(rf"tick, JSON read one by one: {NUMBER}, {NUMBER} times as long", rows[4])
    assert [row.split()[0] for row in rows[-6:]] == ["1", "2", "5", "10", "20", "32"]


def test_the_replay_makes_finals_of_all_its_ticks() -> None:
    replay, speed = lines_of("-m", "benchmarks.runtime", "replay", "--ticks", "30000", "--keys", "10")
    # A second of ticks and a half, so that one-second bars of two seconds are final.
    assert re.fullmatch(rf"replay: 30,000 ticks of 10 keys to {NUMBER} finals in {NUMBER} s", replay)
    assert re.fullmatch(rf" +{NUMBER} M ticks/s, \d+ commits", speed)


def test_the_delay_of_finals_is_measured_in_real_time() -> None:
    count, delays = lines_of("-m", "benchmarks.runtime", "delay", "--seconds", "1", "--rate", "500", "--keys", "5")
    assert re.fullmatch(rf"delay:  500 ticks/s of 5 keys for 1 s: {NUMBER} one-second finals", count)
    assert re.fullmatch(rf" +median {NUMBER} ms, p99 {NUMBER} ms, most {NUMBER} ms after end \+ grace; cpu {NUMBER}", delays)


def test_memory_and_log_are_watched_over_time() -> None:
    *rows, summary = lines_of("-m", "benchmarks.runtime", "memory", "--seconds", "1", "--rate", "500", "--keys", "5")
    assert all(re.fullmatch(rf" +{NUMBER} s +\d+ MiB  lag +{NUMBER}  finals +{NUMBER}", row) for row in rows)
    assert re.fullmatch(r"memory: most \d+ MiB in the first half, \d+ MiB in the second; log \d+ MiB", summary)


def test_the_delay_through_kafka_is_measured_with_another_client() -> None:
    kafka_or_skip()
    rate, delays, processor = lines_of("-m", "benchmarks.kafka_delay", "--seconds", "4", "--rate", "500", "--keys", "5")
    assert re.fullmatch(rf"{NUMBER} ticks/s of 5 keys for 4 s: {NUMBER} one-second finals", rate)
    assert "readable" in delays and "of a processor" in processor


def test_kandle_makes_the_bars_of_the_comparison_on_kafka() -> None:
    """The other engines are installed on first use, which is not for tests."""
    kafka_or_skip()
    sizes = ("--ticks", "20000", "--ticks-a-minute", "2000", "--keys", "10", "--seconds", "300")
    *_, head, row = lines_of("-m", "benchmarks.kafka_peers", "--only", "kandle", *sizes)
    assert head == "20,000 ticks of 10 keys, 2,000 a minute of their own time; 90 bars", row
    assert re.match(r"  kandle +[\d,]+ k ticks/s .*; 100% of the bars in ", row)
