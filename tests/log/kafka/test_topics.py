"""Topics of a cluster that kandle does not know, on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from kandle.errors import UnknownTopicError
from kandle.log.kafka.admin import LATEST
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from tests.log.building import topic_spec
from tests.waiting import LIMIT, wait_until


@pytest.fixture
def log(bootstrap: str) -> Iterator[KafkaLog]:
    log = KafkaLog(KafkaSettings(bootstrap))
    yield log
    log.close()


@pytest.fixture
def foreign(bootstrap: str, log: KafkaLog) -> str:
    """Create a topic as another program does."""
    name = f"foreign-{uuid.uuid4().hex[:8]}"
    # The reference is kept until the answer has come: a client that is garbage collected gives none.
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(name, 2)])[name].result(LIMIT)
    wait_until(lambda: name in log.admin.partition_counts(), name)
    return name


def test_a_topic_of_another_program_is_told_from_one_that_does_not_exist(log: KafkaLog, foreign: str) -> None:
    with pytest.raises(UnknownTopicError, match=f"topic '{foreign}' exists, .*declare an entity with this topic"):
        log.topic(foreign)
    with pytest.raises(UnknownTopicError, match=f"there is no topic '{foreign}s'; there are {foreign}"):
        log.topic(f"{foreign}s")


def test_a_topic_of_another_program_can_be_declared(log: KafkaLog, foreign: str) -> None:
    state = log.ensure(topic_spec(foreign, partitions=1))
    assert log.topic(foreign) == state.spec
    assert state.spec.partitions == 2
    assert f"topic {foreign}: partitions is 2, 1 is declared" in state.differences


@pytest.mark.parametrize("action", ["settings of topic", "offsets of"])
def test_a_new_topic_that_some_brokers_do_not_know_yet_is_waited_for(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Processes that start at the same time meet topics that one of them has created a moment ago."""
    name = f"new-{uuid.uuid4().hex[:8]}"
    log.ensure(topic_spec(name))
    real, refused = log.admin._results, list[str]()

    def results(asked: str, futures: Mapping[Any, Any]) -> dict[Any, Any]:
        if asked.startswith(action) and name in asked and len(refused) < 3:
            refused.append(asked)
            error = KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
            raise UnknownTopicError(f"{asked}: unknown") from error
        return real(asked, futures)

    monkeypatch.setattr(log.admin, "_results", results)
    assert log.ensure(topic_spec(name)).differences == ()
    assert log.ends(name) == [0] and len(refused) == 3


def test_the_settings_of_a_topic_that_was_deleted_are_an_error(log: KafkaLog, foreign: str) -> None:
    client = AdminClient(log.settings.for_client("deleting"))
    client.delete_topics([foreign])[foreign].result(LIMIT)
    wait_until(lambda: foreign not in log.admin.partition_counts(), "the end of the topic")
    with pytest.raises(UnknownTopicError, match="was the topic deleted"):
        log.admin.config(foreign)
    with pytest.raises(UnknownTopicError):
        log.admin.offsets([TopicPartition(foreign, 0)], LATEST)
