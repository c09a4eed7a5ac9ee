"""Errors of the client library, translated into those of kandle.

The library reports errors in two ways. A call that fails raises `KafkaException`: `translate_errors` raises
the error of kandle in its place, which says what the caller can do.

    UnavailableError     try again later: brokers are down, busy or electing leaders
    FencedError          the partition or the transaction belongs to another process; nothing was written
    ReplacedError        another process has joined the group under this member's name
    AccessError          the user may not do this; the message names the access rule or the option
    DataError            a record is too large
    UnknownTopicError    the topic does not exist
    StorageError         anything else

What a client meets in the background, such as a broker that is down, goes to the client's error callback. The
client tries again by itself, so `ClientErrors` only logs such an error: once when it starts and once when it
is over.
"""

from __future__ import annotations

import logging
import re
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
from kandle.log.kafka.settings import KafkaSettings
from kandle.time.clock import Clock
from kandle.time.timeframe import MINUTE, SECOND

logger = logging.getLogger("kandle.kafka")

QUOTED = re.compile('"([^"]+)"')
"""What the library puts in quotes when it refuses a setting: names of properties, and values."""

QUIET = 5 * SECOND
"""Time without errors after which the brokers are back: a broker that is down is reported each second."""

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
"""Errors that say that this user may not do something, with the way out."""

UNKNOWN_TOPIC = {
    KafkaError._NOENT,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
NOT_DELIVERED = {KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}
"""Errors with which producers give up; they also say so of a topic that was deleted."""

TEMPORARY = {
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
    # A commit whose records were not delivered; nothing was written. Their delivery reports give the reason.
    KafkaError._INCONSISTENT,
}


def error_for(error: KafkaError, action: str, advice: str | None = None) -> KandleError:
    """Return the error of kandle for one of Kafka.

    Args:
        error: The error of the client library.
        action: What failed, with the names that matter, for instance `read of topic ticks`.
        advice: The way out if the brokers do not allow it, where the usual one does not fit.
    """
    code = error.code()
    text = f"{action}: {error.str()} ({error.name()})"
    if code in REPLACED:
        return ReplacedError(text)
    if code in FENCED:
        return FencedError(f"{text}; nothing was written")
    if code in REFUSED:
        return AccessError(f"{text}; {advice or REFUSED[code]}")
    if code in UNKNOWN_TOPIC:
        return UnknownTopicError(f"{text}; was the topic deleted?")
    if code == KafkaError.INVALID_REPLICATION_FACTOR:
        return OptionsError(
            f"{text}; set replication of the topic, in its section or where its entity is declared, or kafka.replication, to at "
            "most the number of brokers"
        )
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return DataError(
            f"{text}; raise max.message.bytes of the topic, and message.max.bytes in the options kafka.producer, if single "
            "records are larger than that; if they are small, set batch.size in kafka.producer to less than it"
        )
    if code in TEMPORARY or error.retriable():
        if code in NOT_DELIVERED:
            advice = "check that the brokers run, that kafka.bootstrap names them and that the topic still exists"
        else:
            advice = "check that the brokers run and that kafka.bootstrap names them"
        return UnavailableError(f"{text}; {advice}")
    return StorageError(text)


def _error_for_exception(error: KafkaException, action: str, advice: str | None) -> KandleError:
    reason = error.args[0]
    return error_for(reason, action, advice) if isinstance(reason, KafkaError) else LogError(f"{action}: {error}")


@contextmanager
def translate_errors(action: str, advice: str | None = None) -> Iterator[None]:
    """Raise errors of kandle in place of those of the client library; `error_for` explains the arguments."""
    try:
        yield
    except KafkaException as error:
        raise _error_for_exception(error, action, advice) from error
    except SystemError as error:
        # A client that fails while it runs a callback gives the reason only as the cause.
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise _error_for_exception(error.__cause__, action, advice) from error.__cause__
    except TimeoutError as error:
        raise UnavailableError(f"{action}: the client library gives no answer; check that the brokers run") from error
    except BufferError as error:
        raise UnavailableError(f"{action}: the queue of the producer is full; the brokers do not keep up") from error


@contextmanager
def translate_settings_errors(settings: KafkaSettings) -> Iterator[None]:
    """Raise OptionsError for settings that the client library refuses, with the options that hold them."""
    try:
        yield
    except KafkaException as error:
        reason = error.args[0].str()
        sections = settings.places_of(QUOTED.findall(reason)) or ["kafka.properties", "kafka.consumer", "kafka.producer"]
        raise OptionsError(f"Kafka at {settings.bootstrap}: {reason}; look at {', '.join(sections)}") from error


def code_of(error: BaseException) -> int | None:
    """Return the code of the Kafka error that caused an error of kandle, or None if none did."""
    cause = error.__cause__
    reason = cause.args[0] if isinstance(cause, KafkaException) else None
    return reason.code() if isinstance(reason, KafkaError) else None


class ClientLog:
    """Takes what clients log by themselves, as the library calls it.

    The library calls the end of one client critical: one that is fenced, say, after its process was paused. Another client takes
    its place, and where none can, an error of kandle says so.
    """

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Log a message, at most as a warning."""
        logger.log(min(level, logging.WARNING), message, *arguments)


class ClientErrors:
    """Logs what the clients of a log meet in the background; its instance is their error callback."""

    def __init__(self, bootstrap: str, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._clock = clock
        self._last: dict[int, int] = {}
        self.refusal: KafkaError | None = None
        """The latest error that says that this user may not connect."""

    def __call__(self, error: KafkaError) -> None:
        """Log an error unless it was logged already and is not over yet."""
        is_new = error.code() not in self._last
        self._last[error.code()] = self._clock.steady()
        if error.code() in REFUSED:
            self.refusal = error
        if is_new:
            logger.warning("Kafka at %s: %s (%s)", self._bootstrap, error.str(), error.name())

    @property
    def are_recent(self) -> bool:
        """Whether there was an error within the last minute."""
        return bool(self._last) and self._clock.steady() - max(self._last.values()) < MINUTE

    def note_success(self) -> None:
        """Log that the brokers are back if the last error is some time ago; call it after each write."""
        if self._last and self._clock.steady() - max(self._last.values()) > QUIET:
            self._last.clear()
            logger.info("Kafka at %s: back", self._bootstrap)
