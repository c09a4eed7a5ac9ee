"""Records of all versions of an entity's key as records of its newest one.

Each version has a topic of its own. Whoever reads the entity reads all of them, the oldest first, and gets each record as one of
the newest class, with normalized keys:

    ticks      (symbol)          A  B  C* ─ upgrade ─┐                 C* was added by a program of the new version, which
    ticks_v2   (venue, symbol)   A+ B+ C  D ─────────┴─▶  A  B  C  D      writes both for a while (`dual_write`)
                                                                        A+ and B+ were copied by `kandle rekey`

What stands in two topics stands in one of them as a copy, and says so in the header `copied-from`. A copy in an older topic (C*)
is for programs of that version. A copy in a newer one (A+, B+) counts once its original is gone, so that the older topic may be
deleted, or be emptied by its retention, at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from kandle.errors import DataError, UnknownTopicError
from kandle.log.headers import header_values, raw_header_rows, with_header
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.model.normalizing import normalized_column
from kandle.model.texts import json_row, named_rows
from kandle.model.versions import upgraded
from kandle.serde.keys import SEPARATOR, key_text

logger = logging.getLogger("kandle")

KEY_VERSION = "key-version"
"""The header that says of which version of its entity's key a record is."""

COPIED_FROM = "copied-from"
"""The header that says of what a record is a copy: `<topic>:<partition>:<offset>`, or the topic where the offset is not known."""

FORMER_KEY = "former-key"
"""The header that says, in a table, which key the original of a copy has."""

ORIGIN = r"^(?<topic>.+):(?<partition>\d+):(?<offset>\d+)$"

PER_VERSION = 1_000_000
"""Where partitions of all versions' topics have one number, those of the version before are numbered from this on, and so on."""

ROWS_AT_ONCE = 100_000

Adapt = Callable[[Batch], Batch]
"""Returns a batch of one of an entity's topics as a batch of the entity, with the offsets that it has."""


def version_headers(entity: EntityModel) -> dict[str, str]:
    """Return the headers of the records of an entity: its version, if it says one."""
    return {} if entity.version is None else {KEY_VERSION: str(entity.version.number)}


def version_number(entity: EntityModel) -> int:
    """Return the version of an entity's key; 1 where it says none."""
    return 1 if entity.version is None else entity.version.number


def written_versions(entity: EntityModel) -> list[EntityModel]:
    """Return the entity, and the versions before it that are written with it."""
    versions = [entity]
    while (version := versions[-1].version) is not None and version.dual_write and version.previous is not None:
        versions.append(version.previous)
    return versions


def existing_versions(log: Log, entity: EntityModel) -> list[EntityModel]:
    """Return the versions of an entity whose records are to be read, the oldest first: itself, and those whose topic exists."""
    return [*(former for former in entity.former if existing_topic(log, former.topic)), entity]


def existing_topic(log: Log, topic: str) -> bool:
    """Return whether a log has a topic."""
    try:
        log.topic(topic)
    except UnknownTopicError:
        return False
    return True


def adapters(log: Log, entity: EntityModel) -> dict[str, Adapt | None]:
    """Return how the records of each topic of an entity become its own, by topic, the oldest first.

    Args:
        log: The log of the topics.
        entity: The entity as it is read.

    Returns:
        None for a topic whose records are as the entity wants them, which is the topic of most entities.
    """
    return {version.topic: adapter_of(log, entity, version) for version in existing_versions(log, entity)}


def adapter_of(log: Log, entity: EntityModel, version: EntityModel) -> Adapt | None:
    """Return how the records of one topic become those of an entity; None if they are."""
    if version is entity and not entity.former and all(field.normalize is None for field in entity.keys):
        return None
    return RecordAdapter(log, entity, version)


class RecordAdapter:
    """Makes records of one version of an entity's key those of a newer one, in the order of the topic.

    A record that cannot be made one is a reject, as is one whose bytes cannot be read.

    Args:
        log: The log.
        entity: The entity as it is read.
        version: The version whose topic the records are of; the entity itself, or one before it.
        keeps_older_copies: Whether copies from older topics stay, since those are not read.
    """

    def __init__(self, log: Log, entity: EntityModel, version: EntityModel, *, keeps_older_copies: bool = False) -> None:
        self._log, self._entity, self._version = log, entity, version
        line = (*entity.former, entity)
        position = line.index(version)
        self._older = set() if keeps_older_copies else {other.topic for other in line[:position]}
        self._newer = [other.topic for other in line[position + 1 :]]
        self._steps = line[position + 1 :]
        self._normalized = [field for field in version.keys if field.normalize is not None]
        self.new_keys = NewKeys(self)

    def __call__(self, batch: Batch) -> Batch:
        """Return the records of a batch as those of the entity, copies that do not count left out."""
        is_copy = self._copies(batch)
        if is_copy is not None and self._entity.kind == "stream":
            batch, is_copy = filtered(batch, ~is_copy), None
        frame, reasons = self.with_normal_keys(batch.records.frame)
        if not self._steps:
            left_out = reasons if is_copy is None else reasons | dict.fromkeys(is_copy.arg_true().to_list())
            return _with_rows(batch, frame, left_out, self._version, self._normal_key)
        rows = self._upgraded(batch, frame, reasons)
        for row in [] if is_copy is None else is_copy.arg_true().to_list():
            # Programs of the former version may remove a row that one of the newest has written: its new key is known now.
            rows.pop(row, None)
            reasons.pop(row, None)
        upgraded_rows = pl.DataFrame(list(rows.values()), schema=_schema(self._entity), orient="row")
        left_out = {row: reasons.get(row) for row in range(len(batch)) if row not in rows}
        return _with_rows(batch, frame, left_out, self._version, lambda _: None, upgraded_rows)

    # Copies

    def _copies(self, batch: Batch) -> pl.Series | None:
        """Return which records are copies whose original counts; None if none is."""
        if batch.records.headers is None or not (self._older or self._newer):
            return None
        origins = header_values(batch.records.headers, COPIED_FROM)
        if not origins.count():
            return None
        is_copy = origins.is_in(self._newer).fill_null(False) if self._newer else origins.is_null() & False
        if self._older:
            is_copy |= self._are_readable(origins)
        return is_copy if is_copy.any() else None

    def _are_readable(self, origins: pl.Series) -> pl.Series:
        """Return for which records the original is in an older topic, and was not removed from it."""
        parts = origins_of(origins)
        partitions = parts.drop_nulls().select("topic", "partition").unique().rows()
        firsts = [(*partition, self._first(*partition)) for partition in partitions if partition[0] in self._older]
        known = pl.DataFrame(firsts, schema={"topic": pl.String, "partition": pl.Int64, "first": pl.Int64}, orient="row")
        joined = parts.join(known, on=["topic", "partition"], how="left", maintain_order="left")
        return joined.select((pl.col("offset") >= pl.col("first")).fill_null(False)).to_series()

    def _first(self, topic: str, partition: int) -> int | None:
        """Return the first offset of a partition of an older topic; None if the topic is gone."""
        try:
            return self._log.first(TopicPartition(topic, partition))
        except UnknownTopicError:
            return None

    # Normalized keys

    def with_normal_keys(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, str | None]]:
        """Return the frame with normalized keys, and by row why a key cannot be normalized."""
        reasons: dict[int, str | None] = {}
        for part in self._normalized:
            assert part.normalize is not None
            column = frame[part.name]
            normalized = normalized_column(part.normalize, column)
            for row in column.is_in(list(normalized.failures)).fill_null(False).arg_true().to_list():
                reasons[row] = f"{self._version.name}.{part.name} = {column[row]!r}: {normalized.failures[column[row]]}"
            frame = frame.with_columns(normalized.column.alias(part.name))
        return frame, reasons

    def _normal_key(self, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is None:
            return None
        row = pl.DataFrame([values], schema={part.name: part.type.physical for part in self._version.keys}, orient="row")
        frame, reasons = self.with_normal_keys(row)
        return None if reasons else frame.row(0)

    # Upgrades

    def _upgraded(self, batch: Batch, frame: pl.DataFrame, reasons: dict[int, str | None]) -> dict[int, tuple[Any, ...]]:
        """Return physical rows of the entity by the row that each is made of; note why one cannot be made in `reasons`."""
        records = batch.records
        gone = [False] * len(batch) if records.tombstones is None else records.tombstones.to_list()
        is_table = self._entity.kind == "table"
        keys = key_texts(self._version, frame) if is_table else []
        objects = self.objects(frame, [row for row, is_gone in enumerate(gone) if not is_gone and row not in reasons])
        rows: dict[int, tuple[Any, ...]] = {}
        for row, is_gone in enumerate(gone):
            if row in reasons:
                continue
            if is_gone:
                new_key = self.new_keys.find(batch, row, keys[row]) if is_table else None
                if new_key is not None:
                    rows[row] = self._tombstone(new_key)
                continue
            try:
                rows[row] = self.row(objects[row])
            except DataError as error:
                reasons[row] = str(error)
            else:
                if is_table:
                    self.new_keys.note(batch.partition, keys[row], self._key_of(rows[row]))
        return rows

    def objects(self, frame: pl.DataFrame, rows: Sequence[int]) -> dict[int, Any]:
        """Return the objects of rows by their number; an error in the place of one that is no object of its class."""
        if not rows:
            return {}
        fields = frame.select([part.name for part in self._version.fields])
        whole = mapping(self._version)
        try:
            return dict(zip(rows, whole.from_frame(fields[list(rows)]), strict=True))
        except Exception:
            return {row: _object_or_error(self._version, fields[row : row + 1]) for row in rows}

    def row(self, obj: Any) -> tuple[Any, ...]:
        """Return the physical row of the entity for an object of the version; DataError if there is none."""
        if isinstance(obj, DataError):
            raise obj
        for step in self._steps:
            obj = upgraded(step, obj)
        return mapping(self._entity).row(obj)

    def _key_of(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = dict(zip((part.name for part in self._entity.fields), row, strict=True))
        return tuple(values[part.name] for part in self._entity.keys)

    def _tombstone(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        values = dict(zip((part.name for part in self._entity.keys), key, strict=True))
        return tuple(values.get(part.name) for part in self._entity.fields)

    def note_partition(self, partition: int, before: int) -> None:
        """Note the new keys of all rows of a partition below an offset."""
        offset = 0
        source = TopicPartition(self._version.topic, partition)
        while batches := self._log.read(source, offset, ROWS_AT_ONCE):
            for batch in batches:
                offset = batch.next_offset
                below = int((batch.offsets < before).sum())
                if below:
                    self(replace(batch.slice(0, below), rejects=()))
            if offset >= before:
                return


class NewKeys:
    """The new keys of the rows of a table by their former ones: a tombstone has nothing but the former one.

    Args:
        adapter: Makes records of the former version those of the newest.
    """

    def __init__(self, adapter: RecordAdapter) -> None:
        self._adapter = adapter
        self._known: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._searched: set[int] = set()

    def note(self, partition: int, key: str, new_key: tuple[Any, ...]) -> None:
        """Note the new key of a row, given the former one as text."""
        self._known[partition, key] = new_key

    def find(self, batch: Batch, row: int, key: str) -> tuple[Any, ...] | None:
        """Return the new key of a removed row; None if the topic does not hold the row any more.

        Args:
            batch: The batch with the tombstone.
            row: Its number in the batch.
            key: The former key as text.
        """
        row_key = (batch.partition, key)
        if row_key not in self._known and batch.partition not in self._searched:
            self._searched.add(batch.partition)
            self._adapter.note_partition(batch.partition, int(batch.offsets[row]))
        if row_key not in self._known:
            logger.warning(
                "topic %s, partition %d, offset %d: the row of key %s is removed, but what it was is not in the topic any more, "
                "so that its new key is not known",
                *(batch.topic, batch.partition, int(batch.offsets[row]), key.replace(SEPARATOR, ", ")),
            )
        return self._known.get(row_key)


def _object_or_error(entity: EntityModel, row: pl.DataFrame) -> Any:
    try:
        return mapping(entity).from_frame(row)[0]
    except Exception as error:
        return DataError(f"{row.to_dicts()[0]} is no {entity.name}: {type(error).__name__}: {error}")


def _schema(entity: EntityModel) -> dict[str, pl.DataType]:
    return {part.name: part.type.physical for part in entity.fields}


def key_texts(entity: EntityModel, frame: pl.DataFrame) -> list[str]:
    """Return the key of each row as text."""
    return [key_text(row) for row in frame.select([part.name for part in entity.keys]).rows()]


def origins_of(copied_from: pl.Series) -> pl.DataFrame:
    """Return topic, partition and offset of the originals of copies; NULL where a record is none, or its offset is not known.

    Args:
        copied_from: The values of the header `copied-from`.
    """
    groups = copied_from.to_frame("origin").select(pl.col("origin").str.extract_groups(ORIGIN)).unnest("origin")
    return groups.with_columns(pl.col("partition", "offset").cast(pl.Int64))


def filtered(batch: Batch, mask: pl.Series) -> Batch:
    """Return the records of a batch where a mask is true; the batch ends where it did."""
    keep = mask.to_numpy()
    rows = np.flatnonzero(keep).tolist()
    return replace(
        batch,
        offsets=batch.offsets[keep],
        timestamps=batch.timestamps[keep],
        records=batch.records.filter(mask),
        end=batch.next_offset,
        keys=None if batch.keys is None else [batch.keys[row] for row in rows],
        values=None if batch.values is None else [batch.values[row] for row in rows],
        original=None if batch.original is None else batch.original.filter(mask),
    )


def _with_rows(
    batch: Batch,
    frame: pl.DataFrame,
    left_out: Mapping[int, str | None],
    version: EntityModel,
    new_key: Callable[[tuple[Any, ...] | None], tuple[Any, ...] | None],
    upgraded_rows: pl.DataFrame | None = None,
) -> Batch:
    """Return a batch with other rows.

    Args:
        batch: The batch.
        frame: Its rows.
        left_out: By row, why it is a reject; None leaves it out without a word.
        version: The entity of the rows.
        new_key: Returns the key of a reject as the reader knows keys, None if it may be any.
        upgraded_rows: What the rows that are not left out have become; None leaves them as they are.
    """
    rejects = [replace(reject, key_values=new_key(reject.key_values)) for reject in batch.rejects]
    rejects += [_reject(batch, row, reason, version) for row, reason in left_out.items() if reason is not None]
    result = replace(batch, rejects=tuple(sorted(rejects, key=lambda reject: reject.offset)))
    if upgraded_rows is not None:
        result = replace(result, original=result.records)
    if left_out:
        mask = pl.Series([row not in left_out for row in range(len(batch))], dtype=pl.Boolean)
        result, frame = filtered(result, mask), frame.filter(mask)
    return replace(result, records=replace(result.records, frame=frame if upgraded_rows is None else upgraded_rows))


def _reject(batch: Batch, row: int, reason: str, version: EntityModel) -> RejectedRecord:
    headers = raw_header_rows(batch.records.slice(row, 1))[0]
    offset, time = int(batch.offsets[row]), int(batch.timestamps[row])
    if batch.keys is not None and batch.values is not None:
        return RejectedRecord(offset, batch.keys[row], batch.values[row], reason, time, headers)
    values = named_rows(batch.records.frame.slice(row, 1))[0]
    key = json_row(version.keys, values) if version.keys else None
    return RejectedRecord(offset, key, json_row(version.fields, values), reason, time, headers, is_json=True)


def without_headers(records: Records, names: Sequence[str]) -> Records:
    """Return records without the headers of these names."""
    if records.headers is None:
        return records
    kept = pl.col("headers").list.eval(pl.element().filter(~pl.element().struct.field("name").is_in(list(names))))
    return replace(records, headers=records.headers.to_frame("headers").select(kept)["headers"])


def marked(records: Records, headers: Mapping[str, str]) -> Records:
    """Return records that have these headers too."""
    for name, value in headers.items():
        records = with_header(records, name, pl.Series([value]).new_from_index(0, len(records)))
    return records
