"""The group protocol "consumer" of the brokers (KIP-848): what a member relies on holds there as well."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kandle.errors import FencedError, ReplacedError
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import Consumer
from tests.brokers.needed import kafka_or_skip
from tests.log.building import (
    Recorder,
    numbers_of,
    partitions_of,
    read_all,
    settle,
    settle_on,
    topic_spec,
    write,
)
from tests.log.contract_base import ContractBase, Join
from tests.log.contract_commits import CommitContract
from tests.log.contract_groups import GroupContract
from tests.log.kafka.member_process import copy
from tests.processes import RunningProcess
from tools.kafka.broker import ROOT
from tools.kafka.cluster import Cluster


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    """Brokers that take a member for dead after six seconds: a busy machine may keep a healthy one silent for some of them."""
    kafka_or_skip()
    times = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "100"}
    with Cluster(properties={f"group.consumer.{name}": value for name, value in times.items()}) as cluster:
        yield cluster.bootstrap


class Member:
    """A member in a process of its own."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.process = RunningProcess([sys.executable, "-m", "tests.log.kafka.member_process", bootstrap, group, "one"], ROOT)

    def heard(self) -> str:
        """Return the next line that it prints."""
        return self.process.next_line().strip()

    def tell(self) -> None:
        """Have it go on."""
        self.process.tell()


@contextmanager
def process(bootstrap: str, group: str) -> Iterator[Member]:
    """Start a member that has copied the first of two partitions and has read the second one."""
    member = Member(bootstrap, group)
    try:
        assert member.heard() == "copied 20"
        yield member
    finally:
        member.process.kill()


def copied_by(consumer: Consumer, group: str, log: KafkaLog) -> list[list[int]]:
    """Have a member take over and copy the rest, and return the copies of each partition."""
    settle_on_all = partitions_of(group, 2)
    while set(consumer.assignment) != settle_on_all or any(log.committed(group, group).get(part, 0) < 10 for part in range(2)):
        copy(consumer, consumer.poll(10_000, 100), f"{group}.results")
    return [numbers_of(read_all(log, f"{group}.results", partition)) for partition in range(2)]


class TestProtocolConsumer(ContractBase):
    """What depends on the protocol, of the contract, and members that die or sleep."""

    test_sharing = GroupContract.test_two_members_share_the_partitions
    test_alike = GroupContract.test_topics_of_the_same_number_of_partitions_are_assigned_alike
    test_order = GroupContract.test_a_partition_is_revoked_before_it_is_assigned_to_another
    test_last_commit = GroupContract.test_a_partition_that_is_being_revoked_can_still_be_committed
    test_fencing = GroupContract.test_a_commit_for_a_partition_that_went_to_another_writes_nothing
    test_leaving = GroupContract.test_a_member_that_leaves_hands_over_at_once
    test_telling = CommitContract.test_groups_tell_owners_and_positions

    @pytest.fixture
    def log(self, quick: str) -> Iterator[KafkaLog]:
        log = KafkaLog(KafkaSettings(quick, protocol="consumer"))
        yield log
        log.close()

    @pytest.fixture
    def topic(self, log: KafkaLog, name: str) -> str:
        """Two partitions with ten records each, and another topic for their copies."""
        log.ensure(topic_spec(name, partitions=2))
        log.ensure(topic_spec(f"{name}.results", partitions=2))
        log.append([write(name, range(10), partition) for partition in range(2)])
        return name

    def test_what_a_killed_member_had_goes_to_another_after_its_session(
        self, log: KafkaLog, topic: str, quick: str, join: Join
    ) -> None:
        with process(quick, topic) as killed:
            killed.process.kill()
            assert copied_by(join("two"), topic, log) == [list(range(10))] * 2

    def test_a_member_that_sleeps_beyond_its_session_cannot_commit_and_joins_again(
        self, log: KafkaLog, topic: str, quick: str, join: Join
    ) -> None:
        with process(quick, topic) as paused:
            paused.process.send(signal.SIGSTOP)
            other = join("two")
            assert copied_by(other, topic, log) == [list(range(10))] * 2
            paused.process.send(signal.SIGCONT)
            paused.tell()
            assert paused.heard() == "FencedError"
            settle([other], lambda: len(other.assignment) == 1)
            log.append([write(topic, [10], partition) for partition in range(2)])
            assert paused.heard() == "reads on"
        assert [numbers_of(read_all(log, f"{topic}.results", partition))[:10] for partition in range(2)] == [list(range(10))] * 2

    def test_of_two_members_of_one_name_the_older_one_ends(self, log: KafkaLog, topic: str, join: Join) -> None:
        listener = Recorder("one")
        older, results = join("one", listener=listener), f"{topic}.results"
        settle_on([older], partitions_of(topic, 2))
        older.commit(dict.fromkeys(older.assignment, 1), [write(results, [0])])
        newer = join("one")
        settle_on([older, newer], partitions_of(topic, 2))
        newer.commit(dict.fromkeys(newer.assignment, 2), [write(results, [1])])
        kept = set(older.assignment)
        with pytest.raises(FencedError):
            older.commit(dict.fromkeys(kept, 3), [write(results, [2])])
        with pytest.raises(ReplacedError, match=r"as 'one'.*runtime\.instance"):
            older.poll(0, 10)
        assert listener.heard("lost") == kept
        older.close()
        settle_on([newer], partitions_of(topic, 2))
        newer.commit(dict.fromkeys(kept, 3), [write(results, [3])])
        assert numbers_of(read_all(log, results)) == [0, 1, 3]
