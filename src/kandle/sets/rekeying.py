"""Copies the history of one version of an entity's key into the topic of the next one: what `kandle rekey` does.

The position in the old topic and the copies that were made up to it are in one commit, so that each record is copied once,
however often the work is killed and begun again:

    bars      0  1  2  3  4  5  6  7 ...                a record of the old topic
    commit    └──────┘  └──────┘  killed                copies and position
    bars_v2   0' 1' 2'  3' 4' 5'  │ 6' 7' ...           the next run begins at the position

Each copy names its original in the header `copied-from`. Records that programs of the new version have written in both topics are
in the new one already, and are passed over. At the end both topics are read again and compared, record by record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl

from kandle.errors import DataError, FencedError, ReplacedError, StateError
from kandle.log.headers import header_values, with_header
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition
from kandle.log.records import Batch, Records, Write
from kandle.log.versions import (
    COPIED_FROM,
    FORMER_KEY,
    KEY_VERSION,
    RecordAdapter,
    key_texts,
    marked,
    origins_of,
    version_headers,
    without_headers,
)
from kandle.serde.keys import partition_numbers
from kandle.sets.rekey_comparison import Checksum, compared, old_groups, readers_of, uncopied
from kandle.sets.topic_pairs import TopicPair, topic_batches
from kandle.time.timeframe import MILLISECOND, MINUTE

PATIENCE = 200 * MILLISECOND
ROWS_AT_ONCE = 20_000
LEAST_IDLE_POLLS = 5
"""So many polls without records, and the end of a topic may be nothing but the marks of transactions."""

STALL = 10 * MINUTE
"""How long the upgrades of `ROWS_AT_ONCE` records may take, or a look at the copies of earlier runs, in microseconds."""

Unreadable = Literal["refuse", "skip"]
Progress = Callable[[int, int], None]
"""Called with the offsets that are done, and with all."""


@dataclass(frozen=True, slots=True)
class RekeyResult:
    """What a run has done, and how both topics compare at its end.

    Attributes:
        copied: The records that this run has copied.
        skipped: How many records of the old topic were left out, by this run or an earlier one, because that was asked for: they
            cannot be read, or not be upgraded.
        old: Count and checksum of the records of the old topic, as records of the new one.
        new: The same of their copies in the new topic.
        readers: What the groups with positions in the old topic do there, by name: `members`, `moved` or `stands`; `both` or
            `behind` are readers of the new class, which read both topics, and have all of the old one or not.
        since: How many records have come to the old topic while it was copied, at most: somebody still writes it.
    """

    copied: int
    skipped: int
    old: Checksum
    new: Checksum
    readers: Mapping[str, str] = field(default_factory=dict)
    since: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every record of the old topic is in the new one."""
        return self.old == self.new

    @property
    def is_free(self) -> bool:
        """Whether nobody reads or writes the old topic, as far as this run has seen."""
        return not (self.active or self.since)

    @property
    def active(self) -> list[str]:
        """The groups that still need the old topic."""
        return [name for name, state in self.readers.items() if state not in ("stands", "both")]


def rekey(log: Log, pair: TopicPair, unreadable: Unreadable = "refuse", progress: Progress | None = None) -> RekeyResult:
    """Copy what is not copied yet, then compare both topics.

    Args:
        log: The log.
        pair: The topics, both of which exist.
        unreadable: Whether a record that cannot be read or upgraded ends the run, or is left out and counted.
        progress: Is told how far the copy has come.

    Returns:
        What was done.

    Raises:
        DataError: A record cannot be read or upgraded; all before it are copied, and the next run begins with it.
        StateError: The copies differ from the records of the old topic, or another process copies it as well.
    """
    before = old_groups(log, pair)
    copy = _Copy(log, pair, unreadable)
    try:
        copy.run(progress)
    except (FencedError, ReplacedError) as error:
        raise StateError(
            f"this process does not copy {pair.old} any more: another one has begun to copy it, or this one stood still for "
            f"long. If no other copies it, begin again; what is copied by now stays ({error})"
        ) from error
    left_out, old, new = compared(log, pair)
    result = RekeyResult(copy.copied, left_out, old, new, readers_of(log, pair, before), uncopied(log, pair))
    if not result.is_whole:
        raise StateError(
            f"topic {pair.old} has {result.old.records} records with the checksum {result.old}, and their copies in {pair.new} "
            f"are {result.new.records} with {result.new}; were records removed from {pair.new}, does the upgrade of "
            f"{pair.entity.name} make other objects each time, or can records be upgraded now that were left out before? To copy "
            f"all of it again, delete {pair.new} and reset the group {pair.group}"
        )
    return result


class _Copy:
    """One run of the copy of a topic."""

    def __init__(self, log: Log, pair: TopicPair, unreadable: Unreadable) -> None:
        self._log, self._pair, self._unreadable = log, pair, unreadable
        self._adapter = RecordAdapter(log, pair.entity, pair.version, keeps_older_copies=True)
        self._partitions = log.topic(pair.new).partitions
        self.copied = 0

    def run(self, progress: Progress | None) -> None:
        """Copy up to the end that the old topic has now."""
        old = self._pair.old
        ends = {TopicPartition(old, number): end for number, end in enumerate(self._log.ends(old))}
        consumer, idle = self._log.consumer(GroupSpec(self._pair.group, (old,), "rekey", stall=STALL)), 0
        try:
            batches = self._first_batches(consumer)
            if self._pair.entity.kind == "table":
                self._learn_keys()
            done = {partition: self._log.first(partition) for partition in ends}
            total = sum(ends.values()) - sum(done.values())
            done |= consumer.committed(list(ends))
            while any(done[partition] < end for partition, end in ends.items()):
                idle = 0 if batches else idle + 1
                if idle >= LEAST_IDLE_POLLS and self._is_at_end(consumer, done, ends):
                    return
                for batch in batches:
                    self._commit(consumer, batch)
                    done[TopicPartition(batch.topic, batch.partition)] = batch.next_offset
                if progress is not None and batches:
                    left = sum(max(0, end - done[partition]) for partition, end in ends.items())
                    progress(total - left, total)
                batches = consumer.poll(PATIENCE, ROWS_AT_ONCE)
        finally:
            consumer.close()

    def _first_batches(self, consumer: Consumer) -> list[Batch]:
        """Return the first batches, once the partitions are assigned.

        From then on the transaction that a killed run may have left open is decided: only now positions and copies say how far
        that run has come.
        """
        batches: list[Batch] = []
        while not (batches or consumer.assignment):
            batches = consumer.poll(PATIENCE, ROWS_AT_ONCE)
        return batches

    def _is_at_end(self, consumer: Consumer, done: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> bool:
        """Return whether nothing is left but the marks of transactions."""
        left = [partition for partition, end in ends.items() if done[partition] < end]
        return set(left) <= set(consumer.assignment) and not any(self._log.read(one, done[one], 1) for one in left)

    def _commit(self, consumer: Consumer, batch: Batch) -> None:
        """Copy the records of a batch, up to the first that cannot be copied."""
        adapted = self._adapter(batch)
        position = batch.next_offset
        first = adapted.rejects[0] if adapted.rejects else None
        if first is not None and self._unreadable == "refuse":
            adapted = adapted.slice(0, int(np.searchsorted(adapted.offsets, first.offset)))
            position = first.offset
        records = copies(adapted, self._former_keys(batch, adapted), self._pair)
        partition = TopicPartition(batch.topic, batch.partition)
        consumer.commit({partition: position}, list(self._writes(records)))
        self.copied += len(records)
        if first is not None and self._unreadable == "refuse":
            raise DataError(
                f"topic {batch.topic}, partition {batch.partition}, offset {first.offset}: the record cannot be copied: "
                f"{first.reason}; correct the upgrade and begin again, or leave such records out with --unreadable skip"
            )

    def _former_keys(self, batch: Batch, adapted: Batch) -> pl.Series | None:
        """Return the keys that the records of a table had, as text."""
        if self._pair.entity.kind != "table":
            return None
        rows = batch.records.frame[np.searchsorted(batch.offsets, adapted.offsets)]
        return pl.Series(key_texts(self._pair.version, self._adapter.with_normal_keys(rows)[0]), dtype=pl.String)

    def _writes(self, records: Records) -> Iterator[Write]:
        numbers = partition_numbers(records.frame.select(self._pair.parts), self._partitions) if self._pair.parts else None
        if numbers is None:
            numbers = np.zeros(len(records), np.int64)
        for number in np.unique(numbers):
            yield Write(self._pair.new, int(number), records.filter(pl.Series(numbers == number)))

    def _learn_keys(self) -> None:
        """Learn from the copies of earlier runs which new key a former one has: its row may be compacted away by now."""
        for batch in topic_batches(self._log, self._pair.new):
            if batch.records.headers is None:
                continue
            names = [part.name for part in self._pair.entity.keys]
            origins = origins_of(header_values(batch.records.headers, COPIED_FROM))
            former = header_values(batch.records.headers, FORMER_KEY)
            rows = zip(origins.rows(), former.to_list(), batch.records.frame.select(names).rows(), strict=True)
            for (topic, partition, _), key, new_key in rows:
                if topic == self._pair.old and key is not None:
                    self._adapter.new_keys.note(partition, key, new_key)


def copies(adapted: Batch, keys: pl.Series | None, pair: TopicPair) -> Records:
    """Return upgraded records as they are written in the new topic."""
    records = replace(adapted.records, frame=adapted.records.frame.select([part.name for part in pair.entity.fields]))
    records = marked(without_headers(records, (KEY_VERSION, COPIED_FROM, FORMER_KEY)), version_headers(pair.entity))
    origins = pl.select(pl.format(f"{adapted.topic}:{adapted.partition}:{{}}", pl.Series("offset", adapted.offsets))).to_series()
    records = with_header(records, COPIED_FROM, origins)
    return records if keys is None else with_header(records, FORMER_KEY, keys)
