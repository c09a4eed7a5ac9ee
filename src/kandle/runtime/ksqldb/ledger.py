"""Which statement each stream and table of ksqlDB was created with: the server itself only tells what it has made of the text."""

from __future__ import annotations

import polars as pl

from kandle.log.port import Column, Log, TopicPartition, TopicSpec
from kandle.log.records import Records, Write

STATEMENTS = "_kandle_statements"
NAME, TEXT = "name", "statement"
SPEC = TopicSpec(STATEMENTS, (Column(NAME, "str", pl.String()), Column(TEXT, "str", pl.String())), (NAME,), compacted=True)
ROWS_AT_ONCE = 10_000


class Ledger:
    """The statements, by the name of what they created, in a topic of the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        log.ensure(SPEC)

    def all(self) -> dict[str, str]:
        """The newest statement of each name."""
        found: dict[str, str] = {}
        place = TopicPartition(STATEMENTS, 0)
        offset = self._log.first(place)
        while batches := self._log.read(place, offset, ROWS_AT_ONCE):
            for batch in batches:
                found |= dict(batch.records.frame.select(NAME, TEXT).iter_rows())
            offset = batches[-1].next_offset
        return found

    def keep(self, name: str, statement: str) -> None:
        """This created it."""
        self._log.append([Write(STATEMENTS, 0, Records(pl.DataFrame({NAME: [name], TEXT: [statement]})))])
