"""The state of a task as named frames: whole, or what changed since the last commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.pipeline import Pipeline
from kandle.engine.state import ChangeJournal, StateChange
from kandle.errors import StateError
from kandle.log.port import TopicPartition
from kandle.plan.plan import Plan
from kandle.plan.topics import QueryTopics
from kandle.query.nodes import describe
from kandle.runtime.surroundings import Surroundings
from kandle.store.changelog import Changelog, PlacedEntry, RestoredState
from kandle.time.watermark import Watermark

Frames = Mapping[str, pl.DataFrame]

NUMBERS = "_numbers"
SCHEDULE = "_schedule"
STEPS = "_steps"
PARTIALS = "_partials"
KEYS = "_keys"
PLAN = "_plan"

STEP_COLUMNS = {"rows": pl.Int64, "in_order": pl.Boolean, "closed": pl.Int64, "replaces": pl.Boolean}


def fingerprint(plan: Plan) -> str:
    """A short text that differs between plans whose state differs: by timeframes, group key or what is kept of a bucket."""
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
    """The fingerprint of the plan that wrote a snapshot."""
    return str(frames[PLAN]["fingerprint"][0])


def snapshot_frames(pipeline: Pipeline, marks: Mapping[str, int], schedule: Mapping[int, int]) -> dict[str, pl.DataFrame]:
    """The whole state; `marks` are numbers of the task, `schedule` the positions of the rows that its calendar holds."""
    positions = {"partition": list(schedule), "position": list(schedule.values())}
    return pipeline.snapshot() | {
        NUMBERS: pl.DataFrame({**pipeline.numbers(), **marks}),
        SCHEDULE: pl.DataFrame(positions, schema={"partition": pl.Int64, "position": pl.Int64}),
        PLAN: pl.DataFrame({"fingerprint": [fingerprint(pipeline.plan)]}),
    }


def schedule_positions(frames: Frames) -> dict[int, int]:
    """The positions of the schedule rows that the calendar of a snapshot held."""
    return dict(frames[SCHEDULE].iter_rows())


def numbers_of(frames: Frames) -> dict[str, int]:
    """The numbers of a snapshot or change."""
    return dict(frames[NUMBERS].row(0, named=True))


def change_frames(
    pipeline: Pipeline, journal: ChangeJournal, known_keys: int, marks: Mapping[str, int]
) -> dict[str, pl.DataFrame]:
    """What happened since the last commit: the steps, and the keys that are new."""
    rows = [
        (0 if change.partials is None else change.partials.height, change.in_order, change.closed, change.replaces)
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


def replayed(pipeline: Pipeline, frames: Frames) -> None:
    """Bring a pipeline up to date with a change."""
    journal = ChangeJournal()
    begin = 0
    for rows, in_order, closed, replaces in frames[STEPS].iter_rows():
        if rows:
            journal.changes.append(StateChange(frames[PARTIALS][begin : begin + rows], in_order, replaces=replaces))
            begin += rows
        else:
            journal.changes.append(StateChange(closed=closed))
    numbers = numbers_of(frames)
    pipeline.replay(journal, frames.get(KEYS), numbers)


def state_is_gone(topics: QueryTopics, reason: str) -> StateError:
    """Return the error for a changelog that was deleted or created again; half a bucket must not become a bar.

    Args:
        topics: The topics of the query.
        reason: What shows it, as the end of "topic X, ...".
    """
    name = topics.plan.query.target.name
    return StateError(
        f"the state of {name} is gone: topic {topics.changelog}, {reason}; was it deleted or made again? What was open "
        "cannot go on. Restore the topic, or have the bars begin anew: with another consumer.group and another topic for "
        f"{name}, or delete the topics of its bars and the group"
    )


class Replica:
    """A pipeline with all that was committed; `follow` brings it up to date with what others commit since."""

    def __init__(self, around: Surroundings, partition: int) -> None:
        self._around = around
        self._plan = around.topics.plan
        self.changelog = Changelog(around.log, TopicPartition(around.topics.changelog, partition), around.store)
        self.journal = ChangeJournal()
        self.watermark = Watermark()
        self.has_state = False
        self.is_current = True
        """Whether its calendar is the newest one, rather than that of its snapshot."""
        self.pipeline = self._began(None)
        found = self.changelog.restore()
        if found.changes and found.snapshot is None:
            raise state_is_gone(around.topics, f"partition {partition} begins with a change of a state that is not there")
        self._take(found)

    def follow(self, records: Sequence[PlacedEntry]) -> bool:
        """Take what the changelog has `beyond`; False if that does not go on from here: only a new replica helps then."""
        found = self.changelog.follow(records)
        if found is None:
            return False
        self._take(found)
        return True

    def adopted(self, around: Surroundings) -> bool:
        """Be a task's from now on, as of the last commit; False if the changelog does not go on from here."""
        self._around, self.is_current = around, False
        self.changelog.log = around.log
        return self.follow(list(self.changelog.beyond())) and self.changelog.is_whole

    def _take(self, found: RestoredState) -> None:
        if found.snapshot is not None:
            self._check_plan(found.snapshot)
            self.pipeline = self._began(found.snapshot)
            self.pipeline.restore({name: frame for name, frame in found.snapshot.items() if not name.startswith("_")})
            self._take_numbers(found.snapshot)
        for change in found.changes:
            replayed(self.pipeline, change)
            self._take_numbers(change)
        self.journal.clear()

    def _began(self, snapshot: Frames | None) -> Pipeline:
        """A pipeline with the schedule rows that it had when the snapshot was written."""
        schedule = self._around.schedule
        calendar = newest = None if schedule is None else schedule.calendar
        if snapshot is not None and schedule is not None:
            calendar = schedule.calendar_at(schedule_positions(snapshot)) or newest
        self.is_current = calendar is newest
        return Pipeline(self._plan, calendar, journal=self.journal, expiry=self._around.expiry)

    def _check_plan(self, snapshot: Frames) -> None:
        """State of another declaration must not be gone on with."""
        if fingerprint_of(snapshot) != fingerprint(self._plan):
            name = self._plan.query.target.name
            raise StateError(
                f"the state in topic {self._around.topics.changelog} belongs to another query of {name}; "
                f"give {name} another topic, and the bars of the changed query begin anew there"
            )

    def _take_numbers(self, frames: Frames) -> None:
        self.has_state = True
        self.watermark = Watermark(numbers_of(frames)["watermark"])
