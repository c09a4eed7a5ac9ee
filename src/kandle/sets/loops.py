"""Loops over messages: one `for` or `async for`, and how it was left."""

from __future__ import annotations

import dis
import logging
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Generic, Protocol, Self, TypeVar

from anyio import CancelScope

from kandle.errors import StateError
from kandle.time.clock import Clock

logger = logging.getLogger("kandle")

M = TypeVar("M")
R = TypeVar("R")

LEAVING = frozenset({"POP_TOP", "POP_ITER", "FOR_ITER", "END_FOR", "END_ASYNC_FOR"})
"""Instructions at which a loop lets go of its iterator when it ends in order: at its end, by `break`, or by `return`."""


class IdleTime:
    """How long a loop has waited for a message.

    Args:
        clock: The clock of the context. While one that is moved by hand stands still, the waits themselves count.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.steady()
        self._waited = 0

    def add(self, duration: int) -> None:
        """Note a wait.

        Args:
            duration: Its length in microseconds.
        """
        self._waited += duration

    @property
    def total(self) -> int:
        """The time since the first wait, in microseconds."""
        return max(self._waited, self._clock.steady() - self._begun)


class LoopedStream(Protocol[M]):
    """A stream as its loops see it; each message of it is in hand until it is done."""

    is_entered: bool
    """Whether `with` closes the stream, so that the end of a loop does not."""
    settled: int
    """How many of the delivered messages are done."""
    loops: int
    """How many loops have begun; the last of them has the messages."""

    @property
    def is_open(self) -> bool:
        """Whether the context is open, in this process."""

    @property
    def clock(self) -> Clock:
        """The clock by which loops wait."""

    @property
    def limit(self) -> int | None:
        """The number of messages after which a loop ends; None for no end."""

    @property
    def current(self) -> M | None:
        """The message in hand."""

    def begin(self) -> None:
        """Join the group, unless this is a member already."""

    def take(self) -> M | None:
        """Return the next message; None if there is none now."""

    def finish(self, message: M | None) -> None:
        """Note that a message is done."""

    def leave(self, *, in_order: bool) -> None:
        """Note that a loop was left, and whether its last message is done."""

    def wait(self, idle: IdleTime) -> bool:
        """Block until there may be a message; False if the loop has to end."""

    async def wait_async(self, idle: IdleTime) -> bool:
        """Wait until there may be a message; False if the loop has to end."""

    def stop(self) -> None:
        """Have the group left soon."""

    def finish_blocking(self) -> None:
        """Commit what is done and leave the group."""

    async def finish_async(self) -> None:
        """Commit what is done and leave the group."""


class MessageLoop(Generic[M, R]):
    """One `for` or `async for` over a stream.

    A stream has one loop at a time: one that begins takes its place, and the message in hand of the one before comes again.

    The loop holds its iterator alone, so Python drops that when the loop is left. Nothing says then whether an exception has
    ended the loop, but the instruction does at which the loop's frame stands: one that drops the iterator, or one that raised.

    Args:
        stream: The stream.
        deliver: Returns what the loop gets of a message; None leaves the message out.
    """

    def __init__(self, stream: LoopedStream[M], deliver: Callable[[M], R | None]) -> None:
        self._stream = stream
        self._deliver = deliver
        self._last: int | None = None
        self._frame = 0
        self._number = 0
        self._has_begun = False
        self._is_async = False
        self._is_ended = False

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> R:
        self._frame = id(sys._getframe(1))
        stream = self._stream
        try:
            if self._begin_next():
                idle = IdleTime(stream.clock)
                while True:
                    if (value := self._take()) is not None:
                        return value
                    if not stream.wait(idle):
                        break
        except BaseException:
            # The traceback of the error would keep the loop from being dropped.
            self._end_by_error()
            raise
        self._is_ended = True
        if not stream.is_entered:
            stream.finish_blocking()
        raise StopIteration

    def __anext__(self) -> Coroutine[Any, Any, R]:
        self._frame = id(sys._getframe(1))
        self._is_async = True
        return self._next_async()

    async def _next_async(self) -> R:
        stream = self._stream
        try:
            if self._begin_next():
                idle = IdleTime(stream.clock)
                while True:
                    if (value := self._take()) is not None:
                        return value
                    if not await stream.wait_async(idle):
                        break
        except BaseException:
            self._end_by_error()
            raise
        self._is_ended = True
        if not stream.is_entered:
            with CancelScope(shield=True):
                await stream.finish_async()
        raise StopAsyncIteration

    def _end_by_error(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._close(in_order=False)

    def _close(self, *, in_order: bool) -> None:
        """Leave the stream, and the group unless `with` does that."""
        stream = self._stream
        if not stream.is_open or self._number != stream.loops:
            # What was closed has left the group; a forked process has no thread that could. A newer loop goes on.
            return
        stream.leave(in_order=in_order)
        if stream.is_entered:
            return
        if self._is_async:
            stream.stop()
            return
        try:
            stream.finish_blocking()
        except Exception as error:
            logger.error("%s could not be closed: %s", stream, error)

    def _begin_next(self) -> bool:
        """Finish the last message, and return whether there is a next one to wait for."""
        stream = self._stream
        if self._is_ended:
            return False
        if self._has_begun:
            if self._number != stream.loops:
                raise StateError(
                    f"another loop over the same {stream} has begun, and has its messages now; give each loop messages of its "
                    "own: call `messages()` once for each"
                )
            stream.finish(stream.current)
        else:
            self._has_begun = True
            stream.leave(in_order=False)
            stream.loops += 1
            self._number = stream.loops
            limit = stream.limit
            self._last = None if limit is None else stream.settled + limit
            stream.begin()
        return self._last is None or stream.settled < self._last

    def _take(self) -> R | None:
        while (message := self._stream.take()) is not None:
            value = self._deliver(message)
            if value is not None:
                return value
            self._stream.finish(message)
            if self._last is not None:
                # It does not count.
                self._last += 1
        return None

    def __del__(self) -> None:
        if self._is_ended or not self._has_begun or sys.is_finalizing():
            return
        self._is_ended = True
        self._close(in_order=_is_left_in_order(sys._getframe(1), self._frame))


def _is_left_in_order(frame: FrameType, loop: int) -> bool:
    """Return whether the frame of a loop drops its iterator because the loop has ended, and not because of an exception."""
    return id(frame) == loop and frame.f_lasti >= 0 and dis.opname[frame.f_code.co_code[frame.f_lasti]] in LEAVING
