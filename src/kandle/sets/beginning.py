"""Where consuming begins: at the position of the group, at given offsets, or at an instant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from kandle.errors import DataError
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch

ROWS_AT_ONCE = 50_000
FAR = 2**62


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where partitions are read from, in the place of the group's position.

    Attributes:
        offsets: The first offset of partitions, by their number; others begin at the position of the group.
        since: An instant in microseconds: a partition begins at its first event of that time or later. None for no such bound.
        time: The column with the time of events; None takes the time of the append.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    since: int | None = None
    time: str | None = None

    def of(self, log: Log, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where partitions begin.

        Args:
            log: The log.
            partitions: The partitions of one topic.

        Returns:
            The first offset to read, of those that do not begin at the position of the group.

        Raises:
            DataError: An offset lies behind the end of its partition.
        """
        if self.since is not None:
            return {partition: self._first_since(log, partition, self.since) for partition in partitions}
        named = {partition: self.offsets[partition.partition] for partition in partitions if partition.partition in self.offsets}
        return {partition: _checked(log, partition, offset) for partition, offset in named.items()}

    def check(self, topic: str, partitions: int) -> None:
        """Raise DataError for offsets of partitions that the topic does not have.

        Args:
            topic: The name of the topic.
            partitions: The number of its partitions.
        """
        wrong = [number for number in self.offsets if not 0 <= number < partitions]
        if wrong:
            raise DataError(f"from_offsets: {topic} has partitions 0 to {partitions - 1}, not {wrong[0]}")

    def _first_since(self, log: Log, partition: TopicPartition, since: int) -> int:
        end = log.ends(partition.topic)[partition.partition]
        offset = log.first(partition)
        while offset < end:
            batches = log.read(partition, offset, ROWS_AT_ONCE, (since, FAR) if self.time is not None else None)
            if not batches:
                return end
            for batch in batches:
                rows = np.flatnonzero(self._times(batch) >= since)
                # Of a record that cannot be read only the time of its append is known.
                unreadable = [reject.offset for reject in batch.rejects if (reject.timestamp or 0) >= since]
                if rows.size or unreadable:
                    return min([int(batch.offsets[row]) for row in rows[:1]] + unreadable[:1])
            offset = batches[-1].next_offset
        return end

    def _times(self, batch: Batch) -> np.ndarray:
        if self.time is None or self.time not in batch.records.frame.columns:
            # The topic of an earlier version may have no such column.
            return batch.timestamps
        return batch.records.frame[self.time].to_physical().fill_null(-FAR).to_numpy()


def _checked(log: Log, partition: TopicPartition, offset: int) -> int:
    end = log.ends(partition.topic)[partition.partition]
    if offset > end:
        raise DataError(
            f"from_offsets: partition {partition.partition} of {partition.topic} ends at {end}, so it cannot be read from "
            f"{offset} on; give an offset of up to {end}"
        )
    return max(offset, log.first(partition))
