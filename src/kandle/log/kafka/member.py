"""Members of a consumer group: they share topics, and commit records together with positions.

The broker shares out one topic of each number of partitions, the last in the order of the group's spec; partition p of the
others goes to who owns p of that one. So topics are assigned alike with every assignor, cooperative ones included.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from kandle.errors import FencedError, ReplacedError, StorageError, UnavailableError
from kandle.log.kafka.committing import Committer, is_taken_over
from kandle.log.kafka.failures import is_fatal, meaning, translated
from kandle.log.kafka.reading import SLICE, acquaint, batch_of, uncollected
from kandle.log.kafka.takeover import Takeover, check_positions
from kandle.log.kafka.writing import Transactions
from kandle.log.port import GroupSpec, Listener, TopicPartition
from kandle.log.records import Batch, Write
from kandle.time.timeframe import MILLISECOND, SECOND

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog

logger = logging.getLogger("kandle.kafka")

AT_ONCE = 50_000
"""Records that one poll takes: of more than these the first have left the processor's caches when they are decoded."""


class KafkaConsumer:
    """A member of a group."""

    def __init__(self, log: KafkaLog, spec: GroupSpec, listener: Listener | None) -> None:
        self._log = log
        self._spec = spec
        self._listener = listener
        self._settings = log.settings
        self._transactions = Transactions(log.settings, spec.member, f"{spec.group}-{spec.member}", log.told)
        self._order = {topic: number for number, topic in enumerate(spec.topics)}
        self._alike = self._shared_alike()
        self._takeover = Takeover(log, spec, self._transactions)
        self._coming: set[TopicPartition] = set()
        self._owned: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._problem: BaseException | None = None
        self._doubt: ReplacedError | None = None
        self._moved: set[TopicPartition] = set()
        self._is_assigning = False
        self._is_woken = False
        self._is_closed = False
        self._join()

    def _join(self) -> None:
        log, spec = self._log, self._spec
        with translated(f"group {spec.group}"):
            settings = log.settings.member(spec)
            self._client = Client({**settings, "error_cb": log.told}, logger=logger)
            self._committer = Committer(self._client, spec, log, self._transactions)
            for topic in spec.topics:
                # Those that are assigned alike are not subscribed to: the library would look for them at their first read.
                acquaint(self._client, topic, set(), log.settings.request)
            self._client.subscribe(
                sorted(self._alike), on_assign=self._guarded(self._assigned), on_revoke=self._guarded(self._revoked),
                on_lost=self._guarded(self._lost),
            )  # fmt: skip

    def _shared_alike(self) -> dict[str, list[str]]:
        """The topics that are subscribed to, each with those that are assigned like it."""
        counts: dict[int, list[str]] = {}
        for topic in self._spec.topics:
            counts.setdefault(self._log.topic(topic).partitions, []).append(topic)
        return {topics[-1]: topics for topics in counts.values()}

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return dict(self._owned)

    def _guarded(self, call: Callable[[list[TopicPartition]], None]) -> Callable[[Any, list[Any]], None]:
        """The library's callbacks must not raise: what goes wrong in them is raised by the poll that they belong to."""

        def called(_: Any, places: list[Any]) -> None:
            every = [
                TopicPartition(topic, place.partition)
                for place in places
                for topic in self._alike.get(place.topic, [place.topic])
            ]
            self._moved.update(every)
            try:
                call(every)
            except BaseException as error:
                self._problem = self._problem or error

        return called

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        if self._is_closed:
            self._drop(partitions)
            return
        self._coming.update(place for place in partitions if place not in self._owned)
        self._take_over()

    def _take_over(self) -> None:
        """Make what has come this member's own; while the brokers cannot be asked it is left for the next poll."""
        fresh = sorted(self._coming)
        assigned: list[TopicPartition] = []
        try:
            begin = self._takeover.begin(fresh) if fresh else {}
            epoch = max([self._log.clock.now(), *(each + 1 for each in self._owned.values())])
            self._is_assigning = True
            self._coming.clear()
            self._owned.update(dict.fromkeys(fresh, epoch))
            self._log.claims.hold(self._spec.group, self._owned)
            self._positions |= begin
            assigned = fresh
            if fresh and self._listener is not None:
                self._listener.assigned(fresh)
        finally:
            self._is_assigning = False
            # Whatever went wrong, the library needs an answer; the next poll tells what it was.
            self._client.incremental_assign([Place(*place, self._positions[place]) for place in assigned])
            self._pause_again(assigned)

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        going = [place for place in partitions if place in self._owned]
        try:
            if going and self._listener is not None:
                self._listener.revoked(going)
        finally:
            self._drop(partitions)

    def _lost(self, partitions: list[TopicPartition]) -> None:
        gone = [place for place in partitions if place in self._owned]
        self._drop(partitions)
        if gone and self._listener is not None:
            self._listener.lost(gone)

    def _drop(self, partitions: Collection[TopicPartition]) -> None:
        self._coming.difference_update(partitions)
        for place in partitions:
            self._owned.pop(place, None)
            self._positions.pop(place, None)
        self._log.claims.hold(self._spec.group, self._owned, gone=partitions)
        try:
            assigned = {(place.topic, place.partition) for place in self._client.assignment()}
        except KafkaException:
            if not self._is_closed:
                raise
            # The client is on its way out, and has let go of everything.
            return
        places = [Place(*place) for place in partitions if place in assigned]
        if places:
            # The library would remember a pause until the partition comes back.
            self._client.resume(places)
            self._client.incremental_unassign(places)

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        deadline = self._log.clock.steady() + timeout
        waited = 0
        while True:
            left = max(0, min(deadline - self._log.clock.steady(), timeout - waited, SLICE))
            with uncollected():
                batches = self._polled(left, max_rows)
            # A clock that is moved by hand does not move while this waits.
            waited += left
            if batches or waited >= timeout or self._log.clock.steady() >= deadline or self._is_woken:
                self._is_woken = False
                return batches

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """As `translated` for polls; what is fatal to the client of a group is that its name was taken."""
        try:
            with translated(f"group {self._spec.group}"):
                yield
        except StorageError as error:
            if is_fatal(error):
                raise ReplacedError(str(error)) from error
            raise

    def _find_out(self, error: ReplacedError) -> None:
        """ReplacedError if another process has the member's name; else this one has taken it from itself, and joins anew.

        That is so after an outage: it joined again, the answer was lost, and what it asked as the one before came too late. The
        brokers do not tell one from the other, but outages are heard of; should it be another, one of them ends later.
        """
        self._lost([*self._owned, *self._coming])
        if not self._log.told.is_troubled:
            raise ReplacedError(
                f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                f"give each process a name of its own (option runtime.instance): {error}"
            ) from error
        logger.warning("group %s: %s joins anew: %s", self._spec.group, self._spec.member, error)
        self._client.close()
        # The old client has told of what it let go of, which is known.
        self._problem = None
        self._join()
        self._doubt = None

    def _polled(self, left: int, max_rows: int) -> list[Batch]:
        if self._doubt is not None:
            self._find_out(self._doubt)
        if self._coming:
            self._take_over()
        self._moved.clear()
        messages: list[Any] = []
        positions = self._positions
        try:
            with self._listening():
                # One message ends the wait; the others that are there come along.
                messages = self._client.consume(1, left / SECOND)
                if messages:
                    messages += self._client.consume(min(max_rows, AT_ONCE), 0)
            positions = dict(self._positions)
            self._raise()
            return self._batches(self._current(messages))
        except ReplacedError as error:
            self._doubt = error
            return self._polled(left, max_rows)
        except BaseException:
            self._read_again(messages, positions)
            raise

    def _raise(self) -> None:
        """What went wrong in a callback."""
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def _current(self, messages: list[Any]) -> list[Any]:
        """Without those of partitions that came or went meanwhile: they may be from before, and are read again."""
        if not self._moved:
            return messages
        old = [message for message in messages if (message.topic(), message.partition()) in self._moved]
        self._read_again(old, self._positions)
        return [message for message in messages if (message.topic(), message.partition()) not in self._moved]

    def _read_again(self, messages: Collection[Any], positions: Mapping[TopicPartition, int]) -> None:
        """Have messages come once more that were taken from the library, but not given out."""
        places = {TopicPartition(message.topic(), message.partition()) for message in messages} & self._owned.keys()
        self.seek({place: positions[place] for place in places if place in positions})

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
        places = [TopicPartition(*place) for place in by_place.keys() | ends]
        for place in sorted(places, key=lambda place: (self._order.get(place.topic, 0), place.partition)):
            if place in self._owned and (batch := self._batch(place, by_place.get(place, []), ends.get(place), now)) is not None:
                found.append(batch)
        return found

    def _batch(self, place: TopicPartition, messages: list[Any], end: int | None, now: int) -> Batch | None:
        """None if it tells nothing new."""
        position = self._positions.get(place, 0)
        if messages and messages[0].offset() < position:
            messages = [message for message in messages if message.offset() >= position]
        behind = messages[-1].offset() + 1 if messages else position
        following = behind if end is None else max(behind, end)
        if not messages and following <= position:
            return None
        self._positions[place] = following
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
        if place not in self._owned:
            return
        bounds = self._log.admin.bounds([place])
        check_positions(self._spec.group, self._positions, bounds)
        first = bounds[place][0]
        logger.error(
            "records %d to %d of %s, partition %d, are gone before group %s has read them",
            self._positions[place], first - 1, place.topic, place.partition, self._spec.group,
        )  # fmt: skip
        self.seek({place: first})

    def wake(self) -> None:
        self._is_woken = True

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update(positions)
        if self._is_assigning:
            # They are read from there as soon as they are assigned.
            return
        places = [place for place in positions if place in self._owned]
        with translated(f"group {self._spec.group}"):
            self._client.incremental_unassign([Place(*place) for place in places])
            self._client.incremental_assign([Place(*place, positions[place]) for place in places])
        self._pause_again(places)

    def _pause_again(self, places: Collection[TopicPartition]) -> None:
        paused = [Place(*place) for place in places if place in self._paused and place in self._owned]
        if paused:
            self._client.pause(paused)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)
        self._pause_again(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)
        owned = [place for place in partitions if place in self._owned]
        self._client.resume([Place(*place) for place in owned])
        # What the library had fetched before the pause is fetched again.
        self.seek({place: self._positions[place] for place in owned})

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return self._takeover.committed(partitions)

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Write] = ()) -> list[int]:
        for place in offsets:
            if place not in self._owned:
                raise FencedError(
                    f"partition {place.partition} of {place.topic} is not owned by {self._spec.member} in group "
                    f"{self._spec.group} any more; nothing was written"
                )
        encoded = self._log.encoded(writes)
        try:
            return self._committer.commit(offsets, encoded)
        except FencedError as error:
            if self._settings.protocol == "consumer" and is_taken_over(error) and self._has_double():
                self._doubt = ReplacedError(str(error))
            raise

    def _has_double(self) -> bool:
        """Whether two members of the group have this one's name, as far as the brokers tell: they do not mind."""
        with suppress(UnavailableError):
            return [name for name, _ in self._log.admin.members(self._spec.group)].count(self._spec.member) > 1
        return False

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._doubt is None:
                self._leave()
        finally:
            self._drop(list(self._owned))
            self._client.close()
            self._transactions.close()
        self._raise()

    def _leave(self) -> None:
        """A member with a name of its own would only be missed after its session; one that unsubscribes leaves at once."""
        with suppress(ReplacedError), self._listening():
            self._client.unsubscribe()
            deadline = self._log.clock.steady() + self._settings.request
            while self._owned and self._log.clock.steady() < deadline:
                self._client.consume(1, 5 * MILLISECOND / SECOND)


PASSING_BY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._MAX_POLL_EXCEEDED}
