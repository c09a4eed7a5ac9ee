"""Records of producers that know nothing of kandle: other partitioners, and bytes that cannot be read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

from confluent_kafka import Producer

import kandle
from kandle import Context, EventSet, Header, Key, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.errors import DataError
from kandle.log.port import TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, from_instant, to_instant
from tests.kafka.reading import everything
from tests.kafka.summing import wait_until
from tests.waiting import LIMIT, wait_for
from tools.kafka.cluster import Cluster


@kandle.stream("traced", key_format="KAFKA", value_format="JSON")
@dataclass(frozen=True)
class Traced:
    at: Annotated[datetime, Timestamp()]
    code: Annotated[str, Key(0)]
    amount: int
    source: Annotated[str | None, Header("source-id")] = None


class Traces(Context):
    traced: EventSet[Traced]


CODES = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


@kandle.stream(partitions=4, key_format="KAFKA", value_format="JSON", partitioner="other")
@dataclass(frozen=True)
class Reading:
    at: Annotated[datetime, Timestamp()]
    code: Annotated[str, Key(0)]
    amount: int


@kandle.stream(key_format="KAFKA", value_format="JSON", partitions=4)
@dataclass(frozen=True)
class Ordered:
    at: Annotated[datetime, Timestamp()]
    code: Annotated[str, Key(0)]
    amount: int


@kandle.stream(key_format="JSON", value_format="JSON", partitions=4)
@dataclass(frozen=True)
class Total:
    code: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    amount: int
    count: int


@kandle.stream(key_format="JSON", value_format="JSON", partitions=4)
@dataclass(frozen=True)
class OrderedTotal:
    code: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    amount: int
    count: int


def context_of(source: type, total: Any = Total) -> type[Context]:
    """Return a context with totals of a source by the second; its group is its own."""

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(total).to_query(
            lambda q: (
                q.from_(source)
                .tumbling(lambda r: r.at, seconds=1, grace="1s", gaps=kandle.Gaps.SKIP)
                .group_by(lambda r: r.code)
                .select(lambda r, w: total(code=r.code, start=w.start, amount=f.sum(r.amount), count=f.count()))
            )
        )

    sets = {"readings": EventSet[source], "totals": EventSet[total]}  # type: ignore[valid-type]
    return type(f"App{uuid4().hex[:6]}", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def settings(cluster: Cluster) -> dict[str, Any]:
    return {"log": {"kind": "kafka"}, "kafka": {"bootstrap": cluster.bootstrap}}


def written(cluster: Cluster, topic: str, partitioner: str, rows: list[tuple[bytes, bytes | None]]) -> None:
    """Have the usual client write keys and values."""
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "partitioner": partitioner})
    for key, value in rows:
        producer.produce(topic, key=key, value=value)
    assert producer.flush(LIMIT) == 0


def readings(now: int) -> list[tuple[bytes, bytes | None]]:
    """Forty ticks, one of each second until now, as a foreign client writes them."""
    values = [{"at": (now - (39 - number) * SECOND) // MILLISECOND, "amount": number} for number in range(40)]
    return [(CODES[number % 8].encode(), json.dumps(value).encode()) for number, value in enumerate(values)]


def totals(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """Return amount and count of each code in all finals."""
    sums: dict[str, tuple[int, int]] = {}
    for message in everything(cluster.bootstrap, "total_1s_final"):
        code, row = json.loads(message.key())["code"], json.loads(message.value())
        amount, count = sums.get(code, (0, 0))
        sums[code] = (amount + row["amount"], count + row["count"])
    return sums


EXPECTED = {code: (sum(range(number, 40, 8)), 5) for number, code in enumerate(CODES)}


def test_events_of_any_partitioner_are_brought_together_and_bad_ones_are_dead_letters(cluster: Cluster) -> None:
    with context_of(Reading).open(access="write_only", **settings(cluster)):
        pass
    bad = [(b"alpha", b"{torn"), (b"beta", b'{"at": "yesterday", "amount": 1}'), (b"gamma", None)]
    written(cluster, "reading", "consistent", [*readings(SystemClock().now()), *bad])
    with context_of(Reading).open(**settings(cluster)) as market:
        wait_until(lambda: sum(count for _, count in totals(cluster).values()) == 40, market)
        assert market.health().queries[0].counters.rejected == 2
    assert totals(cluster) == EXPECTED
    letters = {message.value() for message in everything(cluster.bootstrap, "total_dlq")}
    assert len(letters) == 2


def test_murmur2_is_read_as_it_is_and_another_partitioner_is_found_out(cluster: Cluster) -> None:
    app = context_of(Ordered, OrderedTotal)
    with app.open(access="write_only", **settings(cluster)):
        pass
    written(cluster, "ordered", "murmur2", readings(SystemClock().now()))
    with app.open(consumer={"group": "first"}, **settings(cluster)) as market:
        wait_until(lambda: market.health().queries[0].counters.events == 40, market)
        assert market.health().queries[0].counters.repartitioned == 0
    written(cluster, "ordered", "consistent", readings(SystemClock().now()))
    with app.open(consumer={"group": "first"}, **settings(cluster)) as market:
        problem = wait_for(lambda: market.problem, expected="the problem")
        assert isinstance(problem, DataError)
        assert re.search(r'by murmur2.* partitioner="other"', str(problem))


def test_a_field_in_a_header_is_what_others_write_there_and_read_there(cluster: Cluster) -> None:
    now = from_instant(SystemClock().now() // MILLISECOND * MILLISECOND)
    with Traces.open(**settings(cluster)) as market:
        market.traced.add_many([Traced(now, "own", 1, "us"), Traced(now, "none", 2)])
        producer = Producer({"bootstrap.servers": cluster.bootstrap})
        value = json.dumps({"at": to_instant(now) // MILLISECOND, "amount": 3}).encode()
        headers: list[tuple[str, str | bytes | None]] = [("source-id", b"old"), ("other", b"x"), ("source-id", "für".encode())]
        producer.produce("traced", key=b"theirs", value=value, headers=headers)
        assert producer.flush(LIMIT) == 0
        (batch,) = state_of(market).log.read(TopicPartition("traced", 0), 0, 10)
        assert batch.records.frame["source"].to_list() == ["us", None, "für"]
    first, second, _ = everything(cluster.bootstrap, "traced")
    assert (first.headers(), second.headers()) == ([("source-id", b"us")], None)
    assert set(json.loads(first.value())) == {"at", "amount"}
