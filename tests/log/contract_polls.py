"""The contract of consumers: what a poll gives and when it ends, pauses, and positions that are sought."""

from __future__ import annotations

from functools import partial

from kandle.log.port import Log, TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND
from tests.log.building import (
    LONG,
    numbers_of,
    offsets_of,
    partitions_of,
    poll_until,
    settle,
    settle_on,
    topic_spec,
    woken,
    write,
)
from tests.log.contract_base import ContractBase, Join
from tests.waiting import aside, result_of, wait_until


class PollContract(ContractBase):
    """Consumers."""

    def test_a_poll_gives_records_in_the_order_of_each_partition(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        for first in range(0, 100, 5):
            log.append([write(name, range(first, first + 5), partition) for partition in range(2)])
        consumer = join("one")
        batches = poll_until(consumer, 200, max_rows=7)
        for partition in range(2):
            part = [batch for batch in batches if batch.partition == partition]
            assert numbers_of(part) == offsets_of(part) == list(range(100))

    def test_a_poll_takes_a_few_rows_of_each_partition_when_asked_for_few(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        for first in range(0, 1000, 10):
            log.append([write(name, range(first, first + 10), partition) for partition in range(2)])
        consumer = join("one")
        settle([consumer], lambda: len(consumer.assignment) == 2, max_rows=1)
        consumer.seek(dict.fromkeys(consumer.assignment, 0))
        for _ in range(5):
            batches = poll_until(consumer, 1, max_rows=20)
            for partition in range(2):
                assert len(numbers_of(batch for batch in batches if batch.partition == partition)) <= 30

    def test_a_poll_of_a_member_that_wants_few_bytes_takes_few(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        for number in range(300):
            log.append([write(name, [number])])
        consumer = join("one", max_bytes=100)
        taken: list[int] = []

        def all_taken() -> bool:
            batches = consumer.poll(100_000, 1_000)
            assert sum(map(len, batches)) <= 50
            taken.extend(numbers_of(batches))
            return len(taken) == 300

        wait_until(all_taken, pause=0)
        assert taken == list(range(300))

    def test_no_partition_is_starved_by_a_busy_one(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=3))
        for _ in range(50):
            log.append([write(name, range(100), 0), write(name, range(100), 2)])
        log.append([write(name, [7], 1)])
        consumer, seen = join("one"), set[int]()

        def all_seen() -> bool:
            log.append([write(name, range(100), 0), write(name, range(100), 2)])
            seen.update(batch.partition for batch in consumer.poll(100_000, 100))
            return seen == {0, 1, 2}

        wait_until(all_seen, pause=0)

    def test_a_poll_that_finds_nothing_ends_with_nothing(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        assert consumer.poll(0, 10) == []
        assert consumer.poll(50_000, 10) == []

    def test_a_waiting_poll_ends_with_the_records_of_an_append(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        for number in range(3):
            waiting = aside(lambda: consumer.poll(LONG, 10))
            log.append([write(name, [number])])
            batches = result_of(waiting)
            assert numbers_of(batches) == [number]

    def test_a_poll_waits_until_wake_ends_it_from_another_thread(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        waiting = aside(lambda: consumer.poll(LONG, 10))
        SystemClock().pause(700 * MILLISECOND)
        assert not waiting.done(), "a poll ended before anybody woke it"
        assert woken(consumer, waiting) == []
        log.append([write(name, [1])])
        assert numbers_of(poll_until(consumer, 1)) == [1]

    def test_a_thread_that_is_woken_hundreds_of_times_ends_each_poll_at_once(self, log: Log, name: str, join: Join) -> None:
        """Fail if a poll looks only twice a second whether it was woken: that takes longer than any test waits."""
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        waiting = aside(lambda: [consumer.poll(LONG, 10) for _ in range(1_000)])

        def done() -> bool:
            consumer.wake()
            return waiting.done()

        wait_until(done, "the end of all polls", pause=0.001)
        assert waiting.result() == [[]] * 1_000

    def test_members_on_one_connection_can_wait_in_threads_of_their_own(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        members = [join("one"), join("two")]
        settle_on(members, partitions_of(name, 2))
        for number in range(5):
            waiting = [aside(partial(member.poll, LONG, 10)) for member in members]
            log.append([write(name, [number], partition) for partition in range(2)])
            polled = [result_of(poll) for poll in waiting]
            assert [numbers_of(batches) for batches in polled] == [[number], [number]]

    def test_paused_partitions_are_not_read_and_lose_nothing(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 2))
        log.append([write(name, range(100, 110), 0), write(name, [1], 1)])
        seen = poll_until(consumer, 4, max_rows=3)
        quiet = TopicPartition(name, 0)
        consumer.pause([quiet])
        log.append([write(name, range(110, 120), 0), write(name, [2], 1)])
        while 2 not in numbers_of(seen):
            batches = poll_until(consumer, 1)
            assert {batch.partition for batch in batches} == {1}
            seen += batches
        assert consumer.poll(0, 10) == []
        consumer.resume([quiet])
        seen += poll_until(consumer, 22 - len(numbers_of(seen)))
        assert sorted(numbers_of(seen)) == [1, 2, *range(100, 120)]

    def test_a_poll_of_nothing_but_paused_partitions_waits(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name))
        consumer = join("one")
        settle_on([consumer], partitions_of(name, 1))
        consumer.pause(partitions_of(name, 1))
        log.append([write(name, [1])])
        assert consumer.poll(20_000, 10) == []
        waiting = aside(lambda: consumer.poll(LONG, 10))
        SystemClock().pause(20 * MILLISECOND)
        assert not waiting.done()
        assert woken(consumer, waiting) == []

    def test_seek_goes_back_and_forward(self, log: Log, name: str, join: Join) -> None:
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, range(10), 0), write(name, range(10), 1)])
        consumer, partition = join("one"), TopicPartition(name, 0)
        assert len(numbers_of(poll_until(consumer, 20))) == 20
        consumer.seek({partition: 4})
        assert numbers_of(poll_until(consumer, 6)) == [4, 5, 6, 7, 8, 9]
        consumer.seek({partition: 0})
        consumer.seek({partition: 8})
        batches = poll_until(consumer, 2)
        assert (numbers_of(batches), {batch.partition for batch in batches}) == ([8, 9], {0})
        consumer.seek({partition: 10})
        assert consumer.poll(0, 10) == []
