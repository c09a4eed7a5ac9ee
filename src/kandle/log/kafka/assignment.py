"""What a member of a group owns, from where on it reads that, and what of it is paused: here and in the library alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as Place

from kandle.log.kafka.claims import Claims
from kandle.log.kafka.failures import translated
from kandle.log.port import TopicPartition
from kandle.time.clock import Clock


class Assignment:
    """Of one member: its partitions with their epochs and positions. Pauses outlast the ownership."""

    def __init__(self, group: str, claims: Claims, clock: Clock) -> None:
        self._group = group
        self._claims = claims
        self._clock = clock
        self._client: Any = None
        self._owned: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._is_assigning = False
        self._is_ended = False
        self._is_abandoned = False

    def belong_to(self, client: Client) -> None:
        """What is assigned is read by this client from now on."""
        self._client = client
        self._is_abandoned = False

    def __contains__(self, partition: object) -> bool:
        return partition in self._owned

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)

    @property
    def epochs(self) -> dict[TopicPartition, int]:
        """Partitions with their epochs."""
        return dict(self._owned)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Where each partition is read on, as it changes: who needs it as it is now makes a copy."""
        return self._positions

    @property
    def is_ended(self) -> bool:
        """Whether the member leaves, so that nothing must come any more."""
        return self._is_ended

    def end(self) -> None:
        """Nothing is to come any more."""
        self._is_ended = True

    def abandon(self) -> None:
        """The client is about to be closed: it lets go of everything by itself and, asked meanwhile, may never answer."""
        self._is_abandoned = True

    def add(self, partitions: Collection[TopicPartition], begin: Mapping[TopicPartition, int]) -> None:
        """Own these from now on; they are read only when `start` says so, so that they can still be sought."""
        epoch = max([self._clock.now(), *(each + 1 for each in self._owned.values())])
        self._is_assigning = True
        self._owned.update(dict.fromkeys(partitions, epoch))
        self._claims.hold(self._group, self._owned)
        self._positions |= begin

    def start(self, partitions: Collection[TopicPartition]) -> None:
        """Have the library read these from their positions on; it is told also of none, since it waits for an answer."""
        self._is_assigning = False
        self._client.incremental_assign([Place(*place, self._positions[place]) for place in partitions])
        self._pause_again(partitions)

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Own these no longer."""
        for place in partitions:
            self._owned.pop(place, None)
            self._positions.pop(place, None)
        self._claims.hold(self._group, self._owned, gone=partitions)
        if self._is_abandoned:
            return
        try:
            assigned = {(place.topic, place.partition) for place in self._client.assignment()}
        except KafkaException:
            if not self._is_ended:
                raise
            # The client has failed, and has let go of everything.
            return
        places = [Place(*place) for place in partitions if place in assigned]
        if places:
            # The library would remember a pause until the partition comes back.
            self._client.resume(places)
            self._client.incremental_unassign(places)

    def move(self, partition: TopicPartition, position: int) -> None:
        """Records up to this position have been given out."""
        self._positions[partition] = position

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these offsets."""
        self._positions.update(positions)
        if self._is_assigning:
            # They are read from there as soon as they are assigned.
            return
        places = [place for place in positions if place in self._owned]
        with translated(f"group {self._group}"):
            self._client.incremental_unassign([Place(*place) for place in places])
            self._client.incremental_assign([Place(*place, positions[place]) for place in places])
        self._pause_again(places)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Do not read these, until `resume`."""
        self._paused.update(partitions)
        self._pause_again(partitions)

    def _pause_again(self, places: Collection[TopicPartition]) -> None:
        paused = [Place(*place) for place in places if place in self._paused and place in self._owned]
        if paused:
            self._client.pause(paused)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Read these again."""
        self._paused.difference_update(partitions)
        owned = [place for place in partitions if place in self._owned]
        self._client.resume([Place(*place) for place in owned])
        # What the library had fetched before the pause is fetched again.
        self.seek({place: self._positions[place] for place in owned})
