"""Rows that are written once, such as final bars, in the order of their keys: sorted runs of frames.

What a round has read becomes a run: rows in order, cut into blocks of some thousand. Of each block the first and the last key and
the bounds of its times are known, so that a read decodes only the blocks that it needs. Four runs of a size are merged to one:

    read            run a        run b        run c        run d
    100 rows        [A .. Z]     [A .. Z]     [A .. Z]     [A .. Z]      merged: [A .. F][F .. M][M .. T][T .. Z]
    rows of "K"     at most three blocks for each size of runs

Runs of a million rows are not merged any more; by then they are of different times, and a read of a span needs few of them.

    run/<number>              its greatest offsets, and its blocks: first and last key, earliest and latest time, number of rows
    block/<number><block>     a frame
    unreadable/<place>        why a record cannot be read, and its key if that can be read
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import polars as pl

from kandle.errors import StorageError
from kandle.log.records import Batch, decode_frame, encode_frame
from kandle.store.follower import Changes, UnreadableRecord, unreadable_records
from kandle.store.ordering import in_order, ordered_keys
from kandle.store.port import Store

RUNS, BLOCKS, UNREADABLE = b"run/", b"block/", b"unreadable/"

BLOCK_ROWS = 4_096
FANOUT = 4
"""So many runs of a size are merged."""

LARGEST_RUN = 1_000_000
HELD_ROWS = 250_000
"""So many rows are held back while the topic is caught up with, so that the first runs are large."""

PARTITION, OFFSET = "__partition", "__offset"

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(list).decode


class Block(NamedTuple):
    """What is known of a block: its place, its first and last key, its earliest and latest time, and its number of rows."""

    run: int
    number: int
    first: bytes
    last: bytes
    low: int
    high: int
    rows: int

    @property
    def entry(self) -> bytes:
        """The key of the block in the store."""
        return BLOCKS + self.run.to_bytes(8, "big") + self.number.to_bytes(4, "big")


class SortedRuns:
    """The view of a topic whose rows are written once.

    Args:
        store: Where the rows are.
        topic: The topic.
        schema: The physical columns of a row.
        keys: The columns of the key of the topic's records.
        parts: The same columns in the order by which rows are read; the last one is the time of a row.
        formats: What else the meaning of the records depends on, as text.
    """

    def __init__(
        self,
        store: Store,
        topic: str,
        schema: Mapping[str, pl.DataType],
        keys: Sequence[str],
        parts: Sequence[str],
        formats: str = "",
    ) -> None:
        self._store = store
        self._topic = topic
        self._schema = schema
        self._keys = list(keys)
        self._parts = list(parts)
        self._time = parts[-1]
        self.fingerprint = f"runs {[(name, str(dtype)) for name, dtype in schema.items()]} {self._parts} {formats}"
        self.unreadable: dict[bytes, UnreadableRecord] = {}
        self._runs: dict[int, tuple[Block, ...]] = {}
        self._newest_run = 0
        self._newest: dict[int, dict[int, int]] = {}
        """The greatest offset of each partition in a run."""
        self._held: list[pl.DataFrame] = []
        self._puts: dict[bytes, bytes] = {}
        self._deletes: set[bytes] = set()
        self._fresh: dict[int, tuple[Block, ...]] = {}

    def load(self) -> None:
        """Take what the store has."""
        self._held, self._puts, self._deletes = [], {}, set()
        self._runs, self._newest = {}, {}
        for entry, value in self._store.scan(RUNS):
            run = int.from_bytes(entry[len(RUNS) :], "big")
            self._newest[run], blocks = decode(value)
            self._runs[run] = tuple(Block(run, *block) for block in blocks)
        self._fresh = dict(self._runs)
        self._newest_run = max(self._runs, default=0)
        self.unreadable = {key: UnreadableRecord(self._topic, *decode(value)) for key, value in self._store.scan(UNREADABLE)}

    def take(self, batches: Sequence[Batch], partitions: int) -> None:
        """Take records, those of a partition in the order of their offsets."""
        for batch in batches:
            if len(batch):
                frame = batch.records.frame.select(list(self._schema)).with_columns(
                    pl.lit(batch.partition, dtype=pl.Int32).alias(PARTITION), pl.Series(OFFSET, batch.offsets)
                )
                gone = batch.records.tombstones
                self._held.append(frame if gone is None else frame.filter(~gone))
            for record in unreadable_records(batch, self._keys, self._schema, self._parts):
                entry = UNREADABLE + f"{record.partition}/{record.offset}".encode()
                self._puts[entry] = encode((record.partition, record.offset, record.reason, record.key))
                self.unreadable[entry] = record

    def changes(self, *, is_current: bool) -> Changes | None:
        """Return what is to be written; None while more is held back."""
        rows = sum(frame.height for frame in self._held)
        if not is_current and rows < HELD_ROWS:
            return None
        if rows:
            self._add(pl.concat(self._held))
            while (run := self._mergeable()) is not None:
                self._merge(run)
        self._held = []
        return Changes(self._puts, list(self._deletes))

    def written(self) -> None:
        """Note that the last changes are in the store."""
        self._runs, self._puts, self._deletes = dict(self._fresh), {}, set()

    def _add(self, frame: pl.DataFrame) -> None:
        """Add rows as a run."""
        # No number is used again: whoever reads a run that is merged meanwhile must find it gone.
        self._newest_run = run = self._newest_run + 1
        ordered = in_order(frame, self._parts)
        blocks: list[Block] = []
        for number, part in enumerate(ordered.iter_slices(BLOCK_ROWS)):
            first, last = ordered_keys(pl.concat([part.head(1), part.tail(1)]).select(self._parts))
            times = part[self._time].to_physical()
            block = Block(run, number, first, last, int(times.min()), int(times.max()), part.height)  # type: ignore[arg-type]
            self._puts[block.entry] = encode_frame(part)
            blocks.append(block)
        newest = dict(frame.group_by(PARTITION).agg(pl.col(OFFSET).max()).rows())
        self._puts[_run_entry(run)] = encode([newest, [block[1:] for block in blocks]])
        self._fresh[run], self._newest[run] = tuple(blocks), newest

    def _mergeable(self) -> list[int] | None:
        """Return runs of about the same size that are to be merged; None if there are not enough."""
        sizes: dict[int, list[int]] = {}
        for run, blocks in self._fresh.items():
            rows = sum(block.rows for block in blocks)
            if rows < LARGEST_RUN:
                sizes.setdefault(_level(rows), []).append(run)
        return next((runs for runs in sizes.values() if len(runs) >= FANOUT), None)

    def _merge(self, runs: Sequence[int]) -> None:
        blocks = [block for run in runs for block in self._fresh.pop(run)]
        for run in runs:
            del self._newest[run]
        frames = [decode_frame(self._puts.get(block.entry) or self._content(block)) for block in blocks]
        for block in blocks:
            self._delete(block.entry)
        for run in runs:
            self._delete(_run_entry(run))
        self._add(pl.concat(frames))

    def forget(self, first: Mapping[int, int]) -> None:
        """Have the next changes delete the runs whose records the topic does not have any more."""
        for run, newest in list(self._newest.items()):
            if run in self._fresh and all(offset < first.get(partition, 0) for partition, offset in newest.items()):
                for block in self._fresh.pop(run):
                    self._delete(block.entry)
                self._delete(_run_entry(run))
                del self._newest[run]
        for entry, record in list(self.unreadable.items()):
            if record.offset < first.get(record.partition, 0):
                del self.unreadable[entry]
                self._delete(entry)

    def _delete(self, entry: bytes) -> None:
        if self._puts.pop(entry, None) is None:
            self._deletes.add(entry)

    def _content(self, block: Block) -> bytes:
        content = self._store.get(block.entry)
        if content is None:
            raise StorageError(f"the copy of topic {self._topic} lacks a block; delete its folder, it is built anew")
        return content

    def read(self, first: bytes, end: bytes, span: tuple[int, int], check: Callable[[], None]) -> list[list[pl.DataFrame]]:
        """Return the blocks that may have rows of a range of keys and of a span.

        Args:
            first: The smallest key.
            end: The key behind the greatest one; empty for no bound.
            span: The bounds of the times.
            check: Is called now and then, and raises an error to end the read.

        Returns:
            Frames with the columns of a row, its partition and its offset, by run; the rows of a run are in order.
        """
        while (frames := self._read(first, end, span, check)) is None:
            # A merge has deleted what was to be read: then what it has made is read.
            check()
        return frames

    def _read(
        self, first: bytes, end: bytes, span: tuple[int, int], check: Callable[[], None]
    ) -> list[list[pl.DataFrame]] | None:
        frames: list[list[pl.DataFrame]] = []
        for blocks in list(self._runs.values()):
            frames.append([])
            for block in blocks:
                if block.last < first or (end and block.first >= end) or block.high < span[0] or block.low >= span[1]:
                    continue
                content = self._store.get(block.entry)
                if content is None:
                    return None
                check()
                frames[-1].append(decode_frame(content))
        return [run for run in frames if run]


def _run_entry(run: int) -> bytes:
    return RUNS + run.to_bytes(8, "big")


def _level(rows: int) -> int:
    """Return the size of a run: each is `FANOUT` times as large as the one before."""
    level = 0
    while rows > BLOCK_ROWS:
        rows //= FANOUT
        level += 1
    return level
