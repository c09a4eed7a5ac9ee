"""Brokers of a cluster die one after the other: workers live on, and no final is missing, doubled or different."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.soak.broker_deaths import BROKERS, run
from tools.kafka.cluster import Cluster


@pytest.mark.soak
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_workers_survive_twenty_deaths_of_brokers_in_a_row(tmp_path: Path, protocol: str) -> None:
    kafka_or_skip()
    with Cluster(brokers=BROKERS) as cluster:
        result = run(cluster, tmp_path, 20, protocol)
    print(f"\n{result.table()}")
    assert all(row.finals for row in result.rows)
    assert not result.wrong, result.table()
