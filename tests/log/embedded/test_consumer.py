"""Members of a group of the embedded log: what they go on with after partitions have moved, or after an error."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from kandle.errors import StorageError, UnavailableError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.timeframe import MINUTE
from tests.log.building import numbers_of, partitions_of, poll_until, settle_on, topic_spec, write

PARTITIONS = partitions_of("topic", 2)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log")
    log.ensure(topic_spec("topic", partitions=2))
    yield log
    log.close()


def member(name: str) -> GroupSpec:
    return GroupSpec("group", ("topic",), name, lease=10 * MINUTE)


def test_a_partition_is_still_paused_when_it_comes_back(log: EmbeddedLog) -> None:
    """
    one     owns 0 1, pauses both | owns one of them            | owns 0 1
    two                             joins, owns the other, leaves
    """
    one = log.consumer(member("one"))
    settle_on([one], PARTITIONS)
    one.pause(PARTITIONS)
    two = log.consumer(member("two"))
    settle_on([one, two], PARTITIONS)
    two.close()
    settle_on([one], PARTITIONS)
    log.append([write("topic", range(5), 0), write("topic", range(5, 9), 1)])
    assert one.poll(0, 100) == []
    one.resume(PARTITIONS)
    assert sorted(numbers_of(poll_until(one, 9))) == list(range(9))
    one.close()


def test_what_was_read_beside_a_damaged_partition_comes_again(log: EmbeddedLog) -> None:
    consumer = log.consumer(member("one"))
    settle_on([consumer], PARTITIONS)
    log.append([write("topic", range(5), 0), write("topic", range(5, 9), 1)])
    sound = log.database.value("SELECT blob FROM batch WHERE partition = 1")
    log.database.run("UPDATE batch SET blob = zeroblob(length(blob)) WHERE partition = 1")
    for _ in range(2):
        with pytest.raises(StorageError, match="partition 1, offsets 0 to 3: the stored bytes are damaged"):
            consumer.poll(0, 100)
    log.database.run("UPDATE batch SET blob = ? WHERE partition = 1", [sound])
    assert sorted(numbers_of(poll_until(consumer, 9))) == list(range(9))
    consumer.close()


class Reluctant:
    """A listener that cannot take over at its first attempt."""

    def __init__(self) -> None:
        self.attempts = 0

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise UnavailableError("not now")

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing."""


def test_a_takeover_that_failed_raises_once_and_keeps_what_was_taken(log: EmbeddedLog) -> None:
    log.append([write("topic", range(5), 0), write("topic", range(5, 9), 1)])
    listener = Reluctant()
    consumer = log.consumer(member("one"), listener)
    with pytest.raises(UnavailableError, match="not now"):
        consumer.poll(0, 100)
    assert set(consumer.assignment) == PARTITIONS
    assert sorted(numbers_of(poll_until(consumer, 9))) == list(range(9))
    assert listener.attempts == 1
    consumer.close()
