"""What `kandle avro` prints is what a registry is given when the records of a running query are written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
from kandle import EventSet, Header, Key, TableSet, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.context.kafka import declarations
from kandle.log.embedded.batches import BatchTable
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, RejectedRecord
from kandle.plan.plan import plan
from kandle.serde.codec import topic_codec
from tests.cli.commands import Here
from tests.serde.building import registry

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


@kandle.stream("readings", partitions=2, partitioner="other")
@dataclass
class Reading:
    meter: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    level: float
    trace: Annotated[str | None, Header("trace-id")] = None


@kandle.stream("plain")
@dataclass
class Plain:
    meter: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    level: float


@kandle.table("shifts")
@dataclass
class Shift:
    meter: Annotated[str, Key(0)]
    begins: datetime
    ends: datetime


@kandle.stream("means")
@dataclass
class Mean:
    meter: Annotated[str, Key(0)]
    start: Annotated[datetime, Key(1), Timestamp()]
    mean: float


@kandle.stream("sums", value_format="JSON")
@dataclass
class Sum:
    start: Annotated[datetime, Key(0), Timestamp()]
    total: float


class Keyed(kandle.Context):
    """A source that is keyed as the query groups."""

    readings: EventSet[Plain]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: (
                q.from_(Plain)
                .tumbling(lambda r: r.at, minutes=(1, 5))
                .group_by(lambda r: r.meter)
                .select(lambda r, w: Mean(meter=r.meter, start=w.start, mean=f.avg(r.level)))
            )
        )


class Copied(kandle.Context):
    """Headers, another partitioner, a topic of late events and a schedule."""

    readings: EventSet[Reading]
    shifts: TableSet[Shift]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: (
                q.from_(Reading)
                .based_on(Shift, open=lambda s: s.begins, close=lambda s: s.ends)
                .tumbling(lambda r: r.at, minutes=1, late=kandle.Late.TOPIC)
                .group_by(lambda r: r.meter)
                .select(lambda r, w: Mean(meter=r.meter, start=w.start, mean=f.avg(r.level)))
            )
        )


class Computed(kandle.Context):
    """A group key that is computed, and two partitions."""

    readings: EventSet[Reading]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: (
                q.from_(Reading)
                .tumbling(lambda r: r.at, minutes=1)
                .group_by(lambda r: f.upper(r.meter))
                .select(lambda r, w: Mean(meter=f.upper(r.meter), start=w.start, mean=f.avg(r.level)))
            )
        )


class Whole(kandle.Context):
    """One series of bars, with values in JSON."""

    readings: EventSet[Plain]
    sums: EventSet[Sum]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Sum).to_query(
            lambda q: (
                q.from_(Plain).tumbling(lambda r: r.at, minutes=1).select(lambda r, w: Sum(start=w.start, total=f.sum(r.level)))
            )
        )


UNREADABLE = 13.0
"""The level of readings whose bytes are damaged."""


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log reject some records, as those of a cluster that other programs write to."""
    read = BatchTable.read

    def with_rejects(table: BatchTable, partition: TopicPartition, *arguments: Any, **settings: Any) -> list[Batch]:
        batches = read(table, partition, *arguments, **settings)
        return [_rejecting(batch) if "level" in batch.records.frame.columns else batch for batch in batches]

    monkeypatch.setattr(BatchTable, "read", with_rejects)


def _rejecting(batch: Batch) -> Batch:
    bad = batch.records.frame["level"] == UNREADABLE
    rejects = tuple(RejectedRecord(int(offset), b"k", b"torn", "it is cut off") for offset in batch.offsets[bad.to_numpy()])
    kept, end = ~bad, batch.next_offset
    offsets, timestamps = batch.offsets[kept.to_numpy()], batch.timestamps[kept.to_numpy()]
    return Batch(batch.topic, batch.partition, offsets, timestamps, batch.records.filter(kept), end, rejects)


def registered(context: type[kandle.Context], reading: type) -> dict[str, Any]:
    """Run the queries of a context over events, late events and damaged records; return the schemas that this registers."""
    market: Any = kandle.testing.context(context, NOON)
    with market:
        if hasattr(market, "shifts"):
            market.shifts.add(Shift("m1", NOON, NOON + timedelta(hours=1)))
        market.clock.advance("1s")
        for level in (1.0, 2.0, UNREADABLE):
            market.readings.add(reading("m1", NOON + timedelta(seconds=level), level))
        for _ in range(6):
            market.clock.advance("1m")
        market.readings.add(reading("m1", NOON + timedelta(seconds=30), 3.0))
        market.clock.advance("1s")
        return schemas_of(state_of(market).log, context)


def schemas_of(log: Log, context: type[kandle.Context]) -> dict[str, Any]:
    """Encode all records of a log as the Kafka log does, and return the schemas that a registry has then."""
    schemas = registry()
    model = context.model()
    plans = [plan(query) for query in model.queries.values()]
    declared = declarations(model.entities.values(), plans)
    subjects = {}
    for spec in log.topics():
        declaration = declared(spec.name)
        codec = topic_codec(spec.name, spec.columns, spec.keys, schemas, declaration.formats, declaration.entity)
        for number in range(spec.partitions):
            for batch in log.read(TopicPartition(spec.name, number), 0, 1_000_000):
                codec.encode(batch.records.frame, batch.records.tombstones)
        for side in ("key", "value"):
            latest = schemas.latest(f"{spec.name}-{side}")
            if latest is not None:
                subjects[latest.subject] = json.loads(latest.schema)
    return subjects


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize(
    ("context", "reading", "has_copies"),
    [(Keyed, Plain, False), (Copied, Reading, True), (Computed, Reading, True), (Whole, Plain, False)],
)
def test_the_schemas_that_are_printed_are_those_that_are_registered(
    here: Here, context: type[kandle.Context], reading: type, has_copies: bool
) -> None:
    (line,) = here.output("avro", f"{__name__}:{context.__name__}", "--json")
    printed = json.loads(line)
    assert printed == registered(context, reading)
    assert any("_repartition" in subject for subject in printed) is has_copies
    assert any("_dlq" in subject for subject in printed)
    assert ("means_late-value" in printed) is (context is Copied)


def test_where_ksqldb_aggregates_only_what_kandle_writes_is_printed(here: Here) -> None:
    Path("kandle.toml").write_text('[engine]\nkind = "ksqldb"\n', encoding="utf-8")
    (line,) = here.output("avro", f"{__name__}:Computed", "--json")
    assert sorted({subject.rpartition("-")[0] for subject in json.loads(line)}) == [
        *("means_1m_final", "means_changelog", "means_dlq", "means_hb_1m", "readings")
    ]
