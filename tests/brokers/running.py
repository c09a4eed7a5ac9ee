"""The Kafka that all tests of a run share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.brokers.needed import kafka_or_skip
from tools.kafka.cluster import Cluster

BOOTSTRAP = "KANDLE_TEST_BOOTSTRAP"
"""Environment variable with the address of a broker that runs already."""


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """Address of a broker: that of the environment, else one that is started for this run."""
    if running := os.environ.get(BOOTSTRAP):
        yield running
        return
    kafka_or_skip()
    with Cluster() as cluster:
        yield cluster.bootstrap
