"""The newest row of each key of a topic, in the order of the keys: what a table is read from.

    row/<key>                      kind, partition, offset and time of the newest record of the key, and its values
    unreadable/key/<key>           why the newest record of the key cannot be read
    unreadable/place/<record>      why a record cannot be read whose key cannot be read either, so that it may be of any key
    gone/<key>                     the row of the key is a tombstone that is kept for a while

All records of a key are in one partition, as long as no partitions are added to the topic. Once there are more, new records of a
key may be in another partition than its old ones, and the order in which partitions are read says nothing. So a record in the
partition that its key has now counts more than any elsewhere, and tombstones of topics with several partitions are kept until all
partitions have been read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from kandle.log.records import Batch
from kandle.model.stored import stored_columns
from kandle.serde.keys import partition_numbers
from kandle.store.follower import Changes, UnreadableRecord, unreadable_records
from kandle.store.ordering import ordered_keys
from kandle.store.port import Store

ROW, GONE, BAD = 0, 1, 2
"""The kinds of entries: a row, a tombstone, and a record that cannot be read."""

ROWS, UNREADABLE, TOMBSTONES = b"row/", b"unreadable/", b"gone/"

KEY, PLACE = b"key/", b"place/"
"""What the entries of unreadable records begin with: those whose key can be read, and others."""

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(list).decode


class RecordPosition(NamedTuple):
    """Where and when a record was appended."""

    partition: int
    offset: int
    time: int


class TableRows:
    """The view of a table.

    Args:
        store: Where the rows are.
        topic: The topic.
        schema: The physical columns of a row.
        keys: The columns of the key, in the order of its parts.
        is_hashed: Whether the partition of a record follows from its key. None says that records of a key may be in several
            partitions, and that the one that was appended last counts.
        formats: What else the meaning of the records depends on, as text.
    """

    def __init__(
        self,
        store: Store,
        topic: str,
        schema: Mapping[str, pl.DataType],
        keys: Sequence[str],
        *,
        is_hashed: bool | None = True,
        formats: str = "",
    ) -> None:
        self._store = store
        self._topic = topic
        self._names = list(schema)
        self._keys = list(keys)
        self._schema = schema
        self._is_hashed = is_hashed
        self.fingerprint = f"rows {[(name, str(dtype)) for name, dtype in schema.items()]} {self._keys} {formats}"
        self.unreadable: dict[bytes, UnreadableRecord] = {}
        self._puts: dict[bytes, bytes] = {}
        self._deletes: set[bytes] = set()
        self._has_tombstones = False

    def load(self) -> None:
        """Take what the store has."""
        self._puts, self._deletes = {}, set()
        self._has_tombstones = next(self._store.scan(TOMBSTONES), None) is not None
        self.unreadable = {}
        for entry, value in self._store.scan(UNREADABLE):
            self.unreadable[entry] = UnreadableRecord(self._topic, *decode(value))

    def take(self, batches: Sequence[Batch], partitions: int) -> None:
        """Take records, those of a partition in the order of their offsets."""
        for batch in batches:
            self._take_rows(batch, partitions)
            records = unreadable_records(batch, self._keys, self._schema, self._keys) if batch.rejects else []
            for record, reject in zip(records, batch.rejects, strict=True):
                self._take_unreadable(record, reject.timestamp or 0)

    def _take_rows(self, batch: Batch, partitions: int) -> None:
        if not len(batch):
            return
        frame, tombstones = batch.records.frame, batch.records.tombstones
        key_frame = frame.select(self._keys)
        keys = ordered_keys(key_frame)
        elsewhere: set[int] = set()
        if self._is_hashed is None:
            elsewhere = set(range(len(keys)))
        elif partitions > 1 and self._is_hashed:
            elsewhere = set(np.flatnonzero(partition_numbers(key_frame, partitions) != batch.partition).tolist())
        # Of several records of a key in a batch the last one counts.
        newest = sorted({key: number for number, key in enumerate(keys)}.values())
        gone = tombstones.to_list() if tombstones is not None else None
        offsets, times = batch.offsets.tolist(), batch.timestamps.tolist()
        rows = zip(*stored_columns(frame.select(self._names)[newest]), strict=True)
        for number, row in zip(newest, rows, strict=True):
            position = RecordPosition(batch.partition, offsets[number], times[number])
            if number in elsewhere and not self._is_newest(keys[number], position):
                continue
            if gone is not None and gone[number]:
                self._remove(keys[number], position, partitions)
            else:
                self._put(keys[number], encode((ROW, *position, *row)))

    def _put(self, key: bytes, value: bytes) -> None:
        entry = ROWS + key
        self._puts[entry] = value
        self._deletes.discard(entry)
        self._forget_unreadable(key)

    def _forget_unreadable(self, key: bytes) -> None:
        """Note that the newest record of a key can be read."""
        entry = UNREADABLE + KEY + key
        if self.unreadable and self.unreadable.pop(entry, None) is not None:
            self._puts.pop(entry, None)
            self._deletes.add(entry)

    def _remove(self, key: bytes, position: RecordPosition, partitions: int) -> None:
        if partitions > 1:
            self._put(key, encode((GONE, *position)))
            self._puts[TOMBSTONES + key] = b""
            self._has_tombstones = True
            return
        entry = ROWS + key
        self._puts.pop(entry, None)
        self._deletes.add(entry)
        self._forget_unreadable(key)

    def _is_newest(self, key: bytes, position: RecordPosition) -> bool:
        """Return whether a record in a partition in which its key is no more is newer than what is known of the key."""
        entry = ROWS + key
        value = self._puts.get(entry) or (None if entry in self._deletes else self._store.get(entry))
        if value is None:
            return True
        _, partition, offset, time, *_ = decode(value)
        if partition == position.partition:
            return True
        if self._is_hashed is None:
            # Lower numbers are those of newer topics, which count where the time is the same.
            return bool((time, -partition) < (position.time, -position.partition))
        return bool((time, offset) < (position.time, position.offset))

    def _take_unreadable(self, record: UnreadableRecord, time: int) -> None:
        key = record.key
        if key is not None:
            before = self._puts.get(ROWS + key)
            if before is not None and decode(before)[1:3] >= [record.partition, record.offset]:
                # A row that was written again since is not missed.
                return
            self._put(key, encode((BAD, record.partition, record.offset, time)))
        entry = UNREADABLE + (PLACE + f"{record.partition}/{record.offset}".encode() if key is None else KEY + key)
        self._puts[entry] = encode((record.partition, record.offset, record.reason, key))
        self._deletes.discard(entry)
        self.unreadable[entry] = record

    def changes(self, *, is_current: bool) -> Changes | None:
        """Return what is to be written."""
        if is_current and self._has_tombstones:
            self._drop_tombstones()
        return Changes(self._puts, list(self._deletes))

    def _drop_tombstones(self) -> None:
        """Delete the tombstones, since all that is older than they are has been read."""
        for entry in [
            *(key for key, _ in self._store.scan(TOMBSTONES)),
            *(key for key in self._puts if key.startswith(TOMBSTONES)),
        ]:
            row = ROWS + entry[len(TOMBSTONES) :]
            value = self._puts.get(row) or (None if row in self._deletes else self._store.get(row))
            if value is not None and decode(value)[0] == GONE:
                self._puts.pop(row, None)
                self._deletes.add(row)
            self._puts.pop(entry, None)
            self._deletes.add(entry)
        self._has_tombstones = False

    def forget(self, first: Mapping[int, int]) -> None:
        """Have the next changes delete the rows whose records the topic does not have any more."""
        for entry, value in self._store.scan(ROWS):
            _, partition, offset, *_ = decode(value)
            if offset < first.get(partition, 0) and entry not in self._puts:
                self._deletes.add(entry)
        for entry, record in list(self.unreadable.items()):
            if record.offset < first.get(record.partition, 0):
                del self.unreadable[entry]
                self._puts.pop(entry, None)
                self._deletes.add(entry)

    def written(self) -> None:
        """Note that the last changes are in the store."""
        self._puts, self._deletes = {}, set()

    def rows(self, prefix: bytes) -> Iterator[list[Any]]:
        """Yield the entries of the keys with a prefix, in the order of the keys.

        Args:
            prefix: The beginning of the keys.

        Yields:
            Kind, partition, offset, time of the append, and the values of each row.
        """
        for _, value in self._store.scan(ROWS + prefix):
            row = decode(value)
            if row[0] == ROW:
                yield row

    def row(self, key: bytes) -> list[Any] | None:
        """Return the entry of a key as `rows` does, None if it has no row."""
        value = self._store.get(ROWS + key)
        if value is None:
            return None
        row = decode(value)
        return row if row[0] == ROW else None
