"""Reading on behind the end of a topic, for copies that are kept current: all partitions at once, without a group.

One request for records waits at each broker until there are some, so what others append comes as soon as it is committed, and a
topic that stands still costs a request ten times a second. The bounds of the partitions are asked for about once a second, in the
thread that polls. Whoever asks the tail for bounds gets them without a request:

    brokers    end 100                        end 104 (others have appended)
    poll       asks: end 100   reads .. 100   reads .. 104    asks: end 104
    append by this process     end 101 at once
    bounds()           100 ->  101 -------->  104 --------->  104
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import UnavailableError
from kandle.log.kafka.admin import ClusterAdmin
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import error_for, translate_errors
from kandle.log.kafka.reading import MAX_POLL_BYTES, ROWS_PER_CALL, TEMPORARY, RecordDecoder, batch_of, pause_garbage_collection
from kandle.log.port import TopicPartition
from kandle.log.records import Batch
from kandle.time.timeframe import SECOND

ASK_INTERVAL = SECOND
"""How often the bounds of the partitions are asked for."""

ASK_PATIENCE = SECOND
"""How long such a question may take while brokers are away."""


class KafkaTail:
    """A reader of all partitions of a topic.

    Args:
        clients: Creates the consumer.
        admin: Is asked for bounds.
        topic: Name of the topic.
        positions: The next offset to read of each partition; -1 is the first record.
        decoder: Returns what reads the records, each time anew, since their schema may evolve.
    """

    def __init__(
        self,
        clients: Clients,
        admin: ClusterAdmin,
        topic: str,
        positions: Mapping[int, int],
        decoder: Callable[[], RecordDecoder],
    ) -> None:
        self._clients, self._admin = clients, admin
        self._topic = topic
        self._decoder = decoder
        self._partitions = [TopicPartition(topic, number) for number in positions]
        self._bounds = self._admin.bounds(self._partitions)
        self._asked = clients.clock.steady()
        for partition, (_, end) in self._bounds.items():
            if clients.appended.get(partition, 0) > end:
                # Of a topic of this name that was deleted.
                del clients.appended[partition]
        self._positions = {
            partition: max(positions[partition.partition], self._bounds[partition][0]) for partition in self._partitions
        }
        self._client = clients.tail(f"{clients.name}-tail")
        with translate_errors(f"read of topic {topic}"):
            clients.load_metadata(self._client, topic, {})
            self._assign()

    def _assign(self) -> None:
        self._client.assign([ClientPartition(*partition, offset) for partition, offset in self._positions.items()])

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        self._ask_bounds()
        with translate_errors(f"read of topic {self._topic}"), pause_garbage_collection():
            messages = self._client.consume(1, timeout / SECOND)
            if messages:
                self._add_waiting(messages, max_rows)
            return self._batches(messages)

    def _add_waiting(self, messages: list[Any], most: int) -> None:
        """Add messages that the library has ready."""
        size = 0
        while most > 0 and size < MAX_POLL_BYTES:
            wanted = min(most, ROWS_PER_CALL)
            ready = self._client.consume(wanted, 0)
            messages += ready
            if len(ready) < wanted:
                return
            most -= wanted
            size += sum(map(len, ready))

    def _batches(self, messages: Collection[Any]) -> list[Batch]:
        records: defaultdict[TopicPartition, list[Any]] = defaultdict(list)
        ends: dict[TopicPartition, int] = {}
        for message in messages:
            error = message.error()
            partition = TopicPartition(message.topic(), message.partition())
            if error is None:
                records[partition].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[partition] = message.offset()
            else:
                self._handle_error(error, partition)
        return [self._batch(partition, records[partition], ends.get(partition)) for partition in {**records, **ends}]

    def _batch(self, partition: TopicPartition, messages: list[Any], end: int | None) -> Batch:
        following = messages[-1].offset() + 1 if messages else self._positions[partition]
        following = following if end is None else max(following, end)
        self._positions[partition] = following
        return batch_of(self._decoder(), partition, messages, self._clients.clock.now(), following)

    def _handle_error(self, error: KafkaError, partition: TopicPartition) -> None:
        """Handle an error in place of a record: the library retries temporary ones."""
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # What was to be read next is gone, or the topic was created anew: then this goes back, and the caller sees it.
            self._bounds |= self._admin.bounds([partition])
            self._positions[partition] = self._bounds[partition][0]
            self._assign()
        elif error.retriable() or error.code() in TEMPORARY:
            self._clients.errors(error)
        elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            # The library asks for the group of its `group.id`, which this consumer never joins.
            raise error_for(error, f"read of topic {self._topic}")

    def _ask_bounds(self) -> None:
        """Ask for the bounds now and then; while brokers are away, those that are known go on to count."""
        now = self._clients.clock.steady()
        if 0 <= now - self._asked < ASK_INTERVAL:
            return
        with suppress(UnavailableError):
            self._bounds = self._admin.bounds(self._partitions, ASK_PATIENCE)
        self._asked = self._clients.clock.steady()

    def bounds(self) -> Mapping[int, tuple[int, int]]:
        appended = self._clients.appended
        return {
            partition.partition: (first, max(end, self._positions[partition], appended.get(partition, 0)))
            for partition, (first, end) in self._bounds.items()
        }

    def close(self) -> None:
        self._clients.close(self._client)
