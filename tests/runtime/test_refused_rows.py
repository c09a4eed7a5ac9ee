"""Rows that the log refuses in a commit: each becomes a dead letter of the same commit, and the others are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kandle.errors import DataError, UnwritableError
from kandle.log.embedded.batches import BatchTable
from kandle.log.records import Write
from tests.runtime.building import Parts, Process, finals_of, parts_of, rows, t, tick
from tests.runtime.declarations import Declared, market

TOO_LARGE = 13
"""A number of pieces that the log does not take."""


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log refuse rows with some numbers, and dead letters that have a payload, as a log with a limit on sizes."""
    prepare = BatchTable.prepare

    def refused(write: Write) -> dict[int, str]:
        if write.topic in ("ticks", "bars_changelog"):
            return {}
        frame = write.records.frame
        name = next((name for name in ("size", "volume", "payload") if name in frame.columns), None)
        values = [] if name is None else frame[name].to_list()
        is_bad = (lambda value: value is not None) if name == "payload" else (lambda value: value == TOO_LARGE)
        return {row: f"{write.topic}: too large" for row, value in enumerate(values) if is_bad(value)}

    def checked(table: BatchTable, writes: Sequence[Write]) -> Any:
        bad = {number: reasons for number, write in enumerate(writes) if (reasons := refused(write))}
        if bad:
            raise UnwritableError("too large", bad)
        return prepare(table, writes)

    monkeypatch.setattr(BatchTable, "prepare", checked)


def letters(parts: Parts) -> list[tuple[Any, ...]]:
    names = ("kind", "offset", "entity", "timeframe", "payload", "key")
    return [tuple(row[name] for name in names) for row in rows(parts.log, "bars_dlq")]


def test_a_final_that_the_log_refuses_is_a_dead_letter_and_counts_as_one() -> None:
    parts = parts_of()
    parts.add(tick("14:30:10", size=TOO_LARGE), tick("14:30:10", symbol="B"))
    process = Process(parts).settle()
    parts.clock.jump(t("14:31"))
    process.beat()
    process.settle()
    assert finals_of(parts) == [("B", 30, 1)]
    assert letters(parts) == [("bar", 2, "Bar", "1m", None, None)]
    assert "too large (key, payload and headers of the dead letter are left out" in rows(parts.log, "bars_dlq")[0]["error"]
    counters = parts.counters
    assert (counters.timeframes["1m"].finals, counters.timeframes["1m"].failed, counters.dead_letters) == (1, 1, 1)
    again = Process(parts).settle()
    parts.clock.jump(t("14:32"))
    again.beat()
    again.settle()
    assert finals_of(parts) == [("B", 30, 1), ("A", 31, 0), ("B", 31, 0)]
    assert len(letters(parts)) == 1


def test_an_event_that_cannot_be_copied_by_its_key_is_a_dead_letter_with_its_offset() -> None:
    parts = Parts(market(Declared({"minutes": 1}, partitions=2)), "14:30", partitions=3)
    assert parts.topics.is_repartitioned
    parts.add(tick("14:30:10"), tick("14:30:20", size=TOO_LARGE), tick("14:30:30", symbol="B"), partition=2)
    Process(parts).settle()
    assert sorted(row["symbol"] for row in rows(parts.log, parts.topics.events)) == ["A", "B"]
    assert letters(parts) == [("event", 1, "Tick", None, None, None)]


def test_a_refused_row_of_the_state_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"))

    def checked(table: BatchTable, writes: Sequence[Write]) -> Any:
        raise UnwritableError("too large", {len(writes) - 1: {0: "bars_changelog: too large"}})

    monkeypatch.setattr(BatchTable, "prepare", checked)
    with pytest.raises(DataError, match="bars_changelog: too large"):
        Process(parts).settle()
