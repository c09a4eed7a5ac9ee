"""Power meters: one integer key, no sessions, local days and months."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import polars as pl

import kandle
from examples.meters import Meters


def readings(path: Path) -> list[tuple[int, datetime, Decimal]]:
    """Readings of two meters every ten minutes around a change of clocks in Berlin, some left out; written as NDJSON."""
    begin = datetime(2024, 3, 30, 12, tzinfo=UTC)
    found = [
        (meter, begin + timedelta(minutes=10 * step), Decimal(step * 7 % 101 + meter) / 10)
        for step in range(6 * 60)
        for meter in (1, 2)
        if step % 17 not in (3, 4, 5)
    ]
    lines = [
        json.dumps({"meter": meter, "at": at.isoformat(), "watts": str(watts), "watt_hours": str(watts / 6)[:5]})
        for meter, at, watts in found
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return found


def test_local_days_have_the_average_and_the_energy_of_their_readings(tmp_path: Path) -> None:
    source = tmp_path / "readings.ndjson"
    made = readings(source)
    days = kandle.backfill(Meters, ticks=source)["1d"]
    edges = [datetime(2024, 3, day, 23 if day < 31 else 22, tzinfo=UTC) for day in (29, 30, 31)] + [
        datetime(2024, 4, 1, 22, tzinfo=UTC)
    ]
    assert days["start"].unique().sort().to_list() == edges
    assert ((days["end"] - days["start"]).dt.total_hours()).unique().sort().to_list() == [23, 24]
    for row in days.iter_rows(named=True):
        own = [watts for meter, at, watts in made if meter == row["meter"] and row["start"] <= at < row["end"]]
        assert row["readings"] == len(own)
        assert row["average_watts"] == (sum(own, Decimal()) / len(own)).quantize(Decimal("0.001"), rounding=ROUND_HALF_UP)
        assert (row["lowest_watts"], row["highest_watts"]) == (min(own), max(own))


def test_a_quarter_of_an_hour_without_a_reading_is_null_with_no_energy(tmp_path: Path) -> None:
    source = tmp_path / "readings.ndjson"
    readings(source)
    quarters = kandle.backfill(Meters, ticks=source)["15m"].filter(pl.col("readings") == 0)
    assert quarters.height > 0
    assert quarters["average_watts"].null_count() == quarters["lowest_watts"].null_count() == quarters.height
    assert quarters["watt_hours"].unique().to_list() == [Decimal(0)]


def test_the_energy_of_a_month_is_that_of_its_days_and_quarters(tmp_path: Path) -> None:
    source = tmp_path / "readings.ndjson"
    readings(source)
    found = kandle.backfill(Meters, ticks=source)
    totals = [found[name]["watt_hours"].sum() for name in ("15m", "1h", "1d", "1mo")]
    assert len(set(totals)) == 1
    assert found["1mo"]["start"].unique().sort().to_list() == [
        datetime(2024, 2, 29, 23, tzinfo=UTC),
        datetime(2024, 3, 31, 22, tzinfo=UTC),
    ]
