"""Reading topics as frames: rows of a key prefix, bars of a timeframe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import polars as pl
from anyio import to_thread

from kandle.errors import DataError
from kandle.log.port import Log, TopicPartition
from kandle.model.columns import to_logical
from kandle.model.entity import EntityModel
from kandle.model.mapping import mapping
from kandle.plan.plan import BarPlan
from kandle.sets.blocking import awaited, blocking
from kandle.sets.host import ContextHost
from kandle.time.timeframe import Timeframe, parse_instant, to_instant

T = TypeVar("T")

ROWS_AT_ONCE = 200_000
FAR = 2**62
OFFSET = "__offset"
GONE = "__gone"

Instant = datetime | str


def rows(log: Log, topic: str, span: tuple[int, int] | None = None) -> Iterator[pl.DataFrame]:
    """All records of a topic, partition by partition, with columns for offset and tombstone."""
    for number in range(log.topic(topic).partitions):
        place = TopicPartition(topic, number)
        end = log.ends(topic)[number]
        offset = log.first(place)
        while offset < end and (batches := log.read(place, offset, ROWS_AT_ONCE, span)):
            for batch in batches:
                gone = batch.records.tombstones
                mark = pl.lit(False).alias(GONE) if gone is None else gone.alias(GONE)
                yield batch.records.frame.with_columns(pl.Series(OFFSET, batch.offsets), mark)
            offset = batches[-1].next_offset


def with_prefix(entity: EntityModel, frame: pl.DataFrame, prefix: Sequence[Any]) -> pl.DataFrame:
    """Rows whose key begins with these whole parts."""
    for name, value in mapping(entity).key_row(prefix).items():
        column = pl.col(name)
        frame = frame.filter(column.is_null() if value is None else column == pl.lit(value, dtype=frame.schema[name]))
    return frame


def table_rows(log: Log, entity: EntityModel, prefix: Sequence[Any]) -> pl.DataFrame:
    """The newest row of each key with the prefix, those that are gone left out, in the order of the key (physical columns)."""
    keys = [found.name for found in entity.keys]
    # All rows of a key are in one partition, so the last one read is the newest.
    found = [with_prefix(entity, frame, prefix) for frame in rows(log, entity.topic)]
    if not found:
        return pl.DataFrame(schema=log.topic(entity.topic).schema)
    newest = pl.concat(found).unique(keys, keep="last", maintain_order=True)
    return newest.filter(~pl.col(GONE)).drop(OFFSET, GONE).sort(keys)


def event_rows(log: Log, entity: EntityModel, prefix: Sequence[Any], limit: int | None) -> pl.DataFrame:
    """Events of a key prefix in the order of each partition; with a limit the newest so many."""
    found = [with_prefix(entity, frame, prefix) for frame in rows(log, entity.topic)]
    frame = (
        pl.concat(found).filter(~pl.col(GONE)).drop(OFFSET, GONE)
        if found
        else pl.DataFrame(schema=log.topic(entity.topic).schema)
    )
    if limit is None:
        return frame
    time = entity.timestamp
    return (frame if time is None else frame.sort(time.name, maintain_order=True)).tail(limit)


@dataclass(frozen=True, slots=True)
class TimeBucket(Generic[T]):
    """The bars of one timeframe, for reading: `market.time_bucket(Bar, Period.minutes(5))`.

    A key is any number of whole first parts of the bars' key, without their start. `start` and `end` are the bounds
    `[start, end)` of the bars' starts. With `include_live` bars of open buckets, as they are now, follow the finals.
    """

    _host: ContextHost
    entity: EntityModel
    timeframe: Timeframe
    _bar: BarPlan

    def __repr__(self) -> str:
        return f"TimeBucket({self.entity.name}, {self._bar.name})"

    @property
    def _label(self) -> str:
        return f'{self._host.label}.time_bucket({self.entity.name}, "{self._bar.name}")'

    @awaited
    async def to_list_async(
        self,
        key: Sequence[Any] = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
    ) -> list[T]:
        """Bars as objects, in the order of key and start."""
        frame = await self._frame(key, (start, end), include_live)
        return mapping(self.entity).from_frame(frame)

    to_list = blocking(to_list_async)

    @awaited
    async def to_polars_async(
        self,
        key: Sequence[Any] = (),
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        include_live: bool = False,
    ) -> pl.DataFrame:
        """Bars as a Polars frame with exact decimals."""
        return to_logical(self.entity, await self._frame(key, (start, end), include_live))

    to_polars = blocking(to_polars_async)

    @awaited
    async def to_arrow_async(
        self, key: Sequence[Any] = (), *, start: Instant | None = None, end: Instant | None = None, include_live: bool = False
    ) -> Any:
        """Bars as an Arrow table; needs pyarrow."""
        return to_logical(self.entity, await self._frame(key, (start, end), include_live)).to_arrow()

    to_arrow = blocking(to_arrow_async)

    @awaited
    async def to_pandas_async(
        self, key: Sequence[Any] = (), *, start: Instant | None = None, end: Instant | None = None, include_live: bool = False
    ) -> Any:
        """Bars as a pandas frame; needs pandas and pyarrow."""
        return to_logical(self.entity, await self._frame(key, (start, end), include_live)).to_pandas()

    to_pandas = blocking(to_pandas_async)

    async def _frame(self, key: Sequence[Any], bounds: tuple[Instant | None, Instant | None], include_live: bool) -> pl.DataFrame:
        self._host.settle()
        start, end = (_instant(bounds[0], -FAR), _instant(bounds[1], FAR))
        return await to_thread.run_sync(self._read, key, (start, end), include_live)

    def _read(self, key: Sequence[Any], span: tuple[int, int], include_live: bool) -> pl.DataFrame:
        self._check(key)
        finals = self._rows(self._bar.final_topic, key, span).drop(OFFSET)
        if not include_live:
            return finals.sort(self._order)
        live = self._rows(self._bar.live_topic, key, self._open_span(finals, span))
        newest = live.sort(OFFSET).unique(self._order, keep="last").drop(OFFSET)
        return pl.concat([finals, newest.join(finals, on=self._order, how="anti")]).sort(self._order)

    @property
    def _time(self) -> str:
        assert self.entity.timestamp is not None
        return self.entity.timestamp.name

    @property
    def _order(self) -> list[str]:
        """Key columns, then the start."""
        keys = [found.name for found in self.entity.keys if found.name != self._time]
        return [*keys, self._time]

    def _check(self, key: Sequence[Any]) -> None:
        names = self._order[:-1]
        if isinstance(key, str) or len(key) > len(names):
            raise DataError(
                f"a key of {self.entity.name} bars is a list of up to {len(names)} parts ({', '.join(names)}), not {key!r}"
            )

    def _open_span(self, finals: pl.DataFrame, span: tuple[int, int]) -> tuple[int, int]:
        """Live bars that are older than a key's newest final are final, so only those since the oldest of these are looked at."""
        if finals.is_empty():
            return span
        newest = finals.group_by(self._order[:-1] or pl.lit(0)).agg(pl.col(self._time).max())[self._time].min()
        return max(span[0], to_instant(newest)), span[1]  # type: ignore[arg-type]

    def _rows(self, topic: str, key: Sequence[Any], span: tuple[int, int]) -> pl.DataFrame:
        time = pl.col(self._time).to_physical()
        # Topics that others fill may have more columns.
        columns = [*(found.name for found in self.entity.fields), OFFSET]
        found = [
            with_prefix(self.entity, frame, key).filter((time >= span[0]) & (time < span[1]) & ~pl.col(GONE)).select(columns)
            for frame in rows(self._host.log, topic, span)
        ]
        if found:
            return pl.concat(found)
        schema = {each.name: each.type.physical for each in self.entity.fields}
        return pl.DataFrame(schema=schema | {OFFSET: pl.Int64})


def _instant(value: Instant | None, usual: int) -> int:
    if value is None:
        return usual
    return parse_instant(value) if isinstance(value, str) else to_instant(value)
