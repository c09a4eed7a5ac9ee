"""Members of a consumer group: they share topics, and commit records together with positions.

What is whose says the assignment, how that changes the rebalancing, what is read the fetcher, what is written the committer. This
holds them together over the life of a member, which may join anew under its name.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import Consumer as Client

from kandle.errors import FencedError, ReplacedError, UnavailableError
from kandle.log.kafka.assignment import Assignment
from kandle.log.kafka.committing import Committer, is_taken_over
from kandle.log.kafka.failures import translated
from kandle.log.kafka.fetching import Fetcher, listening
from kandle.log.kafka.reading import SLICE, acquaint, uncollected
from kandle.log.kafka.rebalancing import Rebalancing, shared_alike
from kandle.log.kafka.statistics import Statistics
from kandle.log.kafka.takeover import Takeover
from kandle.log.kafka.writing import Transactions
from kandle.log.port import GroupSpec, Listener, TopicPartition
from kandle.log.records import Batch, Write
from kandle.time.timeframe import MILLISECOND, SECOND

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog

logger = logging.getLogger("kandle.kafka")


class KafkaConsumer:
    """A member of a group."""

    def __init__(self, log: KafkaLog, spec: GroupSpec, listener: Listener | None) -> None:
        self._log = log
        self._spec = spec
        self._settings = log.settings
        self._statistics = Statistics(log.settings.statistics)
        self._transactions = Transactions(log.settings, spec.member, f"{spec.group}-{spec.member}", log.told, self._statistics)
        alike = shared_alike(log, spec.topics)
        self._takeover = Takeover(log, spec, self._transactions)
        self._assignment = Assignment(spec.group, log.claims, log.clock)
        self._rebalancing = Rebalancing(self._assignment, self._takeover, alike, listener)
        self._doubt: ReplacedError | None = None
        self._is_woken = False
        self._join()

    def _join(self) -> None:
        log, spec = self._log, self._spec
        with translated(f"group {spec.group}"):
            settings = log.settings.member(spec)
            self._client = Client({**self._statistics.of("consumer"), **settings, "error_cb": log.told}, logger=logger)
            self._assignment.belong_to(self._client)
            self._committer = Committer(self._client, spec, log, self._transactions)
            self._fetcher = Fetcher(self._client, log, spec, self._assignment, self._rebalancing)
            for topic in spec.topics:
                # Those that are assigned alike are not subscribed to: the library would look for them at their first read.
                acquaint(self._client, topic, set(), log.settings.request)
            self._rebalancing.subscribe(self._client)

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return self._assignment.epochs

    @property
    def statistics(self) -> Mapping[str, int]:
        return self._statistics.figures

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

    def _polled(self, left: int, max_rows: int) -> list[Batch]:
        if self._doubt is not None:
            self._find_out(self._doubt)
        self._rebalancing.begin_poll()
        try:
            return self._fetcher.fetch(left, max_rows)
        except ReplacedError as error:
            self._doubt = error
            return self._polled(left, max_rows)

    def _find_out(self, error: ReplacedError) -> None:
        """ReplacedError if another process has the member's name; else this one has taken it from itself, and joins anew.

        That is so after an outage: it joined again, the answer was lost, and what it asked as the one before came too late. The
        brokers do not tell one from the other, but outages are heard of; should it be another, one of them ends later.
        """
        self._rebalancing.lose_all()
        if not self._log.told.is_troubled:
            raise ReplacedError(
                f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                f"give each process a name of its own (option runtime.instance): {error}"
            ) from error
        logger.warning("group %s: %s joins anew: %s", self._spec.group, self._spec.member, error)
        self._assignment.abandon()
        self._client.close()
        # The old client has told of what it let go of, which is known.
        self._rebalancing.forget_problem()
        self._join()
        self._doubt = None

    def wake(self) -> None:
        self._is_woken = True

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._assignment.seek(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._assignment.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._assignment.resume(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return self._takeover.committed(partitions)

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Write] = ()) -> list[int]:
        for place in offsets:
            if place not in self._assignment:
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
        if self._assignment.is_ended:
            return
        self._assignment.end()
        try:
            if self._doubt is None:
                self._leave()
        finally:
            self._assignment.drop(list(self._assignment))
            self._assignment.abandon()
            self._client.close()
            self._transactions.close()
        self._rebalancing.raise_problem()

    def _leave(self) -> None:
        """A member with a name of its own would only be missed after its session; one that unsubscribes leaves at once."""
        with suppress(ReplacedError), listening(self._spec.group):
            self._client.unsubscribe()
            deadline = self._log.clock.steady() + self._settings.request
            while self._assignment and self._log.clock.steady() < deadline:
                self._client.consume(1, 5 * MILLISECOND / SECOND)
