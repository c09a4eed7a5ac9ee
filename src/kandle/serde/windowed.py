"""Keys of ksqlDB's windowed tables: the bytes of the group's key, then the window's start, milliseconds in 8 big endian bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from kandle.errors import SchemaError
from kandle.model.types import TimestampType
from kandle.serde.fields import RecordField
from kandle.serde.port import Decoded, Format, Messages, Reject, kept_places
from kandle.serde.registry import subject_of

WINDOW_BYTES = 8
MILLISECOND = 1_000
FIRST_START, END_OF_STARTS = -62_135_596_800_000, 253_402_300_800_000
"""Milliseconds of the years 1 to 9999."""


class WindowedFormat:
    """Key records whose last field is the start of a window, after those of another format."""

    def __init__(self, topic: str, inner: Format, start: RecordField) -> None:
        if not isinstance(start.type, TimestampType):
            raise SchemaError(
                f"topic {topic}: the last part of a windowed key is the window's start, not {start.name}: {start.type}"
            )
        self._subject = subject_of(topic, "key")
        self._inner = inner
        self._start = start
        self.fields = (*inner.fields, start)

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame."""
        starts = frame[self._start.name].to_physical().to_numpy() // MILLISECOND
        windows = starts.astype(">i8").tobytes()
        keys = self._inner.encode(frame)
        return [(key or b"") + windows[at * WINDOW_BYTES : (at + 1) * WINDOW_BYTES] for at, key in enumerate(keys)]

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages; one that is too short for a window is a reject."""
        places = [at for at, message in enumerate(messages) if message is not None and len(message) >= WINDOW_BYTES]
        chosen = [message for at in places if (message := messages[at]) is not None]
        starts = np.frombuffer(b"".join(message[-WINDOW_BYTES:] for message in chosen), ">i8").astype(np.int64)
        found = self._inner.decode([message[:-WINDOW_BYTES] for message in chosen])
        rejects = {places[each.at]: each.reason for each in found.rejects} | self._wrong(messages, places, starts)
        inside = kept_places(len(places), found.rejects)
        kept = [number for number, at in enumerate(inside.tolist()) if places[at] not in rejects]
        start = pl.Series(self._start.name, starts[inside[kept]] * MILLISECOND).cast(self._start.type.physical)
        return Decoded(found.frame[kept].with_columns(start), tuple(Reject(at, rejects[at]) for at in sorted(rejects)))

    def _wrong(self, messages: Messages, places: Sequence[int], starts: np.ndarray) -> dict[int, str]:
        """Why messages have no window."""
        short = set(range(len(messages))).difference(places)
        found = {at: f"{self._subject}: {len(messages[at] or b'')} bytes are too few for the start of a window" for at in short}
        for number in np.flatnonzero((starts < FIRST_START) | (starts >= END_OF_STARTS)).tolist():
            found[places[number]] = f"{self._subject}: the key ends in {starts[number]}, which is not the start of a window"
        return found
