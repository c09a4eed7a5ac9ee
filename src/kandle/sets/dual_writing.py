"""Appending records with the version of their key, in the topics of two versions for a while if their entity says so.

Both go into one append, so that a crash leaves both or none. Only if that fails is each written by itself: then one side may have
records that the other has not, which is counted and logged. What is written in the former topic is marked as a copy, which
readers of the new class pass over; a record that could not be written in the new topic is none, and they take it from the former
one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from kandle.errors import DataError, KandleError
from kandle.log.port import Log
from kandle.log.records import Records, Write
from kandle.log.versions import COPIED_FROM, KEY_VERSION, marked, version_headers, version_number, without_headers
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.versions import downgraded
from kandle.sets.reading import newest_row
from kandle.sets.writing import PendingRow, records_of, writes_of

logger = logging.getLogger("kandle")


@dataclass(frozen=True, slots=True)
class _Side:
    """Records of one version; `left_out` are those that have no form in it."""

    entity: EntityModel
    records: Records
    left_out: int = 0


def append_frame(log: Log, entity: EntityModel, frame: pl.DataFrame) -> int:
    """Append the rows of a physical frame as `append_records` does, with the version of their key."""
    return append_records(log, entity, marked(Records(frame), version_headers(entity)))


def append_records(log: Log, entity: EntityModel, records: Records) -> int:
    """Append records of an entity to their partitions; in the topic of the version before as well, if the entity says so.

    Args:
        log: The log.
        entity: The entity.
        records: Records of it, with the headers that they shall have.

    Returns:
        How many records are on one side only.

    Raises:
        KandleError: Nothing could be written on any side.
    """
    if entity.version is None or not entity.version.dual_write:
        log.append(writes_of(log, entity.topic, records))
        return 0
    sides = _sides(log, entity, records)
    missing = sum(side.left_out for side in sides)
    try:
        log.append(_writes(log, sides))
    except KandleError as error:
        logger.warning("both versions of %s could not be written at once, so each is written by itself: %s", entity.name, error)
        missing += _append_each(log, sides, error)
    return missing


def writes_of_versions(log: Log, rows: Sequence[tuple[str, PendingRow]]) -> list[Write]:
    """Return single records as writes, those of entities that say so in the topic of the version before as well.

    Args:
        log: The log.
        rows: Records with the names of their topics.
    """
    topics: dict[str, list[PendingRow]] = {}
    for topic, row in rows:
        topics.setdefault(topic, []).append(row)
    groups = [(of_topic[0].entity, records_of(of_topic)) for of_topic in topics.values()]
    return [write for entity, records in groups for write in _writes(log, _sides(log, entity, records))]


def _writes(log: Log, sides: Sequence[_Side]) -> list[Write]:
    """Return the records of all sides, those of older versions marked as copies."""
    copies = [_copied(side, sides[number].entity.topic) for number, side in enumerate(sides[1:])]
    return [write for side in [sides[0], *copies] for write in writes_of(log, side.entity.topic, side.records)]


def _append_each(log: Log, sides: Sequence[_Side], error: KandleError) -> int:
    """Write each side by itself; return how many records are missing on one."""
    missing, is_written, failed = 0, False, 0
    newer: str | None = None
    for side in sides:
        part = side if newer is None else _copied(side, newer)
        try:
            log.append(writes_of(log, part.entity.topic, part.records))
        except KandleError as reason:
            failed += 1
            missing += len(part.records)
            logger.error("dual_write_mismatch: %d records are not in topic %s: %s", len(part.records), part.entity.topic, reason)
        else:
            is_written, newer = True, part.entity.topic
    if not is_written:
        raise error
    return missing


def _copied(side: _Side, original: str) -> _Side:
    return replace(side, records=marked(side.records, {COPIED_FROM: original}))


def _sides(log: Log, entity: EntityModel, records: Records) -> list[_Side]:
    """Return the records of each version that is written, the newest first."""
    sides = [_Side(entity, records)]
    if entity.version is None or not entity.version.dual_write:
        return sides
    objects = _objects(log, entity, records)
    while entity.version is not None and entity.version.dual_write and entity.version.previous is not None:
        previous, rows, numbers = entity.version.previous, [], []
        older: dict[int, Any] = {}
        for number, obj in objects.items():
            try:
                older[number] = downgraded(entity, obj)
                rows.append(mapping(previous).row(older[number]))
                numbers.append(number)
            except DataError as error:
                older.pop(number, None)
                logger.error("dual_write_mismatch: a record is not in topic %s: %s", previous.topic, error)
        sides.append(_side(previous, rows, numbers, records, len(objects) - len(numbers)))
        entity, objects = previous, older
    return sides


def _side(entity: EntityModel, rows: list[tuple[Any, ...]], numbers: list[int], records: Records, left_out: int) -> _Side:
    own = Records(
        mapping(entity).frame_of(rows),
        None if records.headers is None else records.headers[numbers],
        None if records.tombstones is None else records.tombstones[numbers],
    )
    own = marked(without_headers(own, (KEY_VERSION,)), {KEY_VERSION: str(version_number(entity))})
    return _Side(entity, own, left_out)


def _objects(log: Log, entity: EntityModel, records: Records) -> Mapping[int, Any]:
    """Return the objects of records by their number; of a tombstone the row that it removes, if there is one."""
    whole = mapping(entity)
    if records.tombstones is None:
        return dict(enumerate(whole.from_frame(records.frame)))
    objects: dict[int, Any] = {}
    names = [part.name for part in entity.keys]
    for number, is_gone in enumerate(records.tombstones.to_list()):
        row = records.frame[number : number + 1]
        if is_gone:
            row = newest_row(log, entity, row.select(names).row(0, named=True))
        for obj in whole.from_frame(row):
            objects[number] = obj
    return objects
