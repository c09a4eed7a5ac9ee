"""Commits of a group's member: records and positions, all or nothing, in the name of the group's generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from kandle.errors import FencedError, KandleError, ReplacedError, StorageError, UnavailableError
from kandle.log.kafka.failures import is_fatal, translated
from kandle.log.kafka.writing import Encoded, Transactions
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.timeframe import MILLISECOND

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog

ATTEMPTS = 25
PAUSE = 20 * MILLISECOND
AGAIN = {
    # Others have joined or left, and this member has not heard of it; it keeps what it owns until it gives it up.
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    # The library's records overtook each other after a commit that was given up; this one was undone as well.
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
}
"""Why a commit may be undone that can be made again as it is."""

BY_GROUP = AGAIN | {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH}
"""Why a group refuses a commit."""


class Committer:
    """Commits for one member, which says what it owns."""

    def __init__(self, client: Client, spec: GroupSpec, log: KafkaLog, transactions: Transactions) -> None:
        self._client = client
        self._spec = spec
        self._log = log
        self._transactions = transactions

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Encoded]) -> list[int]:
        """The offset of each write's first record; FencedError if the member is not in the group any more."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._tried(offsets, writes)
            except (FencedError, UnavailableError) as error:
                if not _may_be_made_again(error):
                    raise
                self._log.clock.pause(PAUSE)
        return self._tried(offsets, writes)

    def _tried(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Encoded]) -> list[int]:
        with self._translated():
            if any(write.values for write in writes):
                metadata = self._client.consumer_group_metadata() if offsets else None
                return self._transactions.commit(writes, self._log.timestamp, offsets, metadata)
            if offsets:
                self._commit_offsets(offsets)
        return [0 for _ in writes]

    def _commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        places = [Place(*place, following, self._transactions.id) for place, following in offsets.items()]
        for place in self._client.commit(offsets=places, asynchronous=False) or ():
            if place.error is not None:
                raise KafkaException(place.error)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors as kandle's.

        Of a member that was taken for dead and has joined again the brokers say that another has its name, but that is itself.
        Whether there is another one the next poll hears.
        """
        try:
            with translated(f"commit of group {self._spec.group}"):
                yield
        except (ReplacedError, StorageError) as error:
            if isinstance(error, StorageError) and not is_fatal(error):
                raise
            raise FencedError(f"{self._spec.member} was not heard of and has lost its partitions: {error}") from error


def is_taken_over(error: FencedError) -> bool:
    """Whether a commit was refused not by the group, but because another process has opened this member's transactions."""
    return _code(error) not in BY_GROUP


def _may_be_made_again(error: KandleError) -> bool:
    return _code(error) in AGAIN


def _code(error: KandleError) -> int | None:
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None
