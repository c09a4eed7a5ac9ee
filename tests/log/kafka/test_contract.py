"""The Kafka log keeps the contract, on a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import Log
from kandle.time.timeframe import SECOND
from tests.log.building import MovedClock
from tests.log.contract_commits import CommitContract
from tests.log.contract_groups import GroupContract
from tests.log.contract_polls import PollContract
from tests.log.contract_records import RecordContract
from tests.log.contract_tails import TailContract
from tests.log.contract_topics import TopicContract


class TestKafkaLog(TopicContract, RecordContract, TailContract, PollContract, CommitContract, GroupContract):
    """What brokers keep, and how long, is theirs; the rest is the contract's."""

    lease = 30 * SECOND

    @pytest.fixture
    def log(self, bootstrap: str) -> Iterator[Log]:
        self.clock = MovedClock()
        self.settings = KafkaSettings(bootstrap)
        self.opened = [KafkaLog(self.settings, self.clock)]
        yield self.opened[0]
        for log in self.opened:
            log.close()

    def reopen(self, log: Log) -> Log:
        log.close()
        self.opened.append(KafkaLog(self.settings, self.clock))
        return self.opened[-1]

    def pass_time(self, duration: int) -> None:
        self.clock.ahead += duration
