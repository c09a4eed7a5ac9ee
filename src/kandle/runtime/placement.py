"""Whether the keys of a partition belong there: what a foreign producer puts elsewhere would be two bars in the place of one."""

from __future__ import annotations

import numpy as np
import polars as pl

from kandle.errors import DataError
from kandle.query.nodes import Column
from kandle.runtime.topics import QueryTopics
from kandle.serde.keys import partition_numbers


class Placement:
    """Looks at each new group key of one partition, once."""

    def __init__(self, topics: QueryTopics, partition: int) -> None:
        self._topics = topics
        self._partition = partition
        query = topics.plan.query
        grouped = [node.name if isinstance(node, Column) else None for node in query.group_by]
        self._is_needed = topics.partitions > 1 and topics.events == topics.source
        self._parts = [grouped.index(key.name) for key in query.source.keys] if self._is_needed else []
        self._checked = 0

    def skip(self, keys: pl.DataFrame | None) -> None:
        """These were looked at before."""
        self._checked = 0 if keys is None else keys.height

    def check(self, keys: pl.DataFrame | None) -> None:
        """DataError for a key that belongs to another partition."""
        if not self._is_needed or keys is None or keys.height == self._checked:
            return
        fresh = keys.slice(self._checked).select(keys.columns[part] for part in self._parts)
        numbers = partition_numbers(fresh, self._topics.partitions)
        wrong = np.flatnonzero(numbers != self._partition)
        if len(wrong):
            key = ", ".join(str(part) for part in fresh.row(int(wrong[0])))
            source = self._topics.plan.query.source
            raise DataError(
                f"topic {source.topic}: the key {key} is in partition {self._partition}, but by murmur2 of its values it belongs "
                f"to partition {numbers[wrong[0]]}; if its producer chooses otherwise (as most do with keys in Avro or JSON, "
                f'whose bytes they hash), say partitioner="other" in @kandle.{source.kind} or in [topics.{source.topic}], and '
                "events of a key are brought together first"
            )
        self._checked = keys.height
