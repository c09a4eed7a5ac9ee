"""Where the bars of a backfill go: into frames, or into files that appear all together at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from kandle.backfill.writers import FinalWriter, OutputFolder
from kandle.model.columns import logical_schema, to_logical
from kandle.plan.plan import BarPlan, Plan
from kandle.query.query import Late, QueryModel


class Sink(Protocol):
    """Takes bars (physical columns) and late events; `commit` makes them visible and gives the files by timeframe."""

    @property
    def frames(self) -> dict[str, pl.DataFrame]: ...

    @property
    def late_events(self) -> pl.DataFrame | None: ...

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None: ...

    def late(self, events: pl.DataFrame) -> None: ...

    def commit(self) -> dict[str, Path]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class MemorySink:
    """Keeps all bars as logical frames."""

    def __init__(self, query: QueryModel, plan: Plan) -> None:
        self._query = query
        self._bars: dict[str, list[pl.DataFrame]] = {bar.name: [] for bar in plan.emitted}
        self._late: list[pl.DataFrame] = []

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        empty = pl.DataFrame(schema=logical_schema(self._query.target))
        return {name: pl.concat([empty, *found]) for name, found in self._bars.items()}

    @property
    def late_events(self) -> pl.DataFrame | None:
        return pl.concat(self._late) if self._late else None

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None:
        self._bars[bar.name].append(to_logical(self._query.target, bars))

    def late(self, events: pl.DataFrame) -> None:
        self._late.append(to_logical(self._query.source, events))

    def commit(self) -> dict[str, Path]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None


class FolderSink:
    """Writes one file per timeframe, and one of late events if the query keeps them."""

    def __init__(self, query: QueryModel, plan: Plan, folder: Path, format: str) -> None:
        self._query = query
        self._folder = OutputFolder(folder, format)
        self._writers: dict[str, FinalWriter] = {}
        for bar in plan.emitted:
            self._writers[bar.name] = self._folder.writer(bar.final_topic, query.target)
        self._late_writer: FinalWriter | None = None
        if query.late is Late.TOPIC:
            self._late_writer = self._folder.writer(f"{query.target.topic}_late", query.source)

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        return {}

    @property
    def late_events(self) -> pl.DataFrame | None:
        return None

    def put(self, bar: BarPlan, bars: pl.DataFrame) -> None:
        self._writers[bar.name].write(to_logical(self._query.target, bars))

    def late(self, events: pl.DataFrame) -> None:
        assert self._late_writer is not None
        self._late_writer.write(to_logical(self._query.source, events))

    def commit(self) -> dict[str, Path]:
        self._folder.commit()
        return {name: writer.path for name, writer in self._writers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._folder.abort()
