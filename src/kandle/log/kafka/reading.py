"""Reading: messages become batches, from any offset (`PartitionReader`) or for a group (`Fetcher`).

**What can be read.** Readers see committed records only, so they stop at the *last stable offset*: the first
record of the oldest transaction that is still open. The end of a partition is behind it.

    offset    0        20               30         36
              |--------|----------------|----------|
              committed  open            committed  end
                       ^ last stable offset: readers stop here until the transaction is decided

Code that restores state, or reads "everything up to now", must not stop there: the records behind it may be
part of that state, because the stable offset follows a commit some milliseconds later. So
`PartitionReader.read` is given the end with open transactions included, and waits until the stable offset has
reached it. The wait ends, because the open transaction is committed, fenced by the successor of its process,
or aborted by its timeout.

**Messages that come again.** The library counts a message as read once `consume` has returned it. If a
poll fails after that, or a partition moves during the poll, `Fetcher` seeks back, so that the message comes
again.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import polars as pl
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import ReplacedError, StorageError, UnavailableError
from kandle.log.headers import column_of_pairs
from kandle.log.kafka.admin import ClusterAdmin
from kandle.log.kafka.assignment import Rebalancing, check_positions
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import code_of, error_for, translate_errors
from kandle.log.port import GroupSpec, TopicPartition, report_removed
from kandle.log.records import Batch, Records, RejectedRecord
from kandle.log.schema import with_columns
from kandle.serde.port import Decoded, Messages
from kandle.time.timeframe import MILLISECOND, SECOND, duration_text

logger = logging.getLogger("kandle.kafka")

WAIT_SLICE = 20 * MILLISECOND
"""Longest single wait for messages, and so the delay of a wake-up."""

MAX_READ_ROWS = 100_000
MAX_POLL_ROWS = 50_000
"""Records of one poll: with more, the first have left the processor's caches when they are decoded."""

MAX_POLL_BYTES = 32 << 20
"""With so many bytes of values a poll returns."""

ROWS_PER_CALL = 10_000
"""Most records of one call of the library; after each the bytes are counted."""

TEMPORARY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._MAX_POLL_EXCEEDED}
"""Errors in place of a record that the library retries, beside those that say so themselves."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class RecordDecoder(Protocol):
    """Reads the records of one topic."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header of each column that stands in one."""

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Return the rows of the messages, and the messages that cannot be read."""


class RecordCodec(RecordDecoder, Protocol):
    """Reads and writes the records of one topic."""

    def encode(
        self, frame: pl.DataFrame, tombstones: pl.Series | None = None
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """Return the keys and the values of the rows; DataError for a value that does not fit."""


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which would visit many new messages again and again for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def batch_of(
    decoder: RecordDecoder,
    partition: TopicPartition,
    messages: Sequence[Any],
    now: int,
    end: int | None = None,
    *,
    with_bytes: bool = False,
) -> Batch:
    """Return messages of one partition as a batch.

    Args:
        decoder: Reads the records of the topic; messages that it cannot read become rejects of the batch.
        partition: Where the messages come from.
        messages: Messages of the library, in the order of their offsets.
        now: The time in microseconds. A producer's timestamp that lies after it is not believed; a broker's is.
        end: The next offset to read, if it is not the one after the last message.
        with_bytes: Whether the batch also has the bytes of its records.
    """
    keys, values = [message.key() for message in messages], [message.value() for message in messages]
    decoded = decoder.decode(keys, values)
    rejects: tuple[RejectedRecord, ...] = ()
    if decoded.rejects:
        key_values = decoded.reject_keys or [None] * len(decoded.rejects)
        rejects = tuple(
            _reject(messages[at], reason, now, key_row) for (at, reason), key_row in zip(decoded.rejects, key_values, strict=True)
        )
        rejected = {at for at, _ in decoded.rejects}
        end = end if end is not None else messages[-1].offset() + 1
        messages = [message for at, message in enumerate(messages) if at not in rejected]
    # Lists are faster than generators here.
    offsets = np.array([message.offset() for message in messages], np.int64)
    stamps = [message.timestamp() for message in messages]
    timestamps = np.array([time for _, time in stamps], np.int64) * MILLISECOND
    has_append_times = all(kind == TIMESTAMP_LOG_APPEND_TIME for kind, _ in stamps)
    if not has_append_times:
        timestamps = np.where(timestamps < 0, now, np.minimum(timestamps, now))
    headers = column_of_pairs([message.headers() for message in messages])
    records = with_columns(Records(decoded.frame, headers, decoded.tombstones), decoder.headers)
    batch = Batch(partition.topic, partition.partition, offsets, timestamps, records, end, rejects, has_append_times)
    if not with_bytes:
        return batch
    return replace(batch, keys=[message.key() for message in messages], values=[message.value() for message in messages])


def _reject(message: Any, reason: str, now: int, key_values: tuple[Any, ...] | None) -> RejectedRecord:
    """Return a message that cannot be read, with the values of its key columns if its key can be."""
    milliseconds = message.timestamp()[1]
    timestamp = now if milliseconds < 0 else min(milliseconds * MILLISECOND, now)
    headers = tuple(message.headers() or ())
    return RejectedRecord(message.offset(), message.key(), message.value(), reason, timestamp, headers, key_values)


class PartitionReader:
    """Reads committed records from any offset; to read on where the last read ended is fast.

    Threads take turns.
    """

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self._settings = clients.settings
        self._clock = clients.clock
        self._lock = threading.Lock()
        self._partition: TopicPartition | None = None
        self._position = -1
        self._known: dict[str, int] = {}
        self._name = name
        self._shared = self._client = clients.reader(name)
        self._own: dict[str, Consumer] = {}
        """The clients of topics that have settings of their own."""

    def read(self, decoder: RecordDecoder, partition: TopicPartition, offset: int, end: int, max_rows: int) -> list[Batch]:
        """Return the records from an offset on; no batch only if there are none before `end`.

        Args:
            decoder: Reads the records of the topic.
            partition: The partition.
            offset: The first offset to read.
            end: The end of the partition with open transactions included; those before it are waited for.
            max_rows: Number of records after which to stop.

        Raises:
            UnavailableError: Nothing came for as long as the patience of the settings.
        """
        if offset >= end:
            return []
        with self._lock, translate_errors(f"read of {partition.topic}, partition {partition.partition}"):
            self._choose_client(partition.topic)
            if (partition, offset) != (self._partition, self._position):
                self._clients.load_metadata(self._client, partition.topic, self._known, partition.partition)
                self._client.assign([ClientPartition(*partition, offset)])
                self._partition, self._position = partition, offset
            with pause_garbage_collection():
                messages = self._await_messages(end, max_rows)
                now = self._clock.now()
                batches = [batch_of(decoder, partition, messages, now, self._position)] if messages else []
            if self._position >= end:
                # Without it the library would go on asking the brokers for more.
                self._client.unassign()
                self._partition = None
        return batches

    def offsets_from(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, list[int]]:
        """Return the offsets of the committed records of partitions, read at the same time.

        Args:
            starts: The first offset of each partition.

        Raises:
            UnavailableError: Partitions were not read to their ends in the patience of the settings.
        """
        offsets: dict[TopicPartition, list[int]] = {partition: [] for partition in starts}
        with self._lock, translate_errors(f"read of {', '.join(sorted({partition.topic for partition in starts}))}"):
            self._choose_client(next(iter(starts)).topic)
            self._partition = None
            self._client.assign([ClientPartition(*partition, offset) for partition, offset in starts.items()])
            left, deadline = set(starts), self._clock.steady() + self._settings.patience
            while left and self._clock.steady() < deadline:
                for message in self._client.consume(MAX_READ_ROWS, WAIT_SLICE / SECOND):
                    topic, number, offset, error = message.topic(), message.partition(), message.offset(), message.error()
                    if topic is None or number is None:
                        continue
                    if self._is_record(message) and offset is not None:
                        offsets[TopicPartition(topic, number)].append(offset)
                    elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                        left.discard(TopicPartition(topic, number))
            self._client.unassign()
        if left:
            raise UnavailableError(f"{sorted(left)[0].topic} was not read to its end in {duration_text(self._settings.patience)}")
        return offsets

    def _choose_client(self, topic: str) -> None:
        """Take the client that has the settings of a topic."""
        client = self._shared
        if topic in self._settings.topics and self._settings.topics[topic].consumer:
            if topic not in self._own:
                self._own[topic] = self._clients.reader(self._name, topic)
            client = self._own[topic]
        if client is not self._client:
            if self._partition is not None:
                self._client.unassign()
            self._client, self._partition = client, None
            self._known.clear()

    def _await_messages(self, end: int, max_rows: int) -> list[Any]:
        messages: list[Any] = []
        deadline = self._clock.steady() + self._settings.patience
        while self._position < end and len(messages) < max_rows:
            timeout = 0 if messages else WAIT_SLICE / SECOND
            consumed = self._client.consume(min(max_rows - len(messages), MAX_READ_ROWS), timeout)
            fresh = [message for message in consumed if self._is_record(message)]
            messages += fresh
            if messages and not fresh:
                break
            if not consumed and self._clock.steady() > deadline:
                self._partition = None
                raise UnavailableError(
                    f"nothing was read for {duration_text(self._settings.patience)}, though there are records up to {end}; "
                    "a transaction of another process may be open, or the brokers cannot be reached"
                )
        return messages

    def _is_record(self, message: Any) -> bool:
        """Return whether a message is a record, and move the position on."""
        error = message.error()
        if error is None:
            self._position = message.offset() + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._position = max(self._position, message.offset())
            return False
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            # The library asks for the group of its `group.id`, which a reader never joins.
            return False
        raise error_for(error, f"read of topic {message.topic()}, partition {message.partition()}")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            for client in (self._shared, *self._own.values()):
                self._clients.close(client)


@contextmanager
def translate_poll_errors(group: str) -> Iterator[None]:
    """Raise errors of kandle in place of those of a member's client; a fatal one is ReplacedError."""
    try:
        with translate_errors(f"group {group}"):
            yield
    except StorageError as error:
        if code_of(error) == KafkaError._FATAL:
            raise ReplacedError(str(error)) from error
        raise


class Fetcher:
    """Reads records for a member of a group, and moves the positions of its assignment on."""

    def __init__(
        self,
        client: Consumer,
        spec: GroupSpec,
        clients: Clients,
        admin: ClusterAdmin,
        rebalancing: Rebalancing,
        decoder_of: Callable[[str], RecordDecoder],
    ) -> None:
        self._client = client
        self._spec = spec
        self._clients = clients
        self._admin = admin
        self._rebalancing = rebalancing
        self._assignment = rebalancing.assignment
        self._decoder_of = decoder_of
        self._order = {topic: number for number, topic in enumerate(spec.topics)}
        self.removed = 0
        """How many records were removed before they could be read."""

    def fetch(self, timeout: int, max_rows: int) -> list[Batch]:
        """Return the records after the positions.

        Args:
            timeout: Longest wait for the first record, in microseconds.
            max_rows: About the number of records to return.

        Raises:
            ReplacedError: The brokers say that another process has the member's name.
            KandleError: Any other error, also one of a callback; positions are as they were before.
        """
        messages: list[Any] = []
        positions = self._assignment.positions
        try:
            with translate_poll_errors(self._spec.group):
                # One message ends the wait; the others that are there come along.
                messages = self._client.consume(1, timeout / SECOND)
                if messages:
                    self._add_waiting(messages, min(max_rows, MAX_POLL_ROWS))
            positions = dict(self._assignment.positions)
            self._rebalancing.raise_error()
            return self._batches(self._without_moved(messages))
        except ReplacedError:
            # The member drops all partitions.
            raise
        except BaseException:
            self._read_again(messages, positions)
            raise

    def _add_waiting(self, messages: list[Any], most: int) -> None:
        """Add messages that the library has ready, at most so many; what was added before an error stays in the list."""
        size = 0
        max_bytes = min(self._spec.max_bytes or MAX_POLL_BYTES, MAX_POLL_BYTES)
        # Small limits are looked at more often.
        per_call = max(1, ROWS_PER_CALL * max_bytes // MAX_POLL_BYTES)
        while most > 0 and size < max_bytes:
            wanted = min(most, per_call)
            ready = self._client.consume(wanted, 0)
            messages += ready
            if len(ready) < wanted:
                break
            most -= wanted
            size += sum(map(len, ready))

    def _without_moved(self, messages: list[Any]) -> list[Any]:
        """Return the messages of partitions that have not moved, and have the others come again."""
        moved = self._rebalancing.moved
        if not moved:
            return messages
        outdated = [message for message in messages if (message.topic(), message.partition()) in moved]
        self._read_again(outdated, self._assignment.positions)
        return [message for message in messages if (message.topic(), message.partition()) not in moved]

    def _read_again(self, messages: Collection[Any], positions: Mapping[TopicPartition, int]) -> None:
        """Seek back to messages that were taken from the library, but not returned."""
        partitions = {TopicPartition(message.topic(), message.partition()) for message in messages}
        self._assignment.seek({
            partition: positions[partition]
            for partition in partitions
            if partition in self._assignment and partition in positions
        })  # fmt: skip

    def _batches(self, messages: Sequence[Any]) -> list[Batch]:
        # Plain tuples and few calls: this runs for each record.
        by_partition: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                by_partition[message.topic(), message.partition()].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[message.topic(), message.partition()] = message.offset()
            else:
                self._handle_error(error, TopicPartition(message.topic(), message.partition()))
        now = self._clients.clock.now()
        batches = []
        owned = [TopicPartition(*key) for key in by_partition.keys() | ends if key in self._assignment]
        for partition in sorted(owned, key=lambda partition: (self._order.get(partition.topic, 0), partition.partition)):
            batch = self._batch(partition, by_partition.get(partition, []), ends.get(partition), now)
            if batch is not None:
                batches.append(batch)
        return batches

    def _batch(self, partition: TopicPartition, messages: list[Any], end: int | None, now: int) -> Batch | None:
        """Return the messages as a batch, or None if they say nothing new."""
        position = self._assignment.positions.get(partition, 0)
        if messages and messages[0].offset() < position:
            messages = [message for message in messages if message.offset() >= position]
        following = messages[-1].offset() + 1 if messages else position
        following = following if end is None else max(following, end)
        if not messages and following <= position:
            return None
        self._assignment.move(partition, following)
        decoder = self._decoder_of(partition.topic)
        return batch_of(decoder, partition, messages, now, following, with_bytes=self._spec.with_bytes)

    def _handle_error(self, error: KafkaError, partition: TopicPartition) -> None:
        """Handle an error in place of a record: the library retries temporary ones."""
        if error.code() == KafkaError._FATAL:
            raise ReplacedError(error.str())
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._skip_deleted(partition)
        elif error.retriable() or error.code() in TEMPORARY:
            self._clients.errors(error)
        else:
            action = f"group {self._spec.group}"
            raise error_for(error, action if partition.topic is None else f"{action}: topic {partition.topic}")

    def _skip_deleted(self, partition: TopicPartition) -> None:
        """Read on at the first record that still exists, and log which ones are missing."""
        if partition not in self._assignment:
            return
        bounds = self._admin.bounds([partition])
        check_positions(self._spec.group, self._assignment.positions, bounds)
        first = bounds[partition][0]
        self.removed += report_removed(self._spec.group, partition, self._assignment.positions[partition], first)
        self._assignment.seek({partition: first})
