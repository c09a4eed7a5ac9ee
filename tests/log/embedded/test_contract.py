"""The embedded log keeps the contract, on a file and in memory, also when much happens at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.errors import FencedError, SchemaError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.notification import Waiting
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition
from kandle.log.records import Batch, EncodedWrite, Write
from kandle.plan.topics import TopicColumn
from kandle.time.timeframe import SECOND
from tests.log.building import (
    COLUMNS,
    MovedClock,
    instant,
    maintain_fully,
    numbers_of,
    offsets_of,
    partitions_of,
    poll_until,
    positions_of,
    read_all,
    settle,
    settle_on,
    table_of,
    topic_spec,
    write,
)
from tests.log.contract import LogContract
from tests.log.contract_base import Join
from tests.log.contract_records import LAWS
from tests.waiting import aside, result_of

MEMBERS = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["join", "leave", "vanish", "poll", "poll", "commit", "commit", "haunt"]), MEMBERS),
    st.tuples(st.sampled_from(["append", "append", "time"]), MEMBERS),
)


class LocalContract(LogContract):
    """What both promise beyond the contract."""

    clock: MovedClock

    def pass_time(self, duration: int) -> None:
        self.clock.ahead += duration

    def test_a_member_that_is_not_heard_of_for_its_lease_loses_what_it_owned(self, log: Log, name: str, join: Join) -> None:
        """
        one     polls |  ... lease ... |                commit: fenced, poll: lost
        two           |  nothing yet   |  owns both
        """
        log.ensure(topic_spec(name, partitions=2))
        log.append([write(name, [1], 0), write(name, [2], 1)])
        first = join("one", lease=10 * SECOND)
        poll_until(first, 2)
        second = join("two", lease=10 * SECOND)
        self.pass_time(9 * SECOND)
        assert second.poll(0, 10) == []
        self.pass_time(4 * SECOND)
        assert sorted(numbers_of(settle_on([second], partitions_of(name, 2)))) == [1, 2]
        with pytest.raises(FencedError, match=name):
            first.commit({TopicPartition(name, 0): 1})
        assert log.committed(name, name) == {}

    def test_a_member_that_works_longer_than_a_part_of_its_lease_keeps_what_it_owns(
        self, log: Log, name: str, join: Join
    ) -> None:
        log.ensure(topic_spec(name))
        first, second = join("one", lease=10 * SECOND), join("two", lease=10 * SECOND)
        settle([first, second], lambda: len(first.assignment) + len(second.assignment) == 1)
        owner = first if first.assignment else second
        before = dict(owner.assignment)
        for _ in range(20):
            self.pass_time(4 * SECOND)
            for consumer in (first, second):
                consumer.poll(0, 10)
        assert dict(owner.assignment) == before

    def test_batches_without_an_instant_of_the_span_are_not_read(self, log: Log, name: str) -> None:
        log.ensure(topic_spec(name))
        for first in range(0, 1000, 10):
            log.append([write(name, range(first, first + 10))])
        assert numbers_of(read_all(log, name, span=(instant(500), instant(510)))) == list(range(500, 510))

    def test_bytes_are_rows_where_they_are_json_and_compacted_by_their_key_where_it_can_be_read(
        self, log: Log, name: str
    ) -> None:
        """
        offset      0    1             2         3         4         5 ...
        key         A    A             torn      torn      A         B, again and again
        value       0    torn          JSON      JSON      7
        kept             (A is newer)  for ever  for ever  newest A  newest B
        """
        log.ensure(topic_spec(name, compacted=True, keys=("symbol",)))
        key, value = b'{"symbol": "A"}', b'{"number": 7, "time": 0}'
        given = EncodedWrite(name, 0, [key, b"\xff", b"\xff", key], [b"torn", value, value, value])
        assert log.decoded(EncodedWrite(name, 0, [key], [value])).frame["number"].to_list() == [7]
        log.append([write(name, [0]), given])
        rejects = [reject for batch in read_all(log, name) for reject in batch.rejects]
        assert [(reject.offset, reject.key_values) for reject in rejects] == [(1, ("A",)), (2, None), (3, None)]
        log.append([write(name, range(self.worth), symbols=["B"] * self.worth)])
        maintain_fully(log)
        for _ in range(2):
            batches = read_all(log, name)
            assert offsets_of(batches) == [4, self.worth + 4]
            assert [(reject.offset, reject.value) for batch in batches for reject in batch.rejects] == [(2, value), (3, value)]
            log = self.reopen(log)

    def test_names_of_columns_that_the_log_needs_for_itself_are_refused(self, log: Log, name: str) -> None:
        column = TopicColumn("__offset", "int", COLUMNS[1].physical)
        with pytest.raises(SchemaError, match="__offset"):
            log.ensure(topic_spec(name, columns=(*COLUMNS, column)))

    def test_a_key_must_be_a_column(self, log: Log, name: str) -> None:
        with pytest.raises(SchemaError, match="venue"):
            log.ensure(topic_spec(name, keys=("venue",)))

    @pytest.mark.parametrize("count", [1, 2])
    def test_maintenance_while_others_write_loses_no_newest_record(self, log: Log, name: str, count: int) -> None:
        log.ensure(topic_spec(name, compacted=True, keys=("symbol",)))
        done = Event()

        def keep_clean() -> None:
            connection = log.connect()
            while not done.is_set():
                connection.maintain()
            connection.close()

        def fill(writer: int) -> None:
            connection = log.connect()
            for number in range(60):
                symbols = [f"{writer}.{row % 90}" for row in range(200)]
                connection.append([write(name, range(number * 200, number * 200 + 200), symbols=symbols)])
            connection.close()

        cleaners = [aside(keep_clean) for _ in range(count)]
        writers = [aside(partial(fill, writer)) for writer in range(2)]
        try:
            for writer in writers:
                result_of(writer)
        finally:
            done.set()
        for cleaner in cleaners:
            result_of(cleaner)
        maintain_fully(log)
        batches = read_all(log, name)
        assert offsets_of(batches) == sorted(set(offsets_of(batches)))
        newest = {f"{writer}.{row % 90}": 59 * 200 + row for writer in range(2) for row in range(200)}
        assert table_of(batches) == newest
        assert log.partitions(name)[0].end == 2 * 60 * 200

    @given(steps=st.lists(STEPS, min_size=15, max_size=60))
    @settings(LAWS, max_examples=80)
    def test_whatever_members_do_each_record_is_processed_once(self, log: Log, steps: list[tuple[str, int]]) -> None:
        """Members join, leave, vanish without a word, come back as ghosts, poll and commit in any order."""
        play = Play(log, self.clock)
        for step, member in steps:
            getattr(play, step)(member)
        play.finish()


@dataclass
class Worker:
    """A member that writes what it reads as results; it forgets what is taken from it."""

    consumer: Consumer | None = None
    pending: list[Batch] = field(default_factory=list)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        assert not {TopicPartition(batch.topic, batch.partition) for batch in self.pending} & set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.pending = [batch for batch in self.pending if TopicPartition(batch.topic, batch.partition) not in partitions]

    lost = revoked

    def poll(self) -> None:
        assert self.consumer is not None
        # Not in one line: the poll may call `revoked`, which makes another list.
        batches = self.consumer.poll(0, 3)
        self.pending += batches

    def commit(self, results: str) -> None:
        assert self.consumer is not None
        self.consumer.commit(
            positions_of(self.pending), [Write(results, batch.partition, batch.records) for batch in self.pending]
        )
        self.pending = []


class Play:
    """Three members of a group, and the ghosts of those that vanished."""

    def __init__(self, log: Log, clock: MovedClock) -> None:
        self.log, self.clock = log, clock
        self.topic, self.results = uuid4().hex, uuid4().hex
        for topic in (self.topic, self.results):
            log.ensure(topic_spec(topic, partitions=3))
        self.workers: dict[int, Worker] = {}
        self.ghosts: list[Worker] = []
        self.count = [0, 0, 0]

    def join(self, member: int) -> None:
        if member not in self.workers:
            worker, spec = Worker(), GroupSpec(self.topic, (self.topic,), f"member {member}", lease=10 * SECOND)
            worker.consumer = self.log.consumer(spec, worker)
            self.workers[member] = worker

    def leave(self, member: int) -> None:
        worker = self.workers.pop(member, None)
        if worker is not None and worker.consumer is not None:
            worker.consumer.close()

    def vanish(self, member: int) -> None:
        if member in self.workers:
            self.ghosts.append(self.workers.pop(member))

    def haunt(self, member: int) -> None:
        if self.ghosts:
            ghost = self.ghosts[member % len(self.ghosts)]
            try:
                ghost.commit(self.results)
                ghost.poll()
            except FencedError:
                self.ghosts.remove(ghost)

    def poll(self, member: int) -> None:
        if member in self.workers:
            self.workers[member].poll()

    def commit(self, member: int) -> None:
        if member in self.workers:
            try:
                self.workers[member].commit(self.results)
            except FencedError:
                self.vanish(member)
                self.ghosts.pop()

    def append(self, partition: int) -> None:
        self.log.append([write(self.topic, [self.count[partition]], partition)])
        self.count[partition] += 1

    def time(self, _: int) -> None:
        self.clock.ahead += 11 * SECOND

    def finish(self) -> None:
        """Let somebody do what is left to do, and look at what came out."""
        for member in range(3):
            self.append(member)
            self.vanish(member)
        self.time(0)
        self.join(0)
        worker = self.workers[0]
        for _ in range(1000):
            worker.poll()
            worker.commit(self.results)
            if self.log.ends(self.results) == self.count:
                break
        for partition, count in enumerate(self.count):
            assert numbers_of(read_all(self.log, self.results, partition)) == list(range(count))
        self.leave(0)


class TestEmbedded(LocalContract):
    """A log in a folder."""

    waiting: Waiting | None = None

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[Log]:
        self.path, self.clock = tmp_path / "log", MovedClock()
        self.opened = EmbeddedLog(self.path, self.clock, waiting=self.waiting)
        yield self.opened
        assert self.opened.check() == []
        self.opened.close()

    def reopen(self, log: Log) -> Log:
        log.close()
        self.opened = EmbeddedLog(self.path, self.clock, waiting=self.waiting)
        return self.opened


class TestPolling(TestEmbedded):
    """A log in a folder, on a system without named pipes."""

    waiting = "poll"


class TestInMemory(LocalContract):
    """A log that is kept nowhere: what is opened anew is another connection to it."""

    @pytest.fixture
    def log(self) -> Iterator[Log]:
        self.clock = MovedClock()
        self.opened = EmbeddedLog(None, self.clock)
        yield self.opened
        self.opened.close()

    def reopen(self, log: Log) -> Log:
        return log.connect()
