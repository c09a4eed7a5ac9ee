"""The table by which ksqlDB joins events with sessions: one row per key, with all intervals in which it is open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import polars as pl

from kandle.ksql.joins import key_text
from kandle.ksql.sessions import ScheduleTable
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.model.types import EXACT, DataType, DecimalType
from kandle.query.query import QueryModel
from kandle.serde.keys import partition_numbers
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import MILLISECOND

ID, ROW = "id", "row"
ROWS_AT_ONCE = 100_000


class IntervalWriter:
    """Writer of the table of a query's schedule; only changed rows are written."""

    def __init__(self, log: Log, query: QueryModel, table: ScheduleTable) -> None:
        self._log = log
        self._table = table
        self._types: tuple[DataType, ...] = tuple(node.type for node in query.group_by)
        self._written: dict[str, str] | None = None

    def write(self, calendar: SessionCalendar) -> int:
        """Write the rows of a calendar, and return the number of changed rows."""
        if self._written is None:
            self._written = self._read()
        wanted = self._rows(calendar)
        changed: dict[str, str | None] = {key: row for key, row in wanted.items() if self._written.get(key) != row}
        changed |= dict.fromkeys(self._written.keys() - wanted.keys())
        if changed:
            self._append(changed)
        self._written = wanted
        return len(changed)

    def _rows(self, calendar: SessionCalendar) -> dict[str, str]:
        by_group = [_row(calendar, group) for group in range(calendar.group_count)]
        keys = list(calendar.keys)
        return {self._id(key): by_group[group] for key, group in zip(keys, calendar.groups(keys).tolist(), strict=True)}

    def _id(self, key: tuple[Any, ...]) -> str:
        parts = [
            Decimal(part).scaleb(-kind.scale, EXACT) if isinstance(kind, DecimalType) else part
            for part, kind in zip(key, self._types, strict=True)
        ]
        return key_text(parts, self._types)

    def _append(self, changed: Mapping[str, str | None]) -> None:
        frame = pl.DataFrame({ID: list(changed), ROW: list(changed.values())}, schema={ID: pl.String, ROW: pl.String})
        numbers = pl.Series(partition_numbers(frame.select(ID), self._table.partitions))
        deleted = frame[ROW].is_null()
        records = Records(frame, tombstones=deleted if deleted.any() else None)
        partitions = numbers.unique(maintain_order=True)
        self._log.append([Write(self._table.topic, number, records.filter(numbers == number)) for number in partitions])

    def _read(self) -> dict[str, str]:
        """Return the rows of the topic by key."""
        rows: dict[str, str | None] = {}
        for number in range(self._table.partitions):
            partition = TopicPartition(self._table.topic, number)
            offset = self._log.first(partition)
            while batches := self._log.read(partition, offset, ROWS_AT_ONCE):
                for batch in batches:
                    rows |= dict(batch.records.frame.select(ID, ROW).iter_rows())
                offset = batches[-1].next_offset
        return {key: row for key, row in rows.items() if row is not None}


def _row(calendar: SessionCalendar, group: int) -> str:
    """Return the row of the keys of a group, as JSON.

    `since` becomes the time of the record. ksqlDB processes records of several topics in the order of their times, so the row
    gets the start of the first session: it is then joined with the first event of that session.
    """
    sessions = calendar.sessions(group)
    opens, closes = calendar.opens[sessions] // MILLISECOND, calendar.closes[sessions] // MILLISECOND
    intervals = [{"open": start, "close": end} for start, end in zip(opens.tolist(), closes.tolist(), strict=True)]
    return json.dumps({"since": max(0, int(opens[0])), "intervals": intervals}, separators=(",", ":"))
