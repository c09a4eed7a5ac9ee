"""Avro that cannot be read, between ticks that can: each is a dead letter with its offset and the reason, and no tick is lost."""

from __future__ import annotations

import struct

import polars as pl
import pytest
from confluent_kafka import Producer

from kandle.context.context import state_of
from kandle.sets.reading import rows
from tests.kafka.reading import everything
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.waiting import LIMIT

Message = tuple[bytes | None, bytes | None]
UNKNOWN = 999_999
"""A number that no schema has."""


def with_number(message: bytes, number: int) -> bytes:
    """Return the same record as if it had the schema of that number."""
    return b"\0" + struct.pack(">I", number) + message[5:]


def bad_ones(key: bytes, value: bytes) -> list[tuple[Message, str]]:
    """Return what others may write by mistake, with the text that must be in the dead letter."""
    key_schema, value_schema = (struct.unpack(">I", message[1:5])[0] for message in (key, value))
    return [
        ((key, value[:-9]), "-value: field time: the message ends in the middle of it"),
        ((key, with_number(value, UNKNOWN)), f"-value: schema {UNKNOWN} is not in the registry"),
        ((key, b"\x01" + value[1:]), "-value: it does not begin with the zero byte"),
        ((key, b"\x00\x00"), "-value: 2 bytes are no record"),
        ((value, value), f"-key: schema {value_schema}: "),
        ((b"a", value), "-key: 1 bytes are no record"),
        ((None, value), "-key: there is no record (null)"),
        ((key, with_number(value, key_schema)), f"-value: schema {key_schema}: "),
    ]


def test_each_bad_record_is_named_and_the_ticks_around_it_count(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    with app.context.open(access="write_only", **settings(bootstrap)) as market:
        market.ticks.add(app.one(1))
        (first,) = everything(bootstrap, app.ticks)
        bad = bad_ones(first.key(), first.value())
        producer = Producer({"bootstrap.servers": bootstrap})
        for (key, value), _ in bad:
            producer.produce(app.ticks, key=key, value=value, partition=0)
        producer.produce(app.ticks, key=first.key(), value=None, partition=0)
        assert producer.flush(LIMIT) == 0
        market.ticks.add(app.one(10))
    with app.context.open(**settings(bootstrap)) as market:
        wait_until(lambda: summed(market, app)[1] == 2, market)
        assert summed(market, app) == (11, 2)
        counters = market.health().queries[0].counters
        assert (counters.events, counters.rejected) == (3, len(bad))
        letters = pl.concat(rows(state_of(market).log, f"{app.name}_sums_dlq"))
        market.ticks.add(app.one(100))
        wait_until(lambda: summed(market, app) == (111, 3), market)
    assert letters["offset"].to_list() == list(range(1, 1 + len(bad)))
    for (message, reason), row in zip(bad, letters.iter_rows(named=True), strict=True):
        assert (row["topic"], row["partition"], row["key"], row["payload"]) == (app.ticks, 0, *message)
        assert reason in row["error"]
    said = f"{len(bad)} records of {app.ticks}, partition 0, cannot be read and are in topic {app.name}_sums_dlq"
    assert f"{said}; the first, at offset 1: {letters['error'][0]}" in caplog.text
