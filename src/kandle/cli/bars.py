"""The command `kandle bars`: bars of one timeframe, as a table or JSON lines, and new ones as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import polars as pl
import typer

from kandle.cli.contexts import (
    AsJson,
    ConfigFile,
    DataFolder,
    LogChoice,
    check_log,
    for_reading,
    is_context_name,
    load_context,
    options_of,
    plans_in,
)
from kandle.cli.output import Columns, cell, console, frame_table, json_line, logical
from kandle.cli.topics import Tail
from kandle.context.context import Context, state_of
from kandle.errors import ModelError, OptionsError, TimeframeError, unknown_name
from kandle.log.records import Batch
from kandle.model.entity import EntityModel, FieldModel
from kandle.plan.plan import BarPlan, Plan
from kandle.sets.bars import TimeBucket
from kandle.sets.keys import bar_key_fields, key_values
from kandle.time.timeframe import Timeframe, from_instant, parse_instant, to_instant

STATE = "_state"
"""Column that says whether a bar is final or live."""


class BarPrinter:
    """Prints frames of bars; a final bar is printed once."""

    def __init__(self, entity: EntityModel, *, is_live: bool, as_json: bool, is_stream: bool) -> None:
        self._names = [field.name for field in entity.fields] + ([STATE] if is_live else [])
        right = [position for position, field in enumerate(entity.fields) if field.type.is_numeric]
        self._titles = {name: "state" if name == STATE else name for name in self._names}
        self._columns = Columns(list(self._titles.values()), right)
        self._keys = [field.name for field in entity.keys]
        self._as_json = as_json
        self._console = console()
        self._has_table = self._console.is_terminal and not (is_stream or as_json)
        self._final = pl.DataFrame()

    def show(self, bars: pl.DataFrame) -> None:
        """Print the bars that are new."""
        fresh = self._fresh(bars)
        if self._has_table:
            self._console.print(frame_table(self._console, fresh.select(self._names).rename(self._titles)))
            return
        for line in self._lines(fresh):
            typer.echo(line)

    def _fresh(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Return the bars that were not final in the last frame, and remember those that are final now."""
        known = self._final
        fresh = bars if known.is_empty() else bars.join(known, on=self._keys, how="anti", maintain_order="left")
        self._final = bars.filter(pl.col(STATE) == "final").select(self._keys)
        return fresh

    def _lines(self, bars: pl.DataFrame) -> Iterator[str]:
        if self._as_json:
            yield from map(json_line, bars.select(self._names).iter_rows(named=True))
        else:
            yield from self._columns.lines([cell(value) for value in row] for row in bars.select(self._names).iter_rows())


def series_key(entity: EntityModel) -> tuple[FieldModel, ...]:
    """Return the fields of the key without the start of the bucket."""
    return tuple(field for field in entity.keys if not field.is_timestamp)


DEFAULT_LAST = 20
FIRST_REACH, GROWTH = 4, 8
"""The newest N bars of each key are searched in the last 4 N buckets, then in 8 times as many, and so on."""

Read = Callable[[datetime | None], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class BarRequest:
    """What the command was asked for: context, entity, timeframe, and the first parts of the key as text."""

    context: str | None
    entity: str
    timeframe: str
    keys: tuple[str, ...]


def bars_command(  # noqa: PLR0913 - each is an option of the command
    entity: Annotated[str, typer.Argument(help="Class of the bars, after the context unless kandle.toml names it.")],
    timeframe: Annotated[str, typer.Argument(help="For example 5m.")],
    keys: Annotated[list[str] | None, typer.Argument(help="First parts of the key.", show_default=False)] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="T", help="Bars that start at or after this time.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Bars that start before this time.")] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, metavar="N", help="The newest N bars of each key [default: 20].")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Include live bars of open buckets.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new bars until Ctrl-C.")] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Print bars of one timeframe.

    Prints final bars; with --live also the bars of open buckets, which still change.

    Example: kandle bars app:Market Bar 5m ACME --last 3 --follow
    """
    request = _parse_request([entity, timeframe, *(keys or [])])
    begin, end = (None if text is None else from_instant(parse_instant(text)) for text in (start, until))
    options = for_reading(options_of(config, data, log_choice))
    cls = load_context(request.context, options)
    check_log(options)
    with cls(options) as market:
        reader = _BarReader(market, request, is_live=live)
        tail = reader.tail()
        count = last if last is not None else None if start is not None else DEFAULT_LAST
        printer = BarPrinter(reader.entity, is_live=live, as_json=as_json, is_stream=follow)
        bars = reader.bars(begin, end, count)
        printer.show(bars)
        if bars.is_empty() and not (follow or as_json):
            typer.echo(f"kandle: no such bars yet{'' if live else '; --live shows those of open buckets'}", err=True)
        if follow:
            for batches in tail.follow():
                printer.show(reader.frame_of(batches))


def _parse_request(arguments: Sequence[str]) -> BarRequest:
    """Parse the arguments; only a context has a colon between module and class."""
    context, rest = (arguments[0], arguments[1:]) if is_context_name(arguments[0]) else (None, arguments)
    if len(rest) < 2:
        raise OptionsError(f"name an entity and a timeframe, such as `Bar 5m`; {' '.join(arguments)!r} is only one of them")
    return BarRequest(context, rest[0], rest[1], tuple(rest[2:]))


class _BarReader:
    """Reads the requested bars as frames with the columns of the entity and `_state` (final or live)."""

    def __init__(self, market: Context, request: BarRequest, *, is_live: bool) -> None:
        self._market = market
        self._is_live = is_live
        plan = _plan(market, request.entity)
        self.entity: EntityModel = plan.query.target
        self._bar = _bar(plan, request.timeframe)
        self._key = key_values(self.entity, bar_key_fields(self.entity), request.keys)

    @property
    def _parts(self) -> list[str]:
        """Names of the key parts without the start of the bucket."""
        return [field.name for field in series_key(self.entity)]

    def bars(self, start: datetime | None, end: datetime | None, count: int | None) -> pl.DataFrame:
        """Return the bars that start in `[start, end)`: the last `count` of each key, or all for None."""
        if count is None:
            return self._read(start, end)
        if start is None:
            newest = state_of(self._market).clock.now() if end is None else to_instant(end)
            search = Search(newest, self._bar.timeframe.nominal, count)
            return newest_of_each(lambda begin: self._read(begin, end), self._parts, search)
        return last_of_each(self._read(start, end), self._parts, count)

    def _read(self, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        # Finals are read last, so that a bar that becomes final in between is shown as final.
        bars = self._bars(start, end, include_live=True) if self._is_live else None
        finals = self._bars(start, end, include_live=False).with_columns(_state=pl.lit("final"))
        if bars is None:
            return finals
        keys = [*self._parts, *(field.name for field in self.entity.keys if field.is_timestamp)]
        live = bars.join(finals, on=keys, how="anti").with_columns(_state=pl.lit("live"))
        return pl.concat([finals, live]).sort(keys)

    def _bars(self, start: datetime | None, end: datetime | None, *, include_live: bool) -> pl.DataFrame:
        """Read bars; this blocks, since the context was opened with plain `with`."""
        buckets: TimeBucket[Any] = self._market.time_bucket(self.entity.cls, self._bar.name)
        return buckets.to_polars(list(self._key.values()), start=start, end=end, include_live=include_live)

    def tail(self) -> Tail:
        """Return a reader from the current end of the topics."""
        # The final topic comes last, so that no bar is shown as live after it was shown as final.
        topics = [*([self._bar.live_topic] if self._is_live else []), self._bar.final_topic]
        return Tail.at_end(state_of(self._market).log, topics)

    def frame_of(self, batches: Sequence[Batch]) -> pl.DataFrame:
        """Return the requested bars among new records."""
        frames = [self._marked(batch) for batch in batches]
        conditions = [pl.col(name) == value for name, value in self._key.items()]
        return pl.concat(frames).filter(conditions) if conditions else pl.concat(frames)

    def _marked(self, batch: Batch) -> pl.DataFrame:
        records = batch.records
        frame = logical(state_of(self._market).log.topic(batch.topic), records.frame)
        state = "final" if batch.topic == self._bar.final_topic else "live"
        frame = frame.select(field.name for field in self.entity.fields).with_columns(_state=pl.lit(state))
        return frame if records.tombstones is None else frame.filter(~records.tombstones)


def _plan(market: Context, name: str) -> Plan:
    """Return the plan of the query that makes bars of an entity."""
    plans = {plan.query.target.name: plan for plan in plans_in(market)}
    if name not in plans:
        raise ModelError(unknown_name(f"{type(market).__name__} makes no bars of {name!r}", name, list(plans)))
    return plans[name]


def _bar(plan: Plan, timeframe: str) -> BarPlan:
    """Return the bars of a timeframe, which may also be written in another unit, such as 60s for 1m."""
    emitted = {bar.name: bar for bar in plan.emitted}
    if timeframe in emitted:
        return emitted[timeframe]
    name = _normalized(timeframe)
    if name not in emitted:
        raise ModelError(unknown_name(f"{plan.query.target.name} has no bars of {timeframe!r}", name, list(emitted)))
    return emitted[name]


def _normalized(timeframe: str) -> str:
    try:
        return str(Timeframe.parse(timeframe))
    except TimeframeError:
        return timeframe


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the last `count` bars of each key before `end`; buckets have about `size` microseconds."""

    end: int
    size: int
    count: int


def newest_of_each(read: Read, parts: Sequence[str], search: Search) -> pl.DataFrame:
    """Return the last bars of each key without reading the whole topic: the span is widened step by step.

    The search ends when each key has enough bars, or when a wider span added none to the keys that have not.
    """
    reach = FIRST_REACH * search.count * search.size
    before: set[tuple[Any, ...]] | None = None
    while search.end > reach:
        bars = last_of_each(read(from_instant(search.end - reach)), parts, search.count)
        short = _short(bars, parts, search.count)
        if not bars.is_empty() and (not short or short == before):
            return bars
        before = short
        reach *= GROWTH
    return last_of_each(read(None), parts, search.count)


def last_of_each(bars: pl.DataFrame, parts: Sequence[str], count: int) -> pl.DataFrame:
    """Return the last `count` rows of each key in their order."""
    return bars.group_by(parts, maintain_order=True).tail(count).select(bars.columns) if parts else bars.tail(count)


def _short(bars: pl.DataFrame, parts: Sequence[str], count: int) -> set[tuple[Any, ...]]:
    """Return the keys that have fewer than `count` bars, with their number of bars."""
    counts = bars.group_by(parts).len("_count") if parts else bars.select(_count=pl.len())
    return set(counts.filter(pl.col("_count") < count).iter_rows())
