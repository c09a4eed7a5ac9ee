"""Processes are killed at random: no final is missing, doubled or different, and no acknowledged tick is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.soak.crash import Crash, run
from tools.kafka.cluster import Cluster


def check(crash: Crash, folder: Path) -> None:
    killed, found = run(crash, folder)
    print(f"\n{dict(killed)}\n{found.table()}")
    assert sum(killed.values()) >= crash.kills > 0
    assert all(row.finals for row in found.rows)
    assert found.ticks > 0
    assert not found.wrong, found.table()


def test_killed_processes_lose_double_and_change_no_final(tmp_path: Path) -> None:
    check(Crash(11, seed=3, kills=4), tmp_path)


def test_killed_processes_with_state_in_rocksdb_and_warm_standby_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    check(Crash(10, seed=4, state="rocksdb", standby=True, kills=3), tmp_path)


def test_killed_processes_on_a_cluster_lose_double_and_change_no_final(tmp_path: Path) -> None:
    kafka_or_skip()
    with Cluster() as cluster:
        check(Crash(10, seed=6, workers=3, cluster=cluster, kills=3), tmp_path)


def test_two_services_a_fast_clock_and_poison_change_no_final(tmp_path: Path) -> None:
    check(Crash(10, seed=8, workers=3, kills=3, is_company=True), tmp_path)


@pytest.mark.soak
def test_five_minutes_of_everything_that_happens_in_a_company_change_nothing(tmp_path: Path) -> None:
    kafka_or_skip()
    with Cluster(brokers=3) as cluster:
        check(Crash(300, seed=9, workers=3, cluster=cluster, is_company=True, kills=80), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("brokers", [1, 3])
def test_five_minutes_of_killing_on_a_cluster_change_nothing(tmp_path: Path, brokers: int) -> None:
    kafka_or_skip()
    with Cluster(brokers=brokers) as cluster:
        check(Crash(300, seed=7, workers=3, cluster=cluster, kills_broker=True, kills=80), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("standby", [False, True])
@pytest.mark.parametrize("state", ["memory", "rocksdb"])
def test_a_minute_of_killing_changes_nothing(tmp_path: Path, state: str, standby: bool) -> None:
    check(Crash(60, seed=5, state=state, workers=3, standby=standby, kills=15), tmp_path)
