"""Retention and compaction of the embedded log: old batches go, and of compacted topics all but the newest record of each key."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from kandle.log.embedded.blobs import HEADER, OFFSET, STORED, TIMESTAMP, TOMBSTONE, Stored, batch_of, span_of, whole
from kandle.log.port import Maintenance
from kandle.log.records import Batch, encode_frame
from kandle.plan.topics import TopicSpec

if TYPE_CHECKING:
    from kandle.log.embedded.log import EmbeddedLog

ROWS_AT_ONCE = 200_000
"""Rows that one round rewrites of a partition, so that no transaction is long."""

MOST_ROWS = 2_000_000
"""Partitions with more rows are compacted piece by piece: nobody can remember so many keys."""

ROWS_PER_BATCH = 20_000
LEAST_ROWS = 1_000
"""Fewer new records than this are not worth a compaction."""

TOMBSTONES_KEPT = 24 * 3600 * 1_000_000
"""Microseconds for which readers can still learn from its tombstone that a key is gone."""


Listed = list[tuple[int, int]]
"""Numbers of batches with their rows, as they were when the work began; what comes later is not touched."""


def maintain(log: EmbeddedLog) -> Maintenance:
    """One round over all topics."""
    rows = 0
    size = 0
    for spec in log.topics():
        number = log.database.value("SELECT id FROM topic WHERE name = ?", [spec.name])
        for partition in range(spec.partitions):
            place = (int(number), partition)
            for removed in (_expire(log, spec, place), _outgrown(log, spec, place), _compact(log, spec, place)):
                rows += removed.rows
                size += removed.bytes
    return Maintenance(rows, size)


def _expire(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int]) -> Maintenance:
    """Batches that are older than the retention."""
    if spec.retention is None:
        return Maintenance()
    oldest = log.clock.now() - spec.retention
    last = log.database.value(
        "SELECT max(last) FROM batch WHERE topic = ? AND partition = ? AND appended < ? AND last < "
        "coalesce((SELECT min(last) FROM batch WHERE topic = ?1 AND partition = ?2 AND appended >= ?3), 9223372036854775807)",
        [*place, oldest],
    )
    return _remove(log, place, last)


def _outgrown(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int]) -> Maintenance:
    """The oldest batches of a partition that has grown over its size."""
    if spec.retention_bytes is None:
        return Maintenance()
    last = log.database.value(
        "SELECT max(last) FROM (SELECT last, sum(bytes) OVER (ORDER BY last DESC) AS size FROM batch "
        "WHERE topic = ? AND partition = ?) WHERE size > ?",
        [*place, spec.retention_bytes],
    )
    return _remove(log, place, last)


def _remove(log: EmbeddedLog, place: tuple[int, int], last: int | None) -> Maintenance:
    if last is None:
        return Maintenance()
    where = "FROM batch WHERE topic = ? AND partition = ? AND last <= ?"
    with log.database.transaction():
        rows, size = log.database.rows(f"SELECT coalesce(sum(rows), 0), coalesce(sum(bytes), 0) {where}", [*place, last])[0]
        log.database.run(f"DELETE {where}", [*place, last])
        set_first(log, place)
    return Maintenance(rows, size)


def set_first(log: EmbeddedLog, place: tuple[int, int]) -> None:
    """A partition begins where its first batch does; to be called inside of the transaction that takes batches away."""
    log.database.run(
        "UPDATE partition SET first = coalesce((SELECT min(first) FROM batch WHERE topic = ?1 AND partition = ?2), next) "
        "WHERE topic = ?1 AND number = ?2",
        place,
    )


def _compact(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int]) -> Maintenance:
    """Rewrite the partition with the newest record of each key, once enough records are new; offsets stay what they are."""
    if not spec.compacted or not spec.keys:
        return Maintenance()
    clean, dirty = log.database.rows(
        "SELECT coalesce(sum(rows) FILTER (WHERE last < p.compacted), 0), "
        "coalesce(sum(rows) FILTER (WHERE last >= p.compacted), 0) FROM batch b "
        "JOIN partition p ON p.topic = b.topic AND p.number = b.partition WHERE b.topic = ? AND b.partition = ?",
        place,
    )[0]
    if dirty < max(LEAST_ROWS, clean // 2):
        return Maintenance()
    listed = log.database.rows(
        "SELECT b.id, b.rows, b.last FROM batch b JOIN partition p ON p.topic = b.topic AND p.number = b.partition "
        "WHERE b.topic = ? AND b.partition = ? AND (? OR b.last >= p.compacted) ORDER BY b.last",
        [*place, clean + dirty <= MOST_ROWS],
    )
    removed = _compacted(log, spec, place, [(number, rows) for number, rows, _ in listed], clean + dirty <= MOST_ROWS)
    if removed is None:
        # Somebody else has been at it; the next round will see what is left to do.
        return Maintenance()
    log.database.run("UPDATE partition SET compacted = ? WHERE topic = ? AND number = ?", [listed[-1][2] + 1, *place])
    return removed


def _compacted(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int], listed: Listed, is_whole: bool) -> Maintenance | None:
    """Rewrite these batches; None if others have changed them meanwhile.

    Where there are too many rows to know the newest of every key, each chunk keeps its own newest ones.
    """
    removed = Maintenance()
    newest = _newest(log, spec, place, listed) if is_whole else None
    for ids, batches in _chunks(log, spec, place, listed):
        if len(batches) < len(ids):
            return None
        rows = whole(batches)
        of_chunk = rows.group_by(list(spec.keys)).agg(pl.col(OFFSET).max()) if newest is None else newest
        after = _rewrite(log, spec, place, ids, _kept(log, rows, of_chunk))
        if after is None:
            return None
        removed = Maintenance(removed.rows + after.rows, removed.bytes + after.bytes)
    return removed


def _chunks(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int], listed: Listed) -> Iterator[tuple[list[int], list[Batch]]]:
    """Numbers and contents of batches, so many at a time that they can be rewritten in one transaction."""
    every = list(listed)
    while every:
        ids: list[int] = []
        rows = 0
        while every and (not ids or rows + every[0][1] <= ROWS_AT_ONCE):
            number, count = every.pop(0)
            ids.append(number)
            rows += count
        marks = ", ".join("?" * len(ids))
        found = log.database.rows(f"SELECT {STORED} FROM batch WHERE id IN ({marks}) ORDER BY last", ids)
        yield ids, [batch_of(spec, place, Stored(*row)) for row in found]


def _newest(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int], listed: Listed) -> pl.DataFrame | None:
    """The greatest offset of each key; None if others have removed all batches meanwhile."""
    keys = list(spec.keys)
    newest: pl.DataFrame | None = None
    for _, batches in _chunks(log, spec, place, listed):
        if not batches:
            continue
        found = whole(batches).group_by(keys).agg(pl.col(OFFSET).max())
        newest = found if newest is None else pl.concat([newest, found]).group_by(keys).agg(pl.col(OFFSET).max())
    return newest


def _kept(log: EmbeddedLog, frame: pl.DataFrame, newest: pl.DataFrame) -> pl.DataFrame:
    kept = frame.join(newest, on=OFFSET, how="semi", maintain_order="left")
    aged = pl.col(TIMESTAMP) < log.clock.now() - TOMBSTONES_KEPT
    return kept.filter(~(pl.col(TOMBSTONE) & aged))


def _rewrite(log: EmbeddedLog, spec: TopicSpec, place: tuple[int, int], ids: list[int], kept: pl.DataFrame) -> Maintenance | None:
    stored = [_stored(spec, part) for part in kept.iter_slices(ROWS_PER_BATCH)] if kept.height else []
    marks = ", ".join("?" * len(ids))
    with log.database.transaction():
        count, rows, size = log.database.rows(
            f"SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM batch WHERE id IN ({marks})", ids
        )[0]
        if count < len(ids):
            return None
        log.database.run(f"DELETE FROM batch WHERE id IN ({marks})", ids)
        for each in (found.sealed(*place) for found in stored):
            log.database.run(
                f"INSERT INTO batch (topic, partition, {STORED}, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *place,
                    each.first,
                    each.last,
                    each.rows,
                    each.appended,
                    each.low,
                    each.high,
                    each.checksum,
                    each.blob,
                    len(each.blob),
                ],
            )
        set_first(log, place)
    return Maintenance(rows - kept.height, size - sum(len(each.blob) for each in stored))


def _stored(spec: TopicSpec, part: pl.DataFrame) -> Stored:
    """A run of rows with holes between their offsets, as a row of the table of batches."""
    nothing = [name for name in (HEADER,) if part[name].null_count() == part.height]
    nothing += [TOMBSTONE] if not part[TOMBSTONE].any() else []
    blob = encode_frame(part.drop(nothing))
    low, high = span_of(spec, part)
    offsets = part[OFFSET]
    return Stored(
        int(offsets[0]),
        int(offsets[-1]),
        part.height,
        _greatest(part[TIMESTAMP]),
        low,
        high,
        zlib.crc32(blob),
        blob,
    )


def _greatest(column: pl.Series) -> int:
    greatest = column.max()
    assert isinstance(greatest, int)
    return greatest
