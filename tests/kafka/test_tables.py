"""Tables on Kafka: what a read shows, and when no broker is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

import kandle
from kandle import Context, DataError, Key, TableSet
from kandle.log.kafka.admin import ClusterAdmin
from kandle.sets.changes import TableChange
from tests.waiting import LIMIT, aside, wait_until

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def table_of(topic: str) -> tuple[type, type[Context]]:
    """Return a table of a topic that others write too, and a context with it."""

    @kandle.table(topic, key_format="KAFKA", value_format="JSON", partitions=2)
    @dataclass(frozen=True)
    class Account:
        owner: Annotated[str, Key(0)]
        level: int

    return Account, type("Bank", (Context,), {"__annotations__": {"accounts": TableSet[Account]}})


@dataclass
class Bank:
    """A table, and how it is opened."""

    topic: str
    entity: Any
    context: Any
    settings: dict[str, Any]
    bootstrap: str

    def opened(self, **settings: Any) -> Any:
        return self.context.open(**self.settings | settings)

    def produce(self, *records: tuple[bytes, Any]) -> None:
        """Write keys and values as others do."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": "murmur2"})
        for key, value in records:
            producer.produce(self.topic, key=key, value=value if isinstance(value, bytes | None) else json.dumps(value).encode())
        assert producer.flush(LIMIT) == 0

    def levels(self, market: Any, **settings: Any) -> dict[str, int]:
        return {row.owner: row.level for row in market.accounts.to_list(**settings)}


@pytest.fixture
def bank(bootstrap: str, tmp_path: Path) -> Iterator[Bank]:
    topic = f"accounts-{uuid4().hex[:8]}"
    settings = {"log": {"kind": "kafka", "path": tmp_path}, "kafka": {"bootstrap": bootstrap}}
    yield Bank(topic, *table_of(topic), settings, bootstrap)


def test_a_read_shows_what_its_context_has_written_and_soon_what_others_write(bank: Bank) -> None:
    with bank.opened() as market:
        for level in range(20):
            market.accounts.add(bank.entity("a", level))
            assert market.accounts.get("a") == bank.entity("a", level)
        market.accounts.add(bank.entity("b", 1))
        market.accounts.remove("a")
        assert bank.levels(market) == {"b": 1}
        bank.produce((b"c", {"level": 5}), (b"b", None))
        wait_until(lambda: bank.levels(market) == {"c": 5}, "the row of others", seen=lambda: bank.levels(market))


def test_no_broker_is_asked_by_a_read_once_the_copy_is_current(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    with bank.opened() as market:
        market.accounts.add(bank.entity("a", 1))
        assert bank.levels(market) == {"a": 1}
        with monkeypatch.context() as patch:
            # The follower itself asks about once a second, and goes on without an answer.
            for question in ("offsets", "topic_size", "partition_counts"):
                patch.setattr(ClusterAdmin, question, _unavailable)
            for _ in range(3):
                assert (bank.levels(market), market.accounts.count("b")) == ({"a": 1}, 0)


def _unavailable(*given: Any, **named: Any) -> Any:
    raise kandle.UnavailableError("no broker answers")


def test_a_row_before_an_unreadable_record_is_never_shown(bank: Bank) -> None:
    with bank.opened() as market:
        market.accounts.add_many([bank.entity("a", 1), bank.entity("b", 1)])
        bank.produce((b"a", {"level": 2.5}), (b"c", b"{cut"))
        wait_until(lambda: market.accounts.count(unreadable="skip") == 1, "the unreadable records")
        with pytest.raises(DataError, match=f"2 records of topic {bank.topic} cannot be read"):
            market.accounts.to_list()
        with pytest.raises(DataError, match="1 record of topic"):
            market.accounts.get("a")
        assert market.accounts.get("b") == bank.entity("b", 1)
        assert bank.levels(market, unreadable="skip") == {"b": 1}
    with bank.opened() as market:
        with pytest.raises(DataError, match="2 records of topic"):
            market.accounts.count()
        market.accounts.add(bank.entity("a", 3))
        market.accounts.remove("c")
        assert bank.levels(market) == {"a": 3, "b": 1}


def test_a_table_is_restored_from_disk_and_goes_on(bank: Bank, tmp_path: Path) -> None:
    with bank.opened() as market:
        market.accounts.add_many([bank.entity(f"owner-{number}", number) for number in range(50)])
        assert market.accounts.count() == 50
    bank.produce((b"owner-7", {"level": 70}), (b"owner-8", None))
    with bank.opened() as market:
        levels = bank.levels(market)
        assert (len(levels), levels["owner-7"], "owner-8" in levels) == (49, 70, False)
    assert (tmp_path / "copies" / "bank" / bank.topic / "0").is_dir()


def test_a_topic_that_is_created_anew_is_read_anew(bank: Bank) -> None:
    with bank.opened() as market:
        market.accounts.add(bank.entity("a", 1))
        assert market.accounts.count() == 1
    admin = AdminClient({"bootstrap.servers": bank.bootstrap})
    admin.delete_topics([bank.topic])[bank.topic].result(LIMIT)
    wait_until(lambda: bank.topic not in admin.list_topics(timeout=LIMIT).topics, "the deletion")
    with bank.opened() as market:
        market.accounts.add_many([bank.entity(owner, 2) for owner in "bcde"])
        assert bank.levels(market) == dict.fromkeys("bcde", 2)


def test_partitions_that_are_added_are_followed(bank: Bank) -> None:
    owners = [f"owner-{number}" for number in range(12)]
    with bank.opened() as market:
        market.accounts.add_many([bank.entity(owner, 1) for owner in owners])
        assert market.accounts.count() == 12
        admin = AdminClient({"bootstrap.servers": bank.bootstrap})
        admin.create_partitions([NewPartitions(bank.topic, 5)])[bank.topic].result(LIMIT)
        bank.produce(*((owner.encode(), {"level": 2}) for owner in owners))
        wait_until(lambda: bank.levels(market) == dict.fromkeys(owners, 2), "the new rows")
    with bank.opened(copies={"store": "memory"}) as market:
        assert bank.levels(market) == dict.fromkeys(owners, 2)


def test_changes_of_others_are_seen(bank: Bank) -> None:
    with bank.opened() as market:
        market.accounts.add(bank.entity("a", 1))
        changes = iter(market.accounts.changes("b"))
        waiting = aside(lambda: next(changes))
        wait_until(waiting.done, "a change", check=lambda: bank.produce((b"b", {"level": 2})))
        assert waiting.result() == TableChange(("b",), bank.entity("b", 2))
        changes.close()
