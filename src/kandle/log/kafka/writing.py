"""Producers: one for single appends, one of transactions for each member of a group."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as Place

from kandle.errors import DataError, FencedError, KandleError, UnavailableError
from kandle.log.kafka.failures import Told, configured, is_undelivered, meaning, translated
from kandle.log.kafka.reading import acquaint
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.kafka.statistics import Statistics
from kandle.log.port import TopicPartition
from kandle.time.timeframe import MILLISECOND, SECOND

logger = logging.getLogger("kandle.kafka")

ROWS_AT_ONCE = 50_000
RETRIES = 5
OVERHEAD = 70
"""Most bytes that a record takes beside its key and its value."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One write as bytes; `headers` are given where any record has some."""

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[tuple[str, str]]] | None = None

    def check(self, limit: int) -> None:
        """DataError for a record that no broker would take, before anything is sent."""
        for key, value in zip(self.keys, self.values, strict=True):
            size = len(key or b"") + len(value or b"") + OVERHEAD
            if size > limit:
                raise DataError(
                    f"topic {self.topic}: a record of {size} bytes is larger than {limit}; nothing was written. Raise "
                    "message.max.bytes in the options kafka.producer and max.message.bytes of the topic, or send less at once"
                )


class Offsets:
    """Where the first record of each write came to lie, and the first error of any."""

    def __init__(self, count: int) -> None:
        self.first = [-1] * count
        self.error: KafkaError | None = None

    def of(self, number: int) -> Any:
        """The callback of the first record of a write."""

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                self.first[number] = message.offset()
            else:
                self.failed(error, message)

        return delivered

    def failed(self, error: KafkaError | None, message: Any) -> None:
        """The callback of all others."""
        if error is not None and self.error is None:
            self.error = error


def send(producer: Producer, number: int, write: Encoded, offsets: Offsets, timestamp: int | None, *, watched: bool) -> None:
    """Hand a write to the producer; `watched` asks for news of every record, else only the first one's are asked for.

    Without a timestamp (milliseconds) the library says the present time, which is quicker.
    """
    if write.headers is not None or timestamp is not None:
        _send_one_by_one(producer, number, write, offsets, timestamp)
        return
    rest: dict[str, Any] = {"callback": offsets.failed} if watched else {}
    messages: list[dict[str, Any]] = [
        {"key": key, "value": value, **rest} for key, value in zip(write.keys, write.values, strict=True)
    ]
    if messages:
        messages[0]["callback"] = offsets.of(number)
    for begin in range(0, len(messages), ROWS_AT_ONCE):
        part = messages[begin : begin + ROWS_AT_ONCE]
        if producer.produce_batch(write.topic, part, partition=write.partition) != len(part):
            problem = next(message["_error"] for message in part if "_error" in message)
            raise KafkaException(problem)
        producer.poll(0)


def _send_one_by_one(producer: Producer, number: int, write: Encoded, offsets: Offsets, timestamp: int | None) -> None:
    settings: dict[str, Any] = {"partition": write.partition} | ({} if timestamp is None else {"timestamp": timestamp})
    callback = offsets.of(number)
    every = write.headers if write.headers is not None else [None] * len(write.values)
    for key, value, headers in zip(write.keys, write.values, every, strict=True):
        producer.produce(write.topic, value, key, headers=list(headers) if headers else None, on_delivery=callback, **settings)
        callback = offsets.failed


class Appender:
    """Appends outside of transactions: each record is kept once, in order, or an error says that it was not."""

    def __init__(self, settings: KafkaSettings, name: str, told: Told) -> None:
        self._settings = settings
        self._told = told
        with configured(settings.bootstrap):
            self._producer = Producer({**settings.appender(name), "error_cb": told}, logger=logger)
        self._known: set[str] = set()

    def append(self, writes: Sequence[Encoded], timestamp: int | None) -> list[int]:
        """Returns when all brokers that must have the records have them."""
        offsets = Offsets(len(writes))
        what = f"append to {', '.join(sorted({write.topic for write in writes}))}"
        with translated(what):
            for number, write in enumerate(writes):
                acquaint(self._producer, write.topic, self._known, self._settings.request)
                send(self._producer, number, write, offsets, timestamp, watched=True)
            left = self._producer.flush((self._settings.patience + self._settings.request) / SECOND)
        if offsets.error is not None:
            raise meaning(offsets.error, what)
        if left:
            raise UnavailableError(f"{what}: {left} records are not confirmed by the brokers")
        self._told.works()
        return offsets.first

    def close(self) -> None:
        """Wait for what is on its way."""
        self._producer.flush(self._settings.patience / SECOND)


class Transactions:
    """Writes and positions, all or nothing, under one id: whoever takes the id over ends what its owner has left open."""

    def __init__(
        self, settings: KafkaSettings, name: str, transactional: str, told: Told, statistics: Statistics | None = None
    ) -> None:
        self._settings = settings
        self._telling = {} if statistics is None else statistics.of("producer")
        self._name = name
        self.id = transactional
        self._told = told
        self._producer: Producer | None = None
        self._known: set[str] = set()

    def open(self) -> Producer:
        """The producer; made, and older ones of the id fenced, when it is first needed."""
        if self._producer is None:
            with translated(f"transactional id {self.id}"):
                settings = self._settings.transactional(self._name, self.id)
                producer = Producer({**self._telling, **settings, "error_cb": self._told}, logger=logger)
                self._tried(lambda: producer.init_transactions(self._settings.patience / SECOND))
            self._producer = producer
            self._known.clear()
        return self._producer

    def commit(
        self,
        writes: Sequence[Encoded],
        timestamp: int | None,
        positions: Mapping[TopicPartition, int] | None = None,
        group: Any = None,
    ) -> list[int]:
        """Writes, and next offsets in the name of a group's member."""
        producer = self.open()
        offsets = Offsets(len(writes))
        what = f"commit of transactional id {self.id} to {', '.join(sorted({write.topic for write in writes}))}"
        try:
            with translated(what):
                producer.begin_transaction()
                try:
                    for number, write in enumerate(writes):
                        acquaint(producer, write.topic, self._known, self._settings.request)
                        send(producer, number, write, offsets, timestamp, watched=False)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError._STATE:
                        # The transaction has failed; why is told only to who adds positions.
                        self._add(producer, positions, group)
                    raise
                self._add(producer, positions, group)
                producer.flush(self._settings.transaction / SECOND)
                self._tried(producer.commit_transaction)
        except BaseException as error:
            problem = self._give_up(producer, error)
            if problem is not None and (_is_fatal(error) or isinstance(error, SystemError)):
                # Once a producer has ended, records are refused without a reason, or the library loses it; its last one tells.
                raise meaning(problem, what) from error
            if offsets.error is not None and is_undelivered(error):
                raise meaning(offsets.error, what) from error
            raise
        if offsets.error is not None:
            # A transaction with a failed record cannot be committed; should it ever be, nobody may take it for whole.
            raise meaning(offsets.error, what)
        self._told.works()
        return offsets.first

    def _add(self, producer: Producer, positions: Mapping[TopicPartition, int] | None, group: Any) -> None:
        """Make positions part of the transaction."""
        if positions:
            places = [Place(*place, following, self.id) for place, following in positions.items()]

            def add() -> None:
                producer.send_offsets_to_transaction(places, group, self._settings.transaction / SECOND)

            try:
                self._tried(add)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._STATE:
                    raise
                # The transaction has failed meanwhile, because of its records; asked again, it says why.
                self._tried(add)

    def _tried(self, call: Any) -> None:
        """Calls that may be made again as they are, until the library has tried for as long as a transaction may take."""
        for attempt in range(RETRIES):
            try:
                call()
            except KafkaException as error:
                found = error.args[0]
                if attempt + 1 == RETRIES or found.fatal() or found.txn_requires_abort() or not found.retriable():
                    raise
            else:
                return

    def _give_up(self, producer: Producer, error: BaseException) -> KafkaError | None:
        """Undo the transaction; a producer that was fenced, or cannot undo, is replaced by a new one of the same id.

        Gives why it could not undo, if it was asked to.
        """
        problem: KafkaError | None = None
        found = error.__cause__.args[0] if isinstance(error.__cause__, KafkaException) else None
        if not isinstance(found, KafkaError) or not found.fatal():
            try:
                producer.abort_transaction(self._settings.transaction / SECOND)
            except KafkaException as failed:
                problem = failed.args[0]
                logger.info("abort of %s: %s; it goes on with a new producer", self.id, failed.args[0].str())
            else:
                return None
        producer.purge()
        self._producer = None
        return problem

    def close(self) -> None:
        """Let go of the producer."""
        if self._producer is not None:
            self._producer.flush(MILLISECOND / SECOND)
            self._producer = None


def _is_fatal(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError._FATAL


def fence(settings: KafkaSettings, transactional: str, told: Told) -> None:
    """Have the transaction ended that a dead process has left open, so that nobody has to wait until it times out.

    It is not waited for here: whoever asks for positions or reads state waits until they are settled anyway, while the library
    takes half a second more for its own part if there is something to end, or another process ends it too.
    """
    name = f"kandle-fence-{transactional}"
    threading.Thread(target=_fenced, args=(settings, transactional, told), name=name, daemon=True).start()


def _fenced(settings: KafkaSettings, transactional: str, told: Told) -> None:
    try:
        Transactions(settings, "fence", transactional, told).open()
    except (FencedError, UnavailableError) as error:
        logger.info("%s", error)
    except KandleError as error:
        logger.warning("the transaction of %s cannot be ended, it ends by itself: %s", transactional, error)
