"""The example's program, run by the simulated ksqlDB over real trades, gives the bars that were published for them.

The data are not part of the repository: `KANDLE_SHARED_DATA` is their folder (by default ../shared/data).
"""

from __future__ import annotations

import csv
import gzip
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.ksqldb.simulator.executing import run_script

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
TRADES, BARS = DATA / "gold_trades_2013-10-07.csv.gz", DATA / "gold_bars_1m_2013-10-07.csv.gz"
SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "ksql" / "gold_live.sql"
PRICES = ("open", "high", "low", "close")

pytestmark = pytest.mark.skipif(not TRADES.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_all_published_bars_come_out_though_many_trades_have_the_same_millisecond() -> None:
    trades = [
        {"symbol": row["symbol"], "time": instant(row["time"]), "price": Decimal(row["price"]), "size": int(row["size"])}
        for row in rows_of(TRADES)
    ]
    bars = run_script(SCRIPT.read_text(encoding="utf-8"), {"gold_trades": trades})["gold_bars_1m_live"]
    actual = {(row["symbol"], row["bucket_start"]): row for row in bars}
    published = {(row["symbol"], instant(row["bucket_start"])): row for row in rows_of(BARS)}
    assert actual.keys() == published.keys()
    assert len(actual) == 1_500
    for key, bar in published.items():
        assert [actual[key][price] for price in PRICES] == [Decimal(bar[price]) for price in PRICES]
    # Five published bars have another volume than their trades add up to.
    assert sum(actual[key]["volume"] == int(Decimal(bar["volume"])) for key, bar in published.items()) == 1_495
