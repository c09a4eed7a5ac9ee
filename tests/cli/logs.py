"""Small logs to look at."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import header_column
from kandle.log.records import Records, Write
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.clock import ManualClock
from kandle.time.timeframe import to_instant

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
READINGS = TopicSpec(
    "readings",
    (
        TopicColumn("meter", "str", pl.String()),
        TopicColumn("at", "datetime", pl.Datetime("us", "UTC")),
        TopicColumn("value", "Decimal(9, 2)", pl.Int64()),
        TopicColumn("note", "str", pl.String(), nullable=True),
    ),
    keys=("meter",),
    partitions=2,
    retention=90_000_000,
    time="at",
)
LATEST = TopicSpec("latest", READINGS.columns[::2], keys=("meter",), compacted=True)


def write(partition: int, meters: list[str], hundredths: list[int], **others: Any) -> Write:
    """Readings of meters, a second apart."""
    times = [NOON + timedelta(seconds=number) for number in range(len(meters))]
    frame = pl.DataFrame(
        {"meter": meters, "at": times, "value": hundredths, "note": [None] * len(meters)}, schema=READINGS.schema
    )
    return Write("readings", partition, Records(frame, **others))


def readings_log(folder: Path, clock: ManualClock | None = None) -> EmbeddedLog:
    """Five readings in two partitions, and a table with one row and a removed one."""
    log = EmbeddedLog(folder, clock if clock is not None else ManualClock(to_instant(NOON)))
    log.ensure(READINGS)
    log.ensure(LATEST)
    log.append([write(0, ["m1", "m1", "m1"], [150, 225, -1], headers=header_column([{"source": "a b"}, None, None]))])
    log.append([write(1, ["m2", "\x1b[31mred\n"], [300, 5])])
    latest = pl.DataFrame({"meter": ["m1", "m2"], "value": [-1, None]}, schema=LATEST.schema)
    log.append([Write("latest", 0, Records(latest, tombstones=pl.Series([False, True])))])
    return log
