"""Records of a batch become objects of their entity, one by one, beside those of which none can be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kandle.log.headers import HeaderPairs, raw_header_rows
from kandle.log.records import Batch
from kandle.model.columns import to_logical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping


@dataclass(frozen=True, slots=True)
class Row:
    """A record that can be read, and where it is in its batch."""

    value: Any
    key: tuple[Any, ...]
    headers: HeaderPairs
    time: int
    is_tombstone: bool
    batch: Batch
    number: int


@dataclass(frozen=True, slots=True)
class WrongRow:
    """A record of which no object of the entity can be made, and where it is in its batch."""

    error: Exception
    batch: Batch
    number: int


class Unpacker:
    """Makes objects of the records of a batch.

    Args:
        entity: The entity of the objects.
    """

    def __init__(self, entity: EntityModel) -> None:
        self._entity = entity
        self._mapping = mapping(entity)
        self._names = [part.name for part in entity.fields]

    def __call__(self, batch: Batch) -> Sequence[tuple[int, Any]]:
        """Return the offset of each record with a `Row`, a `WrongRow` or a `RejectedRecord`."""
        entries: list[tuple[int, Any]] = list(zip(batch.offsets.tolist(), self._rows(batch), strict=True))
        if batch.rejects:
            entries += [(reject.offset, reject) for reject in batch.rejects]
            entries.sort(key=lambda entry: entry[0])
        return entries

    def _rows(self, batch: Batch) -> list[Any]:
        try:
            return self._readable_rows(batch)
        except Exception as error:
            if len(batch) == 1:
                return [WrongRow(error, batch, 0)]
            # One of them does not fit; the others do.
            return [row for number in range(len(batch)) for row in self._rows(batch.slice(number, 1))]

    def _readable_rows(self, batch: Batch) -> list[Any]:
        records = batch.records
        tombstones = records.tombstones.to_list() if records.tombstones is not None else [False] * len(batch)
        frame = records.frame.select(self._names)
        alive = frame if records.tombstones is None else frame.filter(~records.tombstones)
        values = iter(self._mapping.from_frame(alive))
        columns = zip(self._keys(frame), raw_header_rows(records), batch.timestamps.tolist(), tombstones, strict=True)
        return [
            Row(None if is_tombstone else next(values), key, headers, time, is_tombstone, batch, number)
            for number, (key, headers, time, is_tombstone) in enumerate(columns)
        ]

    def _keys(self, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
        """Return the key parts of each row as values of their Python types, also of tombstones."""
        parts = self._entity.keys
        if not parts:
            return [()] * frame.height
        rows = to_logical(self._entity, frame).select([part.name for part in parts]).rows()
        convert = [part.type.to_python for part in parts]
        return [tuple(to_python(value) for to_python, value in zip(convert, row, strict=True)) for row in rows]
