"""The contract of commits: where a group begins and goes on, and what is kept together."""

from __future__ import annotations

import pytest

from kandle.errors import LogError
from kandle.log.port import Log, ReadPosition, TopicPartition
from kandle.log.records import EncodedWrite, Records, Write
from tests.log.building import (
    numbers_of,
    partitions_of,
    poll_until,
    positions_of,
    read_all,
    records,
    settle_on,
    topic_spec,
    write,
)
from tests.log.contract_base import ContractBase, Join


class CommitContract(ContractBase):
    """Positions of groups."""

    @pytest.mark.parametrize(("reset", "expected"), [("earliest", [1, 2, 3]), ("latest", [3])])
    def test_a_new_group_begins_where_reset_says(self, log: Log, name: str, join: Join, reset: str, expected: list[int]) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1, 2])])
        consumer = join("one", reset=reset)
        first = settle_on([consumer], partitions_of(name, 1))
        log.append([write(name, [3])])
        assert numbers_of(first + poll_until(consumer, len(expected) - len(numbers_of(first)))) == expected

    @pytest.mark.parametrize("reset", ["earliest", "latest"])
    def test_a_group_that_has_committed_goes_on_there_whatever_reset_says(
        self, log: Log, name: str, join: Join, reset: str
    ) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        first = join("one")
        poll_until(first, 5)
        first.commit({TopicPartition(name, 0): 2})
        first.close()
        assert numbers_of(poll_until(join("one", reset=reset), 3)) == [2, 3, 4]

    def test_a_commit_of_offset_zero_is_a_commit(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1])])
        first = join("one")
        settle_on([first], partitions_of(name, 1))
        first.commit({TopicPartition(name, 0): 0})
        first.close()
        assert numbers_of(poll_until(join("one", reset="latest"), 1)) == [1]

    def test_what_was_not_committed_comes_again(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        first = join("one")
        assert numbers_of(poll_until(first, 5)) == list(range(5))
        first.close()
        assert numbers_of(poll_until(join("two"), 5)) == list(range(5))

    def test_a_group_goes_on_after_a_restart_where_it_committed(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(5))])
        consumer = join("one")
        poll_until(consumer, 5)
        consumer.commit({TopicPartition(name, 0): 3})
        consumer.close()
        log = self.reopen(log)
        assert log.committed(name, name) == {0: 3}
        again = log.consumer(self.group_spec(name, "one", name))
        assert numbers_of(poll_until(again, 2)) == [3, 4]
        again.close()

    def test_offsets_and_records_of_a_commit_are_kept_together(self, log: Log, name: str, join: Join) -> None:
        results = f"{name}.results"
        log.ensure(topic_spec(name))
        log.ensure(topic_spec(results))
        log.append([write(name, range(5))])
        consumer = join("one")
        batches = poll_until(consumer, 5)
        consumer.commit(positions_of(batches), [write(results, numbers_of(batches))])
        partition = TopicPartition(name, 0)
        assert consumer.committed([partition]) == {partition: 5}
        assert numbers_of(read_all(log, results)) == [0, 1, 2, 3, 4]

    def test_a_commit_with_a_wrong_record_keeps_neither_offsets_nor_records(self, log: Log, name: str, join: Join) -> None:
        results = f"{name}.results"
        log.ensure(topic_spec(name))
        log.ensure(topic_spec(results))
        log.append([write(name, range(5))])
        consumer, partition = join("one"), TopicPartition(name, 0)
        poll_until(consumer, 5)
        wrong = Write(results, 0, Records(records([1]).frame.drop("number")))
        with pytest.raises(LogError, match="number"):
            consumer.commit({partition: 5}, [write(results, [1]), wrong])
        assert consumer.committed([partition]) == {}
        assert log.partitions(results)[0].end == 0
        consumer.commit({partition: 5}, [write(results, [2])])
        assert (consumer.committed([partition]), numbers_of(read_all(log, results))) == ({partition: 5}, [2])

    def test_partitions_without_a_commit_are_left_out(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=3))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 3))
        consumer.commit({TopicPartition(name, 1): 0, TopicPartition(name, 2): 7})
        assert consumer.committed(partitions_of(name, 3)) == {TopicPartition(name, 1): 0, TopicPartition(name, 2): 7}
        assert log.committed(name, name) == {1: 0, 2: 7}
        assert log.committed(f"{name}.other", name) == {}

    def test_groups_do_not_know_of_each_other(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, range(3))])
        one, other = join("one"), join("one", group=f"{name}.other")
        assert numbers_of(poll_until(one, 3)) == numbers_of(poll_until(other, 3)) == [0, 1, 2]
        one.commit({TopicPartition(name, 0): 3})
        assert log.committed(f"{name}.other", name) == {}

    def test_what_waits_for_a_reader_is_counted_in_records(self, log: Log, name: str, join: Join) -> None:
        """
        offset      0    1    2         3    (4)
        record      1    2    no row    3    the mark of the transaction, on a cluster
        """
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1, 2])])
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 2))
        consumer.commit({TopicPartition(name, 0): 1}, [EncodedWrite(name, 0, [b"\xff"], [b"torn"]), write(name, [3])])
        positions = {ReadPosition(TopicPartition(name, 0), offset): count for offset, count in ((0, 4), (1, 3), (3, 1), (4, 0))}
        positions[ReadPosition(TopicPartition(name, 1), 0)] = 0
        assert log.waiting(positions.keys()) == positions
        nowhere = {ReadPosition(TopicPartition(name, 2), 0), ReadPosition(TopicPartition(f"no-{name}", 0), 0)}
        assert log.waiting(nowhere) == {}

    def test_groups_tell_owners_and_positions(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        first, second = join("one"), join("two")
        settle_on([first, second], partitions_of(name, 2))
        partition = next(iter(first.assignment))
        first.commit({partition: 4})
        (state,) = log.groups(name)
        assert state.owners == {**dict.fromkeys(first.assignment, "one"), **dict.fromkeys(second.assignment, "two")}
        assert state.positions == {partition: 4}
        first.close()
        second.close()
        (state,) = log.groups(name)
        assert set(state.owners.values()) <= {None}
        assert state.positions == {partition: 4}
