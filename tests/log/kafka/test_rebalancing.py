"""Members on a real broker whose polls, takeovers and farewells go wrong in the middle: nothing is lost, and none hangs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kandle.errors import ReplacedError, UnavailableError
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.kafka.takeover import Takeover
from kandle.log.port import Consumer, GroupSpec, TopicPartition
from kandle.time.timeframe import SECOND
from tests.log.building import Recorder, numbers_of, partitions_of, poll_until, settle_on, topic_spec, write


@pytest.fixture
def name() -> str:
    return f"rebalancing-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def log(bootstrap: str, name: str) -> Iterator[KafkaLog]:
    log = KafkaLog(KafkaSettings(bootstrap))
    log.ensure(topic_spec(name, partitions=2))
    yield log
    log.close()


AWAY = UnavailableError("the brokers are away")


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception = AWAY) -> list[str]:
    """Have a method fail at its first call, as if the brokers were away; gives what was called."""
    called: list[str] = []
    real = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        called.append(name)
        if len(called) == 1:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, call)
    return called


def failed(consumer: Consumer) -> None:
    """Poll until it fails."""
    with pytest.raises(UnavailableError, match="the brokers are away"):
        for _ in range(100):
            consumer.poll(100_000, 100)


def test_records_of_a_poll_that_failed_come_again(log: KafkaLog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([write(name, range(5), 0), write(name, range(5, 9), 1)])
    consumer = log.consumer(GroupSpec("g-" + name, (name,), "one"))
    settle_on([consumer], partitions_of(name, 2))
    consumer.seek(dict.fromkeys(partitions_of(name, 2), 0))
    failing_once(monkeypatch, consumer._fetcher, "_decoder_of")  # type: ignore[attr-defined]
    failed(consumer)
    assert sorted(numbers_of(poll_until(consumer, 9))) == list(range(9))
    consumer.close()


def test_partitions_whose_takeover_failed_are_taken_over_with_the_next_poll(
    log: KafkaLog, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([write(name, range(5), 0)])
    called, listener = failing_once(monkeypatch, Takeover, "begin"), Recorder("one")
    consumer = log.consumer(GroupSpec("g-" + name, (name,), "one"), listener)
    failed(consumer)
    assert not consumer.assignment
    assert numbers_of(poll_until(consumer, 5)) == list(range(5))
    assert listener.heard("assigned") == set(consumer.assignment) == partitions_of(name, 2)
    assert len(called) == 2
    consumer.close()


def test_partitions_that_come_while_the_client_is_closed_are_not_taken(log: KafkaLog, name: str) -> None:
    """
    client    assigned 0 1 | the member joins again with a new client
    library                  close: assigned 0 1
    """
    listener = Recorder("one")
    consumer: Any = log.consumer(GroupSpec("g-" + name, (name,), "one"), listener)
    settle_on([consumer], partitions_of(name, 2))
    consumer._rebalancing.lose_all()
    consumer._assignment.abandon()
    consumer._rebalancing._assigned(sorted(partitions_of(name, 2)))
    assert not consumer.assignment
    assert [kind for kind, _, _ in listener.events if kind != "revoked"] == ["assigned", "lost"]
    consumer._assignment.set_client(consumer._client)
    consumer.close()


def test_a_partition_is_still_paused_when_it_comes_back(log: KafkaLog, name: str) -> None:
    """
    one     owns 0 1, pauses both | owns one of them            | owns 0 1
    two                             joins, owns the other, leaves
    """
    partitions = partitions_of(name, 2)
    one = log.consumer(GroupSpec("g-" + name, (name,), "one"))
    settle_on([one], partitions)
    one.pause(partitions)
    two = log.consumer(GroupSpec("g-" + name, (name,), "two"))
    settle_on([one, two], partitions)
    two.close()
    settle_on([one], partitions)
    log.append([write(name, range(5), 0), write(name, range(5, 9), 1)])
    assert one.poll(1_000_000, 100) == []
    one.resume(partitions)
    assert sorted(numbers_of(poll_until(one, 9))) == list(range(9))
    one.close()


def test_a_member_that_cannot_leave_in_time_closes_all_the_same(bootstrap: str, name: str) -> None:
    impatient = KafkaLog(KafkaSettings(bootstrap))
    topics = [f"{name}.a", f"{name}.b"]
    for topic in topics:
        impatient.ensure(topic_spec(topic, partitions=3))
    consumer = impatient.consumer(GroupSpec("g-" + name, tuple(topics), "one"))
    partitions: set[TopicPartition] = partitions_of(topics[0], 3) | partitions_of(topics[1], 3)
    settle_on([consumer], partitions)
    consumer._settings = replace(impatient.settings, request=0)  # type: ignore[attr-defined]
    consumer.close()
    assert not consumer.assignment
    impatient.close()


def paused(consumer: Consumer, seconds: int) -> None:
    """Have a member take itself for one whose process was paused."""
    consumer._stalls._polled_at -= seconds * SECOND  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_member_that_was_paused_and_is_taken_for_its_own_rival_joins_again(
    log: KafkaLog, name: str, monkeypatch: pytest.MonkeyPatch, is_paused: bool
) -> None:
    consumer = log.consumer(GroupSpec("g-" + name, (name,), "one"))
    settle_on([consumer], partitions_of(name, 2))
    consumer.commit(dict.fromkeys(partitions_of(name, 2), 0), [write(name, range(3), 0)])
    failing_once(monkeypatch, consumer._fetcher, "fetch", ReplacedError("fenced"))  # type: ignore[attr-defined]
    if is_paused:
        paused(consumer, 10)
        settle_on([consumer], partitions_of(name, 2))
        assert numbers_of(poll_until(consumer, 3)) == [0, 1, 2]
    else:
        with pytest.raises(ReplacedError, match=r"as 'one'.*runtime\.instance"):
            consumer.poll(0, 10)
    consumer.close()


def test_a_member_that_was_paused_ends_where_another_process_has_its_name(bootstrap: str, log: KafkaLog, name: str) -> None:
    older = log.consumer(GroupSpec("g-" + name, (name,), "one"))
    settle_on([older], partitions_of(name, 2))
    older.commit(dict.fromkeys(partitions_of(name, 2), 0), [write(name, [1])])
    other = KafkaLog(KafkaSettings(bootstrap))
    newer = other.consumer(GroupSpec("g-" + name, (name,), "one"))
    settle_on([newer], partitions_of(name, 2))
    newer.commit(dict.fromkeys(partitions_of(name, 2), 1), [write(name, [2])])
    paused(older, 10)
    with pytest.raises(ReplacedError, match=r"as 'one'.*runtime\.instance"):
        for _ in range(100):
            older.poll(100_000, 10)
    assert set(newer.assignment) == partitions_of(name, 2)
    for consumer in (older, newer):
        consumer.close()
    other.close()
