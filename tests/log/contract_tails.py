"""The contract of readers that go on with what is appended, and of the identities of topics."""

from __future__ import annotations

from kandle.log.port import Log, TopicTail
from kandle.log.records import Batch
from tests.log.building import instant, numbers_of, topic_spec, write
from tests.log.contract_base import ContractBase
from tests.waiting import wait_until


def read(tail: TopicTail, count: int) -> list[Batch]:
    """Poll until so many records have come."""
    batches: list[Batch] = []
    wait_until(
        lambda: len(numbers_of(batches)) >= count,
        f"{count} records",
        seen=lambda: numbers_of(batches),
        check=lambda: batches.extend(tail.poll(20_000, 1_000)),
        pause=0,
    )
    return batches


class TailContract(ContractBase):
    def test_a_tail_reads_all_partitions_and_goes_on_with_what_is_appended(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1, 2], 0), write(name, [3], 1)])
        tail = log.tail(name, {})
        assert sorted(numbers_of(read(tail, 3))) == [1, 2, 3]
        log.append([write(name, [4], 1)])
        [batch] = [batch for batch in read(tail, 1) if len(batch)]
        assert (batch.partition, int(batch.offsets[0]), numbers_of([batch])) == (1, 1, [4])
        tail.close()

    def test_a_tail_begins_at_given_positions(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1, 2, 3], 0), write(name, [4, 5], 1)])
        tail = log.tail(name, {0: 2})
        assert sorted(numbers_of(read(tail, 3))) == [3, 4, 5]
        tail.close()

    def test_bounds_have_what_this_log_has_appended_at_once(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1, 2], 0)])
        tail = log.tail(name, {})
        assert {number: end for number, (_, end) in tail.bounds().items()} == {0: 2, 1: 0}
        log.append([write(name, [3], 0), write(name, [4], 1)])
        assert {number: end for number, (_, end) in tail.bounds().items()} == {0: 3, 1: 1}
        assert log.append_each([write(name, [5], 0), write(name, [6, 7], 1)]) == {}
        assert {number: end for number, (_, end) in tail.bounds().items()} == {0: 4, 1: 3}
        tail.close()

    def test_a_tail_reaches_its_bounds(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        log.append([write(name, [1])])
        tail = log.tail(name, {})
        log.append([write(name, [2, 3])])
        batches = read(tail, 3)
        assert batches[-1].next_offset >= tail.bounds()[0][1]
        tail.close()

    def test_bounds_know_the_records_of_others(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        tail = log.tail(name, {})
        other = log.connect()
        other.append([write(name, [1])])
        assert numbers_of(read(tail, 1)) == [1]
        assert tail.bounds()[0][1] == 1
        other.close()
        tail.close()

    def test_a_topic_has_an_identity_of_its_own(self, log: Log, name: str) -> None:
        for topic in (name, f"{name}-2"):
            log.ensure(topic_spec(topic))
        identity = log.identity(name)
        assert identity == log.identity(name)
        assert identity.id != log.identity(f"{name}-2").id
        assert identity.tombstones > 0

    def test_a_topic_has_the_same_identity_after_a_restart(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        before = log.identity(name)
        assert self.reopen(log).identity(name) == before

    def test_the_records_in_a_span_are_counted_at_least(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1, 2], 0), write(name, [7, 8, 9], 1)])
        assert log.rows_in(name, (instant(0), instant(100))) == 5
        assert 2 <= log.rows_in(name, (instant(0), instant(5))) <= 5
