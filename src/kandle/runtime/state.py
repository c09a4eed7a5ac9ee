"""The state of a task: its pipeline, restored from the changelog, and the record of what each commit changes.

A changelog holds whole snapshots and, between them, what every commit changed, as named frames. A commit appends its change
together with its outputs and positions, all or nothing, so the three always agree:

    offset    0          1        2        3          4
    record    snapshot   change   change   snapshot   change
    commit    first      second   third    fourth     fifth
                                           ^ a restart reads from here: snapshot 3, then change 4

Where a process dies, whoever takes the partition over replays the newest snapshot and the changes after it, and reads on
from the positions of the same commit. What was processed after it is processed once more, and was never visible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.failures import FailureCollector
from kandle.engine.pipeline import Pipeline
from kandle.engine.state import ChangeJournal, StateChange
from kandle.errors import StateError
from kandle.log.letters import LetterRate, LetterTopic
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Write
from kandle.plan.plan import Plan
from kandle.plan.query_topics import QueryTopics
from kandle.query.nodes import describe
from kandle.runtime.backlog import BacklogWindow
from kandle.runtime.counters import Counters
from kandle.runtime.generations import Generation
from kandle.runtime.log_time import RefusedHeartbeats
from kandle.runtime.replacing import FinalGuard
from kandle.runtime.resuming import LastEvent
from kandle.runtime.schedule import ScheduleProvider, ScheduleVersion
from kandle.store.changelog import CHANGE, SNAPSHOT, Changelog, PlacedEntry, RestoredState
from kandle.store.port import Store
from kandle.time.clock import Clock
from kandle.time.sessions import SessionCalendar
from kandle.time.watermark import Watermark

Frames = Mapping[str, pl.DataFrame]

NUMBERS = "_numbers"
SCHEDULE = "_schedule"
KEPT_SESSIONS = "_kept_sessions"
STEPS = "_steps"
PARTIALS = "_partials"
KEYS = "_keys"
PLAN = "_plan"

STEP_COLUMNS = {
    "rows": pl.Int64,
    "in_order": pl.Boolean,
    "closed": pl.Int64,
    "replaces": pl.Boolean,
    "first": pl.Int64,
    "until": pl.Int64,
}
"""A row for each step of a change; older versions have not written the last two columns."""

LEAST_CHANGES = 1 << 20
"""Bytes of changes below which a snapshot is not worth writing."""

LEAST_CLOSED = 50_000
"""Bars closed since the last snapshot below which another is not worth writing: whoever restores closes them once more."""

CLOSED_PER_KEY = 10
"""The same for many keys, for each of them and each timeframe, since the snapshot is as large as there are keys."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What the tasks of one query in one process work with.

    `expiry` is how long a key may be silent before it gets no more gap bars, in microseconds; None is for ever. `store` keeps
    a local copy of the changelogs; None reads them from the log. `generation` is the declaration that the process runs; None
    is the first one, whatever it says. `refused` reports heartbeats that are ahead of the log's clock, which are passed over;
    None takes them all, since a clock that is simulated says nothing of them. `letter_rate` limits dead letters of records and
    events; None writes all of them. `letters` is the topic of dead letters.
    """

    log: Log
    clock: Clock
    topics: QueryTopics
    counters: Counters
    schedule: ScheduleProvider | None = None
    store: Store | None = None
    expiry: int | None = None
    generation: Generation | None = None
    refused: RefusedHeartbeats | None = None
    letter_rate: LetterRate | None = None
    letters: LetterTopic = field(init=False)

    def __post_init__(self) -> None:
        spec = self.topics.dead_letters.spec
        object.__setattr__(self, "letters", LetterTopic(self.log, lambda: spec))

    @property
    def generation_number(self) -> int:
        """The number of the declaration that the process runs."""
        return 1 if self.generation is None else self.generation.number

    @property
    def calendar(self) -> SessionCalendar | None:
        """The newest calendar; None where there is no schedule."""
        return None if self.schedule is None else self.schedule.calendar


def fingerprint(plan: Plan) -> str:
    """Return a short text that differs between plans whose states differ: in timeframes, group key or partial aggregates."""
    query = CompiledQuery(plan.query)
    content = {
        "bars": [(bar.name, bar.source) for bar in plan.bars],
        "group": [describe(node) for node in plan.query.group_by],
        "arguments": {argument.column: describe(node) for node, argument in query.argument_columns.items()},
        "partials": [partial.name for partial in query.partials],
        "gaps": plan.query.gaps.value,
        "zone": plan.zone,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def fingerprint_of(frames: Frames) -> str:
    """Return the fingerprint of the plan that wrote a snapshot."""
    return str(frames[PLAN]["fingerprint"][0])


def generation_of(frames: Frames) -> int:
    """Return the number of the declaration that wrote a snapshot; older snapshots are all of the first one."""
    plan = frames[PLAN]
    return int(plan["generation"][0]) if "generation" in plan.columns else 1


def snapshot_frames(
    pipeline: Pipeline, marks: Mapping[str, int], schedule: ScheduleVersion | None, generation: int = 1
) -> dict[str, pl.DataFrame]:
    """Return the whole state as named frames.

    Args:
        pipeline: The pipeline of the task.
        marks: Numbers of the task beside those of the pipeline, by name.
        schedule: The version of the schedule that the pipeline has; None without a schedule.
        generation: The number of the declaration that the process runs.
    """
    next_offsets = {} if schedule is None else schedule.positions
    positions = {"partition": list(next_offsets), "position": list(next_offsets.values())}
    kept = {} if schedule is None or schedule.kept is None else {KEPT_SESSIONS: schedule.kept}
    return (
        pipeline.snapshot()
        | kept
        | {
            NUMBERS: pl.DataFrame({**pipeline.numbers(), **marks}),
            SCHEDULE: pl.DataFrame(positions, schema={"partition": pl.Int64, "position": pl.Int64}),
            PLAN: pl.DataFrame({"fingerprint": [fingerprint(pipeline.plan)], "generation": [generation]}),
        }
    )


def schedule_positions(frames: Frames) -> dict[int, int]:
    """Return the positions of the schedule rows that the calendar of a snapshot held."""
    return dict(frames[SCHEDULE].select("partition", "position").iter_rows())


def numbers_of(frames: Frames) -> dict[str, int]:
    """Return the numbers of a snapshot or change."""
    return dict(frames[NUMBERS].row(0, named=True))


def change_frames(
    pipeline: Pipeline, journal: ChangeJournal, known_keys: int, marks: Mapping[str, int]
) -> dict[str, pl.DataFrame]:
    """Return what happened since the last commit as named frames: the steps, and the keys that are new.

    Args:
        pipeline: The pipeline of the task.
        journal: What has changed its state.
        known_keys: The number of keys as of the last commit.
        marks: Numbers of the task beside those of the pipeline, by name.
    """
    rows = [
        (
            *(0 if change.partials is None else change.partials.height, change.in_order, change.closed, change.replaces),
            *(change.first, change.until),
        )
        for change in journal.changes
    ]
    frames = {
        NUMBERS: pl.DataFrame({**pipeline.numbers(), **marks}),
        STEPS: pl.DataFrame(rows, schema=STEP_COLUMNS, orient="row"),
    }
    partials = [change.partials for change in journal.changes if change.partials is not None]
    if partials:
        frames[PARTIALS] = pl.concat(partials)
    if pipeline.keys is not None and pipeline.keys.height > known_keys:
        frames[KEYS] = pipeline.keys[known_keys:]
    return frames


def replay_change(pipeline: Pipeline, frames: Frames) -> None:
    """Bring a pipeline up to date with a change."""
    journal = ChangeJournal()
    begin = 0
    for step in frames[STEPS].iter_rows(named=True):
        rows = step["rows"]
        if rows:
            partials = frames[PARTIALS][begin : begin + rows]
            journal.changes.append(StateChange(partials, step["in_order"], replaces=step["replaces"]))
            begin += rows
        else:
            journal.changes.append(StateChange(closed=step["closed"], first=step.get("first", 0), until=step.get("until")))
    pipeline.replay(journal, frames.get(KEYS), numbers_of(frames))


def state_is_gone(topics: QueryTopics, reason: str) -> StateError:
    """Return the error for a changelog that was deleted or created again: half a bucket must not become a bar.

    Args:
        topics: The topics of the query.
        reason: What shows it, as the end of the sentence "topic X, ...".
    """
    name = topics.plan.query.target.name
    return StateError(
        f"the state of {name} is gone: topic {topics.changelog}, {reason}; was it deleted or created again? Open buckets cannot "
        f"go on without it. Restore the topic, or start anew: with another topic for {name}, or delete the topics of {name} and "
        f"the group {topics.group}"
    )


def check_former_state(log: Log, topics: QueryTopics) -> None:
    """Check a state whose declaration is not known, since an older version of kandle wrote it.

    Args:
        log: The log.
        topics: The topics of the query.

    Raises:
        StateError: It belongs to another declaration.
    """
    if topics.changelog not in {spec.name for spec in log.topics()}:
        return
    for number, end in enumerate(log.ends(topics.changelog)):
        snapshot = Changelog(log, TopicPartition(topics.changelog, number)).restore().snapshot if end else None
        if snapshot is not None:
            check_fingerprint(topics, snapshot)
            return


def check_fingerprint(topics: QueryTopics, snapshot: Frames) -> None:
    """Raise StateError for the state of another declaration: it cannot be continued."""
    if fingerprint_of(snapshot) != fingerprint(topics.plan):
        name = topics.plan.query.target.name
        raise StateError(
            f"the state in topic {topics.changelog} belongs to another declaration of {name}: run the one that made it, or give "
            f"{name} another topic, and the bars of the changed declaration start there"
        )


class Replica:
    """A pipeline with all that was committed; `follow` brings it up to date with what others commit since."""

    _kept: pl.DataFrame | None = None
    """Sessions that its calendar holds although the rows of their keys were wrong."""

    def __init__(self, context: TaskContext, partition: int) -> None:
        self._context = context
        self._plan = context.topics.plan
        self.changelog = Changelog(context.log, TopicPartition(context.topics.changelog, partition), context.store)
        self.journal = ChangeJournal()
        self.failures = FailureCollector()
        """What the pipeline has left out."""
        self.has_state = False
        self.last: LastEvent | None = None
        """The end of what it holds of its events; None in the state of an older version."""
        self.former_closed: int | None = None
        """Where the state is that of a former declaration, the instant up to which that one had closed buckets."""
        self.guard: FinalGuard | None = None
        self.is_current = True
        """Whether its calendar is the newest one, rather than that of its snapshot."""
        self.pipeline = self._begin(None)
        self.watermark = Watermark()
        self.backlog = BacklogWindow(self.pipeline.event_time)
        restored = self.changelog.restore()
        if restored.changes and restored.snapshot is None:
            raise state_is_gone(context.topics, f"partition {partition} begins with a change, without the snapshot before it")
        self._take(restored)

    def follow(self, records: Sequence[PlacedEntry]) -> bool:
        """Take in records that `changelog.beyond` read.

        Returns:
            False if they do not continue what is known: then only a new replica helps.
        """
        restored = self.changelog.follow(records)
        if restored is None:
            return False
        self._take(restored)
        return True

    def adopt(self, context: TaskContext) -> bool:
        """Become a task's replica, brought up to date with the last commit.

        Returns:
            False if the changelog does not continue what is known: then only a new replica helps.
        """
        self._context, self.is_current = context, False
        if context.schedule is not None and self._kept is not None:
            context.schedule.keep(self._kept)
        self.changelog.log = context.log
        return self.follow(list(self.changelog.beyond())) and self.changelog.is_whole

    def _take(self, restored: RestoredState) -> None:
        if self._is_former(restored.snapshot):
            newest = restored.changes[-1] if restored.changes else restored.snapshot
            if newest is not None:
                self.former_closed = numbers_of(newest)["closed"]
            return
        if restored.snapshot is not None:
            self.former_closed = None
            self.guard = FinalGuard.of(self._plan, restored.snapshot)
            check_fingerprint(self._context.topics, restored.snapshot)
            self.pipeline = self._begin(restored.snapshot)
            self.pipeline.restore({name: frame for name, frame in restored.snapshot.items() if not name.startswith("_")})
            self._take_numbers(restored.snapshot)
        for change in restored.changes:
            replay_change(self.pipeline, change)
            self._take_numbers(change)
        self.journal.clear()
        # They were dead letters of the commits that are replayed.
        self.failures.clear()

    def _is_former(self, snapshot: Frames | None) -> bool:
        """Return whether a snapshot, or changes if there is none, are of a former declaration, with which nothing can go on.

        Raises:
            StateError: They are of a later one.
        """
        if snapshot is None:
            return self.former_closed is not None
        own, number = self._context.generation_number, generation_of(snapshot)
        if number > own:
            name = self._plan.query.target.name
            raise StateError(
                f"the declaration of {name} that this process runs (generation {own}) was replaced by generation {number}; start "
                f"it again with that declaration, or give {name} another topic"
            )
        return number < own

    def _begin(self, snapshot: Frames | None) -> Pipeline:
        """Return a new pipeline, with the schedule rows that it had when the snapshot was written."""
        schedule = self._context.schedule
        calendar = newest = None if schedule is None else schedule.calendar
        if snapshot is not None and schedule is not None:
            self._kept = snapshot.get(KEPT_SESSIONS)
            if self._kept is not None:
                schedule.keep(self._kept)
            calendar = schedule.calendar_at(schedule_positions(snapshot), self._kept) or newest
        self.is_current = calendar is newest
        return Pipeline(self._plan, calendar, journal=self.journal, expiry=self._context.expiry, failures=self.failures)

    def _take_numbers(self, frames: Frames) -> None:
        self.has_state = True
        numbers = numbers_of(frames)
        self.watermark = Watermark(numbers["watermark"])
        self.backlog.restore(numbers)
        self.last = LastEvent.from_numbers(numbers)


class StateRecorder:
    """Records what changes the state of a task, for the changelog.

    Each commit appends its changes; when they have outgrown the last snapshot, or the schedule has changed, it appends a whole
    snapshot instead.
    """

    def __init__(self, replica: Replica, context: TaskContext, schedule: ScheduleVersion | None = None) -> None:
        self._replica = replica
        self._topics = context.topics
        self._generation = context.generation_number
        self._known_keys = self._key_count
        self._snapshot_size = 0
        self._changes_size = 0
        self._closed_rows = 0
        self._numbers: dict[str, int] = {}
        self._schedule = schedule
        self._is_snapshot_due = False

    @property
    def _key_count(self) -> int:
        keys = self._replica.pipeline.keys
        return 0 if keys is None else keys.height

    @property
    def schedule(self) -> ScheduleVersion | None:
        """The schedule rows to which the recorded state belongs; None if they are not the newest."""
        return self._schedule

    def replace_schedule(self, version: ScheduleVersion) -> None:
        """Have the next commit write a snapshot: the changes on record belong to older schedule rows."""
        self._schedule = version
        self._is_snapshot_due = True

    def writes(self, last: LastEvent) -> list[Write]:
        """Return the records of the changelog for the next commit; nothing if the state has not changed.

        Args:
            last: The end of what it holds of its events.
        """
        self._record(last)
        return self._replica.changelog.writes()

    def _record(self, last: LastEvent) -> None:
        pipeline, changelog = self._replica.pipeline, self._replica.changelog
        marks = {"watermark": self._replica.watermark.value} | self._replica.backlog.snapshot() | last.numbers()
        numbers = pipeline.numbers() | marks
        if not self._replica.journal and numbers == self._numbers and not self._is_snapshot_due:
            return
        self._numbers = numbers
        is_grown = self._changes_size > max(LEAST_CHANGES, 2 * self._snapshot_size) or self._is_costly
        if self._snapshot_size == 0 or self._is_snapshot_due or is_grown:
            frames = snapshot_frames(pipeline, marks, self._schedule, self._generation) | self._guard_frames()
            self._snapshot_size = changelog.record(SNAPSHOT, frames)
            self._changes_size = 0
            self._closed_rows = pipeline.closed_rows
            self._is_snapshot_due = False
        else:
            frames = change_frames(pipeline, self._replica.journal, self._known_keys, marks)
            self._changes_size += changelog.record(CHANGE, frames)

    @property
    def _is_costly(self) -> bool:
        """Whether to replay the changes would take much longer than to read a snapshot, however few bytes they are."""
        pipeline = self._replica.pipeline
        most = max(LEAST_CLOSED, CLOSED_PER_KEY * self._key_count * len(pipeline.plan.bars))
        return pipeline.closed_rows - self._closed_rows > most

    def _guard_frames(self) -> dict[str, pl.DataFrame]:
        """Return what a former declaration has made, as long as some of it could be made again."""
        guard = self._replica.guard
        is_needed = guard is not None and not guard.is_passed(self._replica.pipeline.numbers()["closed"])
        return guard.frames() if guard is not None and is_needed else {}

    def committed(self, first: int | None) -> None:
        """Note that the commit was made.

        Args:
            first: The offset of the first record that it appended to the changelog; None if it wrote nothing at all.

        Raises:
            StateError: The records came to lie before older ones, so the topic was deleted and created again.
        """
        changelog = self._replica.changelog
        if first is not None:
            if changelog.is_of_another_topic(first):
                number = changelog.partition.partition
                reason = f"partition {number} continues at offset {first}, although it had more records before"
                raise state_is_gone(self._topics, reason)
            changelog.committed(first)
        self._replica.journal.clear()
        self._known_keys = self._key_count
