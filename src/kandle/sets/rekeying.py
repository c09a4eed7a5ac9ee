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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl

from kandle.errors import DataError, FencedError, ModelError, ReplacedError, StateError
from kandle.log.headers import header_values, with_header
from kandle.log.port import Consumer, GroupSpec, GroupState, Log, TopicPartition
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
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.query.nodes import describe
from kandle.serde.keys import partition_numbers
from kandle.time.timeframe import MILLISECOND, MINUTE

PATIENCE = 200 * MILLISECOND
ROWS_AT_ONCE = 20_000
LEAST_IDLE_POLLS = 5
"""So many polls without records, and the end of a topic may be nothing but the marks of transactions."""

STALL = 10 * MINUTE
"""How long the upgrades of `ROWS_AT_ONCE` records may take, or a look at the copies of earlier runs, in microseconds."""

GROUP = "kandle-rekey-"
"""How the names of the groups begin whose positions say how far a topic is copied."""

Unreadable = Literal["refuse", "skip"]
Progress = Callable[[int, int], None]
"""Called with the offsets that are done, and with all."""


@dataclass(frozen=True, slots=True)
class TopicPair:
    """A topic that is copied into another one.

    Attributes:
        version: The entity of the old topic.
        entity: The entity of the new one, the next version of the key.
        old: The name of the old topic.
        new: The name of the new topic.
        parts: The columns whose values decide the partition in the new topic.
    """

    version: EntityModel
    entity: EntityModel
    old: str
    new: str
    parts: tuple[str, ...]

    @property
    def group(self) -> str:
        """The group whose positions say how far the old topic is copied."""
        return f"{GROUP}{self.new}"


def entity_pair(entity: EntityModel) -> TopicPair:
    """Return the topics of an entity and of the version of its key before it."""
    previous = entity.former[-1]
    return TopicPair(previous, entity, previous.topic, entity.topic, tuple(part.name for part in entity.keys))


def bar_pairs(plan: Plan) -> list[TopicPair]:
    """Return the topics of finals of a query, and of the version of their key before it, by timeframe.

    Bars are in the partition of their group key, as the query itself writes them.

    Raises:
        ModelError: A part of the group key is no field of the bars, so that the partition of a bar is not known.
    """
    query = plan.query
    entity, previous = query.target, query.target.former[-1]
    parts = []
    for key in query.group_by:
        filled = [item.field for item in query.projection if item.expression == key]
        if not filled:
            raise ModelError(f"{entity.name} has no field for {describe(key)}, a part of its group key; add one")
        parts.append(filled[0])
    return [TopicPair(previous, entity, bar.former_topics[-1], bar.final_topic, tuple(parts)) for bar in plan.emitted]


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


@dataclass(frozen=True, slots=True)
class RekeyResult:
    """What a run has done, and how both topics compare at its end.

    Attributes:
        copied: The records that this run has copied.
        skipped: Records that cannot be read, or not be upgraded, and were left out because that was asked for.
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
    before = _groups(log, pair)
    copy = _Copy(log, pair, unreadable)
    try:
        copy.run(progress)
    except (FencedError, ReplacedError) as error:
        raise StateError(
            f"this process does not copy {pair.old} any more: another one has begun to copy it, or this one stood still for "
            f"long. If no other copies it, begin again; what is copied by now stays ({error})"
        ) from error
    old, new = _compared(log, pair)
    result = RekeyResult(copy.copied, copy.skipped, old, new, _readers(log, pair, before), _uncopied(log, pair))
    if not result.is_whole:
        raise StateError(
            f"topic {pair.old} has {result.old.records} records with the checksum {result.old}, and their copies in {pair.new} "
            f"are {result.new.records} with {result.new}; were records removed from {pair.new}, or does the upgrade of "
            f"{pair.entity.name} make other objects each time? To copy all of it again, delete {pair.new} and reset the group "
            f"{pair.group}"
        )
    return result


class _Copy:
    """One run of the copy of a topic."""

    def __init__(self, log: Log, pair: TopicPair, unreadable: Unreadable) -> None:
        self._log, self._pair, self._unreadable = log, pair, unreadable
        self._adapter = RecordAdapter(log, pair.entity, pair.version, keeps_older_copies=True)
        self._partitions = log.topic(pair.new).partitions
        self.copied = self.skipped = 0

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
        if first is None:
            return
        if self._unreadable == "refuse":
            raise DataError(
                f"topic {batch.topic}, partition {batch.partition}, offset {first.offset}: the record cannot be copied: "
                f"{first.reason}; correct the upgrade and begin again, or leave such records out with --unreadable skip"
            )
        self.skipped += len(adapted.rejects)

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
        for batch in _batches(self._log, self._pair.new):
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


def _batches(log: Log, topic: str) -> Iterator[Batch]:
    """Yield all records of a topic, up to the ends that it has now."""
    for number, end in enumerate(log.ends(topic)):
        partition = TopicPartition(topic, number)
        offset = log.first(partition)
        while offset < end and (batches := log.read(partition, offset, ROWS_AT_ONCE)):
            yield from batches
            offset = batches[-1].next_offset


# The comparison

PARTITION, OFFSET, GONE = "_partition", "_offset", "_gone"


def _compared(log: Log, pair: TopicPair) -> tuple[Checksum, Checksum]:
    """Return the checksums of the records of the old topic and of their copies.

    If records are removed from the old topic while it is read, it is read again.
    """
    copied = log.committed(pair.group, pair.old)
    while True:
        firsts = _firsts(log, pair)
        old, new = _old_rows(log, pair, copied), _new_rows(log, pair, firsts)
        if pair.entity.kind != "table":
            sums = _sum(old), _sum(new)
        else:
            sums = _sum_of_newest(pair, list(old), list(new), list(_newer_keys(log, pair)))
        if sums[0] == sums[1] or firsts == _firsts(log, pair):
            return sums


def _firsts(log: Log, pair: TopicPair) -> dict[int, int]:
    """Return the first offset of each partition of the old topic."""
    return {number: log.first(TopicPartition(pair.old, number)) for number in range(len(log.ends(pair.old)))}


def _uncopied(log: Log, pair: TopicPair) -> int:
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


def _old_rows(log: Log, pair: TopicPair, copied: Mapping[int, int]) -> Iterator[pl.DataFrame]:
    """Yield the records of the old topic that are copied, as those of the new one."""
    adapter = RecordAdapter(log, pair.entity, pair.version, keeps_older_copies=True)
    for batch in _batches(log, pair.old):
        adapted = adapter(batch)
        frame = _rows(adapted, pair).with_columns(
            pl.lit(batch.partition, dtype=pl.Int64).alias(PARTITION), pl.Series(OFFSET, adapted.offsets, dtype=pl.Int64)
        )
        yield frame.filter(pl.col(OFFSET) < copied.get(batch.partition, 0))


def _new_rows(log: Log, pair: TopicPair, firsts: Mapping[int, int]) -> Iterator[pl.DataFrame]:
    """Yield the copies in the new topic whose originals are still in the old one."""
    for batch in _batches(log, pair.new):
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
    for batch in _batches(log, pair.new):
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


def _groups(log: Log, pair: TopicPair) -> dict[str, GroupState]:
    """Return the groups that have positions or partitions of the old topic, by name."""
    return {
        group.group: group
        for group in log.groups()
        if group.group != pair.group and any(partition.topic == pair.old for partition in (*group.positions, *group.owners))
    }


def _old_positions(group: GroupState, pair: TopicPair) -> dict[TopicPartition, int]:
    return {partition: at for partition, at in group.positions.items() if partition.topic == pair.old}


def _readers(log: Log, pair: TopicPair, before: Mapping[str, GroupState]) -> dict[str, str]:
    """Return what each group with positions in the old topic does there, by name."""
    states = {}
    for name, group in _groups(log, pair).items():
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
