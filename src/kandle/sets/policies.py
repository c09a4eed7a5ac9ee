"""What happens to a message that fails: how often it is tried again, what comes after that, and when its partition rests.

    handler fails ──▶ attempts left? ──yes──▶ the message waits, and its partition with it; other partitions go on
                            │ no
                            ▼
                    on_error: skip | dead letter | stop (the error is raised)

A circuit breaker never decides what becomes of a message. It only makes its partition rest:

    closed ── n failures within a time ──▶ open: the partition rests ──▶ one attempt ── fails ──▶ open
       ▲                                                                    └── succeeds ──┐
       └───────────────────────────────────────────────────────────────────────────────────┘

Libraries of retries (tenacity, stamina) call a function again and again in its place, and so do breakers (pybreaker) around a
call. Here a message is put back instead, so that other partitions go on meanwhile; what is left to compute is in this file.
"""

from __future__ import annotations

import inspect
import random
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kandle.errors import DataError
from kandle.time.timeframe import MILLISECOND, SECOND, duration_text


def checked_count(call: str, count: object, least: int) -> int:
    """Return a number that a user has given.

    Args:
        call: What the user has written, for the message.
        count: The number.
        least: The least that it may be.

    Raises:
        DataError: It is no whole number, or less than that.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        kind = "" if isinstance(count, int) and not isinstance(count, bool) else "a whole number of "
        raise DataError(f"{call}: give {kind}{least} or more")
    return count


def check_handler(call: str, handler: object) -> None:
    """Check that a function can handle messages, before it is given one.

    Args:
        call: What the user has written, for the message.
        handler: The function.

    Raises:
        DataError: It cannot be called, or calling it does nothing, since it is a generator function.
    """
    if not callable(handler):
        raise DataError(f"{call}: the handler is {handler!r}; give a function that takes one object")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise DataError(f"{call}: the handler contains `yield`, so calling it would do nothing; give a function without")


class OnError(Enum):
    """What becomes of a message that has failed, once its retries are used up."""

    SKIP = "skip"
    """Go on with the next one; what was skipped is logged."""
    RETRY = "retry"
    """Try again until it succeeds; with a number of retries, raise the error after them."""
    DEAD_LETTER = "dead_letter"
    """Write it to the topic of dead letters, in the commit that goes past it."""
    STOP = "stop"
    """Raise the error; the message is the next one when consuming begins again."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a message is tried again, and how long it waits before.

    Attributes:
        times: The number of attempts after the first one; None for no end.
        backoff: The wait before the second attempt, in microseconds; it doubles with each one.
        longest: The longest wait, in microseconds.
        jitter: Whether the waits vary by chance, between half of their length and all of it.
    """

    times: int | None = 0
    backoff: int = 200 * MILLISECOND
    longest: int = 30 * SECOND
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.times is not None:
            checked_count(f"with_retry({self.times!r})", self.times, 0)
        if self.longest < self.backoff:
            longest, backoff = duration_text(self.longest), duration_text(self.backoff)
            raise DataError(f"with_retry: max ({longest}) is shorter than backoff ({backoff}); give max={backoff!r} or longer")

    def wait(self, attempt: int) -> int | None:
        """Return how long a message waits whose attempt of this number has failed.

        Args:
            attempt: The number of the attempt; the first is 1.

        Returns:
            Microseconds; None if it is not tried again.
        """
        if self.times is not None and attempt > self.times:
            return None
        # Beyond 2**40 any wait is longer than the longest.
        wait = min(self.backoff << min(attempt - 1, 40), self.longest)
        return round(wait * random.uniform(0.5, 1)) if self.jitter else wait


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When a partition rests.

    Attributes:
        failures: The number of failed attempts that makes it rest.
        within: The time in which they come, in microseconds.
        rest: How long it rests, in microseconds.
    """

    failures: int
    within: int
    rest: int

    def __post_init__(self) -> None:
        checked_count(f"with_circuit_breaker(failures={self.failures!r})", self.failures, 1)
        for name, duration in (("within", self.within), ("rest", self.rest)):
            if duration <= 0:
                raise DataError(f"with_circuit_breaker({name}=...): a breaker of 0s does nothing; give a longer time")


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """What happens to messages that fail.

    Attributes:
        action: What comes after the retries.
        retries: The retries; None for what fits the action: none, or for `OnError.RETRY` no end of them.
        breaker: When a partition rests; None for never.
    """

    action: OnError = OnError.STOP
    retries: Retries | None = None
    breaker: CircuitBreaker | None = None

    def wait(self, attempt: int) -> int | None:
        """Return how long a message waits whose attempt of this number has failed; None if it is not tried again."""
        retries = self.retries
        if retries is None:
            retries = Retries(None) if self.action is OnError.RETRY else Retries()
        return retries.wait(attempt)

    @property
    def last_action(self) -> OnError:
        """What happens to a message that is not tried again."""
        return OnError.STOP if self.action is OnError.RETRY else self.action


STOPPING = ErrorPolicy()
"""The policy of sets that are given no other."""


@dataclass(frozen=True, slots=True)
class MessageFailure:
    """A message that has failed, as the hook `on_message_error` of a context is told.

    Attributes:
        topic: The topic of the message.
        partition: The number of the partition.
        offset: The offset in the partition.
        key: The parts of the key; empty if they cannot be read.
        attempt: The number of the attempt that has failed; the first is 1.
        error: The error.
        action: What happens now: `OnError.RETRY` if the message is tried again, else what the policy says.
    """

    topic: str
    partition: int
    offset: int
    key: tuple[Any, ...]
    attempt: int
    error: Exception
    action: OnError


@dataclass(slots=True)
class BreakerState:
    """The circuit breaker of one partition.

    Attributes:
        breaker: When it opens.
        is_open: Whether the partition rests, or makes the one attempt after its rest.
    """

    breaker: CircuitBreaker
    is_open: bool = False
    _failures: deque[int] = field(default_factory=deque)

    def fail(self, now: int) -> int | None:
        """Note a failed attempt.

        Args:
            now: The time, in microseconds of a steady clock.

        Returns:
            How long the partition rests, in microseconds; None if it does not.
        """
        self._failures.append(now)
        while self._failures and now - self._failures[0] > self.breaker.within:
            self._failures.popleft()
        if not self.is_open and len(self._failures) < self.breaker.failures:
            return None
        self.is_open = True
        return self.breaker.rest

    def succeed(self) -> bool:
        """Note an attempt that has succeeded.

        Returns:
            Whether this has closed the breaker.
        """
        was_open, self.is_open = self.is_open, False
        if was_open:
            self._failures.clear()
        return was_open
