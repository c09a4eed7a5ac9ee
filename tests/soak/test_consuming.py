"""Consumers are killed at random: every message is done, few twice, and dead letters are the poison exactly."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.soak import letters
from tests.soak.consuming import Consuming, check, run_consuming
from tools.kafka.cluster import Cluster


@pytest.mark.parametrize("kind", ["handler", "transaction"])
def test_killed_consumers_lose_nothing(tmp_path: Path, kind: str) -> None:
    run = Consuming(7, seed=2, kind=kind)
    check(run, run_consuming(run, tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("log", ["embedded", "kafka"])
def test_a_minute_of_killing_writes_each_letter_once(tmp_path: Path, log: str) -> None:
    with ExitStack() as stack:
        if log == "kafka":
            kafka_or_skip()
        cluster = stack.enter_context(Cluster()) if log == "kafka" else None
        letters.check(letters.run_letters(Consuming(60, seed=3, kind="replay", cluster=cluster), tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["handler", "transaction"])
def test_two_minutes_of_killing_on_the_embedded_log_lose_nothing(tmp_path: Path, kind: str) -> None:
    run = Consuming(120, seed=3, kind=kind)
    check(run, run_consuming(run, tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["handler", "transaction"])
def test_two_minutes_of_killing_on_a_cluster_lose_nothing(tmp_path: Path, kind: str) -> None:
    kafka_or_skip()
    with Cluster() as cluster:
        run = Consuming(120, seed=4, kind=kind, cluster=cluster)
        check(run, run_consuming(run, tmp_path))
