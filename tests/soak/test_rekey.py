"""`kandle rekey` is killed again and again: its topic is that of a copy which was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.soak.rekey import Rekey, check, run_rekey
from tools.kafka.cluster import Cluster


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["stream", "table"])
def test_ten_kills_on_the_embedded_log_change_nothing(tmp_path: Path, kind: str) -> None:
    run = Rekey(10, 400_000, kind)
    check(run, run_rekey(run, tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["stream", "table"])
def test_ten_kills_on_a_cluster_change_nothing(tmp_path: Path, kind: str) -> None:
    kafka_or_skip()
    with Cluster() as cluster:
        run = Rekey(10, 400_000, kind, cluster=cluster)
        check(run, run_rekey(run, tmp_path))
