"""Sorted runs give what a plain selection gives, however the rows came and however the runs were merged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.log.records import Batch, Records, RejectedRecord
from kandle.store import runs
from kandle.store.memory import MemoryStore
from kandle.store.ordering import following, ordered_prefix
from kandle.store.runs import SortedRuns

SCHEMA: dict[str, pl.DataType] = {"name": pl.String(), "start": pl.Datetime("us", "UTC"), "value": pl.Int64()}
PARTS = ["name", "start"]
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
FAR = 2**62
EVERYTHING = (-FAR, FAR)
Row = tuple[str, int, int]


def batch_of(offset: int, rows: list[Row], rejects: tuple[RejectedRecord, ...] = ()) -> Batch:
    """Return bars of names and minutes from an offset on."""
    values = [(name, NOON + timedelta(minutes=minute), value) for name, minute, value in rows]
    frame = pl.DataFrame(values, schema=SCHEMA, orient="row")
    offsets = np.arange(offset, offset + len(rows))
    return Batch("bars", 0, offsets, offsets, Records(frame), offset + len(rows), rejects)


class Kept:
    """A view and its store."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.view = self.opened()

    def opened(self) -> SortedRuns:
        view = SortedRuns(self.store, "bars", SCHEMA, PARTS, PARTS)
        view.load()
        return view

    def take(self, batch: Batch, *, is_current: bool = True) -> None:
        self.view.take([batch], 1)
        changes = self.view.changes(is_current=is_current)
        if changes is not None:
            self.store.write(changes.puts, changes.deletes)
            self.view.written()

    def rows(self, name: str | None = None, span: tuple[int, int] = EVERYTHING) -> list[tuple[Any, ...]]:
        """Return the rows that a read of these bounds decodes, and that fit them."""
        prefix = b"" if name is None else ordered_prefix({"name": name}, SCHEMA)
        frames = [frame for run in self.view.read(prefix, following(prefix), span, lambda: None) for frame in run]
        if not frames:
            return []
        rows = pl.concat(frames).filter(pl.col("start").to_physical().is_between(*span, closed="left"))
        rows = rows if name is None else rows.filter(pl.col("name") == name)
        return rows.sort(PARTS).select(list(SCHEMA)).rows()

    def runs(self) -> list[int]:
        """Return the number of rows of each run."""
        return [sum(block.rows for block in blocks) for blocks in self.view._runs.values()]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BLOCK_ROWS", 4)
    monkeypatch.setattr(runs, "LARGEST_RUN", 60)


NAMES = st.sampled_from(["a", "ab", "b", "c"])
ROWS = st.lists(st.tuples(NAMES, st.integers(0, 5), st.integers()), max_size=12)


@settings(max_examples=40)
@given(st.lists(ROWS, max_size=12), NAMES, st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_any_run_of_rounds_gives_what_was_taken(
    rounds: list[list[Row]], name: str, low: int, high: int, is_restarted: bool
) -> None:
    kept, offset = Kept(), 0
    for rows in rounds:
        # Each bar is written once.
        unique = {(name, minute + 6 * offset): value % 100 for name, minute, value in rows}
        kept.take(batch_of(offset, [(*key, value) for key, value in unique.items()]))
        offset += len(unique) + 1
    if is_restarted:
        kept.view = kept.opened()
    everything = kept.rows()
    assert everything == sorted(everything)
    assert len(everything) == sum(len({(name, minute) for name, minute, _ in rows}) for rows in rounds)
    assert kept.rows(name) == [row for row in everything if row[0] == name]
    start = int(NOON.timestamp()) * 1_000_000
    span = (start + low * 60_000_000, start + high * 60_000_000)
    inside = [row for row in everything if span[0] <= row[1].timestamp() * 1_000_000 < span[1]]
    assert kept.rows(None, span) == inside
    assert kept.rows(name, span) == [row for row in inside if row[0] == name]


def test_small_runs_are_merged_and_large_ones_are_left() -> None:
    kept = Kept()
    for number in range(200):
        kept.take(batch_of(number, [("a", number, number)]))
    assert sum(kept.runs()) == 200
    assert len(kept.runs()) < 12
    assert max(kept.runs()) < 4 * 60
    assert len(list(kept.store.scan(runs.RUNS))) == len(kept.runs())
    blocks = sum(len(blocks) for blocks in kept.view._runs.values())
    assert len(list(kept.store.scan(runs.BLOCKS))) == blocks


def test_rows_are_held_back_until_they_are_many_or_the_copy_is_current() -> None:
    kept = Kept()
    kept.take(batch_of(0, [("a", 0, 1)]), is_current=False)
    assert kept.runs() == []
    kept.take(batch_of(1, [("b", 0, 2)]), is_current=True)
    assert kept.runs() == [2]


def test_a_read_that_meets_a_merge_takes_what_it_has_made() -> None:
    """read: runs 1, 2, 3 | merge: run 5 in place of 1 .. 4 | read: block of run 2 is gone, so again: run 5"""
    kept = Kept()
    for number in range(3):
        kept.take(batch_of(number, [("a", number, number)]))
    merged: list[bool] = []

    def check() -> None:
        if not merged:
            merged.append(True)
            kept.take(batch_of(3, [("a", 3, 3)]))

    frames = [frame for run in kept.view.read(b"", b"", EVERYTHING, check) for frame in run]
    assert sorted(pl.concat(frames)["value"].to_list()) == [0, 1, 2, 3]
    assert kept.runs() == [4]


def test_a_read_decodes_only_blocks_of_its_keys_and_times() -> None:
    kept = Kept()
    kept.take(batch_of(0, [(name, minute, minute) for minute in range(8) for name in "abcd"]))
    prefix = ordered_prefix({"name": "b"}, SCHEMA)
    assert sum(map(len, kept.view.read(prefix, following(prefix), EVERYTHING, lambda: None))) == 2
    start = int(NOON.timestamp()) * 1_000_000
    assert sum(map(len, kept.view.read(b"", b"", (start, start + 1), lambda: None))) == 4


def test_bars_that_cannot_be_read_are_known_by_their_key() -> None:
    kept = Kept()
    rejects = (
        RejectedRecord(1, b"", b"", "no JSON", key_values=("a", NOON)),
        RejectedRecord(2, b"", b"", "no key"),
    )
    kept.take(batch_of(0, [("b", 0, 0)], rejects))
    for view in (kept.view, kept.opened()):
        assert [(record.offset, record.reason) for record in view.unreadable.values()] == [(1, "no JSON"), (2, "no key")]
        first, second = view.unreadable.values()
        assert first.key is not None and first.key.startswith(ordered_prefix({"name": "a"}, SCHEMA))
        assert second.key is None


def test_runs_whose_records_are_gone_are_deleted() -> None:
    """run 1: offsets 0, 1 | run 2: offsets 2, 3; the topic begins at 2, and then at 3"""
    kept = Kept()
    kept.take(batch_of(0, [("a", 0, 0), ("b", 0, 1)], (RejectedRecord(1, b"", b"", "no key"),)))
    kept.take(batch_of(2, [("a", 1, 2), ("b", 1, 3)]))
    kept.view = kept.opened()
    kept.view.forget({0: 2})
    kept.take(batch_of(4, []))
    assert [row[2] for row in kept.rows()] == [2, 3]
    kept.view.forget({0: 3})
    kept.take(batch_of(4, []))
    assert [row[2] for row in kept.rows()] == [2, 3]
    assert (kept.view.unreadable, kept.opened().unreadable) == ({}, {})
    assert len(list(kept.store.scan(runs.BLOCKS))) == len(list(kept.store.scan(runs.RUNS))) == 1
