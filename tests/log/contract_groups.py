"""The contract of groups: who reads what when members come and go, and that nobody writes for what it lost."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from threading import Event as Flag

import pytest

from kandle.errors import FencedError, KandleError, ReplacedError, StateError, UnknownTopicError
from kandle.log.port import Consumer, Log, TopicPartition
from kandle.log.records import Batch, Write
from tests.log.building import (
    LONG,
    Event,
    Recorder,
    numbers_of,
    owned,
    partitions_of,
    poll_until,
    positions_of,
    read_all,
    settle,
    settle_on,
    topic_spec,
    woken,
    write,
)
from tests.log.contract_base import ContractBase, Join
from tests.waiting import aside, result_of, wait_until


class GroupContract(ContractBase):
    """Members that share partitions."""

    def test_a_lone_member_owns_all_partitions_of_its_topics(self, log: Log, name: str, join: Join) -> None:
        topics = [f"{name}.a", f"{name}.b"]
        log.ensure(topic_spec(topics[0], partitions=3))
        log.ensure(topic_spec(topics[1], partitions=2))
        listener = Recorder("one")
        consumer = join("one", *topics, listener=listener)
        partitions = partitions_of(topics[0], 3) | partitions_of(topics[1], 2)
        settle_on([consumer], partitions)
        assert listener.heard("assigned") == partitions
        assert {kind for kind, _, _ in listener.events} == {"assigned"}

    def test_two_members_share_the_partitions(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=4))
        first = join("one")
        settle_on([first], partitions_of(name, 4))
        second = join("two")
        settle_on([first, second], partitions_of(name, 4))
        settle([first, second], lambda: len(first.assignment) == 2 == len(second.assignment))
        log.append([write(name, [partition], partition) for partition in range(4)])
        read: dict[str, list[Batch]] = {"one": [], "two": []}

        def poll_both() -> None:
            read["one"] += first.poll(10_000, 10)
            read["two"] += second.poll(10_000, 10)

        wait_until(lambda: sum(map(len, map(numbers_of, read.values()))) >= 4, "4 records", seen=lambda: read, check=poll_both)
        for batches, consumer in zip(read.values(), (first, second), strict=True):
            assert set(numbers_of(batches)) == {partition for _, partition in consumer.assignment}

    def test_a_member_too_many_owns_nothing_and_takes_over_when_another_leaves(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        first = join("one")
        settle_on([first], partitions_of(name, 1))
        second = join("two")
        for _ in range(5):
            assert second.poll(1_000, 10) == []
            first.poll(1_000, 10)
        assert sorted([len(first.assignment), len(second.assignment)]) == [0, 1]
        owner, spare = (first, second) if first.assignment else (second, first)
        owner.close()
        settle_on([spare], partitions_of(name, 1))

    def test_topics_of_the_same_number_of_partitions_are_assigned_alike(self, log: Log, name: str, join: Join) -> None:
        topics = [f"{name}.{letter}" for letter in "abc"]
        for topic, count in zip(topics, (4, 4, 3), strict=True):
            log.ensure(topic_spec(topic, partitions=count))
        partitions = {
            partition for topic, count in zip(topics, (4, 4, 3), strict=True) for partition in partitions_of(topic, count)
        }
        members = [join(member, *topics) for member in ("one", "two", "three")]
        for count in (3, 2, 1):
            settle_on(members, partitions)
            for member in members:
                first, second = ({part for topic, part in member.assignment if topic == wanted} for wanted in topics[:2])
                assert first == second
            members.pop(1 if count == 3 else 0).close()

    def test_a_partition_is_revoked_before_it_is_assigned_to_another(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=4))
        events: list[Event] = []
        first = join("one", listener=Recorder("one", events))
        settle_on([first], partitions_of(name, 4))
        second = join("two", listener=Recorder("two", events))
        settle_on([first, second], partitions_of(name, 4))
        moved = set(second.assignment)
        kinds = [(kind, member) for kind, member, partitions in events if partitions & moved]
        assert kinds[0] == ("assigned", "one")
        assert kinds[1] == ("revoked", "one")
        assert ("assigned", "two") in kinds[2:]
        assert all(kind != "lost" for kind, _, _ in events)

    def test_a_partition_that_is_being_revoked_can_still_be_committed(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, range(3), 0), write(name, range(3), 1)])
        listener = Recorder("one")
        first = join("one", listener=listener)
        poll_until(first, 6)

        def commit(partitions: Collection[TopicPartition]) -> None:
            assert set(partitions) <= set(first.assignment)
            first.commit(dict.fromkeys(partitions, 2))

        listener.before_revoked = commit
        second = join("two")
        batches = settle_on([first, second], partitions_of(name, 2))
        (partition,) = second.assignment
        batches += poll_until(second, 1) if not batches else []
        assert (numbers_of(batches), [batch.partition for batch in batches]) == ([2], [partition.partition])

    def test_leaving_revokes_first_and_what_is_committed_then_counts(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(3))])
        listener = Recorder("one")
        first = join("one", listener=listener)
        poll_until(first, 3)

        def commit(partitions: Collection[TopicPartition]) -> None:
            first.commit(dict.fromkeys(partitions, 3))

        listener.before_revoked = commit
        first.close()
        assert listener.heard("revoked") == partitions_of(name, 1)
        assert log.committed(name, name) == {0: 3}

    def test_a_member_that_leaves_hands_over_at_once(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        first, second = join("one"), join("two")
        settle_on([first, second], partitions_of(name, 2))
        first.close()
        settle_on([second], partitions_of(name, 2))

    def test_a_group_has_members_until_the_last_has_left(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        first = join("one")
        settle_on([first], partitions_of(name, 1))
        (group,) = (state.group for state in log.groups() if TopicPartition(name, 0) in state.owners)
        assert log.has_members(group) and not log.has_members(f"{group}-of-nobody")
        first.close()
        wait_until(lambda: not log.has_members(group))

    def test_a_waiting_member_hears_of_one_that_leaves(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        other = log.connect()
        first, second = join("one"), join("two", on=other)
        settle_on([first, second], partitions_of(name, 2))
        (freed,) = first.assignment
        log.append([write(name, [5], freed.partition)])
        waiting = aside(lambda: second.poll(LONG, 10))
        first.close()
        batches = result_of(waiting)
        assert numbers_of(batches) == [5]
        second.close()
        other.close()

    def test_a_waiting_member_makes_room_for_one_that_joins(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        first = join("one")
        settle_on([first], partitions_of(name, 2))
        waiting = aside(lambda: first.poll(LONG, 10))
        other = log.connect()
        second = join("two", on=other)
        settle([second], lambda: len(second.assignment) == 1)
        assert woken(first, waiting) == []
        assert set(owned(first, second)) == partitions_of(name, 2)
        second.close()
        other.close()

    def test_a_member_of_the_same_name_takes_the_place_of_the_one_before(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1], 0), write(name, [2], 1)])
        listener = Recorder("one")
        older = join("one", listener=listener)
        poll_until(older, 2)
        newer = join("one")
        settle_on([newer], partitions_of(name, 2))
        with pytest.raises((FencedError, ReplacedError), match=name):
            older.commit({TopicPartition(name, 0): 1})
        for _ in range(2):
            with pytest.raises(ReplacedError, match="one"):
                # It may take a moment until it hears of it.
                settle([older], lambda: False)
            assert not older.assignment
        assert listener.heard("lost") == partitions_of(name, 2)
        newer.poll(0, 10)
        assert set(newer.assignment) == partitions_of(name, 2)
        assert log.committed(name, name) == {}

    def test_epochs_grow_with_each_change_of_owner(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        partition, epochs = TopicPartition(name, 0), list[int]()
        for number in range(4):
            consumer = join(f"member {number % 2}")
            settle_on([consumer], [partition])
            epochs.append(consumer.assignment[partition])
            consumer.poll(0, 10)
            assert consumer.assignment[partition] == epochs[-1]
            consumer.close()
        assert epochs == sorted(set(epochs))

    def test_a_commit_for_a_partition_that_went_to_another_writes_nothing(self, log: Log, name: str, join: Join) -> None:
        results = f"{name}.results"
        log.ensure(topic_spec(name, partitions=2))
        log.ensure(topic_spec(results))
        log.append([write(name, range(3), 0), write(name, range(3), 1)])
        first = join("one")
        poll_until(first, 6)
        second = join("two")
        settle_on([first, second], partitions_of(name, 2))
        (kept,), (gone,) = first.assignment, second.assignment
        for offsets in ({gone: 3}, {kept: 3, gone: 3}):
            with pytest.raises(FencedError, match=name):
                first.commit(offsets, [write(results, [1])])
        assert log.committed(name, name) == {}
        assert log.partitions(results)[0].end == 0
        first.commit({kept: 3}, [write(results, [1])])
        second.commit({gone: 3}, [write(results, [2])])
        assert log.committed(name, name) == {0: 3, 1: 3}
        assert numbers_of(read_all(log, results)) == [1, 2]

    def test_a_member_that_has_left_cannot_commit(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        consumer.close()
        with pytest.raises(KandleError):
            consumer.commit({TopicPartition(name, 0): 1})
        consumer.close()
        assert log.committed(name, name) == {}

    def test_members_in_threads_that_come_and_go_never_share_a_partition_and_process_each_record_once(
        self, log: Log, name: str
    ) -> None:
        results, count = f"{name}.results", 300
        log.ensure(topic_spec(name, partitions=3))
        log.ensure(topic_spec(results, partitions=3))
        owners: dict[TopicPartition, str] = {}
        complete = Flag()

        def arrived() -> int:
            return sum(len(numbers_of(read_all(log, results, partition))) for partition in range(3))

        def life(member: str, rounds: int) -> None:
            connection = log.connect()
            listener = Owner(member, owners)
            while not complete.is_set():
                consumer = connection.consumer(self.group_spec(name, member, name), listener)
                for _ in range(rounds):
                    work(consumer, results)
                consumer.close()
            connection.close()

        lives = [aside(partial(life, member, rounds)) for member, rounds in (("a", 3), ("b", 5), ("c", 40))]
        try:
            for number in range(count):
                log.append([write(name, [number], number % 3)])
            wait_until(lambda: arrived() >= count or any(thread.done() for thread in lives), f"{count} results", seen=arrived)
        finally:
            complete.set()
        for thread in lives:
            result_of(thread)
        for partition in range(3):
            assert numbers_of(read_all(log, results, partition)) == list(range(partition, count, 3))

    def test_positions_of_a_group_without_members_are_moved(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, range(5), 0), write(name, range(5), 1)])
        consumer = join("one")
        consumer.commit(positions_of(poll_until(consumer, 10)))
        with pytest.raises(StateError, match=f"group {name} has members"):
            log.set_positions(name, {TopicPartition(name, 0): 2})
        assert log.committed(name, name) == {0: 5, 1: 5}
        consumer.close()
        wait_until(lambda: not log.has_members(name), "the end of the member")
        log.set_positions(name, {TopicPartition(name, 0): 2})
        assert log.committed(name, name) == {0: 2, 1: 5}
        assert numbers_of(poll_until(join("two"), 3)) == [2, 3, 4]

    def test_positions_are_given_to_a_group_that_is_new(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        log.set_positions(f"{name}-new", {TopicPartition(name, 0): 3})
        assert log.committed(f"{name}-new", name) == {0: 3}
        with pytest.raises(UnknownTopicError):
            log.set_positions(f"{name}-new", {TopicPartition(f"{name}.none", 0): 3})
        assert numbers_of(poll_until(join("one", group=f"{name}-new"), 2)) == [3, 4]


class Owner:
    """A listener that fails if a partition is assigned while another owns it."""

    def __init__(self, member: str, owners: dict[TopicPartition, str]) -> None:
        self.member, self.owners = member, owners

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            before = self.owners.setdefault(partition, self.member)
            assert before == self.member, f"{partition} belongs to {before} when it is assigned to {self.member}"

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            assert self.owners.pop(partition) == self.member

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        raise AssertionError(f"{partitions} were taken from {self.member}, which was alive")


def work(consumer: Consumer, results: str) -> None:
    """Poll once, and commit the records as results of the same partition."""
    batches = consumer.poll(2_000, 20)
    if batches:
        consumer.commit(positions_of(batches), [Write(results, batch.partition, batch.records) for batch in batches])
