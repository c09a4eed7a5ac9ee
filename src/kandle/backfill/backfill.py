"""Backfill: from a file (or frame) of events, taken as the whole story, to final bars of every timeframe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from kandle.context.context import Context
from kandle.errors import ModelError, TimeframeError, UnknownTimeframeError
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan, check_embedded, plan
from kandle.query.query import Gaps, Late, QueryModel
from kandle.time.clock import SystemClock
from kandle.time.timeframe import Timeframe, parse_instant, to_instant

if TYPE_CHECKING:
    # What makes bars is loaded when some are made: programs that only declare contexts start sooner.
    from kandle.backfill.readers import TickSource
    from kandle.backfill.writers import Sink
    from kandle.engine.bars import Finals
    from kandle.engine.pipeline import Pipeline, Processed


@dataclass(slots=True)
class TimeframeSummary:
    """Bars of one timeframe: how many, how many of them fill gaps, how many the input does not cover whole.

    `incomplete` counts bars whether they were left out (`complete_only`) or not.
    """

    timeframe: str
    bars: int = 0
    gaps: int = 0
    incomplete: int = 0
    path: str | None = None

    def add(self, bars: int, gaps: int, incomplete: int) -> None:
        self.bars += bars
        self.gaps += gaps
        self.incomplete += incomplete


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of events read and left out, and of bars made; seconds are wall time."""

    source: str
    seconds: float
    ticks_read: int
    late: int
    filtered: int
    outside_sessions: int
    outside_range: int
    timeframes: list[TimeframeSummary] = field(default_factory=list)

    @property
    def ticks_per_second(self) -> float:
        return self.ticks_read / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, as `--json` prints it."""
        return asdict(self) | {"ticks_per_second": round(self.ticks_per_second)}


Instant = datetime | str
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Backfill(Mapping[str | Timeframe, pl.DataFrame]):
    """The result of a backfill: final bars by timeframe, and a summary.

    `bars["1m"]` and `bars[Period.minutes(1)]` are the frame of that timeframe. Where the bars went to files there are no
    frames; the summary names the files.

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
        lines = [
            f"{summary.ticks_read:,} events of {summary.source} in {summary.seconds:.2f} s, {summary.late:,} late",
            f"{'timeframe':<9}{'bars':>12}{'gaps':>12}{'incomplete':>12}",
        ]
        lines += [
            f"{bars.timeframe:<9}{bars.bars:>12,}{bars.gaps:>12,}{bars.incomplete:>12,}  {bars.path or ''}".rstrip()
            for bars in summary.timeframes
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the input covers, `[start, until)` in microseconds; None: from its first, to its last event."""

    start: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.until is not None and self.until <= self.start:
            raise TimeframeError("the input cannot end before it begins: `until` must be after `from`")


def backfill(  # noqa: PLR0913, each is an option of its own
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
    progress: Progress | None = None,
) -> Backfill:
    """Final bars of every timeframe that the entity's query declares, from all the events there are.

    `ticks` is a path, a list of paths or a glob (CSV, NDJSON, Parquet, Arrow; also .gz of the first two), a Polars frame or
    lazy frame, or anything that streams Arrow. Events may come in any order within the grace; later ones are counted.
    `schedule` holds the rows of the query's schedule, in any of the same forms or as a list of its objects. With `out` the
    bars go to files `<topic>_<timeframe>_final.<format>` in that folder, which appear together at the end, else into frames.

    The end of the input closes every bucket that has begun. `start` and `until` say what it covers when that is more than
    first to last event (events outside are left out and counted); `complete_only` leaves out buckets that it does not cover
    to their end.
    """
    from kandle.backfill.readers import open_ticks
    from kandle.backfill.writers import FolderSink, MemorySink
    from kandle.engine.compiled import session_calendar
    from kandle.engine.pipeline import Pipeline

    query = _query(context, entity, gaps)
    check_embedded(query)
    if schedule is not None and query.schedule is None:
        raise ModelError(
            f"schedule rows were given, but {query.target.name} is not based on a schedule; add .based_on(...) to it"
        )
    coverage = Coverage(_instant(start), _instant(until))
    the_plan = plan(query)
    calendar = None if query.schedule is None else session_calendar(query, _schedule_rows(query, schedule), is_whole=True)
    source = open_ticks(ticks, query.source)
    sink: Sink = MemorySink(query, the_plan) if out is None else FolderSink(query, the_plan, Path(out), format)
    with sink:
        return _Run(the_plan, Pipeline(the_plan, calendar), sink, coverage, complete_only).run(source, progress)


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
        said = "which entity is meant is not said" if name is None else f"{name!r} has no query with a window over time"
        raise ModelError(f"{context.__name__}: {said}; entities that have: {', '.join(queries) or 'none'}")
    return queries[name] if gaps is None else replace(queries[name], gaps=Gaps(gaps))


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

    def __init__(self, the_plan: Plan, pipeline: Pipeline, sink: Sink, coverage: Coverage, complete_only: bool) -> None:
        from kandle.time.watermark import Watermark

        self._plan = the_plan
        self._pipeline = pipeline
        self._sink = sink
        self._coverage = coverage
        self._complete_only = complete_only
        self._watermark = Watermark()
        self._counts = {"ticks_read": 0, "late": 0, "filtered": 0, "outside_sessions": 0, "outside_range": 0}
        self._timeframes = {bar.name: TimeframeSummary(bar.name) for bar in the_plan.emitted}

    def run(self, source: TickSource, progress: Progress | None) -> Backfill:
        clock = SystemClock()
        began = clock.now()
        for batch in source.batches():
            self._take(batch.frame)
            if progress is not None:
                progress(self._counts["ticks_read"], batch.bytes_read)
        self._finish()
        paths = self._sink.commit()
        for name, path in paths.items():
            self._timeframes[name].path = str(path)
        seconds = (clock.now() - began) / 1_000_000
        summary = Summary(source.name, seconds, timeframes=list(self._timeframes.values()), **self._counts)
        return Backfill(summary, self._sink.frames, self._sink.late_events)

    def _take(self, events: pl.DataFrame) -> None:
        self._counts["ticks_read"] += events.height
        inside = self._restricted(events)
        self._counts["outside_range"] += events.height - inside.height
        processed = self._pipeline.process(inside, self._watermark)
        self._count(processed)
        self._put(self._pipeline.advance(self._watermark.value))

    def _restricted(self, events: pl.DataFrame) -> pl.DataFrame:
        time = self._pipeline.event_time
        if self._coverage.start is not None:
            events = events.filter(time >= self._coverage.start)
        if self._coverage.until is not None:
            events = events.filter(time < self._coverage.until)
        return events

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

    def _put(self, every: Iterable[Finals]) -> None:
        for finals in every:
            incomplete = self._incomplete(finals)
            bars, gaps = finals.bars, finals.gaps
            if self._complete_only:
                bars, gaps = bars.filter(~incomplete), gaps.filter(~incomplete)
            self._timeframes[finals.plan.name].add(bars.height, int(gaps.sum()), int(incomplete.sum()))
            self._sink.put(finals.plan, bars)

    def _incomplete(self, finals: Finals) -> pl.Series:
        """Bars of buckets that end after the input does, or begin before it where `start` says when that is."""
        covered = self._coverage.until if self._coverage.until is not None else self._pipeline.newest + 1
        after = finals.complete > covered
        return after if self._coverage.start is None else after | (finals.starts < self._coverage.start)


def source_entity(context: type[Context], entity: type | str | None = None) -> EntityModel:
    """The entity whose events a backfill of this context reads."""
    return _query(context, entity, None).source
