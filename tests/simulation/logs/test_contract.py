"""The logs of the simulation keep the contract of the real ones, so that they are twins and not wishes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from kandle.log.port import Log
from kandle.time.timeframe import SECOND
from tests.log.building import MovedClock
from tests.log.contract import LogContract
from tests.log.embedded.test_contract import LocalContract
from tests.simulation.logs.world import World


class TestEmbeddedRules(LocalContract):
    """Under the rules of the embedded log."""

    worth = 200

    @pytest.fixture
    def log(self) -> Iterator[Log]:
        self.clock = MovedClock()
        self.world = World("embedded", Random(0), self.clock, self.worth)
        yield self.world.connect("one")

    def reopen(self, log: Log) -> Log:
        return self.world.connect("one")


class TestKafkaRules(LogContract):
    """Under the rules of a cluster, whose brokers clean up when the log is maintained."""

    lease = 30 * SECOND
    worth = 40

    @pytest.fixture
    def log(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
        self.clock = MovedClock()
        self.world = World("kafka", Random(0), self.clock)
        log = self.world.connect("one")
        monkeypatch.setattr(log, "maintain", self.world.clean)
        yield log

    def reopen(self, log: Log) -> Log:
        return self.world.connect("one")

    def pass_time(self, duration: int) -> None:
        self.clock.ahead += duration
