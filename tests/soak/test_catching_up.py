"""Whoever comes back after an absence fills it in pieces: in bounded memory, steadily, and to be stopped at any time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kandle.time.clock import SystemClock
from kandle.time.timeframe import DAY, HOUR, SECOND
from tests.soak.catching_up import Absence, add_ticks, brokers, differences, options_for, run
from tests.soak.processes import processes
from tests.waiting import wait_until

SOON = 5 * SECOND


def test_a_worker_that_was_away_fills_all_gaps_once(tmp_path: Path) -> None:
    with processes(tmp_path, options_for(None), "Minutes") as soak:
        assert run(soak, Absence(keys=300, length=3 * HOUR, workers=1)) == []


def test_a_worker_that_is_stopped_in_the_middle_hands_over_what_is_left(tmp_path: Path) -> None:
    absence = Absence(keys=1_000, length=8 * HOUR, workers=1)
    with processes(tmp_path, options_for(None), "Minutes") as soak:
        tick = add_ticks(soak, absence)
        first = soak.worker("first")
        wait_until(lambda: first.newest()["finals"] > 0, "the first finals", seen=first.newest, check=first.check)
        first.stop()
        least = absence.keys * 8 * 60
        with soak.opened() as log:
            assert 0 < sum(log.ends("bars_1m_final")) < least
            second = soak.worker("second")
            wait_until(lambda: sum(log.ends("bars_1m_final")) >= least, "the rest", seen=second.newest, check=second.check)
            wait_until(lambda: second.newest()["lag"] == 0, "the end", seen=second.newest, check=second.check)
        second.stop()
        assert differences(soak, absence, tick) == []


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("is_on_kafka", [False, True], ids=["embedded", "kafka"])
def test_two_days_of_ten_thousand_keys(tmp_path: Path, workers: int, is_on_kafka: bool) -> None:
    with brokers(is_on_kafka) as bootstrap, processes(tmp_path, options_for(bootstrap), "Minutes") as soak:
        assert run(soak, Absence(keys=10_000, length=2 * DAY, workers=workers)) == []


@pytest.mark.soak
def test_a_worker_stops_within_seconds_whatever_it_has_to_catch_up(tmp_path: Path) -> None:
    clock = SystemClock()
    with brokers(True) as bootstrap, processes(tmp_path, options_for(bootstrap), "Minutes") as soak:
        add_ticks(soak, Absence(keys=1_000, length=2 * DAY, workers=1))
        worker = soak.worker("worker")
        wait_until(lambda: worker.newest()["finals"] > 0, "the first finals", seen=worker.newest, check=worker.check)
        began = clock.steady()
        worker.stop()
        assert clock.steady() - began < SOON
