"""Schedule rows of any entity, read through a query's `based_on`, as a session calendar."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from kandle.engine.expressions import compiled, evaluated
from kandle.query.query import QueryModel
from kandle.time.sessions import SessionCalendar, SessionRows


def session_calendar(query: QueryModel, frames: Iterable[pl.DataFrame], *, is_whole: bool = False) -> SessionCalendar:
    """The calendar of the query's schedule, from physical frames of the schedule's entity; whole if no more rows will come."""
    schedule = query.schedule
    assert schedule is not None
    names = [key.name for key in schedule.entity.keys[: len(query.group_by)]]
    columns = [
        compiled(schedule.open).cast(pl.Int64).alias("_open"),
        compiled(schedule.close).cast(pl.Int64).alias("_close"),
    ]
    if schedule.day is not None:
        columns.append(compiled(schedule.day).cast(pl.Int32).alias("_day"))
    rows = pl.concat([frame.select(names).hstack(evaluated(frame, columns)) for frame in frames])
    distinct = rows.select(names).unique(maintain_order=True).with_row_index("_key")
    numbers = rows.join(distinct, on=names, how="left", maintain_order="left")["_key"].cast(pl.Int64)
    days = rows["_day"].to_numpy() if schedule.day is not None else None
    return SessionCalendar(
        SessionRows(
            keys=distinct.select(names).rows(),
            key_ids=numbers.to_numpy().astype(np.int64),
            opens=rows["_open"].to_numpy(),
            closes=rows["_close"].to_numpy(),
            days=days,
        ),
        is_whole=is_whole,
    )
