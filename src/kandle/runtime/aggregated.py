"""A windowed table of ksqlDB whose rows are base buckets: what its topic holds, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.state import START
from kandle.log.port import TopicSpec
from kandle.query.query import QueryModel, over_one_row
from kandle.time.timeframe import MILLISECOND

TIME = "_time"
"""How the names of partials that are instants end: the table has them in milliseconds."""


@dataclass(frozen=True)
class Aggregated:
    """The table of a query: `columns` says which column of the topic holds which partial of the engine.

    The topic's key columns are those of the group key, in its order, and last the start of the window.
    """

    query: QueryModel
    topic: TopicSpec
    columns: Mapping[str, str]

    @cached_property
    def _compiled(self) -> CompiledQuery:
        return CompiledQuery(self.query)

    @cached_property
    def _types(self) -> Mapping[str, pl.DataType]:
        """The engine's types of the partials."""
        types = {found.name: found.type.physical for found in self.query.source.fields}
        if self.query.join is not None:
            other = self.query.join.entity
            types |= {f"{other.name}.{found.name}": found.type.physical for found in other.fields}
        source = pl.DataFrame(schema=types)
        query = CompiledQuery(over_one_row(self.query))
        events = source.select(query.time.alias(TIME), *query.arguments, pl.lit(0, dtype=pl.Int64).alias("_offset"))
        return query.collected(events.with_columns(pl.lit(0).alias(START)), [START]).schema

    def rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of the topic as `Pipeline.put` takes them."""
        *group, start = self.topic.keys
        keys = [pl.col(name).alias(key) for name, key in zip(group, self._compiled.key_names, strict=True)]
        partials = [self._partial(name, kind) for name, kind in self._types.items() if name != START]
        return frame.select(*keys, pl.col(start).cast(pl.Int64).alias(START), *partials)

    def _partial(self, name: str, kind: pl.DataType) -> pl.Expr:
        column = pl.col(self.columns[name])
        if name.endswith(TIME):
            column = column * MILLISECOND
        return column.cast(kind).alias(name)
