"""Where a task goes on whose group has lost its position, by what its state says of the last event.

Brokers forget the positions of a group some days after its last member has left, and at once when a topic is deleted. The state
is there all the same, and says which event it took in last. That event tells whether the topic is still the same:

    the event is there                        go on behind it
    it was removed (retention)                go on with the first record that is left
    another event is there, or none so far    the topic was deleted and created again: read it from its beginning
    nothing is known                          an error; its events might count twice
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch

logger = logging.getLogger("kandle")

POSITION, OFFSET, TIME, CHECKSUM = "input_position", "input_offset", "input_time", "input_checksum"


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The end of what a state holds of its events.

    Attributes:
        position: The next offset to be processed.
        offset: The offset of the last event; -1 if there was none.
        time: Its timestamp, in microseconds.
        checksum: A checksum of its values.
    """

    position: int
    offset: int = -1
    time: int = 0
    checksum: int = 0

    @classmethod
    def of(cls, position: int, batch: Batch) -> LastEvent:
        """Return what is known of the last record of a batch, which is not empty."""
        values = batch.records.frame.row(len(batch) - 1)
        return cls(position, int(batch.offsets[-1]), int(batch.timestamps[-1]), zlib.crc32(repr(values).encode()))

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, int]) -> LastEvent | None:
        """Return what `numbers` has returned; None for the state of an older version."""
        if POSITION not in numbers:
            return None
        return cls(numbers[POSITION], numbers[OFFSET], numbers[TIME], numbers[CHECKSUM])

    def numbers(self) -> dict[str, int]:
        """Return it as numbers of a snapshot or change."""
        return {POSITION: self.position, OFFSET: self.offset, TIME: self.time, CHECKSUM: self.checksum}


def resumed_position(log: Log, group: str, partition: TopicPartition, last: LastEvent) -> int | None:
    """Return the next event of a task whose group has no position in its events.

    Args:
        log: The log.
        group: The consumer group, for messages.
        partition: The partition of the events.
        last: What the state says of its events.

    Returns:
        The offset; None if it cannot be told whether the topic is still the same.
    """
    first, end = log.first(partition), log.ends(partition.topic)[partition.partition]
    is_same = _is_same_topic(log, partition, last, first, end)
    if is_same is None:
        return None
    name = f"{group}: partition {partition.partition} of {partition.topic}"
    if not is_same:
        logger.warning("%s was deleted and created again; it is read from its beginning", name)
        return first
    logger.warning("%s: the position of the group is gone; the state goes on at offset %d", name, last.position)
    return last.position


def _is_same_topic(log: Log, partition: TopicPartition, last: LastEvent, first: int, end: int) -> bool | None:
    if end < last.position:
        return False
    # A topic that is created again begins at 0, so one whose first records are gone is an old one.
    if last.offset < first:
        return True
    batch = next((batch for batch in log.read(partition, last.offset, 1) if len(batch)), None)
    if batch is None or int(batch.offsets[0]) != last.offset:
        return None
    present = LastEvent.of(last.position, batch.slice(0, 1))
    # Timestamps ahead of the clock are read as the present, and columns may have been added: both differ for another event only.
    return present.time == last.time or present.checksum == last.checksum
