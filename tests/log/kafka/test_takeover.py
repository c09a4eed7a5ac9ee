"""Claims to partitions, and partitions that are added to the topics of a group, on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from kandle.errors import KandleError
from kandle.log.kafka.assignment import Sharing
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.timeframe import SECOND
from tests.log.building import numbers_of, partitions_of, poll_until, settle, settle_on, topic_spec, write
from tests.waiting import LIMIT, wait_until


@pytest.fixture
def name() -> str:
    return f"takeover-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def log(bootstrap: str, name: str) -> Iterator[KafkaLog]:
    """A log whose brokers leave transactions open for longer than anybody waits for them."""
    log = KafkaLog(KafkaSettings(bootstrap, transaction=120 * SECOND, patience=30 * SECOND, session=6 * SECOND))
    log.ensure(topic_spec(name, partitions=2))
    yield log
    log.close()


def claims(log: KafkaLog, name: str) -> dict[str, list[TopicPartition]]:
    """Return the claims to the partitions of the test's group."""
    return {owner: sorted(claimed) for owner, claimed in log._shared.claims.ids(f"{name}-group", partitions_of(name, 2)).items()}


def member(log: KafkaLog, name: str, own: str, reset: Any = "earliest") -> Any:
    return log.consumer(GroupSpec(f"{name}-group", (name,), own, reset=reset))


def add_partitions(bootstrap: str, topic: str, count: int) -> None:
    # The client must outlive the answer.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(LIMIT)


def test_a_member_claims_what_it_commits_records_for_and_only_until_it_gives_it_up(log: KafkaLog, name: str) -> None:
    one, results = member(log, name, "one"), f"{name}.results"
    log.ensure(topic_spec(results))
    settle_on([one], partitions_of(name, 2))
    one.commit({TopicPartition(name, 0): 0})
    assert claims(log, name) == {}
    one.commit(dict.fromkeys(partitions_of(name, 2), 0), [write(results, [1])])
    assert claims(log, name) == {f"{name}-group-one": sorted(partitions_of(name, 2))}
    two = member(log, name, "two")
    settle_on([one, two], partitions_of(name, 2))
    assert claims(log, name) == {f"{name}-group-one": list(one.assignment)}
    one.close()
    assert claims(log, name) == {}
    two.close()


def test_what_a_dead_member_of_another_name_has_left_open_is_aborted_without_asking_who_is_in_the_group(
    log: KafkaLog, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    one     commits 1 | begins a commit of 2, position 5       (silent for longer than its session)
    two                                                          owns all, reads on at 0, commits 3
    """
    results, partitions = f"{name}.results", partitions_of(name, 2)
    log.ensure(topic_spec(results))
    one = member(log, name, "one")
    settle_on([one], partitions)
    one.commit(dict.fromkeys(partitions, 0), [write(results, [1])])
    producer = one._transactions.open()
    producer.begin_transaction()
    [encoded] = log.codecs.encode([write(results, [2])])
    producer.produce(results, encoded.values[0], encoded.keys[0], partition=0)
    positions = [ClientPartition(*partition, 5) for partition in partitions]
    producer.send_offsets_to_transaction(positions, one._client.consumer_group_metadata(), LIMIT)
    producer.flush(LIMIT)

    def asked(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the coordinator must not be asked for the members of a group")

    monkeypatch.setattr(log.admin, "members", asked)
    # Gone without a word, as a process that was killed.
    monkeypatch.setattr(one._takeover, "release", lambda partitions: None)
    one._client.close()
    two = member(log, name, "two")
    settle_on([two], partitions)
    assert two._assignment.positions == dict.fromkeys(partitions, 0)
    two.commit(dict.fromkeys(partitions, 0), [write(results, [3])])
    assert numbers_of(log.read(TopicPartition(results, 0), 0, 10)) == [1, 3]
    wait_until(lambda: list(claims(log, name)) == [f"{name}-group-two"], "the claims of the dead member being removed")
    two.close()
    with suppress(KandleError, RuntimeError):
        one.close()


@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_a_reader_gets_partitions_that_are_added_from_their_beginning(
    log: KafkaLog, name: str, bootstrap: str, reset: str
) -> None:
    reader = member(log, name, "one", reset)
    settle_on([reader], partitions_of(name, 2))
    add_partitions(bootstrap, name, 4)
    wait_until(lambda: log.partition_count(name) == 4)
    wait_until(lambda: log.topic(name).partitions == 4)
    log.append([write(name, range(10 * number, 10 * number + 3), number) for number in range(4)])
    assert len(log.ends(name)) == len(log.partitions(name)) == 4
    assert sorted(numbers_of(poll_until(reader, 12))) == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]
    assert set(reader.assignment) == partitions_of(name, 4)
    reader.close()


def test_partitions_that_are_added_to_the_first_of_two_topics_go_to_the_owner_of_those_of_the_last(
    log: KafkaLog, name: str, bootstrap: str
) -> None:
    topics = (f"{name}.first", f"{name}.last")
    for topic in topics:
        log.ensure(topic_spec(topic, partitions=2))
    one, two = (log.consumer(GroupSpec(f"{name}-group", topics, own)) for own in ("one", "two"))
    settle_on([one, two], partitions_of(topics[0], 2) | partitions_of(topics[1], 2))
    add_partitions(bootstrap, topics[0], 5)
    settle([one, two], lambda: len(one.assignment) + len(two.assignment) == 7)
    for owner in (one, two):
        [number] = [partition.partition for partition in owner.assignment if partition.topic == topics[1]]
        first = {partition.partition for partition in owner.assignment if partition.topic == topics[0]}
        assert first == set(range(number, 5, 2))
    two.close()
    settle_on([one], partitions_of(topics[0], 5) | partitions_of(topics[1], 2))
    one.close()


def test_every_partition_of_all_topics_goes_with_exactly_one_of_the_last() -> None:
    sharing = Sharing({"a": 5, "b": 1, "last": 2})
    owners = [sharing.together([TopicPartition("last", number)]) for number in range(4)]
    assert owners[0] == [TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("a", 4), *_of("b", 0), *_of("last", 0)]
    assert owners[1] == [TopicPartition("a", 1), TopicPartition("a", 3), *_of("last", 1)]
    # Added to the last topic: nobody has anything to do there.
    assert owners[2:] == [[], []]
    assert not sharing.set_count("a", 5)
    assert sharing.set_count("a", 6)
    assert sharing.together(_of("last", 1))[:3] == [TopicPartition("a", number) for number in (1, 3, 5)]
    assert [sharing.is_added(TopicPartition("a", number)) for number in (4, 5)] == [False, True]


def _of(topic: str, number: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number)]
