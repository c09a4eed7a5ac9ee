"""What every format does: columns of records to messages, and messages to columns, with those beside them that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.serde.fields import RecordField
from kandle.time.timeframe import IntArray

Messages = Sequence[bytes | None]
BoolArray = npt.NDArray[np.bool_]

LONGEST_SHOWN = 60


class Reject(NamedTuple):
    """A message that cannot be read: its place among the messages, and why."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Physical rows of the messages that could be read, in their order; `rejects` are the others.

    `tombstones` says for each row whether its value is None (then its value columns are NULL); None where no row is one.
    """

    frame: pl.DataFrame
    rejects: tuple[Reject, ...] = ()
    tombstones: pl.Series | None = None


class Format(Protocol):
    """The key or the value records of one topic as bytes."""

    @property
    def fields(self) -> tuple[RecordField, ...]:
        """The columns that it writes and reads, in their order."""

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame; DataError names topic, field and value that does not fit."""

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages; UnavailableError if the schema registry is needed and cannot be reached."""


def physical_schema(fields: Sequence[RecordField]) -> dict[str, pl.DataType]:
    """Columns of the fields' physical frames."""
    return {each.name: each.type.physical for each in fields}


def rejects_of(reasons: Mapping[int, str], subject: str = "") -> tuple[Reject, ...]:
    """Rejects in the order of the messages; each reason names the subject."""
    prefix = f"{subject}: " if subject else ""
    return tuple(Reject(at, f"{prefix}{reasons[at]}") for at in sorted(reasons))


def kept_places(count: int, rejects: Sequence[Reject]) -> IntArray:
    """The places of the messages that are not among the rejects."""
    kept = np.ones(count, np.bool_)
    kept[[each.at for each in rejects]] = False
    return np.flatnonzero(kept)


def shown(value: object) -> str:
    """A value for messages, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
