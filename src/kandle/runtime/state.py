"""The state of a task as named frames: whole, or what changed since the last commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.journal import Journal, Step
from kandle.engine.pipeline import Pipeline
from kandle.plan.plan import Plan
from kandle.query.describe import describe

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


def change_frames(pipeline: Pipeline, journal: Journal, known_keys: int, marks: Mapping[str, int]) -> dict[str, pl.DataFrame]:
    """What happened since the last commit: the steps, and the keys that are new."""
    rows = [
        (0 if step.partials is None else step.partials.height, step.in_order, step.closed, step.replaces)
        for step in journal.steps
    ]
    frames = {
        NUMBERS: pl.DataFrame({**pipeline.numbers(), **marks}),
        STEPS: pl.DataFrame(rows, schema=STEP_COLUMNS, orient="row"),
    }
    partials = [step.partials for step in journal.steps if step.partials is not None]
    if partials:
        frames[PARTIALS] = pl.concat(partials)
    if pipeline.keys is not None and pipeline.keys.height > known_keys:
        frames[KEYS] = pipeline.keys[known_keys:]
    return frames


def replayed(pipeline: Pipeline, frames: Frames) -> None:
    """Bring a pipeline up to date with a change."""
    journal = Journal()
    begin = 0
    for rows, in_order, closed, replaces in frames[STEPS].iter_rows():
        if rows:
            journal.steps.append(Step(frames[PARTIALS][begin : begin + rows], in_order, replaces=replaces))
            begin += rows
        else:
            journal.steps.append(Step(closed=closed))
    numbers = numbers_of(frames)
    pipeline.replay(journal, frames.get(KEYS), numbers)
