"""Real ticks through a real Kafka: what any client finds in the topics of finals are the published bars."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from examples.fx import Fx, Quote, QuoteBar
from examples.gold import Gold, Trade, TradeBar
from kandle import Context
from kandle.context.options import Options
from kandle.model.columns import to_logical, to_physical
from kandle.model.entity import entity_model
from tests.kafka.reading import avro_rows
from tests.kafka.summing import wait_until
from tests.serde.serving import Server
from tools.kafka.cluster import Cluster

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
QUOTES, FX_DAY = DATA / "fx_quotes_2014-05-01.csv.gz", "2014-05-01"
TRADES, GOLD_DAY = DATA / "gold_trades_2013-10-07.csv.gz", "2013-10-07"

BEGIN, LENGTH = datetime(2014, 5, 1, 8, 0, tzinfo=UTC), timedelta(hours=2)
"""Part of the quotes: bars of a second make the whole day long."""

SOON = timedelta(seconds=55)
"""So long after the last bucket the clock begins; a heartbeat comes with the next minute."""

pytestmark = pytest.mark.skipif(not QUOTES.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def physical(path: Path, entity: type) -> pl.DataFrame:
    return to_physical(entity_model(entity), pl.read_csv(path, infer_schema=False))


def logical(path: Path, entity: type) -> pl.DataFrame:
    return to_logical(entity_model(entity), physical(path, entity))


@dataclass(frozen=True)
class Day:
    """Ticks of one topic, and when the clock says it is afterwards."""

    context: type[Context]
    stream: str
    ticks: pl.DataFrame
    evening: datetime


def finals(day: Day, topic: str, cluster: Cluster, registry: Server) -> pl.DataFrame:
    """Return the finals of a topic as a foreign client reads them, after the context has run on the ticks."""
    settings: dict[str, Any] = {
        "log": {"kind": "kafka"},
        "kafka": {"bootstrap": cluster.bootstrap},
        "schema_registry": {"url": registry.url},
        "clock": {"start": day.evening, "since": datetime.now(UTC)},
    }
    with day.context(Options(access="write_only", **settings)) as market:
        getattr(market, day.stream).add_many(day.ticks.sort("time", maintain_order=True))
    with day.context(Options(**settings)) as market:
        wait_until(lambda: not (query := market.health().queries[0]).lag and query.counters.heartbeats_applied, market)
        query = market.health().queries[0]
        assert query.counters.late == query.counters.rejected == 0
    return pl.DataFrame(avro_rows(cluster.bootstrap, topic, registry.url), infer_schema_length=None)


def test_quotes_through_kafka_give_the_published_bars(cluster: Cluster, registry: Server) -> None:
    ticks = logical(QUOTES, Quote).filter(pl.col("time").is_between(BEGIN, BEGIN + LENGTH, closed="left"))
    ours = finals(Day(Fx, "quotes", ticks, BEGIN + LENGTH + SOON), "quote_bars_1m_final", cluster, registry)
    theirs = to_logical(entity_model(QuoteBar), physical(DATA / f"fx_bars_1m_{FX_DAY}.csv.gz", QuoteBar))
    theirs = theirs.filter(pl.col("bucket_start").is_between(BEGIN, BEGIN + LENGTH, closed="left"))
    keys = ["broker", "symbol", "bucket_start"]
    assert ours.select(keys).is_unique().all()
    both = ours.join(theirs, on=keys, how="semi").sort(keys)
    assert both.height == theirs.height > 400
    assert both.select(theirs.columns).rows() == theirs.sort(keys).rows()


def test_trades_through_kafka_give_the_published_bars(cluster: Cluster, registry: Server) -> None:
    """Five bars of the publisher differ in volume by themselves."""
    day = Day(Gold, "trades", logical(TRADES, Trade), datetime(2013, 10, 8, tzinfo=UTC) + SOON)
    ours = finals(day, "gold_bars_1m_final", cluster, registry)
    theirs = to_logical(entity_model(TradeBar), physical(DATA / f"gold_bars_1m_{GOLD_DAY}.csv.gz", TradeBar))
    keys = [field.name for field in entity_model(TradeBar).keys]
    both = ours.join(theirs, on=keys, how="semi").sort(keys).select(theirs.columns)
    theirs = theirs.sort(keys)
    assert both.height == 1_500
    assert both.drop("volume").rows() == theirs.drop("volume").rows()
    assert sum(left == right for left, right in zip(both["volume"], theirs["volume"], strict=True)) == 1_495
