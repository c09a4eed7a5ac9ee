"""What must be true after each history, whatever went wrong in it; checked against plain Python over what stands in the log.

A bucket is over where the log says so: by an obeyed heartbeat, behind all events before its position, or by an event that was
appended within a minute of its time. So the log alone decides which events are late, and what the finals are:

    events       0  1  2 | 3  4            3 and 4 are late if their bucket ends, with its grace, by 14:30:05
    heartbeat    14:30:05, position 3
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kandle.log.headers import header_rows
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.query_topics import DEFAULT_HEARTBEATS
from kandle.plan.topics import dead_letter_name
from kandle.time.timeframe import MINUTE, SECOND, from_instant, to_instant
from tests.laws.reference import Event, Session, bars
from tests.simulation.declarations import EVENTS, Bar, Declaration, Tick

MOST = 2**63 - 1
NOBODY = "nobody"
TOLERANCE, LONGEST_FLIGHT = SECOND // 2, 4 * SECOND
EXAMPLES = 3

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat as it stands in the log; `stamp` is when it was stored."""

    instant: int
    position: int
    asked: int | None
    stamp: int

    @property
    def is_obeyed(self) -> bool:
        """Whether it is neither ahead of the log's clock nor stored long after its position was asked for."""
        is_late = self.asked is not None and self.stamp - self.asked > LONGEST_FLIGHT
        return self.instant <= self.stamp + TOLERANCE and not is_late


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as it stands in the log; `appended` is None where the log does not say when that was."""

    offset: int
    appended: int | None
    tick: Tick

    @property
    def identity(self) -> tuple[str, int, int]:
        """Key, time and size."""
        return self.tick.symbol, to_instant(self.tick.time), self.tick.size


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a history has come to.

    Attributes:
        finals: How many finals there are.
        gaps: How many of them fill a gap.
        late: How many events were late.
        letters: How many dead letters there are.
        broken: The laws that are broken, in words.
    """

    finals: int
    gaps: int
    late: int
    letters: int
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """What the laws go by, beside the log.

    Attributes:
        declared: The declaration of the bars.
        in_time: Key, time and size of the events that were added before their bucket was over.
        sessions: When events count; None is always.
    """

    declared: Declaration
    in_time: set[tuple[str, int, int]]
    sessions: Sequence[Session] | None = None

    def is_over(self, row: Row, size: int, closed: int) -> bool:
        """Return whether a final is compared: with a schedule, a bucket may be over with the last part of it that is expected."""
        return self.sessions is None or to_instant(row[1]) + size + self.declared.grace <= closed


def outcome(log: Log, case: Case) -> Outcome:
    """Compare what stands in the log with what must stand there.

    Args:
        log: The log, when all processes have ended.
        case: What else they go by.
    """
    results = [_outcome(log, case, number) for number in range(log.topic(EVENTS).partitions)]
    return Outcome(
        sum(one.finals for one in results),
        sum(one.gaps for one in results),
        sum(one.late for one in results),
        sum(one.letters for one in results),
        tuple(text for one in results for text in one.broken),
    )


def _outcome(log: Log, case: Case, number: int) -> Outcome:
    declared, in_time = case.declared, case.in_time
    events, beats = _events(log, number), _beats(log, declared, number)
    late, closed = lateness(events, beats, declared)
    broken = [f"late, but it came in time: {kept}" for kept in events if kept.offset in late and kept.identity in in_time]
    counted = [kept.tick for kept in events if kept.offset not in late]
    wanted_letters: set[Row] = set()
    count = gaps = 0
    for bar in declared.plan.emitted:
        size = bar.timeframe.size
        assert size is not None
        expected = _expected(case, counted, bar.name, closed)
        wanted_letters |= {(bar.name, *row[0], to_instant(row[1])) for row in expected if row[6] > MOST}
        finals = [(row, is_gap) for row, is_gap in _bars(log, bar.final_topic, number) if case.is_over(row, size, closed)]
        live = {row[:2]: row for row, _ in _bars(log, bar.live_topic, number)}
        rows = [row for row, _ in finals]
        name = f"{bar.name}, partition {number}"
        broken += _differences(f"finals of {name}", rows, [row for row in expected if row[6] <= MOST])
        broken += [f"gap is not marked as it is: {row}" for row, is_gap in finals if is_gap is not (row[7] == 0)][:EXAMPLES]
        stale = [row for row in rows if live.get(row[:2]) != row]
        broken += [f"the last live bar is {live.get(row[:2])}, the final {row}" for row in stale[:EXAMPLES]]
        count, gaps = count + len(rows), gaps + sum(is_gap for _, is_gap in finals)
    broken += _disorder(beats, number)
    letters = _letters(log, declared, number)
    broken += _differences(f"dead letters of partition {number}", letters, sorted(wanted_letters))
    return Outcome(count, gaps, len(late), len(letters), tuple(broken))


def lateness(events: Sequence[Kept], beats: Sequence[Beat], declared: Declaration) -> tuple[set[int], int]:
    """Return the offsets of the events that are late, and the instant up to which buckets are closed in the end."""
    waiting = sorted((beat for beat in beats if beat.is_obeyed), key=lambda beat: beat.position)
    known, late, base = -MOST, set(), declared.base
    for kept in events:
        while waiting and waiting[0].position <= kept.offset:
            known = max(known, waiting.pop(0).instant)
        time = to_instant(kept.tick.time)
        if time // base * base + base + declared.grace <= known:
            late.add(kept.offset)
        if kept.appended is not None and 0 <= kept.appended - time <= MINUTE:
            known = max(known, time)
    return late, max([known, *(beat.instant for beat in waiting)])


def _expected(case: Case, counted: Sequence[Tick], timeframe: str, closed: int) -> list[Row]:
    """Return the bars that the events make in all buckets that are closed."""
    declared = case.declared
    events = [Event(tick.time, (tick.symbol,), tick.price, tick.size) for tick in counted]
    newest = closed - declared.grace - 1
    events = [*(event for event in events if to_instant(event.at) <= newest), Event(from_instant(newest), (NOBODY,), None, 0)]
    size = next(bar.timeframe.size for bar in declared.plan.emitted if bar.name == timeframe)
    assert size is not None
    rows = bars(events, timeframe, sessions=case.sessions, fill=declared.fills)
    return [row for row in rows if row[0] != (NOBODY,) and to_instant(row[1]) + size + declared.grace <= closed]


def _differences(name: str, rows: Sequence[Row], expected: Sequence[Row]) -> Iterator[str]:
    """Yield what is there twice, what is missing, and what should not be there or differs."""
    counts, wanted = Counter(rows), Counter(expected)
    for kind, wrong in (("missing", wanted - counts), ("too many", counts - wanted)):
        if wrong:
            yield f"{name}: {sum(wrong.values())} {kind}, such as {sorted(wrong, key=repr)[:EXAMPLES]}"


def _disorder(beats: Sequence[Beat], number: int) -> Iterator[str]:
    """Yield obeyed heartbeats that are not behind the one before; a leader may append the newest one again as it is."""
    for before, beat in pairwise(beat for beat in beats if beat.is_obeyed):
        is_again = (beat.instant, beat.position) == (before.instant, before.position)
        if not is_again and (beat.instant <= before.instant or beat.position < before.position):
            yield f"heartbeats of partition {number} are out of order: {before}, then {beat}"


def _batches(log: Log, topic: str, number: int) -> Iterator[Batch]:
    partition = TopicPartition(topic, number)
    offset, end = log.first(partition), log.ends(topic)[number]
    while offset < end and (batches := log.read(partition, offset, 1_000_000)):
        yield from batches
        offset = batches[-1].next_offset


def _events(log: Log, number: int) -> list[Kept]:
    return [
        Kept(int(offset), int(appended) if batch.has_append_times else None, tick)
        for batch in _batches(log, EVENTS, number)
        for offset, appended, tick in zip(
            batch.offsets, batch.timestamps, mapping(entity_model(Tick)).from_frame(batch.records.frame), strict=True
        )
    ]


def _beats(log: Log, declared: Declaration, number: int) -> list[Beat]:
    beats = []
    for batch in _batches(log, DEFAULT_HEARTBEATS.name(declared.plan), number):
        columns = [batch.records.frame[name].to_physical().to_list() for name in ("instant", "position", "asked")]
        beats += [Beat(*row) for row in zip(*columns, batch.timestamps.tolist(), strict=True)]
    return beats


def _bars(log: Log, topic: str, number: int) -> list[tuple[Row, bool]]:
    """Return the bars of a topic as the reference writes them, each with whether it fills a gap; tombstones are left out."""
    rows: list[tuple[Row, bool]] = []
    for batch in _batches(log, topic, number):
        records = batch.records if batch.records.tombstones is None else batch.records.filter(~batch.records.tombstones)
        gaps = [headers.get("gap") == "true" for headers in header_rows(records)]
        for bar, is_gap in zip(mapping(entity_model(Bar)).from_frame(records.frame), gaps, strict=True):
            values = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.ticks)
            rows.append((((bar.symbol,), bar.start, *values), is_gap))
    return rows


def _letters(log: Log, declared: Declaration, number: int) -> list[Row]:
    topic = dead_letter_name(declared.plan.query.target.topic)
    if topic not in {spec.name for spec in log.topics()}:
        return []
    rows = [
        row
        for batch in _batches(log, topic, number)
        for row in batch.records.frame.select("timeframe", "key", "start", "kind").rows(named=True)
    ]
    return [(row["timeframe"], json.loads(row["key"])["symbol"], to_instant(row["start"])) for row in rows]
