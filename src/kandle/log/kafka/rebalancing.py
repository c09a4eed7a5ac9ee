"""Partitions that come to a member of a group and go from it, as the library calls back, and what its listener hears of them.

The broker shares out one topic of each number of partitions, the last in the order of the group's spec; partition p of the
others goes to who owns p of that one. So topics are assigned alike with every assignor, cooperative ones included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer as Client

from kandle.log.kafka.assignment import Assignment
from kandle.log.kafka.takeover import Takeover
from kandle.log.port import Listener, TopicPartition

if TYPE_CHECKING:
    from kandle.log.kafka.log import KafkaLog


def shared_alike(log: KafkaLog, topics: Iterable[str]) -> dict[str, list[str]]:
    """The topics that are subscribed to, each with those that are assigned like it."""
    counts: dict[int, list[str]] = {}
    for topic in topics:
        counts.setdefault(log.topic(topic).partitions, []).append(topic)
    return {topics[-1]: topics for topics in counts.values()}


class Rebalancing:
    """Of one member."""

    def __init__(
        self, assignment: Assignment, takeover: Takeover, alike: dict[str, list[str]], listener: Listener | None
    ) -> None:
        self._assignment = assignment
        self._takeover = takeover
        self._alike = alike
        self._listener = listener
        self._coming: set[TopicPartition] = set()
        self._moved: set[TopicPartition] = set()
        self._problem: BaseException | None = None

    def subscribe(self, client: Client) -> None:
        """Have the broker share out partitions to this client; it calls back within its polls."""
        client.subscribe(
            sorted(self._alike), on_assign=self._guarded(self._assigned), on_revoke=self._guarded(self._revoked),
            on_lost=self._guarded(self._lost),
        )  # fmt: skip

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

    def raise_problem(self) -> None:
        """What went wrong in a callback."""
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def forget_problem(self) -> None:
        """What went wrong in a callback is known."""
        self._problem = None

    @property
    def moved(self) -> Collection[TopicPartition]:
        """What came or went in this poll."""
        return self._moved

    def begin_poll(self) -> None:
        """Take over what has come while the brokers could not be asked; what moves from now on belongs to this poll."""
        if self._coming:
            self._take_over()
        self._moved.clear()

    def _assigned(self, partitions: list[TopicPartition]) -> None:
        if self._assignment.is_ended:
            self._drop(partitions)
            return
        self._coming.update(place for place in partitions if place not in self._assignment)
        self._take_over()

    def _take_over(self) -> None:
        """Make what has come this member's own; while the brokers cannot be asked it is left for the next poll."""
        fresh = sorted(self._coming)
        assigned: list[TopicPartition] = []
        try:
            begin = self._takeover.begin(fresh) if fresh else {}
            self._coming.clear()
            self._assignment.add(fresh, begin)
            assigned = fresh
            if fresh and self._listener is not None:
                self._listener.assigned(fresh)
        finally:
            # Whatever went wrong, the library needs an answer; the next poll tells what it was.
            self._assignment.start(assigned)

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        going = [place for place in partitions if place in self._assignment]
        try:
            if going and self._listener is not None:
                self._listener.revoked(going)
        finally:
            self._drop(partitions)

    def _lost(self, partitions: list[TopicPartition]) -> None:
        gone = [place for place in partitions if place in self._assignment]
        self._drop(partitions)
        if gone and self._listener is not None:
            self._listener.lost(gone)

    def lose_all(self) -> None:
        """Everything belongs to others already, also what was about to come."""
        self._lost([*self._assignment, *self._coming])

    def _drop(self, partitions: Collection[TopicPartition]) -> None:
        self._coming.difference_update(partitions)
        self._assignment.drop(partitions)
