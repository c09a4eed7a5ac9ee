"""Records of a topic as messages: the key columns by one format, the value columns by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from kandle.serde.port import BoolArray, Decoded, Format, Messages, Reject, kept_places, rejects_of
from kandle.time.timeframe import IntArray


class TopicCodec:
    """Keys and values of a topic whose frames have these columns; `key` is None where records have no key.

    A value that is None is a tombstone where there is a key, and cannot be read where there is none. `headers` names the headers
    in which columns stand: they are in neither, and NULL when they are read.
    """

    def __init__(
        self, columns: Sequence[str], key: Format | None, value: Format, headers: Mapping[str, str] | None = None
    ) -> None:
        self._columns = list(columns)
        self._key, self._value = key, value
        self.headers: Mapping[str, str] = {} if headers is None else headers

    def encode(self, frame: pl.DataFrame, tombstones: pl.Series | None = None) -> tuple[list[bytes | None], list[bytes | None]]:
        """Keys and values of physical rows; the value columns of tombstones are not looked at and need not be there."""
        keys: list[bytes | None] = [None] * frame.height if self._key is None else self._key.encode(frame)
        if tombstones is None or not tombstones.any():
            return keys, self._value.encode(frame)
        if tombstones.all():
            return keys, [None] * frame.height
        alive = iter(self._value.encode(frame.filter(~tombstones)))
        return keys, [None if gone else next(alive) for gone in tombstones]

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Rows with all columns; a message whose key or value cannot be read is a reject."""
        gone = np.array([value is None for value in values], np.bool_)
        parts = []
        if self._key is not None:
            parts.append(self._key.decode(keys))
        if self._key is None or not gone.any():
            parts.append(self._value.decode(values))
            gone = np.zeros(len(values), np.bool_)
        else:
            parts.append(self._alive(values, gone))
        rejects = [each for part in parts for each in part.rejects]
        kept = kept_places(len(values), rejects)
        frames = [_rows(part, len(values), kept) for part in parts]
        # A frame without columns has no rows either.
        frame = pl.concat([each for each in frames if each.width], how="horizontal")
        if self.headers:
            frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in self.headers)
        return Decoded(frame.select(self._columns), _merged(rejects), _marks(gone[kept]))

    def _alive(self, values: Messages, gone: BoolArray) -> Decoded:
        """What the values that are there say, NULL for tombstones."""
        places = np.flatnonzero(~gone)
        found = self._value.decode([values[place] for place in places.tolist()])
        good = places[kept_places(len(places), found.rejects)]
        rejects = tuple(Reject(int(places[each.at]), each.reason) for each in found.rejects)
        rows = np.full(len(values), -1)
        rows[good] = np.arange(len(good))
        rows = np.delete(rows, [each.at for each in rejects])
        return Decoded(_gathered(found.frame, rows), rejects)


def _rows(part: Decoded, count: int, kept: IntArray) -> pl.DataFrame:
    """The part's rows of the messages that are kept."""
    own = kept_places(count, part.rejects)
    return part.frame if len(own) == len(kept) else part.frame[np.searchsorted(own, kept)]


def _gathered(frame: pl.DataFrame, rows: IntArray) -> pl.DataFrame:
    """Rows by number; NULL where it is negative."""
    if frame.is_empty():
        return frame.clear(len(rows))
    numbers = pl.Series(rows)
    return frame.select(pl.all().gather(numbers.set(numbers < 0, None)))


def _marks(gone: BoolArray) -> pl.Series | None:
    return pl.Series("tombstones", gone) if gone.any() else None


def _merged(rejects: Sequence[Reject]) -> tuple[Reject, ...]:
    """One reject for each message, with all reasons."""
    reasons: dict[int, str] = {}
    for at, reason in rejects:
        reasons[at] = f"{reasons[at]}; {reason}" if at in reasons else reason
    return rejects_of(reasons)
