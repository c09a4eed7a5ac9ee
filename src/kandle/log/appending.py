"""Appends in which each record succeeds or fails for itself, made of appends that fail as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from kandle.errors import DataError, StorageError, UnwritableError
from kandle.log.records import Write
from kandle.time.arrays import IntArray

RowErrors = dict[int, dict[int, Exception]]
"""By the number of a write, the error of each of its records that was not stored, by the number of the record."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the records of a write: the number of the write, and those of the records."""

    number: int
    rows: IntArray
    write: Write

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, chosen: IntArray) -> _Part:
        """Return some of the records, by their places in this part."""
        mask = np.zeros(len(self), np.bool_)
        mask[chosen] = True
        return replace(self, rows=self.rows[mask], write=replace(self.write, records=self.write.records.filter(pl.Series(mask))))


def append_each(append: Callable[[Sequence[Write]], RowErrors], writes: Sequence[Write]) -> RowErrors:
    """Append records so that none of them fails because of another one.

    Records are written together as long as nothing is wrong. Those that are named as wrong are left out; where it is not known
    which ones are wrong, each half is tried for itself.

    Args:
        append: Appends records and returns the errors of those that were not stored. If it raises an error, none was.
        writes: Records by topic and partition.

    Returns:
        The errors of the records that were not stored.
    """
    errors: RowErrors = {}
    waiting = [[_Part(number, np.arange(len(write.records)), write) for number, write in enumerate(writes)]]
    while waiting:
        parts = [part for part in waiting.pop() if len(part)]
        if not parts:
            continue
        try:
            _note(errors, parts, append([part.write for part in parts]))
        except UnwritableError as error:
            named = {number: {row: DataError(text) for row, text in rows.items()} for number, rows in error.rows.items()}
            _note(errors, parts, named)
            waiting.append([_without(part, named.get(number, {})) for number, part in enumerate(parts)])
        except StorageError as error:
            _note(errors, parts, _all(parts, error))
        except Exception as error:
            if sum(map(len, parts)) == 1:
                _note(errors, parts, _all(parts, error))
            else:
                waiting += reversed(_halves(parts))
    return errors


def _note(errors: RowErrors, parts: Sequence[_Part], failed: Mapping[int, Mapping[int, Exception]]) -> None:
    for number, rows in failed.items():
        part = parts[number]
        errors.setdefault(part.number, {}).update({int(part.rows[row]): error for row, error in rows.items()})


def _all(parts: Sequence[_Part], error: Exception) -> RowErrors:
    return {number: dict.fromkeys(range(len(part)), error) for number, part in enumerate(parts)}


def _without(part: _Part, rows: Mapping[int, Exception]) -> _Part:
    return part.pick(np.setdiff1d(np.arange(len(part)), list(rows))) if rows else part


def _halves(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Return two halves of the records: some of the writes each, or if there is one write some of its records."""
    if len(parts) > 1:
        middle = len(parts) // 2
        return [list(parts[:middle]), list(parts[middle:])]
    [part] = parts
    first, second = np.array_split(np.arange(len(part)), 2)
    return [[part.pick(first)], [part.pick(second)]]
