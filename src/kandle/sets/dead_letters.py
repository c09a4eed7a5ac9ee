"""The dead letters of a set: read as objects, replayed into their topic or a handler, or dropped."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
from anyio import from_thread, to_thread

from kandle.errors import AccessError, DataError, UnknownTopicError
from kandle.log.letters import LetterKind
from kandle.log.records import Batch, EncodedWrite
from kandle.log.versions import Adapt, adapters
from kandle.model.columns import physical_schema
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.markers import Access
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost
from kandle.sets.keys import KeyPrefix, as_parts
from kandle.sets.letters import DeadLetter, LetterFilter, every_letter, newest_letters
from kandle.sets.policies import check_handler, checked_count
from kandle.sets.reading import instant_of
from kandle.sets.replaying import LettersDone, LetterWork, Refused, drop, finish, handle, letter_record, replay

if TYPE_CHECKING:
    from kandle.sets.reading import Instant

T = TypeVar("T")
R = TypeVar("R")

KINDS = tuple(kind.value for kind in LetterKind if kind not in (LetterKind.REPLAYED, LetterKind.DROPPED))


@dataclass(frozen=True, slots=True, repr=False)
class DeadLetterSet(Generic[T]):
    """The dead letters of the records of a set: those that are open, unless `where` says otherwise.

    Example:
        for letter in market.ticks.dead_letters().where(error_class="ValueError"):
            print(letter.offset, letter.error, letter.payload)
        market.ticks.dead_letters().replay()
    """

    _host: ContextHost
    entity: EntityModel
    access: Access
    topics: tuple[str, ...]
    """The topics of the letters."""
    _records: str
    _name: str
    _chosen: LetterFilter = field(default_factory=LetterFilter)
    newest: int | None = None
    """How many of the newest letters `to_list` returns; None for all."""

    def __repr__(self) -> str:
        return f"DeadLetterSet({', '.join(self.topics)})"

    @property
    def _label(self) -> str:
        return self._name

    def where(  # noqa: PLR0913 - each is a way to choose
        self,
        *,
        kind: str | Sequence[str] = (),
        error_class: str | None = None,
        group: str | None = None,
        partition: int | None = None,
        key: KeyPrefix = (),
        since: Instant | None = None,
        until: Instant | None = None,
        include_done: bool = False,
    ) -> Self:
        """Return some of the letters.

        Args:
            kind: Kinds of letters: `handler`, `unreadable`, `event`, `bar` or `left out`.
            error_class: The class of the error, such as `ValueError`; with its module or without.
            group: The consumer group whose handler has failed.
            partition: The partition of the records.
            key: The first parts of the records' keys.
            since: When the first letters were written, as an aware datetime or an ISO 8601 text.
            until: The instant before which the last letters were written.
            include_done: Whether letters that were replayed or dropped are among them.

        Returns:
            The set of these letters.

        Raises:
            DataError: There is no such kind.
        """
        kinds = (kind,) if isinstance(kind, str) else tuple(kind)
        if unknown := [name for name in kinds if name not in KINDS]:
            raise DataError(f"there is no kind {unknown[0]!r} of dead letters; choose from: {', '.join(KINDS)}")
        chosen = replace(
            self._chosen,
            kinds=kinds or self._chosen.kinds,
            error_class=error_class or self._chosen.error_class,
            group=group or self._chosen.group,
            partition=self._chosen.partition if partition is None else partition,
            key=tuple(str(part) for part in as_parts(key)) or self._chosen.key,
            since=self._chosen.since if since is None else instant_of(since),
            until=self._chosen.until if until is None else instant_of(until),
            is_done=include_done or self._chosen.is_done,
        )
        return replace(self, _chosen=chosen)

    def limit(self, count: int) -> Self:
        """Return only the newest letters.

        Args:
            count: The number of letters that `to_list` returns at most.

        Raises:
            DataError: The number is below 1.
        """
        return replace(self, newest=checked_count(f"limit({count!r})", count, 1))

    @awaited
    async def to_list_async(self) -> list[DeadLetter]:
        """Return the letters.

        Returns:
            The letters, oldest first.

        Raises:
            AccessError: The context was opened for writing only.
        """
        self._check_read()
        self._host.settle()
        return await to_thread.run_sync(self._read)

    to_list = blocking(to_list_async)

    def _check_read(self) -> None:
        if self.access == "write_only":
            raise AccessError(f"dead letters cannot be read: the context was opened with access={self.access!r}")

    def _read(self) -> list[DeadLetter]:
        parts = (newest_letters(self._host.log, topic, self._chosen, self.newest) for topic in self._existing())
        letters = sorted((letter for part in parts for letter in part), key=lambda letter: letter.written)
        return letters if self.newest is None else letters[-self.newest :]

    def _existing(self) -> Iterator[str]:
        """Yield the topics that are there: each is created with its first letter."""
        for topic in self.topics:
            with suppress(UnknownTopicError):
                self._host.log.topic(topic)
                yield topic

    @awaited
    async def count_async(self) -> int:
        """Return how many letters there are.

        Returns:
            The number; a letter that sums up others counts for all of them.
        """
        self._check_read()
        self._host.settle()
        return await to_thread.run_sync(self._sum)

    count = blocking(count_async)

    def _sum(self) -> int:
        topics = list(self._existing())
        return sum(letter.count for topic in topics for letter in every_letter(self._host.log, topic, self._chosen))

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        for letter in await self.to_list_async():
            yield letter

    def __iter__(self) -> Iterator[DeadLetter]:
        self._host.loop.check_blocking("for", "async for")
        return iter(self.to_list())

    @awaited
    async def replay_async(self, handler: Callable[[T], Awaitable[None] | None] | None = None) -> LettersDone:
        """Write the records of open letters to their topic again, or have a handler called with them.

        Records keep their headers and get two more: `kandle-dead-letter` names the letter, and `kandle-origin` the place that
        the record had first. Each is written exactly once, whoever is killed and whatever is tried again; with a handler, the
        one that was being handled may come a second time.

        Args:
            handler: What is called with each object, in a thread of its own; a coroutine function is awaited in the event loop.

        Returns:
            How many letters are done, and those that could not be replayed, each with the reason.

        Raises:
            AccessError: The context was not opened for reading and writing.
            DataError: The handler is no function that can handle an object.
            StateError: Another process replays letters of this topic and does not come to an end.
        """
        if handler is None:
            return await self._finish(replay(self._host.log))
        check_handler("replay", handler)
        return await self._finish(handle(partial(self._call, handler)))

    replay = blocking(replay_async)

    @awaited
    async def drop_async(self) -> LettersDone:
        """Have open letters count as done without doing anything.

        Returns:
            How many letters were dropped.

        Raises:
            AccessError: The context was not opened for reading and writing.
        """
        return await self._finish(drop())

    drop = blocking(drop_async)

    async def _finish(self, work: LetterWork) -> LettersDone:
        if self.access != "read_write":
            raise AccessError(f"dead letters cannot be replayed or dropped: the context was opened with access={self.access!r}")
        self._host.settle()
        done = 0
        refused: list[Refused] = []
        for topic in list(self._existing()):
            member = self._host.reader(topic).member
            result = await to_thread.run_sync(
                finish, self._host.log, topic, member, self._chosen, work, from_thread.check_cancelled
            )
            done += result.done
            refused += result.refused
        return LettersDone(done, tuple(refused))

    def _call(self, handler: Callable[[T], Awaitable[None] | None], letter: DeadLetter) -> None:
        obj = self._object(letter)
        result = handler(obj)
        if inspect.isawaitable(result):
            from_thread.run(_result_of, result)

    def _object(self, letter: DeadLetter) -> T:
        """Return the object of a letter's record, also of a former version of the key; DataError if it is none of this set."""
        log = self._host.log
        versions: Mapping[str, Adapt | None] = (
            adapters(log, self.entity) if self._records == self.entity.topic else {self._records: None}
        )
        is_sum = letter.kind in (LetterKind.BAR.value, LetterKind.LEFT_OUT.value)
        if letter.topic not in versions or letter.payload is None or is_sum:
            raise DataError(f"it holds no {self.entity.name} of topic {self._records} that a handler could take")
        if letter.is_json:
            records = letter_record(log.topic(letter.topic), letter, letter.raw_headers)
        else:
            records = log.decoded(
                EncodedWrite(letter.topic, letter.partition, [letter.key], [letter.payload], [letter.raw_headers])
            )
        batch = Batch(letter.topic, letter.partition, np.array([letter.offset]), np.zeros(1, np.int64), records)
        adapt = versions[letter.topic]
        batch = batch if adapt is None else adapt(batch)
        if not len(batch):
            reasons = [reject.reason for reject in batch.rejects]
            raise DataError(reasons[0] if reasons else "it is a copy of a record in another topic")
        objects: list[T] = mapping(self.entity).from_frame(batch.records.frame.select(list(physical_schema(self.entity))))
        return objects[0]


async def _result_of(awaitable: Awaitable[R]) -> R:
    return await awaitable
