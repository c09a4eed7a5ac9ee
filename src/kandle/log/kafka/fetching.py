"""What the library has fetched for a member of a group becomes batches; what is taken from it but not given out comes again."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError

from kandle.errors import ReplacedError, StorageError
from kandle.log.kafka.assignment import Assignment
from kandle.log.kafka.failures import is_fatal, meaning, translated
from kandle.log.kafka.reading import batch_of
from kandle.log.kafka.rebalancing import Rebalancing
from kandle.log.kafka.takeover import check_positions
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import Batch
from kandle.time.timeframe import SECOND

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog

logger = logging.getLogger("kandle.kafka")

AT_ONCE = 50_000
"""Records that one poll takes: of more than these the first have left the processor's caches when they are decoded."""

PASSING_BY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._MAX_POLL_EXCEEDED}


@contextmanager
def listening(group: str) -> Iterator[None]:
    """As `translated` for polls; what is fatal to the client of a group is that its name was taken."""
    try:
        with translated(f"group {group}"):
            yield
    except StorageError as error:
        if is_fatal(error):
            raise ReplacedError(str(error)) from error
        raise


class Fetcher:
    """Of one client of a group; moves the positions of its assignment on."""

    def __init__(self, client: Client, log: KafkaLog, spec: GroupSpec, assignment: Assignment, rebalancing: Rebalancing) -> None:
        self._client = client
        self._log = log
        self._spec = spec
        self._assignment = assignment
        self._rebalancing = rebalancing
        self._order = {topic: number for number, topic in enumerate(spec.topics)}

    def fetch(self, timeout: int, max_rows: int) -> list[Batch]:
        """Records after the positions; waits up to `timeout` microseconds for the first.

        ReplacedError if the brokers say that another has the member's name. Any other error, also one of a callback, leaves the
        positions as they were.
        """
        messages: list[Any] = []
        positions = self._assignment.positions
        try:
            with listening(self._spec.group):
                # One message ends the wait; the others that are there come along.
                messages = self._client.consume(1, timeout / SECOND)
                if messages:
                    messages += self._client.consume(min(max_rows, AT_ONCE), 0)
            positions = dict(self._assignment.positions)
            self._rebalancing.raise_problem()
            return self._batches(self._current(messages))
        except ReplacedError:
            # Everything will be let go of.
            raise
        except BaseException:
            self._read_again(messages, positions)
            raise

    def _current(self, messages: list[Any]) -> list[Any]:
        """Without those of partitions that came or went meanwhile: they may be from before, and are read again."""
        moved = self._rebalancing.moved
        if not moved:
            return messages
        old = [message for message in messages if (message.topic(), message.partition()) in moved]
        self._read_again(old, self._assignment.positions)
        return [message for message in messages if (message.topic(), message.partition()) not in moved]

    def _read_again(self, messages: Collection[Any], positions: Mapping[TopicPartition, int]) -> None:
        """Have messages come once more that were taken from the library, but not given out."""
        places = {TopicPartition(message.topic(), message.partition()) for message in messages}
        self._assignment.seek({place: positions[place] for place in places if place in self._assignment and place in positions})

    def _batches(self, messages: Sequence[Any]) -> list[Batch]:
        # Plain tuples, and as few calls as can be: this is done for each record.
        by_place: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            error = message.error()
            if error is None:
                by_place[message.topic(), message.partition()].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[message.topic(), message.partition()] = message.offset()
            else:
                self._failed(error, TopicPartition(message.topic(), message.partition()))
        now = self._log.clock.now()
        found = []
        places = [TopicPartition(*place) for place in by_place.keys() | ends if place in self._assignment]
        for place in sorted(places, key=lambda place: (self._order.get(place.topic, 0), place.partition)):
            if (batch := self._batch(place, by_place.get(place, []), ends.get(place), now)) is not None:
                found.append(batch)
        return found

    def _batch(self, place: TopicPartition, messages: list[Any], end: int | None, now: int) -> Batch | None:
        """None if it tells nothing new."""
        position = self._assignment.positions.get(place, 0)
        if messages and messages[0].offset() < position:
            messages = [message for message in messages if message.offset() >= position]
        behind = messages[-1].offset() + 1 if messages else position
        following = behind if end is None else max(behind, end)
        if not messages and following <= position:
            return None
        self._assignment.move(place, following)
        return batch_of(self._log.codec(place.topic), place, messages, now, following)

    def _failed(self, error: KafkaError, place: TopicPartition) -> None:
        """An error in the place of a record: passing ones are tried again by the library."""
        if error.code() == KafkaError._FATAL:
            raise ReplacedError(error.str())
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._read_on(place)
        elif error.retriable() or error.code() in PASSING_BY:
            self._log.told(error)
        else:
            what = f"group {self._spec.group}"
            raise meaning(error, what if place.topic is None else f"{what}: topic {place.topic}")

    def _read_on(self, place: TopicPartition) -> None:
        """Where a position is forgotten: go on with what is left, and say so."""
        if place not in self._assignment:
            return
        bounds = self._log.admin.bounds([place])
        check_positions(self._spec.group, self._assignment.positions, bounds)
        first = bounds[place][0]
        logger.error(
            "records %d to %d of %s, partition %d, are gone before group %s has read them",
            self._assignment.positions[place], first - 1, place.topic, place.partition, self._spec.group,
        )  # fmt: skip
        self._assignment.seek({place: first})
