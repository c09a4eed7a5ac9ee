"""Backfill: from files or frames that hold all events to the final bars of every timeframe of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from kandle.context.context import Context
from kandle.errors import ModelError, TimeframeError, UnknownTimeframeError, unknown_name
from kandle.forks import check_threads
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan, check_embedded, expiry_of, plan
from kandle.query.clauses import choice_of
from kandle.query.query import Gaps, Late, QueryModel
from kandle.time.clock import SystemClock
from kandle.time.timeframe import Timeframe, from_instant, parse_duration, parse_instant, to_instant

if TYPE_CHECKING:
    # What makes bars is loaded when some are made: programs that only declare contexts start sooner.
    from kandle.backfill.order import EventOrder
    from kandle.backfill.readers import TickBatch, TickSource
    from kandle.backfill.sinks import Sink
    from kandle.engine.bars import Finals
    from kandle.engine.pipeline import Pipeline, Processed
    from kandle.time.arrays import IntArray


@dataclass(slots=True)
class TimeframeSummary:
    """Counts of the bars of one timeframe.

    Attributes:
        timeframe: Name of the timeframe, such as `1m`.
        bars: Number of bars.
        gaps: How many of them fill gaps.
        incomplete: How many buckets the input does not cover whole, whether their bars were left out or not.
        path: The file that holds the bars, if they went to files.
    """

    timeframe: str
    bars: int = 0
    gaps: int = 0
    incomplete: int = 0
    path: str | None = None

    def add(self, bars: int, gaps: int, incomplete: int) -> None:
        """Add counts.

        Args:
            bars: Number of bars.
            gaps: How many of them fill gaps.
            incomplete: How many buckets the input does not cover whole.
        """
        self.bars += bars
        self.gaps += gaps
        self.incomplete += incomplete


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a backfill.

    Attributes:
        source: Name of the input.
        seconds: Wall time that the backfill took.
        ticks_read: Number of events read.
        late: How many of them came after their bucket was final.
        first_late: The first of these by input, row and time, and the event before it that is so much newer; None if
            none is late.
        filtered: How many of them `where` left out.
        outside_sessions: How many of them were in no session of the schedule.
        outside_range: How many of them were before `start` or not before `until`.
        timeframes: Counts of bars by timeframe.
    """

    source: str
    seconds: float
    ticks_read: int
    late: int
    filtered: int
    outside_sessions: int
    outside_range: int
    timeframes: list[TimeframeSummary] = field(default_factory=list)
    first_late: str | None = None

    @property
    def ticks_per_second(self) -> float:
        """Events read per second of wall time."""
        return self.ticks_read / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values, as `kandle backfill --json` prints it.

        Returns:
            The attributes by name, and `ticks_per_second`.
        """
        return asdict(self) | {"ticks_per_second": round(self.ticks_per_second)}


Instant = datetime | str
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Backfill(Mapping[str | Timeframe, pl.DataFrame]):
    """The result of a backfill: final bars by timeframe, and a summary.

    `bars["1m"]` and `bars[Period.minutes(1)]` are the frame of that timeframe. Where the bars went to files
    there are no frames; the summary names the files.

    Attributes:
        summary: Counts of events and bars.
        frames: The bars by the name of their timeframe.
        late: The late events where the query keeps them (`late=Late.TOPIC`), else None.
    """

    summary: Summary
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    late: pl.DataFrame | None = None

    def __getitem__(self, timeframe: str | Timeframe) -> pl.DataFrame:
        name = str(timeframe)
        if name not in self.frames:
            names = ", ".join(self.frames) or "none, they are in files"
            raise UnknownTimeframeError(f"no bars of {name!r} here; there are {names}")
        return self.frames[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        summary = self.summary
        events = "1 event" if summary.ticks_read == 1 else f"{summary.ticks_read:,} events"
        lines = [
            f"{events} of {summary.source} in {summary.seconds:.2f} s, {summary.late:,} late",
            *([] if summary.first_late is None else [f"the first late event: {summary.first_late}"]),
            f"{'timeframe':<9}{'bars':>12}{'gaps':>12}{'incomplete':>12}",
        ]
        lines += [
            f"{bars.timeframe:<9}{bars.bars:>12,}{bars.gaps:>12,}{bars.incomplete:>12,}  {bars.path or ''}".rstrip()
            for bars in summary.timeframes
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The time that the input covers, in microseconds; None stands for its first or last event."""

    start: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.until is not None and self.until <= self.start:
            start, until = from_instant(self.start), from_instant(self.until)
            raise TimeframeError(f"the input cannot end before it begins: until ({until}) must be after start ({start})")


def backfill(  # noqa: PLR0913, every parameter is an option of its own
    context: type[Context],
    entity: type | str | None = None,
    *,
    ticks: Any,
    schedule: Any = None,
    out: str | Path | None = None,
    format: str = "parquet",
    gaps: Gaps | str | None = None,
    start: Instant | None = None,
    until: Instant | None = None,
    complete_only: bool = False,
    expire_after: str | timedelta | None = None,
    max_silence: str | timedelta | None = None,
    progress: Progress | None = None,
) -> Backfill:
    """Make the final bars of every timeframe of a query from all the events there are.

    The end of the input closes every bucket that has begun. Events may come in any order within the grace of
    the query; later ones are counted and left out.

    Args:
        context: The context class that declares the query.
        entity: The entity of the bars, or its name; may be left out if the context has one query with a
            window.
        ticks: The events: a path, a list of paths or a glob (CSV, NDJSON, Parquet, Arrow; also .gz of the
            first two), a Polars frame or lazy frame, anything that streams Arrow, or a list of objects.
        schedule: The rows of the query's schedule, in any of these forms; needed if the query is based on
            one.
        out: A folder for files `<topic>_<timeframe>_final.<format>`, which appear together at the end;
            without it the bars are kept in frames.
        format: Format of the files: `parquet`, `csv` or `ndjson`.
        gaps: What a bucket without events gives, instead of what the query says.
        start: The time from which the input covers everything, aware or as text in ISO 8601; events before it
            are left out. Without it the first event counts.
        until: The time up to which the input covers everything, exclusive; gaps are filled up to it, and
            later events are left out. Without it the last event counts.
        complete_only: Leave out bars of buckets that the input does not cover whole.
        expire_after: How long a key may have no events before it gets no more gap bars until its next one: a duration
            such as `7d`, `auto` or `never`. By default what `universe.expire_after` of the options says, by which
            live queries go too.
        max_silence: How far one event may be ahead of all events before it, such as `30d`: a greater distance is
            taken for a wrong time. By default a million base buckets, at least 31 days, and any distance where gaps
            are skipped.
        progress: Function that is called after every batch with the events and the bytes read so far.

    Returns:
        The frames by timeframe (none if they went to files), and a summary.

    Raises:
        ModelError: If the context has no such query, or a schedule is missing or not wanted.
        InputError: If a file or object cannot be read.
        DataError: If a value does not fit its field, or an event is farther ahead than `max_silence`; names input and
            row.
        OutputError: If the folder cannot be written.
        StateError: If this process was forked from one that has worked with kandle or Polars.

    Example:
        `kandle.backfill(Market, Bar, ticks="ticks/*.parquet")["1m"]`
    """
    from kandle.backfill.order import EventOrder, longest_silence
    from kandle.backfill.readers import open_ticks
    from kandle.backfill.sinks import FolderSink, MemorySink
    from kandle.engine.pipeline import Pipeline
    from kandle.engine.schedules import session_calendar

    check_threads()
    query = _query(context, entity, gaps)
    check_embedded(query)
    if schedule is not None and query.schedule is None:
        raise ModelError(
            f"schedule rows were given, but {query.target.name} is not based on a schedule; add .based_on(...) to it"
        )
    coverage = Coverage(_instant(start), _instant(until))
    bar_plan = plan(query)
    calendar = None if query.schedule is None else session_calendar(query, _schedule_rows(query, schedule), is_whole=True)
    source = open_ticks(ticks, query.source)
    sink: Sink = MemorySink(query, bar_plan) if out is None else FolderSink(query, bar_plan, Path(out), format)
    pipeline = Pipeline(bar_plan, calendar, expiry=expiry_of(query, _expire_after(context, expire_after)))
    order = EventOrder(bar_plan, longest_silence(bar_plan, None if max_silence is None else parse_duration(max_silence)))
    with sink:
        return _Run(bar_plan, pipeline, sink, order, coverage, complete_only).run(source, progress)


def _expire_after(context: type[Context] | Context, expire_after: str | timedelta | None) -> int | str:
    """Return how long keys may be silent, as given or else as the options of the context, of file and environment say."""
    if expire_after is not None:
        return str(expire_after) if expire_after in ("auto", "never") else parse_duration(expire_after)
    if isinstance(context, Context):
        return context.options.universe.expire_after
    from kandle.context.options import Options

    return Options.load().universe.expire_after


def _instant(value: Instant | None) -> int | None:
    if value is None:
        return None
    return parse_instant(value) if isinstance(value, str) else to_instant(value)


def _query(context: type[Context], entity: type | str | None, gaps: Gaps | str | None) -> QueryModel:
    if not (isinstance(context, Context) or (isinstance(context, type) and issubclass(context, Context))):
        name = getattr(context, "__name__", repr(context))
        raise ModelError(
            f"{name} is not a context: write kandle.backfill(Market, {name if isinstance(context, type) else 'Bar'}, ticks=...), "
            "where Market is the subclass of kandle.Context that declares the query"
        )
    queries = {query.target.name: query for query in context.model().queries.values() if query.has_tumbling}
    name = entity.__name__ if isinstance(entity, type) else entity
    if name is None and len(queries) == 1:
        name = next(iter(queries))
    if name not in queries:
        message = f"{name!r} has no query with a window" if name else "which bars to make is not clear; name their entity"
        raise ModelError(unknown_name(f"{context.__name__}: {message}", name or "", list(queries)))
    return queries[name] if gaps is None else replace(queries[name], gaps=choice_of("gaps", Gaps, gaps))


def _schedule_rows(query: QueryModel, schedule: Any) -> Iterable[pl.DataFrame]:
    from kandle.backfill.readers import open_ticks

    assert query.schedule is not None
    entity = query.schedule.entity
    if schedule is None:
        raise ModelError(
            f"{query.target.name} is based on {entity.name}: give the rows of {entity.name} "
            "(schedule=... in Python, --schedule FILE on the command line)"
        )
    return (batch.frame for batch in open_ticks(schedule, entity).batches())


class _Run:
    """One backfill from its first batch to its summary."""

    def __init__(
        self, plan: Plan, pipeline: Pipeline, sink: Sink, order: EventOrder, coverage: Coverage, complete_only: bool
    ) -> None:
        from kandle.time.watermark import Watermark

        self._plan = plan
        self._pipeline = pipeline
        self._sink = sink
        self._order = order
        self._coverage = coverage
        self._complete_only = complete_only
        self._watermark = Watermark()
        self._counts = {"ticks_read": 0, "late": 0, "filtered": 0, "outside_sessions": 0, "outside_range": 0}
        self._timeframes = {bar.name: TimeframeSummary(bar.name) for bar in plan.emitted}

    def run(self, source: TickSource, progress: Progress | None) -> Backfill:
        clock = SystemClock()
        began = clock.now()
        for batch in source.batches():
            self._process(batch)
            if progress is not None:
                progress(self._counts["ticks_read"], batch.bytes_read)
        self._finish()
        paths = self._sink.commit()
        for name, path in paths.items():
            self._timeframes[name].path = str(path)
        seconds = (clock.now() - began) / 1_000_000
        late = self._order.late
        first_late = None if late is None else f"{late[0]} came after {late[1]}"
        timeframes = list(self._timeframes.values())
        summary = Summary(source.name, seconds, timeframes=timeframes, first_late=first_late, **self._counts)
        return Backfill(summary, self._sink.frames, self._sink.late_events)

    def _process(self, batch: TickBatch) -> None:
        rows = self._covered(batch.frame)
        events = batch.frame if rows is None else batch.frame[rows]
        self._counts["ticks_read"] += batch.frame.height
        self._counts["outside_range"] += batch.frame.height - events.height
        processed = self._pipeline.process(events, self._watermark)
        if processed.times is not None:
            self._order.follow(batch, processed.times, rows)
        self._count(processed)
        self._put(self._pipeline.advance(self._watermark.value))

    def _covered(self, events: pl.DataFrame) -> IntArray | None:
        """Return the numbers of the rows whose events are between start and until; None if all are."""
        time, coverage = self._pipeline.event_time, self._coverage
        if coverage.start is None and coverage.until is None:
            return None
        inside = pl.lit(value=True)
        if coverage.start is not None:
            inside &= time >= coverage.start
        if coverage.until is not None:
            inside &= time < coverage.until
        rows: IntArray = events.select(inside.arg_true()).to_series().to_numpy().astype("int64")
        return rows

    def _count(self, processed: Processed) -> None:
        self._counts["late"] += processed.late.height
        self._counts["filtered"] += processed.filtered
        self._counts["outside_sessions"] += processed.outside_sessions
        if self._plan.query.late is Late.TOPIC and processed.late.height:
            self._sink.late(processed.late)

    def _finish(self) -> None:
        until = self._coverage.until
        if until is not None:
            self._put(self._pipeline.finish(until))
        elif self._pipeline.has_events:
            self._put(self._pipeline.finish(self._pipeline.newest + 1))

    def _put(self, batches: Iterable[Finals]) -> None:
        for finals in batches:
            incomplete = self._incomplete(finals)
            bars, gaps = finals.bars, finals.gaps
            if self._complete_only:
                bars, gaps = bars.filter(~incomplete), gaps.filter(~incomplete)
            self._timeframes[finals.plan.name].add(bars.height, int(gaps.sum()), int(incomplete.sum()))
            self._sink.put(finals.plan, bars)

    def _incomplete(self, finals: Finals) -> pl.Series:
        """Return which bars are of buckets that end after the input, or begin before a stated start."""
        covered = self._coverage.until if self._coverage.until is not None else self._pipeline.newest + 1
        after = finals.complete > covered
        return after if self._coverage.start is None else after | (finals.starts < self._coverage.start)


def source_entity(context: type[Context], entity: type | str | None = None) -> EntityModel:
    """Return the entity whose events a backfill of a context reads.

    Args:
        context: The context class that declares the query.
        entity: The entity of the bars, or its name; may be left out if the context has one query with a
            window.

    Returns:
        The model of the source entity.
    """
    return _query(context, entity, None).source
