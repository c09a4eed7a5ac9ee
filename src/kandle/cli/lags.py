"""How much groups have not read, asked for all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.log.port import GroupState, Log, ReadPosition, TopicPartition
from kandle.plan.query_topics import bars_of_group
from kandle.plan.topics import has_letters
from kandle.sets.letters import letter_states
from kandle.sets.replaying import letters_group


class Lags:
    """How many records groups have not read.

    Whoever replays dead letters has no positions: what is left to him are those that are open.

    Args:
        log: The log.
        states: The groups.
    """

    def __init__(self, log: Log, states: Sequence[GroupState]) -> None:
        self._log = log
        self._specs = log.topics()
        self._letters = {letters_group(spec.name): spec.name for spec in self._specs if has_letters(spec)}
        readers = [state for state in states if state.group not in self._letters]
        self._waiting = log.waiting({_position(state, partition) for state in readers for partition in _partitions(state)})

    def letters_of(self, group: str) -> str | None:
        """Return the topic whose letters a group replays; None if it does something else."""
        return self._letters.get(group)

    def kind(self, group: str) -> str:
        """Return in words what a group does."""
        if group in self._letters:
            return f"replays of {self._letters[group]}"
        bars = bars_of_group(group, self._specs)
        return "readers" if bars is None else f"query of {bars}"

    def of(self, state: GroupState) -> dict[TopicPartition, int | None]:
        """Return the lag of each partition of a group; None where it has no position, or where the partition is gone."""
        if state.group in self._letters:
            return {**self._open_letters(self._letters[state.group])}
        partitions = {partition: _position(state, partition) for partition in _partitions(state)}
        return {
            partition: self._waiting.get(position) if partition in state.positions else None
            for partition, position in partitions.items()
        }

    def total(self, state: GroupState) -> int:
        """Return the lag of a group that reads partitions from their beginning where it has no position."""
        if state.group in self._letters:
            return sum(self._open_letters(self._letters[state.group]).values())
        return sum(self._waiting.get(_position(state, partition), 0) for partition in _partitions(state))

    def _open_letters(self, topic: str) -> dict[TopicPartition, int]:
        partitions = [TopicPartition(topic, number) for number in range(self._log.partition_count(topic))]
        return {partition: len(letter_states(self._log, partition).open) for partition in partitions}


def _partitions(state: GroupState) -> set[TopicPartition]:
    return {*state.owners, *state.positions}


def _position(state: GroupState, partition: TopicPartition) -> ReadPosition:
    return ReadPosition(partition, state.positions.get(partition, 0))
