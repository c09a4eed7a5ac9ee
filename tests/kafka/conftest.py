"""What the tests of whole contexts on Kafka share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers.needed import kafka_or_skip
from tests.serde.serving import Server, serving
from tools.kafka.cluster import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a broker without topics."""
    kafka_or_skip()
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def registry() -> Iterator[Server]:
    """A schema registry."""
    with serving() as server:
        yield server
