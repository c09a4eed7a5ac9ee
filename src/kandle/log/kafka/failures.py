"""What Kafka's errors mean, in words, and whether it is worth trying again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from kandle.errors import (
    AccessError,
    DataError,
    FencedError,
    KandleError,
    LogError,
    ReplacedError,
    StorageError,
    UnavailableError,
    UnknownTopicError,
)

logger = logging.getLogger("kandle.kafka")

FENCED = {
    KafkaError._FENCED,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
    KafkaError.INVALID_TXN_STATE,
}
REPLACED = {KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID}
REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the access rules (ACLs) of the topic: reading needs Read and Describe, writing Write",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "the access rules (ACLs) of the group: it needs Read and Describe",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "the access rules (ACLs) of the transactional id: Write and Describe",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the access rules (ACLs) of the cluster: creating topics needs Create",
    KafkaError.SASL_AUTHENTICATION_FAILED: "sasl.username and sasl.password in the options kafka.properties",
    KafkaError._AUTHENTICATION: "security.protocol, sasl.* and ssl.* in the options kafka.properties",
}
UNKNOWN = {KafkaError._NOENT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._RETRY,
    KafkaError._WAIT_COORD,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._QUEUE_FULL,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.NOT_CONTROLLER,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.CONCURRENT_TRANSACTIONS,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
}


def meaning(error: KafkaError, what: str) -> KandleError:
    """The error of kandle for one of Kafka; `what` is what was tried, with the names that matter."""
    code = error.code()
    text = f"{what}: {error.str()} ({error.name()})"
    if code in REPLACED:
        return ReplacedError(text)
    if code in FENCED:
        return FencedError(f"{text}; nothing was written")
    if code in REFUSED:
        return AccessError(f"{text}; look at {REFUSED[code]}")
    if code in UNKNOWN:
        return UnknownTopicError(f"{text}; was the topic deleted?")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return DataError(f"{text}; raise max.message.bytes of the topic and message.max.bytes in the options kafka.producer")
    if code in PASSING or error.retriable():
        return UnavailableError(f"{text}; do the brokers run? Look at kafka.bootstrap as well")
    return StorageError(text)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the client library as those of kandle."""
    try:
        yield
    except KafkaException as error:
        found = error.args[0]
        if isinstance(found, KafkaError):
            raise meaning(found, what) from error
        raise LogError(f"{what}: {error}") from error
    except BufferError as error:
        raise UnavailableError(f"{what}: the producer's queue is full; the brokers do not keep up") from error


class Told:
    """Passing errors, each said once until it is over."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._said: set[int] = set()

    def __call__(self, error: KafkaError) -> None:
        """For `error_cb`: what clients meet in the background; they go on trying by themselves."""
        if error.code() not in self._said:
            self._said.add(error.code())
            logger.warning("Kafka at %s: %s (%s)", self._bootstrap, error.str(), error.name())

    def over(self) -> None:
        """It works again."""
        if self._said:
            self._said.clear()
            logger.info("Kafka at %s: back", self._bootstrap)
