"""Compares a topic with its copy under another key, and looks at who still needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kandle.log.headers import header_values
from kandle.log.port import GroupState, Log, TopicPartition
from kandle.log.records import Batch
from kandle.log.versions import COPIED_FROM, RecordAdapter, origins_of
from kandle.sets.topic_pairs import TopicPair, topic_batches

PARTITION, OFFSET, GONE = "_partition", "_offset", "_gone"


@dataclass(frozen=True, slots=True)
class Checksum:
    """The number of records, and a number that depends on each of them and on no order."""

    records: int = 0
    sum: int = 0

    def __str__(self) -> str:
        return f"{self.sum:016x}"

    def with_rows(self, frame: pl.DataFrame) -> Checksum:
        """Return the checksum of these records too."""
        hashes = frame.hash_rows().to_numpy()
        total = int(hashes.sum(dtype=np.uint64)) if len(hashes) else 0
        return Checksum(self.records + frame.height, (self.sum + total) % 2**64)


def compared(log: Log, pair: TopicPair) -> tuple[int, Checksum, Checksum]:
    """Return how many records of the old topic are left out, and the checksums of the others and of their copies.

    If records are removed from the old topic while it is read, it is read again.
    """
    copied = log.committed(pair.group, pair.old)
    while True:
        firsts = _firsts(log, pair)
        originals = _Originals(log, pair, copied)
        old, new = originals.rows(), _new_rows(log, pair, firsts)
        if pair.entity.kind != "table":
            sums = _sum(old), _sum(new)
        else:
            sums = _sum_of_newest(pair, list(old), list(new), list(_newer_keys(log, pair)))
        if sums[0] == sums[1] or firsts == _firsts(log, pair):
            return originals.left_out, *sums


def _firsts(log: Log, pair: TopicPair) -> dict[int, int]:
    """Return the first offset of each partition of the old topic."""
    return {number: log.first(TopicPartition(pair.old, number)) for number in range(len(log.ends(pair.old)))}


def uncopied(log: Log, pair: TopicPair) -> int:
    """Return how many records are in the old topic behind what is copied, at most."""
    copied = log.committed(pair.group, pair.old)
    count = 0
    for number, end in enumerate(log.ends(pair.old)):
        partition = TopicPartition(pair.old, number)
        first = max(copied.get(number, 0), log.first(partition))
        # Behind the last record there may be marks of transactions.
        if first < end and log.read(partition, first, 1):
            count += end - first
    return count


def _sum(frames: Iterator[pl.DataFrame]) -> Checksum:
    total = Checksum()
    for frame in frames:
        total = total.with_rows(frame)
    return total


class _Originals:
    """The records of the old topic up to what is copied."""

    def __init__(self, log: Log, pair: TopicPair, copied: Mapping[int, int]) -> None:
        self._log, self._pair, self._copied = log, pair, copied
        self.left_out = 0
        """How many of those that were read so far cannot be upgraded."""

    def rows(self) -> Iterator[pl.DataFrame]:
        """Yield the records as those of the new topic."""
        adapter = RecordAdapter(self._log, self._pair.entity, self._pair.version, keeps_older_copies=True)
        for batch in topic_batches(self._log, self._pair.old):
            end = self._copied.get(batch.partition, 0)
            adapted = adapter(batch)
            self.left_out += sum(reject.offset < end for reject in adapted.rejects)
            frame = _rows(adapted, self._pair).with_columns(
                pl.lit(batch.partition, dtype=pl.Int64).alias(PARTITION), pl.Series(OFFSET, adapted.offsets, dtype=pl.Int64)
            )
            yield frame.filter(pl.col(OFFSET) < end)


def _new_rows(log: Log, pair: TopicPair, firsts: Mapping[int, int]) -> Iterator[pl.DataFrame]:
    """Yield the copies in the new topic whose originals are still in the old one."""
    for batch in topic_batches(log, pair.new):
        if batch.records.headers is None:
            continue
        origins = origins_of(header_values(batch.records.headers, COPIED_FROM))
        frame = _rows(batch, pair).with_columns(origins["partition"].alias(PARTITION), origins["offset"].alias(OFFSET))
        is_copy = (origins["topic"] == pair.old).fill_null(False)
        frame = frame.filter(is_copy)
        first = frame[PARTITION].replace_strict(firsts, default=0, return_dtype=pl.Int64)
        yield frame.filter(frame[OFFSET] >= first)


def _newer_keys(log: Log, pair: TopicPair) -> Iterator[pl.DataFrame]:
    """Yield the keys of records of the new topic that are no copies: programs of the new version have written them."""
    names = [part.name for part in pair.entity.keys]
    for batch in topic_batches(log, pair.new):
        keys = batch.records.frame.select(names)
        headers = batch.records.headers
        yield keys if headers is None else keys.filter(header_values(headers, COPIED_FROM).is_null())


def _rows(batch: Batch, pair: TopicPair) -> pl.DataFrame:
    """Return the fields of records, those of a tombstone being NULL apart from its key, and whether each is one."""
    tombstones = batch.records.tombstones
    gone = pl.Series(GONE, [False]).new_from_index(0, len(batch)) if tombstones is None else tombstones.alias(GONE)
    frame = batch.records.frame.select([part.name for part in pair.entity.fields]).with_columns(gone)
    values = [part.name for part in pair.entity.fields if part.key_order is None]
    return frame.with_columns(pl.when(~pl.col(GONE)).then(pl.col(name)).alias(name) for name in values)


def _sum_of_newest(
    pair: TopicPair, old: Sequence[pl.DataFrame], new: Sequence[pl.DataFrame], newer: Sequence[pl.DataFrame]
) -> tuple[Checksum, Checksum]:
    """Return the checksums of the newest row of each key of a table: compaction may have taken the others, on either side.

    Keys that programs of the new version have written since are left out, whose copies may be gone for the same reason.
    """
    names = [part.name for part in pair.entity.keys]
    sums = []
    for frames in (old, new):
        if not frames:
            sums.append(Checksum())
            continue
        rows = pl.concat(frames).sort(PARTITION, OFFSET, maintain_order=True).unique(names, keep="last", maintain_order=True)
        rows = rows.filter(~pl.col(GONE))
        sums.append(Checksum().with_rows(rows.join(pl.concat(newer), on=names, how="anti") if newer else rows))
    return sums[0], sums[1]


# Readers of the old topic


def old_groups(log: Log, pair: TopicPair) -> dict[str, GroupState]:
    """Return the groups that have positions or partitions of the old topic, by name."""
    return {
        group.group: group
        for group in log.groups()
        if group.group != pair.group and any(partition.topic == pair.old for partition in (*group.positions, *group.owners))
    }


def _old_positions(group: GroupState, pair: TopicPair) -> dict[TopicPartition, int]:
    return {partition: at for partition, at in group.positions.items() if partition.topic == pair.old}


def readers_of(log: Log, pair: TopicPair, before: Mapping[str, GroupState]) -> dict[str, str]:
    """Return what each group with positions in the old topic does there, by name."""
    states = {}
    for name, group in old_groups(log, pair).items():
        positions = _old_positions(group, pair)
        if any(partition.topic == pair.new for partition in (*group.positions, *group.owners)):
            # Readers of the new class read both topics, and go on without the old one.
            states[name] = "behind" if _is_behind(log, pair, positions) else "both"
        elif log.has_members(name):
            states[name] = "members"
        else:
            has_moved = name in before and _old_positions(before[name], pair) != positions
            states[name] = "moved" if has_moved else "stands"
    return states


def _is_behind(log: Log, pair: TopicPair, positions: Mapping[TopicPartition, int]) -> bool:
    """Return whether there are records of the old topic behind these positions."""
    for number, end in enumerate(log.ends(pair.old)):
        partition = TopicPartition(pair.old, number)
        offset = max(positions.get(partition, 0), log.first(partition))
        # Behind the last record there may be marks of transactions.
        if offset < end and log.read(partition, offset, 1):
            return True
    return False
