"""Any restart, anywhere: with or without a copy of the state, finals, gaps and live bars are those of one whole run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import kandle.runtime.state
from kandle.log.headers import header_rows
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from kandle.store.rocks import RocksStore
from kandle.time.timeframe import SECOND, from_instant
from tests.runtime.building import (
    Process,
    bars,
    parts_of,
    read,
    tick,
)

SYMBOLS = st.sampled_from(["A", "B", "C"])
Action = tuple[str, Any]


def actions(most: int = 30, *more: str) -> st.SearchStrategy[list[Action]]:
    """Ticks around the clock (some late, some early), moves of the clock, and what may happen to a process."""
    names = ["step", "step", "commit", "crash", "leave", "forget", *more]
    one = st.tuples(st.integers(-100, 20), SYMBOLS, st.one_of(st.none(), st.integers(1, 99)))
    return st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(one, min_size=1, max_size=4)),
            st.tuples(st.just("move"), st.sampled_from([1, 10, 60, 61, 150, 400])),
            st.tuples(st.sampled_from(names), st.none()),
        ),
        min_size=4,
        max_size=most,
    )


class Told:
    """A story of actions; `is_whole` leaves out all that is not input, so that one process does everything."""

    def __init__(self, stores: Any, *, is_whole: bool, copies: bool) -> None:
        self.parts = parts_of(minutes=(1, 5), hours=1, grace={"1m": "2s", "5m": "70s"})
        self._stores = stores
        self._is_whole = is_whole
        self._copies = copies
        self._store: Store | None = None
        self._process = self._started()

    def _started(self) -> Process:
        if self._store is not None:
            self._store.close()
        self._store = self._stores() if self._copies else None
        process = Process(self.parts, self._store)
        process.worker.step()
        return process

    def tell(self, story: list[Action]) -> Told:
        for name, value in [*story, ("move", 7_300), ("commit", None)]:
            getattr(self, f"_{name}")(value)
        self._process.settle()
        if self._store is not None:
            self._store.close()
        return self

    def _add(self, ticks: list[tuple[int, str, int | None]]) -> None:
        now = self.parts.clock.now()
        self.parts.add(*[tick(from_instant(now + offset * SECOND), price, symbol) for offset, symbol, price in ticks])

    def _move(self, seconds: int) -> None:
        # Heartbeats are input too, so in both stories they stand at the same places between the events.
        self.parts.clock.jump(self.parts.clock.now() + seconds * SECOND)
        self._process.beat()

    def _step(self, _: None) -> None:
        if not self._is_whole:
            self._process.worker.step()

    def _commit(self, _: None) -> None:
        if not self._is_whole:
            self._process.settle()

    def _crash(self, _: None) -> None:
        if not self._is_whole:
            self._process = self._started()

    def _leave(self, _: None) -> None:
        if not self._is_whole:
            self._process.worker.step()
            self._process.worker.close()
            self._process = self._started()

    def _forget(self, _: None) -> None:
        """The copy is lost with its machine."""
        if self._store is not None and not self._is_whole:
            self._store.write({}, [key for key, _ in self._store.scan(b"")])

    @property
    def finals(self) -> dict[str, list[Any]]:
        return {
            name: sorted(bars(self.parts.log, f"bars_{name}_final"), key=lambda bar: (bar.symbol, bar.start)) for name in NAMES
        }

    @property
    def headers(self) -> dict[tuple[str, Any, Any], bool]:
        result = {}
        for name in NAMES:
            for batch in read(self.parts.log, f"bars_{name}_final"):
                keys = batch.records.frame.select("symbol", "start").rows()
                for key, headers in zip(keys, header_rows(batch.records), strict=True):
                    result[(name, *key)] = "gap" in headers
        return result

    @property
    def live(self) -> dict[str, dict[tuple[str, Any], Any]]:
        """The last live bar of each bucket."""
        return {name: {(bar.symbol, bar.start): bar for bar in bars(self.parts.log, f"bars_{name}_live")} for name in NAMES}


NAMES = ("1m", "5m", "1h")


@contextmanager
def memory_stores() -> Iterator[Any]:
    """One store for all processes; closing it would lose it, so a process only lets go of it."""
    store = MemoryStore()
    store.close = lambda: None  # type: ignore[method-assign]
    yield lambda: store


@contextmanager
def rocks_stores() -> Iterator[Any]:
    with TemporaryDirectory() as folder:
        yield lambda: RocksStore(Path(folder) / "copy")


def check_any_restart(story: list[Action], stores: Any, copies: bool, least: int) -> None:
    before = kandle.runtime.state.LEAST_CHANGES
    kandle.runtime.state.LEAST_CHANGES = least
    try:
        with stores() as opened:
            told = Told(opened, is_whole=False, copies=copies).tell(story)
    finally:
        kandle.runtime.state.LEAST_CHANGES = before
    whole = Told(None, is_whole=True, copies=False).tell(story)
    assert told.finals == whole.finals
    assert told.headers == whole.headers
    assert told.live == whole.live
    for name, every in told.finals.items():
        keys = [(bar.symbol, bar.start) for bar in every]
        assert len(keys) == len(set(keys)), name


@settings(max_examples=40)
@given(actions(), st.sampled_from([0, 5_000, 1 << 20]))
def test_restored_from_the_changelog_at_any_commit_the_finals_are_the_same(story: list[Action], least: int) -> None:
    check_any_restart(story, memory_stores, False, least)


@settings(max_examples=30)
@given(actions(), st.sampled_from([0, 5_000, 1 << 20]))
def test_restored_with_a_copy_in_memory_the_finals_are_the_same(story: list[Action], least: int) -> None:
    check_any_restart(story, memory_stores, True, least)


@settings(max_examples=12)
@given(actions(20), st.sampled_from([0, 1 << 20]))
def test_restored_with_a_copy_in_rocksdb_the_finals_are_the_same(story: list[Action], least: int) -> None:
    check_any_restart(story, rocks_stores, True, least)


def test_the_stories_of_these_tests_do_have_finals_gaps_and_late_ticks() -> None:
    """A law over stories in which nothing happens would say nothing."""
    story: list[Action] = [
        ("add", [(0, "A", 5), (1, "B", 6)]),
        ("move", 60),
        ("commit", None),
        ("crash", None),
        ("add", [(-100, "A", 7), (-1, "B", None)]),
        ("move", 400),
        ("leave", None),
    ]
    with memory_stores() as stores:
        told = Told(stores, is_whole=False, copies=True).tell(story)
    assert told.parts.counters.late == 1
    assert told.parts.counters.restored == 2
    assert len(told.finals["1m"]) > 200
    assert {bar.symbol for bar in told.finals["1h"]} == {"A", "B"}
    assert set(told.headers.values()) == {True, False}
