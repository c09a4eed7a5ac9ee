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
    OptionsError,
    ReplacedError,
    StorageError,
    UnavailableError,
    UnknownTopicError,
)
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE, SECOND

logger = logging.getLogger("kandle.kafka")

QUIET = 5 * SECOND
"""A broker that is still down, of several, is heard of every second."""

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
ALLOW = "have an access rule (ACL) allow this user"
REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: f"{ALLOW} Read and Describe on it to read, Write and Describe to write",
    KafkaError.GROUP_AUTHORIZATION_FAILED: f"{ALLOW} Read and Describe on the group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: f"{ALLOW} Write and Describe on the transactional id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: f"{ALLOW} this on the cluster (for topics: Create)",
    KafkaError.SASL_AUTHENTICATION_FAILED: "look at sasl.username and sasl.password in the options kafka.properties",
    KafkaError._AUTHENTICATION: "look at sasl.username, sasl.password and security.protocol in the options kafka.properties",
    KafkaError._SSL: "look at security.protocol and ssl.* in the options kafka.properties",
}
UNKNOWN = {KafkaError._NOENT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
UNSENT = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}
"""What producers say in the end of a topic that was deleted, too."""
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
    # Of a commit: records were not delivered, and nothing was written. Each record's report says why.
    KafkaError._INCONSISTENT,
}


def meaning(error: KafkaError, what: str, advice: str | None = None) -> KandleError:
    """The error of kandle for one of Kafka; `what` is what was tried, with the names that matter.

    `advice` is the way out if the brokers refuse it, where that is not the usual one.
    """
    code = error.code()
    text = f"{what}: {error.str()} ({error.name()})"
    if code in REPLACED:
        return ReplacedError(text)
    if code in FENCED:
        return FencedError(f"{text}; nothing was written")
    if code in REFUSED:
        return AccessError(f"{text}; {advice or REFUSED[code]}")
    if code in UNKNOWN:
        return UnknownTopicError(f"{text}; was the topic deleted?")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return DataError(
            f"{text}; raise max.message.bytes of the topic, and message.max.bytes in the options kafka.producer for "
            "larger records; or, if they are small, set batch.size there below it"
        )
    if code in PASSING or error.retriable():
        there = ", and is the topic still there" if code in UNSENT else ""
        return UnavailableError(f"{text}; do the brokers run{there}? Look at kafka.bootstrap as well")
    return StorageError(text)


def _meant(error: KafkaException, what: str, advice: str | None) -> KandleError:
    found = error.args[0]
    return meaning(found, what, advice) if isinstance(found, KafkaError) else LogError(f"{what}: {error}")


@contextmanager
def translated(what: str, advice: str | None = None) -> Iterator[None]:
    """Errors of the client library as those of kandle."""
    try:
        yield
    except KafkaException as error:
        raise _meant(error, what, advice) from error
    except SystemError as error:
        # A client that ends while it calls back says why in the cause only.
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise _meant(error.__cause__, what, advice) from error.__cause__
    except TimeoutError as error:
        raise UnavailableError(f"{what}: the client library gives no answer; do the brokers run?") from error
    except BufferError as error:
        raise UnavailableError(f"{what}: the producer's queue is full; the brokers do not keep up") from error


def is_fatal(error: KandleError) -> bool:
    """Whether the client of the library has ended because of it, or had before."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and bool(cause.args[0].code() == KafkaError._FATAL)


def is_undelivered(error: BaseException) -> bool:
    """Whether a commit failed since its records did, whose reports then say why."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and bool(cause.args[0].code() == KafkaError._INCONSISTENT)


@contextmanager
def configured(bootstrap: str) -> Iterator[None]:
    """Settings that the client library does not take."""
    try:
        yield
    except KafkaException as error:
        said = error.args[0].str()
        raise OptionsError(
            f"Kafka at {bootstrap}: {said}; look at the options kafka.properties, kafka.consumer and kafka.producer"
        ) from error


class Told:
    """Passing errors of a log's clients, each said once until it is over."""

    def __init__(self, bootstrap: str, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._clock = clock
        self._heard: dict[int, int] = {}
        self.refusal: KafkaError | None = None
        """Why brokers do not let this process in, if they said so last."""

    def __call__(self, error: KafkaError) -> None:
        """For `error_cb`: what clients meet in the background; they go on trying by themselves."""
        is_new = error.code() not in self._heard
        self._heard[error.code()] = self._clock.steady()
        if error.code() in REFUSED:
            self.refusal = error
        if is_new:
            logger.warning("Kafka at %s: %s (%s)", self._bootstrap, error.str(), error.name())

    @property
    def is_troubled(self) -> bool:
        """Whether brokers could not be reached a moment ago."""
        return bool(self._heard) and self._clock.steady() - max(self._heard.values()) < MINUTE

    def works(self) -> None:
        """Something was written: if nothing more was heard for a while, all is well again."""
        if self._heard and self._clock.steady() - max(self._heard.values()) > QUIET:
            self._heard.clear()
            logger.info("Kafka at %s: back", self._bootstrap)
