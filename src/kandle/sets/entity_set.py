"""The base of all sets: how the records of an entity are consumed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from kandle.errors import AccessError, DataError, ModelError, StateError
from kandle.model.entity import EntityModel
from kandle.model.markers import Access
from kandle.sets.blocking import awaited, check_asyncio
from kandle.sets.host import ContextHost
from kandle.sets.policies import STOPPING, CircuitBreaker, ErrorPolicy, OnError, Retries, check_handler, checked_count
from kandle.time.timeframe import parse_duration, parse_instant, to_instant

if TYPE_CHECKING:
    # What reads and writes records is loaded by the first method that does: declaring a context needs none of it.
    from kandle.sets.beginning import Beginning
    from kandle.sets.dead_letters import DeadLetterSet
    from kandle.sets.entries import Outbox
    from kandle.sets.messages import MessageStream, Reading
    from kandle.sets.reading import Instant

T = TypeVar("T")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, repr=False)
class EntitySet(Generic[T]):
    """The records of an entity in a context, for reading; the base of all sets."""

    _host: ContextHost
    entity: EntityModel
    access: Access = "read_write"
    newest: int | None = None
    """How many of the newest records `to_list` returns, and how many messages a loop has; None for all."""
    policy: ErrorPolicy = STOPPING
    """What happens to messages that fail."""
    beginning: Beginning | None = None
    """Where loops begin; None for the position of the consumer group."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entity.name})"

    @property
    def _label(self) -> str:
        return self._host.set_label(self.entity.cls)

    @property
    def can_read(self) -> bool:
        """Whether context and entity may be read."""
        return self.access != "write_only"

    @property
    def can_write(self) -> bool:
        """Whether context and entity may be written."""
        return self.access != "read_only"

    @property
    def topic(self) -> str:
        """The topic that iterating reads."""
        self._check_timeframe()
        return self.entity.topic

    def limit(self, count: int) -> Self:
        """Return the set with only its newest records for `to_list`: of a table, the rows that were written last.

        A loop over it, or `for_each`, ends after so many messages.

        Args:
            count: The number of records that `to_list` returns at most, and of messages.

        Raises:
            DataError: The number is below 1.
        """
        return replace(self, newest=checked_count(f"limit({count!r})", count, 1))

    def _check_read(self) -> None:
        if not self.can_read:
            raise AccessError(f"{self.entity.name} cannot be read: {self._access_reason('write_only')}")

    def _access_reason(self, mode: Access) -> str:
        """Return who allows no more than a mode: the entity, or the context."""
        if self.entity.access == mode:
            return f"its access is {mode!r} (entities.{self.entity.name}.access, or access() in on_model_creating)"
        return f"the context was opened with access={self.access!r}"

    def _check_timeframe(self) -> None:
        """Raise ModelError for a set of bars without a timeframe."""
        plan = self._host.plan_of(self.entity.cls)
        if plan is not None:
            names = [bar.name for bar in plan.emitted]
            label = self._host.bars_label(self.entity.cls, names[0])
            raise ModelError(f"{self.entity.name} has bars of {', '.join(names)}; say which: {label}")

    def on_error(self, action: OnError) -> Self:
        """Return the set with another policy for messages that fail, also for records that cannot be read.

        Args:
            action: What becomes of a message once its retries are used up.

        Raises:
            DataError: There is no such policy.

        Example:
            market.ticks.on_error(OnError.DEAD_LETTER).with_retry(3, backoff="200ms").for_each(handle)
        """
        if not isinstance(action, OnError):
            choices = ", ".join(f"OnError.{choice.name}" for choice in OnError)
            raise DataError(f"on_error({action!r}): choose from {choices}")
        return replace(self, policy=replace(self.policy, action=action))

    def with_retry(
        self,
        times: int,
        *,
        backoff: str | timedelta = "200ms",
        max: str | timedelta = "30s",
        jitter: bool = True,
    ) -> Self:
        """Return the set with retries: a message that fails is tried again before any other of its partition.

        Args:
            times: The number of attempts after the first one.
            backoff: The wait before the second attempt; it doubles with each one.
            max: The longest wait.
            jitter: Whether the waits vary by chance, between half of their length and all of it.

        Raises:
            DataError: The number is below 0, or the longest wait is shorter than the first.
        """
        checked_count(f"with_retry({times!r})", times, 0)
        retries = Retries(times, parse_duration(backoff), parse_duration(max), jitter)
        return replace(self, policy=replace(self.policy, retries=retries))

    def with_circuit_breaker(self, failures: int, *, within: str | timedelta = "1m", rest: str | timedelta = "30s") -> Self:
        """Return the set with a circuit breaker: a partition whose messages fail too often rests before the next attempt.

        Args:
            failures: The number of failed attempts that opens it.
            within: The time in which they come.
            rest: How long the partition rests before one attempt is made, after which it goes on or rests again.

        Raises:
            DataError: The number is below 1, or a time is 0.
        """
        breaker = CircuitBreaker(failures, parse_duration(within), parse_duration(rest))
        return replace(self, policy=replace(self.policy, breaker=breaker))

    def since(self, instant: Instant) -> Self:
        """Return the set with loops that begin at an instant, and not at the position of the consumer group.

        Each partition begins at its first event of that time or later (without a timestamp in the entity: at its first record
        that was appended then), and goes on with all that follow. Positions are committed as always.

        Args:
            instant: An aware datetime or an ISO 8601 text.

        Raises:
            TimeframeError: The text is no instant, or the datetime is not aware.
        """
        from kandle.sets.beginning import Beginning

        since = parse_instant(instant) if isinstance(instant, str) else to_instant(instant)
        time = None if self.entity.timestamp is None else self.entity.timestamp.name
        return replace(self, beginning=Beginning(since=since, time=time))

    def from_offsets(self, offsets: Mapping[int, int]) -> Self:
        """Return the set with loops that begin at these offsets, and not at the position of the consumer group.

        Args:
            offsets: The first offset by the number of a partition; other partitions begin at the position of the group. Of an
                entity with former key versions they are those of its newest topic.

        Raises:
            DataError: Something is no partition or no offset, or an offset is negative.
        """
        from kandle.sets.beginning import Beginning

        if not isinstance(offsets, Mapping):
            raise DataError(f"from_offsets({offsets!r}): give the first offset by the number of a partition, such as {{0: 17}}")
        for number in (*offsets, *offsets.values()):
            checked_count(f"from_offsets({dict(offsets)})", number, 0)
        return replace(self, beginning=Beginning(dict(offsets)))

    def _reading(self, timeout: str | timedelta | None = None, limit: int | None = None) -> Reading:
        from kandle.sets.messages import Reading

        self._check_read()
        if limit is not None:
            checked_count(f"limit={limit!r}", limit, 1)
        limits = [count for count in (self.newest, limit) if count is not None]
        duration = None if timeout is None else parse_duration(timeout)
        return Reading(self.topic, self.policy, self.beginning, min(limits, default=None), duration)

    def _transactional_reading(self, timeout: str | timedelta | None, interval: int, outbox: Outbox) -> Reading:
        return replace(self._reading(timeout), interval=interval, outboxes=(outbox,))

    def messages(self, *, timeout: str | timedelta | None = None) -> MessageStream[T]:
        """Return the records with their headers, partition, offset and time, from the position of the consumer group on.

        Args:
            timeout: How long a loop waits for the next message before it ends; None for no end.

        Returns:
            Messages for `for` or `async for`. Each is done, and committed, when the next one is asked for, or when the loop is
            left by `break`; a message in whose turn an exception ends the loop is the next one when consuming begins again.
        """
        from kandle.sets.messages import MessageStream

        return MessageStream(self._host, self.entity, self._reading(timeout))

    def manual_commit(self, *, timeout: str | timedelta | None = None) -> MessageStream[T]:
        """Return the records as `messages` does, committed by `message.commit()` only; to be opened by `with`.

        Args:
            timeout: How long a loop waits for the next message before it ends; None for no end.

        Returns:
            The messages.

        Example:
            with market.ticks.manual_commit() as messages:
                for message in messages:
                    handle(message.value)
                    message.commit()
        """
        from kandle.sets.messages import MessageStream

        return MessageStream(self._host, self.entity, self._reading(timeout), is_manual=True)

    def dead_letters(self) -> DeadLetterSet[T]:
        """Return the dead letters of this set: of its records that could not be read or handled.

        Those of bars are also the bars of this timeframe that do not fit, and the events that no bar could be made of.

        Returns:
            The letters, to be read, replayed or dropped.

        Example:
            market.ticks.dead_letters().where(error_class="ValueError").replay()
        """
        from kandle.plan.topics import dead_letter_name
        from kandle.sets.dead_letters import DeadLetterSet

        topics = (dead_letter_name(self.entity.topic),)
        return DeadLetterSet(self._host, self.entity, self.access, topics, self.entity.topic, f"{self._label}.dead_letters()")

    @awaited
    async def for_each_async(
        self,
        handler: Callable[[T], Awaitable[None] | None],
        *,
        limit: int | None = None,
        timeout: str | timedelta | None = None,
    ) -> int:
        """Call a function or a coroutine function with every value, one after the other.

        A value is committed when the handler has returned. What happens when it raises says the policy of the set (`on_error`,
        `with_retry`); by default the error ends the call, and the value is the next one when consuming begins again.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but cancellation.
            timeout: How long to wait for the next value before the call returns; None for no end.

        Returns:
            The number of values handled without an error.

        Raises:
            DataError: The handler is no function that can handle a value.
            Exception: What the handler has raised, where the policy is to stop.
        """
        from kandle.sets.loops import MessageLoop
        from kandle.sets.message import alive
        from kandle.sets.messages import MessageStream

        check_handler("for_each", handler)
        count = 0
        stream: MessageStream[T] = MessageStream(self._host, self.entity, self._reading(timeout, limit))
        async with stream:
            async for message in MessageLoop(stream, alive):
                try:
                    result = handler(message.value)  # type: ignore[arg-type]
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:
                    message.reject(error)
                else:
                    stream.finish(message)
                    count += 1
        return count

    def for_each(self, handler: Callable[[T], None], *, limit: int | None = None, timeout: str | timedelta | None = None) -> int:
        """Call a function with every value, one after the other, in this thread.

        The blocking form of `for_each_async`: the function may call blocking methods of sets.

        Args:
            handler: What is called with each value; tombstones are left out.
            limit: The number of values after which the call returns; None for no end but Ctrl-C.
            timeout: How long to wait for the next value before the call returns; None for no end.

        Returns:
            The number of values handled without an error.

        Raises:
            DataError: The handler is no function that can handle a value.
            StateError: The handler is a coroutine function, or an event loop runs in this thread.
            Exception: What the handler has raised, where the policy is to stop.
        """
        from kandle.sets.loops import MessageLoop
        from kandle.sets.message import alive
        from kandle.sets.messages import MessageStream

        check_handler("for_each", handler)
        wrong = StateError(f"the handler is a coroutine function; write `await {self._label}.for_each_async(...)`")
        if inspect.iscoroutinefunction(handler):
            raise wrong
        self._host.loop.check_blocking(f"{self._label}.for_each(...)", f"await {self._label}.for_each_async(...)")
        count = 0
        stream: MessageStream[T] = MessageStream(self._host, self.entity, self._reading(timeout, limit))
        with stream:
            for message in MessageLoop(stream, alive):
                try:
                    # Functions that only return a coroutine cannot be told before; nothing was done then.
                    result: object = handler(message.value)  # type: ignore[arg-type, func-returns-value]
                except Exception as error:
                    message.reject(error)
                else:
                    if inspect.isawaitable(result):
                        if inspect.iscoroutine(result):
                            result.close()
                        raise wrong
                    stream.finish(message)
                    count += 1
        return count

    def __aiter__(self) -> AsyncIterator[T]:
        check_asyncio(f"async for ... in {self._label}", f"iterate in a thread: `for ... in {self._label}`")
        return self.messages().values()

    def __iter__(self) -> Iterator[T]:
        self._host.loop.check_blocking("for", "async for")
        return self.messages().values()
