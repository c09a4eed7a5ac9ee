"""One record of a topic, as loops deliver it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from kandle.errors import StateError
from kandle.log.headers import HeaderPairs
from kandle.log.port import TopicPartition
from kandle.sets.blocking import awaited, blocking
from kandle.sets.entries import Entry
from kandle.sets.host import ContextHost

T = TypeVar("T")


class MessageSource(Protocol):
    """What a message needs of the stream that has delivered it."""

    is_manual: bool
    """Whether messages are committed by hand."""
    host: ContextHost
    """The context."""

    def commit_position(self, partition: TopicPartition, following: int) -> Future[None]:
        """Commit a position."""

    def fail(self, message: Message[Any], error: Exception) -> None:
        """Do what the policy says about a message that has failed."""


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """One record of a topic.

    Attributes:
        value: The object of the entity; None for a tombstone.
        key: The parts of the record's key.
        headers: The headers of the record that are text, by name; of several with one name the last.
        topic: The name of the topic.
        partition: The number of the partition.
        offset: The offset in the partition.
        timestamp: When the record was appended.
        is_tombstone: Whether the record removes the row of its key.
        raw_headers: All headers as they are: pairs of a name and bytes, or None.
        attempt: The number of the attempt to handle it; the first is 1.
    """

    value: T | None
    key: tuple[Any, ...]
    headers: dict[str, str]
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    is_tombstone: bool = False
    raw_headers: HeaderPairs = ()
    attempt: int = 1
    _stream: MessageSource | None = field(default=None, repr=False, compare=False)
    _entry: Entry | None = field(default=None, repr=False, compare=False)

    @property
    def _host(self) -> ContextHost:
        return self._manual_stream.host

    @property
    def _label(self) -> str:
        return "message"

    @property
    def _manual_stream(self) -> MessageSource:
        if self._stream is None or not self._stream.is_manual:
            raise StateError(
                "this message is committed by itself once the next one is taken; "
                "to commit messages yourself, take them from `manual_commit()`"
            )
        return self._stream

    @awaited
    async def commit_async(self) -> None:
        """Commit the position behind this message, so that its group continues there after a restart.

        All messages before it in its partition count as done too.

        Raises:
            StateError: The message is not from `manual_commit()`, or its messages are closed already.
            FencedError: The partition belongs to another member by now, which handles the message again.
        """
        done = self._manual_stream.commit_position(TopicPartition(self.topic, self.partition), self.offset + 1)
        await asyncio.wrap_future(done)

    commit = blocking(commit_async)

    def reject(self, error: Exception) -> None:
        """Say that this message has failed, so that the policy of its set decides: `on_error` and `with_retry`.

        A message that is tried again comes once more in the same loop, before any other of its partition. What is skipped or
        becomes a dead letter counts as done.

        Args:
            error: What has gone wrong.

        Raises:
            Exception: The error itself, where the policy is to stop.
            StateError: The message is not the one that its loop has delivered last.
        """
        if self._stream is None or self._entry is None:
            raise StateError("only a message that a loop has delivered can be rejected")
        self._stream.fail(self, error)


def alive(message: Message[T]) -> Message[T] | None:
    """Return the message unless it is a tombstone.

    Args:
        message: The message.

    Returns:
        The message, or None.
    """
    return None if message.value is None else message
