"""Exactly once: messages are consumed, and what is made of them is written, in one commit.

    message 17   step.add(...)  step.add(...) ─┐
    message 18   step.add(...) ────────────────┼──▶ one commit: three records, and position 19
    message 19   handler fails                 ┘    nothing of 19: it is the next one, and its records were never written

Records of a message are held back until it is done, and then appended by the commit of its position: all or nothing. So commits
may wait for each other without a message being in doubt, and are batched by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CancelScope

from kandle.errors import DataError, StateError
from kandle.log.headers import Headers
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Write
from kandle.sets.dual_writing import writes_of_versions
from kandle.sets.entity_set import EntitySet
from kandle.sets.entries import Note
from kandle.sets.host import ContextHost
from kandle.sets.message import Message
from kandle.sets.messages import MessageStream, Reading
from kandle.sets.sets import WritableSet
from kandle.sets.writing import PendingRow
from kandle.time.timeframe import MILLISECOND

T = TypeVar("T")

COMMIT_INTERVAL = 100 * MILLISECOND
"""How long a commit waits for more messages, in microseconds."""

TopicRow = tuple[str, PendingRow]


class Outputs:
    """The records of messages that are done, until the commit of their positions.

    Args:
        log: The log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._rows: dict[TopicPartition, list[tuple[int, Sequence[TopicRow]]]] = {}

    def put(self, partition: TopicPartition, offset: int, rows: Sequence[TopicRow]) -> None:
        """Add the records of a message.

        Args:
            partition: The partition of the message.
            offset: Its offset.
            rows: The records with their topics.
        """
        self._rows.setdefault(partition, []).append((offset, rows))

    def writes(self, positions: Mapping[TopicPartition, int]) -> list[Write]:
        """Return the records of messages before these positions."""
        done = [
            row
            for partition, position in positions.items()
            for offset, rows in self._rows.get(partition, ())
            if offset < position
            for row in rows
        ]
        return writes_of_versions(self._log, done)

    def without(self, writes: Sequence[Write], refused: Mapping[int, Mapping[int, str]]) -> list[Write]:
        """Raise DataError: there is nothing in the place of a record that the log refuses."""
        for rows in refused.values():
            for reason in rows.values():
                raise DataError(f"a record of the transaction cannot be written, and nothing of its messages was: {reason}")
        return list(writes)

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Forget the records before these positions: they are written."""
        for partition, position in positions.items():
            later = [(offset, rows) for offset, rows in self._rows.pop(partition, ()) if offset >= position]
            if later:
                self._rows[partition] = later

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget the records of partitions that belong to another member."""
        for partition in partitions:
            self._rows.pop(partition, None)


class TransactionStream(MessageStream[T]):
    """Messages whose commits append the records that were made of them."""

    def __init__(self, source: EntitySet[T], reading: Reading, outputs: Outputs) -> None:
        super().__init__(source._host, source.entity, reading)
        self._outputs = outputs
        self._rows: list[TopicRow] = []

    def add(self, topic: str, row: PendingRow) -> None:
        """Have a record appended by the commit of the message in hand.

        Args:
            topic: The name of its topic.
            row: The record.

        Raises:
            StateError: No message is in hand.
        """
        if self.current is None:
            raise StateError("a transaction writes what is made of a message; call `add` in the loop over `step.messages(...)`")
        self._rows.append((topic, row))

    def finish(self, message: Message[T] | None, note: Note | None = None) -> None:
        rows, self._rows = self._rows, []
        if message is not None and rows:
            partition, offset = TopicPartition(message.topic, message.partition), message.offset
            super().finish(message, lambda: self._outputs.put(partition, offset, rows))
        else:
            super().finish(message, note)

    def fail(self, message: Message[T], error: Exception) -> None:
        self._rows = []
        super().fail(message, error)

    def leave(self, *, in_order: bool) -> None:
        super().leave(in_order=in_order)
        self._rows = []


class _Step:
    """What the two forms of a step share."""

    def __init__(self, host: ContextHost) -> None:
        self._host = host
        self._stream: TransactionStream[Any] | None = None

    def messages(self, source: EntitySet[T], *, timeout: str | timedelta | None = None) -> MessageStream[T]:
        """Return the messages of a set, each of which is committed together with what was added while it was in hand.

        Args:
            source: The set, with its policies, such as `market.orders.on_error(OnError.DEAD_LETTER)`.
            timeout: How long a loop waits for the next message before it ends; None for no end.

        Returns:
            The messages.

        Raises:
            StateError: The transaction has messages already.
            DataError: The source is no set.
        """
        if self._stream is not None:
            raise StateError("a transaction consumes one set; open another transaction for another set")
        if not isinstance(source, EntitySet):
            raise DataError(f"a transaction consumes a set, such as market.orders.limit(10), not {source!r}")
        outputs = Outputs(self._host.log)
        stream = TransactionStream(source, source._transactional_reading(timeout, COMMIT_INTERVAL, outputs), outputs)
        self._stream = stream
        return stream

    def _put(self, target: WritableSet[T], obj: T, headers: Headers | None) -> None:
        if self._stream is None:
            raise StateError("the transaction has no messages yet; call `add` in the loop over `step.messages(...)`")
        self._stream.add(*target._pending(obj, headers))


class TransactionStep(_Step):
    """A transaction in blocking use."""

    def add(self, target: WritableSet[T], obj: T, *, headers: Headers | None = None) -> None:
        """Append an object together with the position of the message in hand, once that is done.

        Args:
            target: The set of the object.
            obj: The object.
            headers: Headers of the record.

        Raises:
            DataError: A value does not fit its field.
            AccessError: The set cannot be written.
            StateError: No message is in hand.
        """
        self._put(target, obj, headers)


class AsyncTransactionStep(_Step):
    """A transaction in an event loop."""

    async def add(self, target: WritableSet[T], obj: T, *, headers: Headers | None = None) -> None:
        """Append an object together with the position of the message in hand, once that is done.

        Args:
            target: The set of the object.
            obj: The object.
            headers: Headers of the record.

        Raises:
            DataError: A value does not fit its field.
            AccessError: The set cannot be written.
            StateError: No message is in hand.
        """
        self._put(target, obj, headers)


class Transaction:
    """Consuming, processing and producing exactly once; opened by `with` or `async with`.

    Args:
        host: The context.
    """

    def __init__(self, host: ContextHost) -> None:
        self._host = host
        self._step: _Step | None = None

    def __enter__(self) -> TransactionStep:
        self._host.loop.check_blocking("with", "async with")
        self._step = step = TransactionStep(self._host)
        return step

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if (stream := self._leave(error)) is not None:
            stream.finish_blocking()

    async def __aenter__(self) -> AsyncTransactionStep:
        self._step = step = AsyncTransactionStep(self._host)
        return step

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if (stream := self._leave(error)) is not None:
            with CancelScope(shield=True):
                await stream.finish_async()

    if not TYPE_CHECKING:  # Type checkers shall report a missing `with` as well.

        def __getattr__(self, name: str) -> Any:
            if name in ("messages", "add"):
                raise StateError(
                    f"a transaction is not open yet, so it has no {name!r}; write `with market.transaction() as step:`, or "
                    f"`async with` in an event loop, and call step.{name}(...)"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _leave(self, error: BaseException | None) -> TransactionStream[Any] | None:
        stream = None if self._step is None else self._step._stream
        if stream is not None:
            stream.leave(in_order=error is None)
        return stream
