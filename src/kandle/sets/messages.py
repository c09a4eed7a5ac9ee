"""Consuming a topic: messages one by one, in a consumer group, with automatic or manual commits.

A message is done when the next one of its loop is asked for, when the loop is left by `break` or `return`, or when the handler of
`for_each` has returned. It is not done when an exception, a cancellation or Ctrl-C ends the loop: then it is the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from anyio import CancelScope, move_on_after, to_thread

from kandle.errors import DataError, StateError
from kandle.log.headers import header_texts
from kandle.log.letters import LetterBox
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import RejectedRecord
from kandle.log.versions import Adapt, adapters
from kandle.model.entity import EntityModel
from kandle.sets.beginning import Beginning
from kandle.sets.blocking import awaited, blocking, check_asyncio
from kandle.sets.entries import Entry, EntrySource, Limits, Note, Outbox
from kandle.sets.host import ContextHost
from kandle.sets.loops import IdleTime, MessageLoop
from kandle.sets.message import Message
from kandle.sets.policies import BreakerState, ErrorPolicy, MessageFailure, OnError
from kandle.sets.prefetching import CLOSED, PATIENCE, Prefetcher
from kandle.sets.unpacking import Row, Unpacker
from kandle.time.clock import Clock, ManualClock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND, duration_text, from_instant

logger = logging.getLogger("kandle")

T = TypeVar("T")
R = TypeVar("R")

STALL = 5 * MINUTE
"""Microseconds for which the thread that reads may stand still before its partitions go to other members, on any log."""


JOIN_INTERVAL = 10 * MILLISECOND
"""How often a loop looks that would have ended, were its group joined already."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a topic is consumed.

    Attributes:
        topic: The name of the topic.
        policy: What happens to messages that fail.
        beginning: Where it begins; None for the position of the group.
        limit: The number of messages after which a loop ends; None for no end.
        timeout: How long a loop waits for the next message before it ends, in microseconds; None for no end.
        interval: How long commits may wait for more, in microseconds.
        outboxes: Hold what commits append beside dead letters.
    """

    topic: str
    policy: ErrorPolicy = field(default_factory=ErrorPolicy)
    beginning: Beginning | None = None
    limit: int | None = None
    timeout: int | None = None
    interval: int = 0
    outboxes: Sequence[Outbox] = ()


class MessageStream(Generic[T]):
    """Messages of a topic from the position of the consumer group on: for `async for`, and for `for` where nothing is awaited.

    With automatic commits a message is committed once it is done; `with` keeps the membership in the group between loops.
    """

    def __init__(self, host: ContextHost, entity: EntityModel, reading: Reading, *, is_manual: bool = False) -> None:
        self.host = self._host = host
        self.is_manual = is_manual
        self._entity = entity
        self.reading = reading
        self._unpacker = Unpacker(entity)
        self._prefetcher: Prefetcher | None = None
        self._current: Message[T] | None = None
        self._breakers: dict[TopicPartition, BreakerState] = {}
        self._letters: LetterBox | None = None
        self._has_begun = False
        self.settled = 0
        """How many of the delivered messages are done, skipped or dead letters."""
        self.loops = 0
        """How many loops over the stream have begun."""
        self.is_entered = False
        """Whether `with` closes the stream, so that the end of a loop does not."""

    @property
    def _label(self) -> str:
        return f"{self._host.set_label(self._entity.cls)}.messages()"

    def __repr__(self) -> str:
        return self._label

    def __aiter__(self) -> AsyncIterator[Message[T]]:
        check_asyncio(f"async for ... in {self._label}", f"iterate in a thread: `for ... in {self._label}`")
        return MessageLoop(self, _itself)

    def __iter__(self) -> Iterator[Message[T]]:
        self._check_blocking("for")
        return MessageLoop(self, _itself)

    def values(self) -> MessageLoop[Message[T], T]:
        """Return a loop over the values alone, tombstones left out.

        Returns:
            The loop, for `for` or `async for`.
        """
        return MessageLoop(self, _value)

    def _check_blocking(self, word: str) -> None:
        self._host.loop.check_blocking(f"{word}", f"async {word}")

    # One message after the other

    def begin(self) -> None:
        """Join the group, unless this is a member already."""
        if self._prefetcher is not None and not self._prefetcher.is_stopping:
            return
        self._host.loop.check_process()
        reader = self._host.reader(self.reading.topic)
        is_writing_letters = self.reading.policy.action is OnError.DEAD_LETTER
        spec = GroupSpec(
            reader.group, (self.reading.topic,), reader.member, reader.reset, stall=STALL, with_bytes=is_writing_letters
        )
        self._letters = None
        if is_writing_letters:
            self._letters = LetterBox(
                self._host.log, self.reading.topic, reader.group, self._host.clock, reader.letter_rate, reader.letter_counts,
                reader.letter_topic,
            )  # fmt: skip
        # A loop goes on where the last one of this stream has ended.
        beginning = None if self._has_begun else self.reading.beginning
        self._has_begun = True
        limits = Limits(reader.batch_rows, reader.prefetch_rows, reader.prefetch_bytes, self.reading.interval)
        outboxes = self.reading.outboxes if self._letters is None else (*self.reading.outboxes, self._letters)
        source = EntrySource(self._unpacker, self._forget, beginning, outboxes, self.is_manual, self._adapters())
        self._host.closers.add(self.finish_async)
        self._prefetcher = Prefetcher(self._host.log, spec, limits, self._host.clock, source)

    def _adapters(self) -> Callable[[], Mapping[str, Adapt | None]] | None:
        """Return what says how the records of each version of the entity's key become its own; None where they are."""
        entity = self._entity
        is_plain = not entity.former and all(part.normalize is None for part in entity.keys)
        return None if is_plain or self.reading.topic != entity.topic else partial(adapters, self._host.log, entity)

    def _forget(self, error: BaseException | None) -> None:
        self._host.closers.discard(self.finish_async)

    def take(self) -> Message[T] | None:
        """Take the next message that can be read.

        Returns:
            The message; None if there is none now.

        Raises:
            DataError: A record cannot be read, and the policy is to stop there.
        """
        while self._prefetcher is not None and (entry := self._prefetcher.take()) is not None:
            row = entry.content
            if isinstance(row, Row):
                message: Message[T] = Message(
                    row.value, row.key, header_texts(row.headers), *entry.partition, entry.offset, from_instant(row.time),
                    row.is_tombstone, row.headers, entry.attempt, self, entry,
                )  # fmt: skip
                self._current = message
                return message
            self._fail_unreadable(entry)
        return None

    def finish(self, message: Message[T] | None, note: Note | None = None) -> None:
        """Note that a message is done; nothing if it was rejected, or its partition has gone to another member.

        Args:
            message: The message.
            note: Puts records that are appended by its commit into the outbox.
        """
        if message is None or message is not self._current:
            return
        self._current = None
        self.settled += 1
        assert message._entry is not None and self._prefetcher is not None
        if self.is_manual:
            self._prefetcher.release(message._entry)
            return
        breaker = self._breakers.get(message._entry.partition)
        if breaker is not None and breaker.succeed():
            logger.info("partition %d of %s goes on: a message has succeeded", message.partition, message.topic)
        self._prefetcher.finish(message._entry, note)

    @property
    def is_open(self) -> bool:
        """Whether the context is open, in this process."""
        return self._host.is_open

    @property
    def clock(self) -> Clock:
        """The clock by which loops wait."""
        return self._host.clock

    @property
    def limit(self) -> int | None:
        """The number of messages after which a loop ends; None for no end."""
        return self.reading.limit

    @property
    def current(self) -> Message[T] | None:
        """The message that was delivered last, and is not done."""
        return self._current

    def fail(self, message: Message[T], error: Exception) -> None:
        """Do what the policy says about a message that has failed.

        Args:
            message: The message.
            error: What has gone wrong.

        Raises:
            Exception: The error itself, where the policy is to stop.
            StateError: The message is not the one that was delivered last.
        """
        if message is not self._current or message._entry is None:
            raise StateError("only the message that its loop has delivered last can be rejected, and only once")
        self._current = None
        wait = self.reading.policy.wait(message.attempt)
        self.settled += wait is None
        self._handle(message._entry, error, wait, message.key)

    def _fail_unreadable(self, entry: Entry) -> None:
        """Do what the policy says about a record that cannot be read: to try it again is of no use."""
        content = entry.content
        reason = content.reason if isinstance(content, RejectedRecord) else str(content.error)
        error = DataError(
            f"topic {entry.partition.topic}, partition {entry.partition.partition}, offset {entry.offset}: the record cannot be "
            f"read: {reason}; nothing behind it is delivered. Correct its schema or format, or go past it with "
            "on_error(OnError.SKIP) or on_error(OnError.DEAD_LETTER)"
        )
        if not isinstance(content, RejectedRecord):
            error.__cause__ = content.error
        self._handle(entry, error, None, ())

    def _handle(self, entry: Entry, error: Exception, wait: int | None, key: tuple[Any, ...]) -> None:
        assert self._prefetcher is not None
        action = self.reading.policy.last_action if wait is None else OnError.RETRY
        self._host.report_failure(MessageFailure(*entry.partition, entry.offset, key, entry.attempt, error, action))
        rest = None if isinstance(entry.content, RejectedRecord) else self._rest_after_failure(entry, error)
        if wait is not None:
            self._prefetcher.put_back(entry, max(wait, rest or 0))
        elif action is OnError.SKIP:
            self._count_skipped(entry, error)
            self._prefetcher.finish(entry, rest=rest)
        elif action is OnError.DEAD_LETTER:
            self._prefetcher.finish(entry, self._note_letter(entry, error), rest)
        else:
            # It is the next one also where `with` keeps the membership.
            self._prefetcher.put_back(entry, 0)
            raise error

    def _count_skipped(self, entry: Entry, error: Exception) -> None:
        count = self._host.skipped.add(entry.partition.topic)
        if count is not None:
            logger.warning(
                "%d messages of %s were skipped; the last, in partition %d at offset %d: %s",
                count, entry.partition.topic, entry.partition.partition, entry.offset, error,
            )  # fmt: skip

    def _rest_after_failure(self, entry: Entry, error: Exception) -> int | None:
        breaker = self.reading.policy.breaker
        if breaker is None:
            return None
        state = self._breakers.setdefault(entry.partition, BreakerState(breaker))
        was_open = state.is_open
        rest = state.fail(self._host.clock.steady())
        if rest is not None and not was_open:
            logger.warning(
                "partition %d of %s rests for %s: %d messages have failed within %s; the last, at offset %d: %s",
                entry.partition.partition, entry.partition.topic, duration_text(rest), breaker.failures,
                duration_text(breaker.within), entry.offset, error,
            )  # fmt: skip
        return rest

    def _note_letter(self, entry: Entry, error: Exception) -> Note:
        """Return what puts the dead letter of a record into the box of letters, in the thread that commits."""
        box, content = self._letters, entry.content
        assert box is not None
        if isinstance(content, RejectedRecord):
            return partial(box.add_reject, entry.partition, content)
        return partial(box.add, content.batch, content.number, error, entry.attempt)

    def commit_position(self, partition: TopicPartition, following: int) -> Future[None]:
        """Commit a position.

        Args:
            partition: The partition.
            following: The offset of the first record that is not done.

        Returns:
            What is done once it is committed.

        Raises:
            StateError: The stream is closed.
        """
        if self._prefetcher is None or self._prefetcher.is_stopping:
            raise StateError(CLOSED)
        return self._prefetcher.commit(partition, following)

    # Waiting

    @awaited
    async def _settle_async(self) -> None:
        self._host.settle()

    _settle = blocking(_settle_async)

    def wait(self, idle: IdleTime) -> bool:
        """Block until there may be a message.

        Args:
            idle: How long there was none.

        Returns:
            False if the loop has to end: the stream was closed, or its timeout is over.
        """
        prefetcher = self._prefetcher
        if prefetcher is None or prefetcher.is_stopping:
            return False
        duration = PATIENCE
        if prefetcher.is_idle:
            self._settle()
            if self._is_over(idle):
                return False
            duration = self._next_wait(idle)
            idle.add(duration)
        elif isinstance(self._host.clock, ManualClock) and prefetcher.rest is not None:
            # This thread would have to move it.
            prefetcher.end_rests()
        prefetcher.wait(min(duration, prefetcher.rest or duration))
        return True

    async def wait_async(self, idle: IdleTime) -> bool:
        """Wait until there may be a message.

        Args:
            idle: How long there was none.

        Returns:
            False if the loop has to end: the stream was closed, or its timeout is over.
        """
        prefetcher = self._prefetcher
        if prefetcher is None or prefetcher.is_stopping:
            return False
        duration = PATIENCE
        if prefetcher.is_idle:
            await self._settle_async()
            if self._is_over(idle):
                return False
            duration = self._next_wait(idle)
            idle.add(duration)
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        prefetcher.call_when_changed(partial(_set_in, loop, changed))
        with move_on_after(min(duration, prefetcher.rest or duration) / SECOND):
            await changed.wait()
        return True

    def _is_over(self, idle: IdleTime) -> bool:
        """Return whether nothing has come for as long as the loop waits; what is there when it begins is given time to come."""
        timeout, prefetcher = self.reading.timeout, self._prefetcher
        if timeout is None or prefetcher is None or idle.total < timeout:
            return False
        # Something may have come since the loop looked last.
        return prefetcher.has_looked and prefetcher.is_idle

    def _next_wait(self, idle: IdleTime) -> int:
        timeout = self.reading.timeout
        if timeout is None:
            return PATIENCE
        return min(PATIENCE, timeout - idle.total) if idle.total < timeout else JOIN_INTERVAL

    # Closing

    def leave(self, *, in_order: bool) -> None:
        """Note that a loop was left.

        Args:
            in_order: Whether its last message is done; one that is not comes again.
        """
        if in_order:
            self.finish(self._current)
        elif self._current is not None and self._current._entry is not None and self._prefetcher is not None:
            self._prefetcher.put_back(self._current._entry, 0)
        self._current = None

    def stop(self) -> None:
        """Have what is done committed and the group left, soon."""
        if self._prefetcher is not None:
            self._prefetcher.stop()

    def finish_blocking(self) -> None:
        """Commit what is done and leave the group."""
        self.stop()
        if self._prefetcher is not None:
            self._prefetcher.join()

    async def finish_async(self) -> None:
        """Commit what is done and leave the group."""
        self.stop()
        if self._prefetcher is not None:
            await to_thread.run_sync(self._prefetcher.join)

    async def __aenter__(self) -> Self:
        self.is_entered = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.is_entered = False
        self.leave(in_order=error is None)
        with CancelScope(shield=True):
            await self.finish_async()

    def __enter__(self) -> Self:
        self._check_blocking("with")
        self.is_entered = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.is_entered = False
        self.leave(in_order=error is None)
        self.finish_blocking()


def _set_in(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event from any thread."""
    loop.call_soon_threadsafe(event.set)


def _itself(message: Message[T]) -> Message[T] | None:
    return message


def _value(message: Message[T]) -> T | None:
    return message.value
