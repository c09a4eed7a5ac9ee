"""What came out of a long run, beside what the pure engine makes of the ticks in the log: a run without crashes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from kandle.engine.failures import FailureCollector
from kandle.engine.pipeline import Pipeline
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import header_rows
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.plan.plan import BarPlan, Plan
from kandle.plan.query_topics import DEFAULT_HEARTBEATS
from kandle.plan.topics import dead_letter_name
from kandle.runtime.log_time import refused_by_log
from kandle.time.timeframe import SECOND, to_instant
from tests.soak.declaration import GRACE
from tests.soak.processes import Processes

KEYS = ["name", "start"]
GAP = "_gap"
BASE = SECOND
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Row:
    """Finals of one timeframe in all partitions; all but `finals` and `gaps` count what is wrong."""

    timeframe: str
    finals: int
    gaps: int
    doubled: int
    missing: int
    different: int
    live: int
    examples: tuple[str, ...] = ()
    """Some of those that differ, as they are and as they should be."""

    @property
    def wrong(self) -> int:
        return self.doubled + self.missing + self.different + self.live


@dataclass(frozen=True, slots=True)
class Outcome:
    """`late` ticks came after their bucket was over; `in_time` of them did not, and must be none. `lost` ticks were acknowledged
    and are not in the log, `doubled` are there twice, `torn` writes are there in part. `beats` are heartbeats sent twice or
    out of order."""

    ticks: int
    late: int
    in_time: int
    lost: int
    doubled: int
    torn: int
    beats: int
    damage: tuple[str, ...]
    rows: tuple[Row, ...]
    letters: int = 0
    """Dead letters of bars that do not fit."""
    wrong_letters: int = 0
    """Dead letters that are missing, there twice, or should not be there."""

    @property
    def wrong(self) -> int:
        """How many things are wrong."""
        of_ticks = self.in_time + self.lost + self.doubled + self.torn + self.wrong_letters
        return of_ticks + self.beats + len(self.damage) + sum(row.wrong for row in self.rows)

    def table(self) -> str:
        """In words."""
        lines = [
            f"ticks {self.ticks:,}; late {self.late:,}, of them in time {self.in_time}; "
            f"lost {self.lost}, doubled {self.doubled}, torn writes {self.torn}; heartbeats twice or out of order {self.beats}",
            *([f"dead letters {self.letters:,}, wrong {self.wrong_letters}"] if self.letters or self.wrong_letters else []),
            "timeframe     finals       gaps  doubled  missing  different  live differs",
        ]
        for row in self.rows:
            bad = f"{row.doubled:>8} {row.missing:>8} {row.different:>10} {row.live:>13}"
            lines.append(f"{row.timeframe:<9} {row.finals:>10,} {row.gaps:>10,} {bad}")
        lines += [f"{row.timeframe}: {each}" for row in self.rows for each in row.examples]
        return "\n".join([*lines, *self.damage, "all is right" if not self.wrong else f"WRONG: {self.wrong}"])


def read(log: Log, topic: str, partition: int) -> list[Batch]:
    """All that is in a partition."""
    place = TopicPartition(topic, partition)
    found: list[Batch] = []
    offset, end = log.first(place), log.ends(topic)[partition]
    while offset < end and (batches := log.read(place, offset, 1_000_000)):
        found += batches
        offset = batches[-1].next_offset
    return found


def frame_of(log: Log, topic: str, partition: int) -> pl.DataFrame:
    """All rows of a partition with whether they fill a gap, in the order of the log."""
    frames = []
    for batch in read(log, topic, partition):
        gaps = [headers.get("gap") == "true" for headers in header_rows(batch.records)]
        frames.append(batch.records.frame.with_columns(pl.Series(GAP, gaps, dtype=pl.Boolean)))
    return pl.concat(frames) if frames else pl.DataFrame()


def late(ticks: list[Batch], beats: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """For each tick whether its bucket was over by what stands before it, and whether it was added after the end of its bucket.

    A heartbeat says that buckets are over up to its instant, behind all ticks below its position. A tick of the time t that was
    added at T says that min(t, T) has come.
    """
    offsets = np.concatenate([batch.offsets for batch in ticks])
    appended = np.concatenate([batch.timestamps for batch in ticks])
    times = np.concatenate([batch.records.frame["time"].to_physical().to_numpy() for batch in ticks])
    over = times // BASE * BASE + BASE + GRACE
    known = np.full(len(times), np.iinfo(np.int64).min)
    if all(batch.has_append_times for batch in ticks):
        # Where brokers keep the producer's timestamps, ticks prove nothing of time.
        known[1:] = np.maximum.accumulate(np.minimum(times, appended))[:-1]
    if beats:
        positions = np.concatenate([batch.records.frame["position"].to_numpy() for batch in beats])
        instants = np.concatenate([batch.records.frame["instant"].to_physical().to_numpy() for batch in beats])
        order = np.argsort(positions, kind="stable")
        reached = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(instants[order])])
        known = np.maximum(known, reached[np.searchsorted(positions[order], offsets, side="right")])
    return over <= known, appended >= over


def quiet_run(
    of: Plan, ticks: list[Batch], is_late: np.ndarray, until: int
) -> tuple[dict[str, pl.DataFrame], set[tuple[str, str, int]]]:
    """What the engine makes of one partition's ticks when nothing happens to it.

    The finals by timeframe; and of the bars that do not fit timeframe, name and start.
    """
    failures = FailureCollector()
    pipeline = Pipeline(of, failures=failures)
    pipeline.process(pl.concat([batch.records.frame for batch in ticks]).filter(pl.Series(~is_late)))
    found: dict[str, list[pl.DataFrame]] = {bar.name: [] for bar in of.emitted}
    for finals in pipeline.advance(until + GRACE):
        found[finals.plan.name].append(finals.bars.with_columns(finals.gaps.alias(GAP)))
    left_out = {(bar.timeframe, bar.key["name"], bar.start) for bar in failures.bars}
    return {name: pl.concat(frames) for name, frames in found.items() if frames}, left_out


def letters_of(log: Log, topic: str, partition: int, of: Plan, until: int) -> list[tuple[str, str, int]]:
    """Timeframe, name and start of the dead letters of bars that end by an instant."""
    if topic not in {spec.name for spec in log.topics()}:
        return []
    frames = [batch.records.frame for batch in read(log, topic, partition)]
    if not frames:
        return []
    rows = pl.concat(frames).filter(pl.col("kind") == "bar").select("timeframe", "key", "start").rows()
    sizes = {bar.name: bar.timeframe.size for bar in of.emitted}
    letters = [(timeframe, json.loads(key)["name"], to_instant(start)) for timeframe, key, start in rows]
    return [letter for letter in letters if letter[2] + sizes[letter[0]] <= until]


def compared(log: Log, bar: BarPlan, partition: int, right: pl.DataFrame, until: int) -> Row:
    """The finals of one timeframe of one partition that end by an instant."""
    every = frame_of(log, bar.final_topic, partition)
    if every.is_empty():
        return Row(bar.name, 0, 0, 0, right.height, 0, 0)
    size = bar.timeframe.size
    ended = every.filter(pl.col("start").to_physical() + size <= until)
    once = ended.unique(KEYS, keep="first", maintain_order=True)
    live = frame_of(log, bar.live_topic, partition).unique(KEYS, keep="last", maintain_order=True)
    columns = once.columns
    different = once.join(right.select(columns), on=columns, how="anti", nulls_equal=True)
    return Row(
        bar.name,
        finals=ended.height,
        gaps=int(ended[GAP].sum()),
        doubled=every.height - every.unique(KEYS).height,
        missing=right.join(once, on=KEYS, how="anti").height,
        different=different.height,
        live=every.join(live.select(columns), on=columns, how="anti", nulls_equal=True).height,
        examples=_examples(partition, different.sort("start").head(EXAMPLES), right),
    )


def _examples(partition: int, different: pl.DataFrame, right: pl.DataFrame) -> tuple[str, ...]:
    both = different.join(right, on=KEYS, how="left", suffix="_right")
    return tuple(f"partition {partition}: {row}" for row in both.rows(named=True))


def outcome(every: Processes, until: int) -> Outcome:
    """Compare all that came out up to an instant; the processes must have ended."""
    with every.opened() as log:
        return _outcome(log, every, until)


def _outcome(log: Log, every: Processes, until: int) -> Outcome:
    of = every.plan
    rows: dict[str, list[Row]] = {bar.name: [] for bar in of.emitted}
    numbers: list[int] = []
    count_late = in_time = wrong_beats = count_letters = wrong_letters = 0
    for partition in range(log.topic("ticks").partitions):
        ticks, beats = read(log, "ticks", partition), _obeyed(read(log, DEFAULT_HEARTBEATS.name(of), partition))
        wrong_beats += _wrong_beats(beats)
        if not ticks:
            continue
        numbers += [number for batch in ticks for number in batch.records.frame["number"].to_list()]
        is_late, is_after = late(ticks, beats)
        count_late += int(is_late.sum())
        in_time += int((is_late & ~is_after).sum())
        right, left_out = quiet_run(of, ticks, is_late, until)
        letters = letters_of(log, dead_letter_name(of.query.target.topic), partition, of, until)
        count_letters += len(letters)
        wrong_letters += len(letters) - len(set(letters)) + len(left_out ^ set(letters))
        for bar in of.emitted:
            if bar.name in right:
                rows[bar.name].append(compared(log, bar, partition, right[bar.name], until))
    lost, torn = _kept(numbers, every.lines("producer"))
    if every.is_on_kafka:
        # Brokers keep each record by itself, so an append outside of a transaction may be there in part, and they keep the time
        # at which it was sent, not that at which it came.
        torn = in_time = 0
    return Outcome(
        *(len(numbers), count_late, in_time, lost, len(numbers) - len(set(numbers)), torn, wrong_beats),
        damage=tuple(log.check()) if isinstance(log, EmbeddedLog) else (),
        rows=tuple(_summed(name, found) for name, found in rows.items()),
        letters=count_letters,
        wrong_letters=wrong_letters,
    )


def _summed(name: str, rows: Iterable[Row]) -> Row:
    parts = list(rows)
    counts = {
        field: sum(getattr(row, field) for row in parts)
        for field in ("finals", "gaps", "doubled", "missing", "different", "live")
    }
    return Row(name, **counts, examples=tuple(example for row in parts for example in row.examples))


def _obeyed(beats: list[Batch]) -> list[Batch]:
    """Heartbeats that the rules of the log do not refuse."""
    return [replace(batch, records=batch.records.filter(~refused_by_log(batch))) for batch in beats]


def _wrong_beats(beats: list[Batch]) -> int:
    """Heartbeats that come after newer ones, or whose position is before that of an older one.

    The newest one may stand there twice: a leader appends it again to learn the time of the log.
    """
    if not beats:
        return 0
    instants = np.concatenate([batch.records.frame["instant"].to_physical().to_numpy() for batch in beats])
    positions = np.concatenate([batch.records.frame["position"].to_numpy() for batch in beats])
    return int((np.diff(instants) < 0).sum()) + int((np.diff(positions) < 0).sum())


def _kept(numbers: list[int], book: Iterable[str]) -> tuple[int, int]:
    """How many acknowledged ticks are not there, and how many writes are there in part."""
    there = set(numbers)
    lost = torn = 0
    for line in book:
        word, first, count = line.split()
        found = sum(number in there for number in range(int(first), int(first) + int(count)))
        if word == "kept":
            lost += int(count) - found
        elif 0 < found < int(count):
            torn += 1
    return lost, torn


def is_settled(log: Log, of: Plan, group: str, until: int) -> bool:
    """Whether all buckets up to an instant, with their grace, are closed and committed in all partitions."""
    committed = log.committed(group, DEFAULT_HEARTBEATS.name(of))
    for partition in range(log.topic("ticks").partitions):
        beats = read(log, DEFAULT_HEARTBEATS.name(of), partition)
        applied = [
            int(batch.records.frame["instant"].to_physical()[row])
            for batch in beats[-8:]
            for row in range(len(batch))
            if batch.offsets[row] < committed.get(partition, 0)
        ]
        if not applied or max(applied) < until + GRACE:
            return False
    return True
