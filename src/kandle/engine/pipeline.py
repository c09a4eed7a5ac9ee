"""The whole computation of one partition: events and closing instants in, live bars and finals out.

It does no I/O, starts no thread and asks nobody for the time. The same events in the same order give the same
finals however they are split into batches; state can be taken out and put back between any two calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kandle.engine.admission import Admission, EventTimes, possible_times
from kandle.engine.aggregates import FIRST_TIME, LAST_TIME, OFFSET, TIME
from kandle.engine.bars import BarMaker, Finals, LiveBars
from kandle.engine.closing import ClosingStep, ClosingSteps, KeySlice
from kandle.engine.compiled import GAP, CompiledQuery
from kandle.engine.failures import FailedBar, FailureCollector, RowFailure, evaluate_rows, failed_events
from kandle.engine.operator import UNSEEN, BarOperator, Cut, bar_slots
from kandle.engine.state import KEY, START, ChangeJournal, KeyTable, StateChange, merge_partials
from kandle.errors import DataError, PlanError
from kandle.plan.plan import BarPlan, Plan
from kandle.time.arrays import IntArray
from kandle.time.sessions import SessionCalendar
from kandle.time.slots import check_trading_days
from kandle.time.watermark import Watermark, proven_times

ROWS_AT_ONCE = 1_000_000
"""About how many bars `advance` and `finish` close in one step, so that a long silence does not fill memory with gap bars."""

FAR = np.iinfo(np.int64).max
"""The instant of the last closing once all input has ended."""


@dataclass(frozen=True, slots=True)
class Processed:
    """The result of a batch: events that came too late (source columns), and how many others were left out.

    `times` is None if no event is left.
    """

    late: pl.DataFrame
    filtered: int
    outside_sessions: int
    times: EventTimes | None = None


@dataclass(frozen=True, slots=True)
class ComputedEvents:
    """The events of a batch that `where` keeps and that can be computed.

    `prepared` holds what was computed of each of `events`, and `rows` their numbers in the batch; `where` has left out
    `filtered` others.
    """

    events: pl.DataFrame
    prepared: pl.DataFrame
    rows: IntArray
    filtered: int


class Pipeline:
    """The open buckets of every timeframe of a plan, for all keys of one partition.

    With a journal every change of the state is noted there, so that `replay` on an older state gives the same
    state. With `expiry` a key without events for longer than that (microseconds) gets no more gap bars until
    it has events again. With `failures` an event that cannot be computed, and a bar that does not fit its
    entity, is left out and given to them; without, it is an error. What is kept of a bucket is wider than
    the fields of a bar, so the longer timeframes of a bar that was left out have all of its events.
    """

    def __init__(
        self,
        plan: Plan,
        calendar: SessionCalendar | None = None,
        *,
        journal: ChangeJournal | None = None,
        expiry: int | None = None,
        failures: FailureCollector | None = None,
    ) -> None:
        if (plan.query.schedule is None) != (calendar is None):
            raise PlanError(_calendar_mismatch(plan))
        if calendar is not None:
            check_trading_days(calendar, plan.base.timeframe)
        self.plan = plan
        self._query = CompiledQuery(plan.query)
        self._keys = KeyTable(self._query.key_names, calendar, len(plan.query.group_by))
        self._operators = [BarOperator(bar, bar_slots(plan, bar, calendar), self._query, expiry) for bar in plan.bars]
        self._admission = Admission(self._operators[0], calendar)
        self._steps = ClosingSteps(plan, self._operators[0], self._keys, expiry)
        self._failures = failures
        self._maker = BarMaker(self._query, self._keys, failures)
        self._live = LiveBars(self._maker, self._keys, self._query.partials)
        self._closed = UNSEEN
        self._target = UNSEEN
        self._slice = KeySlice()
        self.closed_rows = 0
        """Bars of all timeframes that were closed here, also by `replay`; says what the next replay would cost."""
        self._newest = UNSEEN
        self._offset = 0
        self._journal = journal

    @property
    def newest(self) -> int:
        """Event time of the newest event that passed `where`, in microseconds; `UNSEEN` before the first."""
        return self._newest

    @property
    def has_events(self) -> bool:
        """Whether any event passed `where`."""
        return self._newest != UNSEEN

    @property
    def event_time(self) -> pl.Expr:
        """Event time of a source event in microseconds."""
        return self._query.time

    def process(self, events: pl.DataFrame, watermark: Watermark | None = None, appended: IntArray | None = None) -> Processed:
        """Take in a batch of source events (physical columns) in the order of the log.

        An event is late if its bucket was closed by `advance`; with a watermark also if its bucket, with
        grace, was over by the times of the events before it. Late events change nothing. Events that `where`
        drops, and those that cannot be computed, do not move the watermark. Given when each event was appended
        (microseconds), only those move it whose time was right then, see `proven_times`.

        Raises:
            DataError: An event cannot be computed, and there is nothing that takes it.
        """
        computed = self._compute(events)
        filtered, passing, prepared = computed.filtered, computed.events, computed.prepared
        if passing.is_empty():
            return Processed(passing, filtered, 0)
        if appended is not None and passing.height < events.height:
            appended = appended[computed.rows]
        prepared = self._numbered(prepared)
        groups = self._keys.groups[prepared[KEY].to_numpy()]
        times = prepared[TIME].to_numpy()
        inside = self._admission.inside(groups, times)
        known = np.full(passing.height, self._target)
        if watermark is not None:
            known = np.maximum(known, watermark.observe(times if appended is None else proven_times(times, appended)))
        late = self._admission.late(groups, times, inside, known)
        taken = inside & ~late
        self._newest = max(self._newest, int(prepared[TIME].max()))  # type: ignore[arg-type]
        self._collect(prepared, groups, taken)
        none_late = passing.clear() if not late.any() else passing.filter(pl.Series(late))
        outside = int(len(inside) - inside.sum())
        return Processed(none_late, filtered, outside, EventTimes(times, computed.rows, late))

    def _compute(self, events: pl.DataFrame) -> ComputedEvents:
        """Compute event time, key and arguments of the events that `where` keeps, and take out those that fail."""
        query, rows = self._query, np.arange(events.height)
        failures: list[RowFailure] = []
        passing = events
        if query.where is not None:
            kept = evaluate_rows(events, [query.where], query.event_labels)
            failures += kept.failures
            mask = kept.frame.to_series().fill_null(value=False)
            rows = kept.rows(events.height)[mask.to_numpy()]
            passing = events[rows] if failures else events.filter(mask)
        filtered = events.height - len(failures) - len(rows)
        columns = [query.time.alias(TIME), *query.keys, *query.arguments]
        evaluated = evaluate_rows(passing, columns, query.event_labels)
        prepared, good = evaluated.frame, evaluated.rows(passing.height)
        failures += [RowFailure(int(rows[failure.row]), failure.error) for failure in evaluated.failures]
        possible = possible_times(prepared[TIME])
        if possible is not None:
            failures += [RowFailure(int(rows[good[row]]), query.time_error) for row in np.flatnonzero(~possible)]
            prepared, good = prepared.filter(pl.Series(possible)), good[possible]
        if failures:
            self._leave_out(events, failures)
        if len(good) < passing.height:
            passing, rows = passing[good], rows[good]
        return ComputedEvents(passing, prepared, rows, filtered)

    def _leave_out(self, events: pl.DataFrame, failures: Sequence[RowFailure]) -> None:
        """Give events that cannot be computed to whoever takes them; the first is an error if nobody does."""
        ordered = sorted(failures, key=lambda failure: failure.row)
        failed = failed_events(self._query, events, ordered)
        if self._failures is None:
            raise DataError(failed[0].reason)
        self._failures.events += failed

    def _numbered(self, prepared: pl.DataFrame) -> pl.DataFrame:
        """Return computed events with the numbers of their keys and, where needed, of themselves."""
        numbers = self._keys.numbers(prepared.select(self._query.key_names))
        if self._query.needs_offset:
            end = self._offset + prepared.height
            prepared = prepared.with_columns(pl.int_range(self._offset, end, dtype=pl.Int64).alias(OFFSET))
            self._offset = end
        return prepared.drop(self._query.key_names).with_columns(numbers)

    def _collect(self, prepared: pl.DataFrame, groups: IntArray, taken: np.ndarray) -> None:
        if not taken.all():
            prepared, groups = prepared.filter(pl.Series(taken)), groups[taken]
        if prepared.is_empty():
            return
        base = self._operators[0]
        starts = base.start(groups, prepared[TIME].to_numpy())
        prepared = prepared.with_columns(pl.Series(START, starts))
        if not prepared[TIME].is_sorted():
            prepared = prepared.sort(TIME, maintain_order=True)
        first = int(prepared[TIME][0])
        partials = self._query.collect(prepared, [KEY, START])
        in_order = first >= self._ordered_until
        base.buffer.append(partials, in_order=in_order)
        if self._journal is not None:
            self._journal.note_partials(partials, in_order=in_order)
        self._ordered_until = max(self._ordered_until, int(prepared[TIME][-1]))
        self._live.touch(partials)

    _ordered_until: int = UNSEEN

    def put(self, rows: pl.DataFrame) -> Processed:
        """Take in base buckets as another engine has aggregated them; the newest row of a bucket counts.

        Columns are those of the group key, `_start` and the partials. Rows of buckets that are closed are
        late.
        """
        numbers = self._keys.numbers(rows.select(self._query.key_names))
        partials = rows.select(START, *(partial.name for partial in self._query.partials)).with_columns(numbers)
        newest = partials.unique([KEY, START], keep="last", maintain_order=True)
        groups = self._keys.groups[newest[KEY].to_numpy()]
        inside = self._admission.inside(groups, newest[FIRST_TIME].to_numpy())
        late = inside & self._admission.over(groups, newest[START].to_numpy(), self._target)
        taken = newest.filter(pl.Series(inside & ~late)).select(KEY, START, pl.exclude(KEY, START))
        if taken.height:
            self._operators[0].buffer.put(taken)
            self._newest = max(self._newest, int(taken[LAST_TIME].max()))  # type: ignore[arg-type]
            self._live.touch(taken)
            if self._journal is not None:
                self._journal.note_replacement(taken)
        return Processed(newest.filter(pl.Series(late)), 0, int(len(inside) - inside.sum()))

    def advance(self, instant: int) -> Iterator[Finals]:
        """Close every bucket that is complete, with grace, by an instant; yield finals in the order of time.

        Raises:
            DataError: So many bars were to be filled that the time of some event must be wrong.
        """
        self._steps.check_silence(instant)
        self.aim(instant)
        while self.is_closing:
            yield from self.close_some(ROWS_AT_ONCE)

    def aim(self, instant: int) -> None:
        """Have `close_some` close every bucket that is complete, with grace, by an instant.

        Events that come from now on are late for these buckets, as if they were closed already. However many bars are to
        be filled, a live query goes on: ten thousand keys may have been away for days.
        """
        if instant > self._target and self._steps.crosses(self._target, instant):
            self._target = instant

    @property
    def is_closing(self) -> bool:
        """Whether buckets are to be closed that are not closed yet."""
        return self._closed < self._target

    @property
    def closed(self) -> int:
        """The instant up to which all buckets are closed, in microseconds; `UNSEEN` before the first closing."""
        return self._closed

    @property
    def target(self) -> int:
        """The instant up to which buckets are to be closed, in microseconds."""
        return self._target

    @property
    def bars_left(self) -> int:
        """About how many bars are to be closed up to the target."""
        return self._steps.bars_between(self._closed, self._target) if self.is_closing else 0

    def close_some(self, most: int) -> list[Finals]:
        """Close a part of what is to be closed; however it is cut, the finals are the same.

        Args:
            most: About how many bars to close, of all timeframes.

        Returns:
            The finals of this part.
        """
        if self._slice.is_begun:
            step = ClosingStep(self._slice.instant, self._steps.keys_at_once(self._closed, self._slice.instant, most))
        else:
            step = self._steps.next(self._closed, self._target, most)
        if step.keys_at_once is None or self._query.query.limit is not None:
            # A ranking needs all keys of a bucket at once.
            return list(self._closed_up_to(step.instant))
        until = self._slice.until + step.keys_at_once
        return list(self._closed_slice(KeySlice(step.instant, self._slice.until, until)))

    def _closed_up_to(self, instant: int) -> Iterator[Finals]:
        """Close the buckets of all keys up to an instant."""
        yield from self._close(Cut(instant, instant))
        self._closed, self._target = instant, max(self._target, instant)
        if self._journal is not None:
            self._journal.note_closing(StateChange(closed=instant))

    def _closed_slice(self, part: KeySlice) -> Iterator[Finals]:
        """Close the buckets of some keys up to an instant; the last of them complete the closing."""
        yield from self._close(Cut(part.instant, part.instant, part.first, part.until))
        self._slice = part
        if part.until >= len(self._keys):
            self._slice, self._closed = KeySlice(), part.instant
        if self._journal is not None:
            self._journal.note_closing(StateChange(closed=part.instant, first=part.first, until=part.until))

    def finish(self, before: int) -> Iterator[Finals]:
        """Close every bucket that starts before an instant, complete or not: all input has ended."""
        self._steps.check_silence(before)
        self._target = max(self._target, before)
        while self.is_closing:
            yield from self.close_some(ROWS_AT_ONCE)
        yield from self._close(Cut(before))
        self._closed = self._target = FAR

    def _close(self, cut: Cut) -> Iterator[Finals]:
        for plan, rows in self._closed_rows(cut):
            if plan.is_emitted:
                finals = self._maker.finals(plan, rows)
                if finals.bars.height:
                    yield finals

    def _closed_rows(self, cut: Cut) -> Iterator[tuple[BarPlan, pl.DataFrame]]:
        """Close buckets, give them to the timeframes above, and yield their rows."""
        for operator in self._operators:
            rows = operator.close(self._keys, cut)
            if rows is not None:
                self.closed_rows += rows.height
                self._roll_up(operator, rows)
                yield operator.plan, rows

    def _roll_up(self, operator: BarOperator, rows: pl.DataFrame) -> None:
        """Give bars with events to the timeframes that are made from them; a gap adds nothing."""
        parents = [other for other in self._operators if other.plan.source == operator.plan.name]
        if not parents:
            return
        real = rows.filter(~pl.col(GAP)) if GAP in rows.columns else rows
        columns = [KEY, START, *(partial.name for partial in self._query.partials)]
        real = real.select(columns).sort(START, maintain_order=True)
        if real.is_empty():
            return
        groups = self._keys.groups[real[KEY].to_numpy()]
        for parent in parents:
            adopted = parent.adopt(real, groups)
            parent.buffer.append(merge_partials(adopted, self._query.partials, in_order=True), in_order=True)

    def replace_calendar(self, calendar: SessionCalendar) -> None:
        """Go on with newer schedule rows."""
        check_trading_days(calendar, self.plan.base.timeframe)
        self._admission.replace_calendar(calendar)
        self._keys.replace_calendar(calendar)
        for operator in self._operators:
            operator.slots = bar_slots(self.plan, operator.plan, calendar)

    @property
    def keys(self) -> pl.DataFrame | None:
        """All keys seen so far, in the order of their first event, with their numbers; None before the first."""
        return self._keys.frame

    @property
    def has_changes(self) -> bool:
        """Whether `changes` may return bars."""
        return self._live.has_changes

    def changes(self, most: int | None = None) -> list[tuple[BarPlan, pl.DataFrame]]:
        """Return live bars of open buckets that got events since the last call, by timeframe, finest first.

        With `most` it returns about so many of a timeframe, and the others with the next calls.
        """
        return self._live.changes(self._operators, most)

    def bar_keys(self, bars: Sequence[FailedBar]) -> pl.DataFrame | None:
        """Return the key columns of bars that were left out; None if the bars of the query have no key."""
        return self._maker.bar_keys(bars)

    @property
    def left_out(self) -> list[FailedBar]:
        """The live bars that the last call of `changes` has left out, since they do not fit their entity now."""
        return self._live.left_out

    def touch(self) -> None:
        """Let `changes` return all open buckets once more."""
        self._live.touch_all(self._operators[0])

    @property
    def most_base_rows(self) -> int:
        """No fewer than there are open base buckets, known without counting them; an event adds at most one."""
        return self._operators[0].buffer.most_buckets

    def has_open_base_rows(self, beyond: int) -> bool:
        """Return whether more base buckets than so many stay open: those that are to be closed do not count any more."""
        base = self._operators[0]
        return base.buffer.most_buckets > beyond and base.open_after(self._keys, self._target) > beyond

    @property
    def open_rows(self) -> int:
        """Number of open buckets, of all keys and timeframes."""
        return sum(operator.open_rows for operator in self._operators)

    def numbers(self) -> dict[str, int]:
        """Return the numbers of the state that are not columns."""
        return {
            "closed": self._closed,
            "target": self._target,
            "slice_instant": self._slice.instant,
            "slice_until": self._slice.until,
            "newest": self._newest,
            "offset": self._offset,
            "ordered_until": self._ordered_until,
        }

    def replay(self, journal: ChangeJournal, keys: pl.DataFrame | None, numbers: dict[str, int]) -> None:
        """Apply the changes that another pipeline noted in its journal; its bars are not returned again."""
        if keys is not None and keys.height:
            self._keys.restore(keys if self._keys.frame is None else pl.concat([self._keys.frame, keys]))
        for change in journal.changes:
            if change.partials is not None and change.replaces:
                self._operators[0].buffer.put(change.partials)
            elif change.partials is not None:
                self._operators[0].buffer.append(change.partials, in_order=change.in_order)
            elif change.until is not None:
                self._replay_closing(Cut(change.closed, change.closed, change.first, change.until))
            elif change.closed > self._closed:
                self._target = change.closed
                while self.is_closing:
                    self._closed = self._steps.next(self._closed, self._target, ROWS_AT_ONCE).instant
                    self._replay_closing(Cut(self._closed, self._closed))
        self._set_numbers(numbers)

    def _replay_closing(self, cut: Cut) -> None:
        """Close buckets without making their bars, which were committed already."""
        for _ in self._closed_rows(cut):
            pass

    def _set_numbers(self, numbers: dict[str, int]) -> None:
        self._closed, self._newest = numbers["closed"], numbers["newest"]
        self._offset, self._ordered_until = numbers["offset"], numbers["ordered_until"]
        # States of older versions were only written between two closings.
        self._target = numbers.get("target", self._closed)
        self._slice = KeySlice(numbers.get("slice_instant", UNSEEN), 0, numbers.get("slice_until", 0))

    def snapshot(self) -> dict[str, pl.DataFrame]:
        """Return the whole state as named frames, for `restore` on a new pipeline of the same plan."""
        frames = {"numbers": pl.DataFrame(self.numbers())}
        if self._keys.frame is not None:
            frames["keys"] = self._keys.frame
        for operator in self._operators:
            frames |= {f"{operator.plan.name}/{name}": frame for name, frame in operator.snapshot().items()}
        return frames

    def restore(self, frames: dict[str, pl.DataFrame]) -> None:
        """Take over a state that `snapshot` returned."""
        self._set_numbers(frames["numbers"].row(0, named=True))
        if "keys" in frames:
            self._keys.restore(frames["keys"])
        for operator in self._operators:
            prefix = f"{operator.plan.name}/"
            own = {name.removeprefix(prefix): frame for name, frame in frames.items() if name.startswith(prefix)}
            operator.restore(own)


def _calendar_mismatch(plan: Plan) -> str:
    if plan.query.schedule is None:
        return f"{plan.query.target.name} is not based on a schedule, but schedule rows were given; add .based_on(...)"
    name = plan.query.schedule.entity.name
    return f"{plan.query.target.name} is based on {name}, but no schedule rows were given; pass the rows of {name}"
