"""Dead letters on a cluster: the bytes of records as they were, replayed exactly once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

import kandle
from kandle import Context, EventSet, Key, Timestamp
from kandle.context.context import state_of
from kandle.errors import UnavailableError
from kandle.log.kafka.consumer import KafkaConsumer
from kandle.log.letters import LetterBox
from kandle.log.port import GroupSpec, Log, TopicPartition
from kandle.time.clock import SystemClock
from tests.kafka.reading import everything
from tests.kafka.summing import settings
from tests.waiting import LIMIT, wait_until

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
HEADERS: list[tuple[str, Any]] = [("trace", b"\xff\x00"), ("trace", b"2"), ("none", None)]


def orders(topic: str) -> Any:
    """Return an entity of a topic that others write, and a context of it."""

    @kandle.stream(topic, key_format="KAFKA", value_format="JSON")
    @dataclass(frozen=True)
    class Order:
        code: Annotated[str, Key(0)]
        number: int
        at: Annotated[datetime, Timestamp()] = NOON

    return Order, type("Orders", (Context,), {"__annotations__": {"orders": EventSet[Order]}})


def produce(bootstrap: str, topic: str, values: list[bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for number, value in enumerate(values):
        producer.produce(topic, key=f"k{number}".encode(), value=value, headers=HEADERS if number else None)
    assert producer.flush(LIMIT) == 0


def consume_all(log: Log, topic: str, count: int) -> int:
    """Have all records of a topic become letters, in the commit that goes past them; return how many there were."""
    group = uuid4().hex
    consumer = log.consumer(GroupSpec(group, (topic,), "one", with_bytes=True))
    box = LetterBox(log, topic, group, SystemClock())
    taken = 0

    def take() -> None:
        nonlocal taken
        for batch in consumer.poll(100_000, 100):
            for row in range(len(batch)):
                box.add(batch, row, ValueError(f"bad {batch.offsets[row]}"))
            for reject in batch.rejects:
                box.add_reject(TopicPartition(topic, 0), reject)
            taken += len(batch) + len(batch.rejects)

    try:
        wait_until(lambda: taken >= count, "the records", check=take, pause=0)
        consumer.commit({TopicPartition(topic, 0): count}, box.writes({TopicPartition(topic, 0): count}))
        assert log.committed(group, topic) == {0: count}
    finally:
        consumer.close()
    return taken


def test_records_are_replayed_byte_for_byte_and_once_whoever_is_killed(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    replay 1   commits letter 0 ── sends letters 1 2 ✗ killed        replay 2   letters 1 2 3
    """
    monkeypatch.setattr("kandle.sets.replaying.LETTERS_AT_ONCE", 2)
    topic = f"t{uuid4().hex[:8]}"
    _, context = orders(topic)
    values = [
        json.dumps({"number": 0, "at": 1, "unknown": "kept"}).encode() + b"  ",
        b'{"number": "torn',
        None,
        json.dumps({"number": 3}).encode(),
    ]
    with context.open(**settings(bootstrap)) as market:
        log = state_of(market).log
        produce(bootstrap, topic, values)
        assert consume_all(log, topic, 4) == 4
        letters = market.orders.dead_letters().to_list()
        assert [
            (letter.offset, letter.kind, letter.key, letter.payload) for letter in sorted(letters, key=lambda one: one.offset)
        ] == [
            (number, "unreadable" if number == 1 else "handler", f"k{number}".encode(), value)
            for number, value in enumerate(values)
        ]
        assert [letter.offset for letter in market.orders.dead_letters().where(key="k3")] == [3]
        commit = KafkaConsumer.commit
        calls = 0

        def killed(consumer: KafkaConsumer, *arguments: Any) -> list[int]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise UnavailableError("killed")
            return commit(consumer, *arguments)

        monkeypatch.setattr(KafkaConsumer, "commit", killed)
        with pytest.raises(UnavailableError, match="killed"):
            market.orders.dead_letters().replay()
        assert market.orders.dead_letters().count() == 2
        assert market.orders.dead_letters().replay().done == 2
        assert market.orders.dead_letters().replay().done == 0
    messages = everything(bootstrap, topic)
    assert sorted((message.key(), message.value() or b"") for message in messages[4:]) == sorted(
        (message.key(), message.value() or b"") for message in messages[:4]
    )
    for message in messages[4:]:
        number = int(message.key()[1:])
        kept, (origin, letter) = message.headers()[:-2], message.headers()[-2:]
        assert kept == (HEADERS if number else [])
        assert origin == ("kandle-origin", f"{topic}/0/{number}".encode())
        assert letter[0] == "kandle-dead-letter" and letter[1].startswith(f"{topic}_dlq/0/".encode())


def test_a_handler_takes_what_can_be_read(bootstrap: str) -> None:
    topic = f"t{uuid4().hex[:8]}"
    order, context = orders(topic)
    with context.open(**settings(bootstrap)) as market:
        produce(bootstrap, topic, [json.dumps({"number": 0, "at": 0}).encode(), b"torn"])
        consume_all(state_of(market).log, topic, 2)
        seen: list[Any] = []
        done = market.orders.dead_letters().replay(seen.append)
        assert seen == [order("k0", 0, datetime(1970, 1, 1, tzinfo=UTC))]
        assert done.done == 1 and "torn" not in done.refused[0].reason
        assert [letter.offset for letter in market.orders.dead_letters()] == [1]


def test_headers_come_and_go_as_they_are(bootstrap: str) -> None:
    topic = f"t{uuid4().hex[:8]}"
    order, context = orders(topic)
    with context.open(**settings(bootstrap)) as market:
        market.orders.add(order("a", 1), headers=[*HEADERS, ("text", "ü")])
        for message in market.orders.messages():
            assert message.raw_headers == (*HEADERS, ("text", "ü".encode()))
            assert message.headers == {"trace": "2", "text": "ü"}
            break
    [sent] = everything(bootstrap, topic)
    assert sent.headers() == [*HEADERS, ("text", "ü".encode())]
