"""Poison on a cluster: what cannot be computed, does not fit or cannot be written is a dead letter, and all others go on."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
import json
import math
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

import kandle
from kandle import Context, EventSet, Key, TableSet, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.errors import DataError
from kandle.log.headers import header_rows
from kandle.time.clock import SystemClock
from kandle.time.timeframe import HOUR, MINUTE, from_instant, to_instant
from tests.kafka.summing import settings, wait_until
from tests.runtime.building import bars, read
from tests.testing.poison import Meters, Reading, Sum, bar_letters, expected_of, is_poison, letters
from tests.waiting import LIMIT

BEGIN = (SystemClock().now() // HOUR - 1) * HOUR
"""An hour that is over: heartbeats have few other buckets to close."""

END = BEGIN + 10 * MINUTE


def meters(name: str) -> type[Context]:
    """Return the context of the poison laws with topics of its own."""

    class OnKafka(Meters):
        def on_model_creating(self, model: kandle.ModelBuilder) -> None:
            super().on_model_creating(model)
            model.entity(Reading).topic(f"{name}_readings")
            model.entity(Sum).topic(f"{name}_sums")

    return OnKafka


def reading(minute: int, meter: str, amount: str = "1", count: int = 1, code: str = "1") -> Reading:
    return Reading(from_instant(BEGIN + minute * MINUTE), meter, Decimal(amount), count, code)


READINGS = [
    reading(0, "a"),
    reading(0, "b", "9999.99"),
    reading(1, "b", "9999.99"),
    reading(1, "a", code="many"),
    reading(1, "long meter"),
    reading(2, "c", count=2**62),
    reading(2, "c", count=2**62),
    reading(3, "a", code="9" * 30),
    reading(4, "a", code="77"),
    reading(5, "b"),
]
ENDING = reading(11, "a")
"""Proves that ten minutes are over."""


def test_each_expected_bucket_has_one_final_or_one_dead_letter_and_a_restart_adds_none(bootstrap: str) -> None:
    name = f"p{uuid4().hex[:8]}"
    context, options = meters(name), settings(bootstrap) | {"validation": "relaxed"}
    finals, bad = expected_of([*READINGS, ENDING], END)

    def results(market: Context) -> tuple[set[tuple[Any, ...]], list[tuple[Any, ...]]]:
        log = state_of(market).log
        finals_read = [(frame, bar) for frame in ("1m", "5m") for bar in bars(log, f"{name}_sums_{frame}_final", Sum)]
        rows = [(frame, b.meter, b.start, b.amount, b.count, b.codes, b.readings) for frame, b in finals_read]
        rows = [row for row in rows if to_instant(row[2]) < END]
        assert len(rows) == len(set(rows))
        return set(rows), sorted(letter for letter in bar_letters(log, f"{name}_sums_dlq") if to_instant(letter[2]) < END)

    with context.open(**options) as market:
        market.set(Reading).add_many(READINGS)
        market.set(Reading).add(ENDING, headers={"from": "test"})
        market.set(Reading).add(reading(11, "a", code="none"), headers={"from": "somewhere"})
        wait_until(lambda: results(market) == (finals, sorted(bad)), market)
        wait_until(lambda: market.health().queries[0].counters.failed == sum(map(is_poison, READINGS)) + 1, market)
    with context.open(**options) as market:
        market.set(Reading).add(reading(12, "a"))
        wait_until(lambda: market.health().queries[0].counters.events == 1, market)
        assert results(market) == (finals, sorted(bad))
        events = [row for row in letters(state_of(market).log, f"{name}_sums_dlq") if row["kind"] == "event"]
        batches = read(state_of(market).log, f"{name}_sums_dlq")
        headers = [row for batch in batches for row in header_rows(batch.records)]
    assert len(events) == sum(map(is_poison, READINGS)) + 1
    assert {(row["entity"], row["field"], row["value"]) for row in events} == {
        ("Reading", "code", "many"),
        ("Reading", "code", "9" * 30),
        ("Reading", "code", "none"),
    }
    assert [json.loads(row["payload"])["meter"] for row in events] == ["a", "a", "a"]
    assert all(row["time"] is not None and row["topic"] == f"{name}_readings" for row in events)
    assert {"from": "somewhere"} in headers and {"from": "test"} not in headers


@kandle.stream("texts", value_format="JSON", key_format="JSON")
@dataclass(frozen=True)
class Text:
    time: Annotated[datetime, Timestamp()]
    key: Annotated[str, Key(0)]
    text: str
    power: int


@kandle.stream("twice", value_format="JSON", key_format="JSON")
@dataclass(frozen=True)
class Twice:
    """A bar that is larger than its events, and has a number that JSON may not have."""

    key: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    first: str
    last: str
    grown: float


def twice(name: str) -> type[Context]:
    """Return a context whose bars have topics of their own."""

    class Texts(Context):
        texts: EventSet[Text]
        bars: EventSet[Twice]

        def on_model_creating(self, model: kandle.ModelBuilder) -> None:
            model.entity(Text).topic(f"{name}_texts")
            model.entity(Twice).topic(f"{name}_twice").to_query(
                lambda q: (
                    q.from_(Text)
                    .tumbling(lambda t: t.time, minutes=1, gaps=kandle.Gaps.SKIP)
                    .group_by(lambda t: t.key)
                    .select(
                        lambda t, w: Twice(
                            key=t.key,
                            start=w.start,
                            first=f.first(t.text),
                            last=f.last(t.text),
                            grown=f.exp(f.cast(f.max(t.power), float)),
                        )
                    )
                )
            )

    return Texts


def test_a_bar_that_cannot_be_written_is_a_dead_letter_and_the_others_are_written(bootstrap: str) -> None:
    name = f"w{uuid4().hex[:8]}"
    context = twice(name)

    def text(key: str, minute: int = 0, size: int = 1, power: int = 1) -> Text:
        return Text(from_instant(BEGIN + minute * MINUTE), key, "x" * size, power)

    with context.open(**settings(bootstrap)) as market:
        log = state_of(market).log
        large = [text("large", size=600_000), text("steep", power=1000), text("good")]
        market.set(Text).add_many(large)
        market.set(Text).add(text("good", 1))
        wait_until(lambda: sum(log.ends(f"{name}_twice_1m_final")) > 0, market)
        market.set(Text).add(text("good", 2))
        wait_until(lambda: len(bars(log, f"{name}_twice_1m_final", Twice)) == 2, market)
        written = bars(log, f"{name}_twice_1m_final", Twice)
        dead = letters(log, f"{name}_twice_dlq")
        counters = market.health().queries[0].counters
        assert (counters.timeframes["1m"].failed, counters.timeframes["1m"].finals) == (2, 2)
        assert {bar.key for bar in market.time_bucket(Twice, "1m").to_list(include_live=True)} == {"good"}
    assert [(bar.key, bar.grown) for bar in written] == [("good", math.e)] * 2
    by_key = {json.loads(row["key"])["key"]: row for row in dead if row["key"] is not None}
    assert by_key["steep"]["kind"] == "bar" and "JSON has no such number" in by_key["steep"]["error"]
    (shortened,) = [row for row in dead if row["payload"] is None]
    assert "bytes is larger than 1000000" in shortened["error"] and "payload and headers of the dead letter" in shortened["error"]
    assert (shortened["entity"], shortened["timeframe"], shortened["start"]) == ("Twice", "1m", from_instant(BEGIN))


def test_a_record_that_cannot_be_read_keeps_its_headers_and_its_time(bootstrap: str) -> None:
    name = f"h{uuid4().hex[:8]}"
    with twice(name).open(**settings(bootstrap)) as market:
        producer = Producer({"bootstrap.servers": bootstrap})
        producer.produce(f"{name}_texts", key=b'"a"', value=b"{torn", headers={"trace": "7"}, timestamp=1_700_000_000_000)
        assert producer.flush(LIMIT) == 0
        log = state_of(market).log
        wait_until(lambda: letters(log, f"{name}_twice_dlq"), market)
        (batch,) = read(log, f"{name}_twice_dlq")
        (row,) = letters(log, f"{name}_twice_dlq")
    assert (row["kind"], row["payload"], row["time"]) == ("unreadable", b"{torn", from_instant(1_700_000_000_000_000))
    assert header_rows(batch.records) == [{"trace": "7"}]


def accounts(name: str) -> tuple[type, type[Context]]:
    """Return a table and its context."""

    @kandle.table(f"{name}_accounts", key_format="KAFKA", value_format="JSON")
    @dataclass(frozen=True)
    class Account:
        id: Annotated[str, Key(0)]
        level: int

    sets = {"accounts": TableSet[Account]}
    return Account, type("Bank", (Context,), {"__annotations__": sets})


def test_a_table_whose_newest_row_of_a_key_cannot_be_read_is_not_the_row_before_it(
    bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"a{uuid4().hex[:8]}"
    account, context = accounts(name)
    with context.open(**settings(bootstrap)) as market:
        table: Any = market.set(account)
        table.add_many([account("a", 1), account("b", 1)])
        producer = Producer({"bootstrap.servers": bootstrap})
        for key, value in ((b"a", b'{"level": 2.5}'), (b"c", b"{cut")):
            producer.produce(f"{name}_accounts", key=key, value=value)
        assert producer.flush(LIMIT) == 0
        # What others write is seen within a second.
        wait_until(lambda: table.count(unreadable="skip") == 1, market)
        with pytest.raises(
            DataError, match=f"2 records of topic {name}_accounts cannot be read; the first, in partition 0 at offset 2: "
        ):
            table.to_list()
        with pytest.raises(DataError, match=r"1 record of topic .* at offset 3"):
            table.to_list(["c"])
        assert table.to_list(["b"]) == [account("b", 1)]
        assert table.to_list(unreadable="skip") == [account("b", 1)]
        assert "2 records of topic" in caplog.text and "left out" in caplog.text
        table.add(account("a", 3))
        table.remove("c")
        assert table.to_list() == [account("a", 3), account("b", 1)]


def test_events_that_cannot_be_read_are_not_missing_without_a_word(bootstrap: str) -> None:
    name = f"e{uuid4().hex[:8]}"
    with twice(name).open(**settings(bootstrap)) as market:
        market.set(Text).add(Text(from_instant(BEGIN), "a", "x", 1))
        producer = Producer({"bootstrap.servers": bootstrap})
        producer.produce(f"{name}_texts", key=b'"b"', value=b"{torn")
        assert producer.flush(LIMIT) == 0
        with pytest.raises(DataError, match=f'1 record of topic {name}_texts cannot be read.*at offset 1: .*unreadable="skip"'):
            market.set(Text).to_list()
        assert [text.key for text in market.set(Text).to_list(["a"])] == ["a"]
        assert [text.key for text in market.set(Text).to_list(unreadable="skip")] == ["a"]
