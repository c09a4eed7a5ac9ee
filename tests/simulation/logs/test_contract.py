"""The logs of the simulation keep the contract of the real ones, so that they are twins and not wishes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from kandle.log.port import Log
from tests.log.building import MovedClock
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
