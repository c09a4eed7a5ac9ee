"""Producers: appends, transactions, and the fencing of processes that lost a partition.

**Appends** (`Appender`) are idempotent: each record is kept once and in order, or an error says that it was
not.

**Transactions** (`Transactions`) make records and positions of a group visible together or not at all. They
have a *transactional id*, which outlives a process: its successor uses the same id. When the successor opens
its producer, the broker's transaction coordinator raises the epoch of the id and aborts what the predecessor
has left open. From then on the predecessor is *fenced*: everything it sends is refused.

    process A   init (epoch 1)   begin   records   positions ...       commit -> FencedError, nothing written
    process B                                           init (epoch 2)  begin   records   positions   commit
    readers                      (nothing of A is ever visible to read_committed)               records of B

So a process that was paused, and wakes up after another one has taken its place, cannot write a second
version of a result. Members of groups use `<group>-<member>` as their id. A member that takes over partitions
from a dead member with *another* id opens the id of the dead one (`takeover.py`), since its open transaction
would otherwise block readers until the broker's transaction timeout (`settings.transaction`).

**Appends under a fence** (`FencedProducers`) are made with one id for each partition of a group, so that the
next owner of the partition fences the previous one, whichever process it is.

A transaction that fails is aborted. If the abort fails too, the producer was fenced, or records were not
delivered, the producer is discarded and the next commit opens a new one with the same id. After undelivered
records it must: the library sends them again once the broker is back, as part of the next transaction, and
their sequence numbers do not fit there. A new producer has a new epoch, in which nothing was sent yet.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import DataError, FencedError, KandleError, UnavailableError, UnknownTopicError
from kandle.log.appending import RowErrors
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import code_of, error_for, translate_errors
from kandle.log.kafka.settings import Statistics
from kandle.log.port import Fence, TopicPartition
from kandle.log.records import EncodedWrite
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

ROWS_PER_CALL = 50_000
ATTEMPTS = 5

REFUSED_BY_GROUP = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.FENCED_MEMBER_EPOCH,
}
"""Why a commit was undone that says nothing of its producer: the member's place in the group has changed."""

RECORD_OVERHEAD = 70
"""Bytes that a record takes at most beside its key and its value."""


def oversized(write: EncodedWrite, limit: int) -> dict[int, str]:
    """Return the reason by row for records that are larger than the producer's limit in bytes."""
    longest = sum(max(map(len, filter(None, column)), default=0) for column in (write.keys, write.values))
    if longest + RECORD_OVERHEAD <= limit:
        return {}
    sizes = [len(key or b"") + len(value or b"") + RECORD_OVERHEAD for key, value in zip(write.keys, write.values, strict=True)]
    return {
        row: f"topic {write.topic}: a record of {size} bytes is larger than {limit}; nothing was written. Raise "
        "message.max.bytes in the options kafka.producer and max.message.bytes of the topic, or write smaller records"
        for row, size in enumerate(sizes)
        if size > limit
    }


def _picked(write: EncodedWrite, rows: Sequence[int]) -> EncodedWrite:
    """Return some of the records of a write."""
    if len(rows) == len(write):
        return write
    keys, values = [write.keys[row] for row in rows], [write.values[row] for row in rows]
    return replace(write, keys=keys, values=values, headers=write.headers and [write.headers[row] for row in rows])


SentRecord = tuple[str, int, bytes | None, bytes | None]
"""Topic, partition, key and value of a record; records that are alike in all of them are the same to whoever reads them."""


RecordPlace = tuple[int, int]
"""The number of a write, and that of a record in it."""


class DeliveryReports:
    """The offset of the first record of each write, and the errors of records.

    The offset stays -1 for a write without records, and for one that was confirmed only when it was sent a second time:
    brokers do not say then where it is.
    """

    def __init__(self, count: int) -> None:
        self.first = [-1] * count
        self.error: KafkaError | None = None
        self.failed: list[tuple[SentRecord, KafkaError]] = []
        """The records that were not stored, with their errors."""

    def for_first(self, number: int) -> Callable[[KafkaError | None, Any], None]:
        """Return the callback for the first record of the write of that number."""

        def report(error: KafkaError | None, message: Any) -> None:
            if error is None:
                offset = message.offset()
                self.first[number] = -1 if offset is None else offset
            else:
                self.for_other(error, message)

        return report

    def for_other(self, error: KafkaError | None, message: Any) -> None:
        """Take the report of any other record; this is its callback."""
        if error is not None:
            self.error = self.error or error
            self.failed.append(((message.topic(), message.partition(), message.key(), message.value()), error))


def _send(
    producer: Producer, number: int, write: EncodedWrite, reports: DeliveryReports, timestamp: int | None, *, all_reports: bool
) -> None:
    """Hand a write to the producer.

    Args:
        producer: The producer.
        number: Number of the write among those that are reported together.
        write: Records as bytes.
        reports: Takes the delivery reports.
        timestamp: Time of the records in milliseconds; None lets the library take the current time, which is
            faster.
        all_reports: Ask for the report of every record, not only of the first one.
    """
    if write.headers is not None or timestamp is not None:
        _send_with_headers(producer, number, write, reports, timestamp, all_reports=all_reports)
        return
    callback: dict[str, Any] = {"callback": reports.for_other} if all_reports else {}
    messages: list[dict[str, Any]] = [
        {"key": key, "value": value, **callback} for key, value in zip(write.keys, write.values, strict=True)
    ]
    if messages:
        messages[0]["callback"] = reports.for_first(number)
    for begin in range(0, len(messages), ROWS_PER_CALL):
        part = messages[begin : begin + ROWS_PER_CALL]
        if producer.produce_batch(write.topic, part, partition=write.partition) != len(part):
            raise KafkaException(next(message["_error"] for message in part if "_error" in message))
        producer.poll(0)


def _send_with_headers(
    producer: Producer, number: int, write: EncodedWrite, reports: DeliveryReports, timestamp: int | None, *, all_reports: bool
) -> None:
    """Hand over records with headers or timestamps, which the library does not take in batches.

    The calls are made by `map`, so that no line of Python runs for a record; that takes no longer than a batch.
    """
    others = reports.for_other if all_reports else None
    calls = map(
        producer.produce, repeat(write.topic), write.values, write.keys, repeat(write.partition),
        chain([reports.for_first(number)], repeat(others)), repeat(None), repeat(timestamp or 0), write.headers or repeat(None),
    )  # fmt: skip
    while deque(islice(calls, ROWS_PER_CALL), maxlen=1):
        producer.poll(0)


def _action(writes: Sequence[EncodedWrite]) -> str:
    return f"append to {_topics(writes)}"


def _topics(writes: Sequence[EncodedWrite]) -> str:
    return ", ".join(sorted({write.topic for write in writes}))


class Appender:
    """Appends records outside of transactions. May be used by several threads."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._producer = clients.appender()
        self._own: dict[str, Producer] = {}
        """The producers of topics that have settings of their own."""
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()

    def _producer_of(self, topic: str) -> Producer:
        settings = self._settings
        if topic not in settings.topics or not settings.topics[topic].producer:
            return self._producer
        with self._lock:
            if topic not in self._own:
                self._own[topic] = self._clients.appender(topic)
            return self._own[topic]

    def append(self, writes: Sequence[EncodedWrite], timestamp: int | None) -> list[int]:
        """Append records and wait until all brokers that must have them have confirmed them.

        Args:
            writes: Records as bytes.
            timestamp: Time of the records in milliseconds; None is the current time.

        Returns:
            The offset of the first record of each write; -1 for a write without records, or if it is not known.
        """
        reports = self._delivered(writes, timestamp)
        if reports.error is not None:
            raise error_for(reports.error, _action(writes))
        return reports.first

    def _delivered(self, writes: Sequence[EncodedWrite], timestamp: int | None) -> DeliveryReports:
        """Send records and wait for their reports; UnavailableError if not all have come."""
        reports = DeliveryReports(len(writes))
        action = _action(writes)
        with translate_errors(action):
            used: dict[int, Producer] = {}
            for number, write in enumerate(writes):
                producer = self._producer_of(write.topic)
                used[id(producer)] = producer
                self._clients.load_metadata(producer, write.topic, self._known, write.partition)
                _send(producer, number, write, reports, timestamp, all_reports=True)
            patience = (self._settings.patience + self._settings.request) / SECOND
            unconfirmed = sum(producer.flush(patience) for producer in used.values())
        if unconfirmed and reports.error is None:
            raise UnavailableError(f"{action}: {unconfirmed} records are not confirmed by the brokers")
        if reports.error is None:
            self._clients.errors.note_success()
        refused = {(topic, partition) for (topic, partition, _, _), _ in reports.failed}
        stored = [number for number, write in enumerate(writes) if (write.topic, write.partition) not in refused]
        self._clients.note_appended([reports.first[number] for number in stored], [writes[number] for number in stored])
        return reports

    def append_each(self, writes: Sequence[EncodedWrite], timestamp: int | None) -> RowErrors:
        """Append records, each for itself, and wait until all brokers that must have them have confirmed them.

        Brokers refuse a whole batch of the library if one of its records is too large for the topic, or all of them are
        together. Those are sent again in halves, since none of the batch was stored.

        Args:
            writes: Records as bytes.
            timestamp: Time of the records in milliseconds; None is the current time.

        Returns:
            By the number of a write, the error of each of its records that was not stored.
        """
        errors: RowErrors = {}
        waiting = [[(number, row) for number, write in enumerate(writes) for row in range(len(write.values))]]
        while waiting:
            chosen = waiting.pop()
            refused: set[RecordPlace] = set()
            try:
                failed = self._attempt(writes, chosen, timestamp)
            except KandleError as error:
                # Some of them may have been stored, so none is sent again.
                failed = dict.fromkeys(chosen, error)
            else:
                refused = {record for record, error in failed.items() if isinstance(error, DataError) and len(chosen) > 1}
            for (number, row), reason in failed.items():
                if (number, row) not in refused:
                    errors.setdefault(number, {})[row] = reason
            again = sorted(refused)
            middle = (len(again) + 1) // 2
            waiting += [part for part in (again[middle:], again[:middle]) if part]
        return errors

    def _attempt(
        self, writes: Sequence[EncodedWrite], chosen: Sequence[RecordPlace], timestamp: int | None
    ) -> dict[RecordPlace, KandleError]:
        """Send some of the records, and return the errors of those that were not stored."""
        parts = [_picked(write, [row for other, row in chosen if other == number]) for number, write in enumerate(writes)]
        parts = [part for part in parts if part.values]
        reports = self._delivered(parts, timestamp)
        if reports.error is None:
            return {}
        failed: dict[SentRecord, list[KandleError]] = {}
        for record, reason in reports.failed:
            failed.setdefault(record, []).append(error_for(reason, _action(parts)))
        errors = {}
        for number, row in chosen:
            write = writes[number]
            reasons = failed.get((write.topic, write.partition, write.keys[row], write.values[row]))
            if reasons:
                errors[number, row] = reasons.pop()
        return errors

    def close(self) -> None:
        """Wait until pending records are delivered, for as long as the patience of the settings."""
        for producer in (self._producer, *self._own.values()):
            producer.flush(self._settings.patience / SECOND)


class Transactions:
    """Commits writes and positions together, under one transactional id; used by one thread at a time.

    Attributes:
        id: The transactional id.
        process: Tells this user of the id from others before and after it.
        is_settled: Whether every transaction was committed or aborted; otherwise one may still be open.
    """

    def __init__(self, clients: Clients, name: str, transactional_id: str, statistics: Statistics | None = None) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._name = name
        self._statistics = statistics
        self._producer: Producer | None = None
        self._known: dict[str, int] = {}
        self.id = transactional_id
        self.process = uuid.uuid4().hex
        self.is_settled = True

    def open(self) -> Producer:
        """Return the producer; the first call creates it, which fences older producers of the id."""
        if self._producer is None:
            producer = self._clients.transactions(self._name, self.id, self._statistics)
            with translate_errors(f"transactional id {self.id}"):
                _retry(lambda: producer.init_transactions(self._settings.patience / SECOND))
            self._producer, self.is_settled = producer, True
            self._known.clear()
        return self._producer

    def commit(
        self,
        writes: Sequence[EncodedWrite],
        timestamp: int | None,
        positions: Mapping[TopicPartition, int] | None = None,
        group: Any = None,
    ) -> list[int]:
        """Commit writes and positions in one transaction.

        Args:
            writes: Records as bytes.
            timestamp: Time of the records in milliseconds; None is the current time.
            positions: Next offsets that become the group's positions.
            group: The `consumer_group_metadata()` of the member that owns the positions.

        Returns:
            The offset of the first record of each write, -1 for a write without records.

        Raises:
            FencedError: Another process has opened the id, or the member is not in its group any more.
            UnavailableError: The commit can be tried again; nothing was written. Or, where the message says so, it was
                made, and only where is not known.
        """
        producer = self.open()
        self.is_settled = False
        reports = DeliveryReports(len(writes))
        action = f"commit of transactional id {self.id} to {_topics(writes)}"
        try:
            with translate_errors(action):
                producer.begin_transaction()
                self._send(producer, writes, timestamp, reports, positions, group)
                producer.flush(self._settings.transaction / SECOND)
                _retry(producer.commit_transaction)
        except BaseException as error:
            failure = self._abort(producer, error)
            if reports.error is not None or code_of(error) not in REFUSED_BY_GROUP:
                self.discard()
            if failure is not None and (code_of(error) == KafkaError._FATAL or isinstance(error, SystemError)):
                # After a producer has failed, records are refused without a reason, or the library loses it;
                # the abort has it.
                raise error_for(failure, action) from error
            if reports.error is not None and code_of(error) == KafkaError._INCONSISTENT:
                # The commit failed because records were not delivered; the report of the first one says why.
                raise error_for(reports.error, action) from error
            if isinstance(error, UnknownTopicError):
                # As with records for a topic that was deleted: the commit can be made once the topic is there again.
                raise UnavailableError(str(error)) from error
            raise
        if reports.error is not None:
            # The library does not commit with a failed record; if it ever does, the commit is incomplete.
            raise error_for(reports.error, action)
        self.is_settled = True
        self._clients.errors.note_success()
        if any(at < 0 and write.values for at, write in zip(reports.first, writes, strict=True)):
            raise UnavailableError(f"{action}: it was made, but where its records are is not known; read on from this commit")
        return reports.first

    def _send(
        self,
        producer: Producer,
        writes: Sequence[EncodedWrite],
        timestamp: int | None,
        reports: DeliveryReports,
        positions: Mapping[TopicPartition, int] | None,
        group: Any,
    ) -> None:
        try:
            for number, write in enumerate(writes):
                self._clients.load_metadata(producer, write.topic, self._known, write.partition)
                _send(producer, number, write, reports, timestamp, all_reports=False)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:
                # The transaction has failed; the library gives the reason only to a call that adds positions.
                self._add_positions(producer, positions, group)
            raise
        self._add_positions(producer, positions, group)

    def _add_positions(self, producer: Producer, positions: Mapping[TopicPartition, int] | None, group: Any) -> None:
        if not positions:
            return
        offsets = [ClientPartition(*partition, following) for partition, following in positions.items()]

        def add() -> None:
            producer.send_offsets_to_transaction(offsets, group, self._settings.transaction / SECOND)

        try:
            _retry(add)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            # The transaction has failed meanwhile because of its records; the second call raises the reason.
            _retry(add)

    def _abort(self, producer: Producer, error: BaseException) -> KafkaError | None:
        """Abort the transaction; discard a producer that was fenced or cannot abort.

        Returns:
            Why it could not abort, if it was asked to.
        """
        reason = error.__cause__.args[0] if isinstance(error.__cause__, KafkaException) else None
        if isinstance(reason, KafkaError) and reason.fatal():
            self.discard()
            return None
        try:
            producer.abort_transaction(self._settings.transaction / SECOND)
        except KafkaException as failed:
            logger.info("abort of %s: %s; a new producer takes its place", self.id, failed.args[0].str())
            self.discard()
            failure: KafkaError = failed.args[0]
            return failure
        self.is_settled = True
        return None

    def discard(self) -> None:
        """Release the producer with everything that it has not sent; the next commit opens a new one."""
        if self._producer is not None:
            self._producer.purge()
            self._clients.retire(self._producer)
            self._producer = None

    def close(self) -> None:
        """Release the producer."""
        if self._producer is not None:
            self._producer.flush(MILLISECOND / SECOND)
            self._clients.retire(self._producer)
            self._producer = None


def _retry(call: Callable[[], Any]) -> None:
    """Make a call again while the library says that it may be repeated as it is, at most `ATTEMPTS` times."""
    for attempt in range(ATTEMPTS):
        try:
            call()
        except KafkaException as error:
            reason = error.args[0]
            if attempt + 1 == ATTEMPTS or reason.fatal() or reason.txn_requires_abort() or not reason.retriable():
                raise
        else:
            return


def fence_transactions(clients: Clients, transactional_id: str) -> bool:
    """Abort the transaction that a dead process has left open.

    Returns:
        Whether the process can write nothing more under this id.
    """
    transactions = Transactions(clients, "fence", transactional_id)
    try:
        transactions.open()
    except FencedError as error:
        # Another process has opened the id at the same time.
        logger.info("%s", error)
    except UnavailableError as error:
        logger.info("%s", error)
        return False
    except KandleError as error:
        logger.warning("cannot abort the transaction of %s, it ends with its timeout: %s", transactional_id, error)
        return False
    finally:
        transactions.close()
    return True


class FencedProducers:
    """Transactions for appends under a `Fence`, and the partitions that members of this process own."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._owned: dict[str, dict[TopicPartition, int]] = {}
        self._transactions: dict[Fence, Transactions] = {}

    def set_owned(self, group: str, owned: Mapping[TopicPartition, int], dropped: Collection[TopicPartition] = ()) -> None:
        """Note the partitions, with their epochs, that a member owns and those that it owns no longer."""
        kept = {partition: epoch for partition, epoch in self._owned.get(group, {}).items() if partition not in dropped}
        self._owned[group] = kept | dict(owned)

    def transactions(self, fence: Fence) -> Transactions:
        """Return the transactions of a fence; their first commit fences the previous owner.

        Raises:
            FencedError: No member of this process owns the partition with this epoch.
        """
        if self._owned.get(fence.group, {}).get(fence.partition) != fence.epoch:
            raise FencedError(
                f"partition {fence.partition.partition} of {fence.partition.topic} belongs to another member of group "
                f"{fence.group}; nothing was written"
            )
        if fence not in self._transactions:
            key = (fence.group, fence.partition)
            for old in [other for other in self._transactions if (other.group, other.partition) == key]:
                self._transactions.pop(old).close()
            transactional_id = f"{fence.group}-{fence.partition.topic}-{fence.partition.partition}"
            self._transactions[fence] = Transactions(self._clients, self._clients.name, transactional_id)
        return self._transactions[fence]

    def close(self) -> None:
        """Release the producers."""
        for transactions in self._transactions.values():
            transactions.close()
