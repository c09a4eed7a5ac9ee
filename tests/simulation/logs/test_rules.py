"""What the logs of the simulation do when processes die, wake up as zombies, and the log itself fails; none of it takes time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from kandle.errors import FencedError, LogError, ReplacedError, StateError, UnavailableError
from kandle.log.kafka.catalog import COUNT_INTERVAL
from kandle.log.port import Consumer, Fence, GroupSpec, TopicPartition
from kandle.log.records import Batch, EncodedWrite, Write
from kandle.time.clock import ManualClock
from kandle.time.timeframe import DAY, HOUR, MILLISECOND, SECOND
from tests.log.building import (
    Recorder,
    numbers_of,
    offsets_of,
    owned,
    partitions_of,
    positions_of,
    read_all,
    table_of,
    topic_spec,
    write,
)
from tests.simulation.logs.log import SimulatedLog
from tests.simulation.logs.state import Call, Killed
from tests.simulation.logs.world import Rules, World

EVENTS, RESULTS = "events", "results"
BOTH: tuple[Rules, ...] = ("embedded", "kafka")
LEASE = 6 * SECOND


def world(rules: Rules = "kafka", seed: int = 0) -> tuple[World, ManualClock, SimulatedLog]:
    """Return a world with two topics of two partitions, and the log of a process of it."""
    clock = ManualClock(1_700_000_000 * SECOND)
    made = World(rules, Random(seed), clock, 20)
    log = made.connect("writer")
    for topic in (EVENTS, RESULTS):
        log.ensure(topic_spec(topic, partitions=2))
    return made, clock, log


def pass_time(clock: ManualClock, duration: int) -> None:
    clock.jump(clock.now() + duration)


def join(log: SimulatedLog, member: str, listener: Any = None, **settings: Any) -> Consumer:
    return log.consumer(GroupSpec(**{"group": "g", "topics": (EVENTS,), "member": member, "lease": LEASE, **settings}), listener)


def settle_on(consumers: list[Consumer], partitions: Collection[TopicPartition]) -> list[Batch]:
    """Poll in turn until all these partitions are owned, each by one member, and return the batches."""
    batches: list[Batch] = []
    for _ in range(20):
        for consumer in consumers:
            batches += consumer.poll(0, 100)
        if sorted(owned(*consumers)) == sorted(partitions) and all(consumer.assignment for consumer in consumers):
            return batches
    raise AssertionError(f"after 20 polls they own {[dict(consumer.assignment) for consumer in consumers]}")


def numbers(log: SimulatedLog, topic: str = RESULTS) -> list[int]:
    return [number for partition in range(2) for number in numbers_of(read_all(log, topic, partition))]


def kill_at(world: World, process: str, topic: str) -> None:
    """Have a process end as soon as it has written something of a topic, or of its positions, in a transaction."""

    def hook(call: Call) -> None:
        if (call.process, call.stage) == (process, "written") and call.partitions[0].topic == topic:
            raise Killed

    world.on_call(hook)


ZERO = TopicPartition(EVENTS, 0)


def dead_in_commit(made: World) -> SimulatedLog:
    """Have process `one` commit a record, and die in the middle of its second commit."""
    log = made.connect("one")
    log.append([write(EVENTS, range(5))])
    consumer = join(log, "one")
    settle_on([consumer], partitions_of(EVENTS, 2))
    consumer.commit({ZERO: 1}, [write(RESULTS, [1])])
    kill_at(made, "one", EVENTS)
    with pytest.raises(Killed):
        consumer.commit({ZERO: 2}, [write(RESULTS, [2])])
    made.on_call(None)
    log.process.kill()
    return log


def test_what_a_process_was_killed_in_stays_open_until_its_time_is_over() -> None:
    made, clock, log = world()
    dead_in_commit(made)
    assert numbers_of(log.read(TopicPartition(RESULTS, 0), 0, 10)) == [1]
    assert log.ends(RESULTS) == [3, 0]
    with pytest.raises(UnavailableError, match=r"open"):
        log.read(TopicPartition(RESULTS, 0), 2, 10)
    with pytest.raises(UnavailableError, match=r"group g: a transaction"):
        log.committed("g", EVENTS)
    pass_time(clock, 10 * SECOND)
    assert numbers(log) == [1]
    assert log.committed("g", EVENTS) == {0: 1}


def test_a_process_that_comes_back_under_its_name_ends_the_commit_it_was_killed_in() -> None:
    made, _, log = world()
    dead_in_commit(made)
    back = join(made.connect("one"), "one")
    settle_on([back], partitions_of(EVENTS, 2))
    back.commit({ZERO: 2}, [write(RESULTS, [3])])
    assert numbers(log) == [1, 3]


def test_a_member_of_another_name_ends_it_once_the_session_of_the_dead_is_over() -> None:
    made, clock, log = world()
    dead_in_commit(made)
    other = join(made.connect("two"), "two")
    assert other.poll(0, 10) == [] and not other.assignment
    pass_time(clock, LEASE)
    settle_on([other], partitions_of(EVENTS, 2))
    assert log.committed("g", EVENTS) == {0: 1}
    assert numbers(log) == [1]


@pytest.mark.parametrize("rules", BOTH)
def test_a_zombie_writes_nothing_and_joins_again(rules: Rules) -> None:
    """
    one   owns all | stopped ................ | commit: fenced, poll: lost, assigned again
    two            |   joins, owns all        |
    """
    made, clock, log = world(rules)
    paused, listener = made.connect("one"), Recorder("one")
    one = join(paused, "one", listener)
    settle_on([one], partitions_of(EVENTS, 2))
    paused.process.stop()
    pass_time(clock, 2 * LEASE)
    two = join(made.connect("two"), "two")
    settle_on([two], partitions_of(EVENTS, 2))
    paused.process.resume()
    with pytest.raises(FencedError):
        one.commit({ZERO: 1}, [write(RESULTS, [1])])
    assert numbers(log) == [] and log.committed("g", EVENTS) == {}
    settle_on([one, two], partitions_of(EVENTS, 2))
    assert listener.heard("lost") == partitions_of(EVENTS, 2)


@pytest.mark.parametrize("rules", BOTH)
def test_a_member_that_works_keeps_its_partitions_as_long_as_its_stall(rules: Rules) -> None:
    made, clock, _ = world(rules)
    one, two = (join(made.connect(name), name, stall=60 * SECOND) for name in ("one", "two"))
    settle_on([one, two], partitions_of(EVENTS, 2))
    pass_time(clock, 50 * SECOND)
    two.poll(0, 10)
    assert len(two.assignment) == 1
    pass_time(clock, 10 * SECOND + LEASE)
    settle_on([two], partitions_of(EVENTS, 2))


def test_a_member_that_is_paused_in_the_middle_of_a_commit_is_fenced_when_it_wakes() -> None:
    made, clock, log = world()
    paused = made.connect("one")
    one = join(paused, "one")
    settle_on([one], partitions_of(EVENTS, 2))

    def others_go_on(call: Call) -> None:
        if (call.process, call.stage) == ("one", "written"):
            made.on_call(None)
            paused.process.stop()
            pass_time(clock, 2 * LEASE)
            two = join(made.connect("two"), "two")
            settle_on([two], partitions_of(EVENTS, 2))
            two.commit({ZERO: 1}, [write(RESULTS, [2])])
            paused.process.resume()

    made.on_call(others_go_on)
    with pytest.raises(FencedError):
        one.commit({ZERO: 1}, [write(RESULTS, [1])])
    assert numbers(log) == [2]


def test_a_commit_that_takes_longer_than_brokers_keep_it_open_is_aborted() -> None:
    made, clock, log = world()
    one = join(made.connect("one"), "one", stall=HOUR)
    settle_on([one], partitions_of(EVENTS, 2))
    made.on_call(lambda call: pass_time(clock, 11 * SECOND if call.stage == "written" else 0))
    with pytest.raises(FencedError):
        one.commit({ZERO: 1}, [write(RESULTS, [1])])
    made.on_call(None)
    one.commit({ZERO: 1}, [write(RESULTS, [2])])
    assert numbers(log) == [2]


def test_an_append_under_a_fence_is_refused_once_the_next_owner_has_made_one() -> None:
    made, clock, log = world()
    paused = made.connect("one")
    one = join(paused, "one")
    settle_on([one], partitions_of(EVENTS, 2))
    old = Fence("g", ZERO, one.assignment[ZERO])
    paused.append([write(RESULTS, [1])], old)
    paused.process.stop()
    pass_time(clock, 2 * LEASE)
    next_log = made.connect("two")
    two = join(next_log, "two")
    settle_on([two], partitions_of(EVENTS, 2))
    next_log.append([write(RESULTS, [2])], Fence("g", ZERO, two.assignment[ZERO]))
    paused.process.resume()
    with pytest.raises(FencedError):
        paused.append([write(RESULTS, [3])], old)
    assert numbers(log) == [1, 2]


def test_readers_see_a_commit_later_than_who_made_it_and_the_end_is_ahead_of_them() -> None:
    made, clock, log = world(seed=3)
    one = join(log, "one")
    settle_on([one], partitions_of(EVENTS, 2))
    reader = log.consumer(GroupSpec("readers", (RESULTS,), "reader"))
    settle_on([reader], partitions_of(RESULTS, 2))
    made.faults.marker_delay = SECOND
    one.commit({ZERO: 1}, [write(RESULTS, [1])])
    assert log.ends(RESULTS) == [1, 0]
    assert numbers_of(reader.poll(0, 10)) == []
    pass_time(clock, SECOND)
    assert numbers_of(reader.poll(0, 10)) == [1]
    one.commit({ZERO: 2}, [write(RESULTS, [2])])
    # Who restores state waits for it.
    assert numbers(log) == [1, 2]


def test_a_reader_passes_over_what_was_aborted() -> None:
    made, clock, log = world()
    dead_in_commit(made)
    pass_time(clock, 10 * SECOND)
    log.append([write(RESULTS, [4])])
    batches = read_all(log, RESULTS)
    assert (numbers_of(batches), offsets_of(batches)) == ([1, 4], [0, 4])
    reader = log.consumer(GroupSpec("readers", (RESULTS,), "reader"))
    polled = settle_on([reader], partitions_of(RESULTS, 2))
    assert numbers_of(polled) == [1, 4]
    assert positions_of(polled)[TopicPartition(RESULTS, 0)] == 5


def test_a_partition_without_a_leader_gives_nothing_and_takes_nothing() -> None:
    made, clock, log = world()
    log.append([write(EVENTS, [1], 0), write(EVENTS, [2], 1)])
    one = join(log, "one")
    made.faults.leaders_away[ZERO] = clock.steady() + SECOND
    assert numbers_of(settle_on([one], partitions_of(EVENTS, 2))) == [2]
    for call in (lambda: log.append([write(EVENTS, [3])]), lambda: log.read(ZERO, 0, 10), lambda: log.first(ZERO)):
        with pytest.raises(UnavailableError, match="leader"):
            call()
    pass_time(clock, SECOND)
    assert numbers_of(one.poll(0, 10)) == [1]


@pytest.mark.parametrize("rules", BOTH)
def test_nothing_is_written_on_a_full_disk(rules: Rules) -> None:
    made, clock, log = world(rules)
    one = join(log, "one")
    settle_on([one], partitions_of(EVENTS, 2))
    made.faults.full_until = clock.steady() + SECOND
    with pytest.raises(UnavailableError, match="full"):
        log.append([write(RESULTS, [1])])
    with pytest.raises(UnavailableError, match="full"):
        one.commit({ZERO: 1}, [write(RESULTS, [1])])
    assert numbers(log) == [] and log.committed("g", EVENTS) == {}
    made.faults.clear()
    one.commit({ZERO: 1}, [write(RESULTS, [1])])
    assert numbers(log) == [1]


def test_an_answer_is_lost_after_the_work_was_done() -> None:
    made, _, log = world()
    one = join(log, "one")
    settle_on([one], partitions_of(EVENTS, 2))
    made.faults.lost_answers["writer"] = 2
    with pytest.raises(UnavailableError, match="no answer"):
        log.append([write(RESULTS, [1])])
    with pytest.raises(UnavailableError, match="no answer"):
        one.commit({ZERO: 1}, [write(RESULTS, [2])])
    assert numbers(log) == [1, 2] and log.committed("g", EVENTS) == {0: 1}


def test_partitions_that_are_added_are_seen_later_and_read_from_their_beginning() -> None:
    made, clock, log = world()
    reader = join(log, "one", reset="latest")
    settle_on([reader], partitions_of(EVENTS, 2))
    made.add_partitions(EVENTS, 3)
    assert log.topic(EVENTS).partitions == 2
    with pytest.raises(LogError, match="0 to 1, not 2"):
        log.append([write(EVENTS, [1], 2)])
    made.faults.metadata_held["writer"] = clock.steady() + 2 * COUNT_INTERVAL
    pass_time(clock, COUNT_INTERVAL)
    assert log.partition_count(EVENTS) == 2
    pass_time(clock, COUNT_INTERVAL)
    assert log.partition_count(EVENTS) == 3
    log.append([write(EVENTS, [1], 2)])
    assert numbers_of(settle_on([reader], partitions_of(EVENTS, 3))) == [1]


def test_records_that_cannot_be_read_are_rejects_with_their_bytes() -> None:
    _, _, log = world()
    log.append([write(EVENTS, [1])])
    reader = join(log, "one", with_bytes=True)
    [first] = [batch for batch in settle_on([reader], partitions_of(EVENTS, 2)) if len(batch)]
    assert first.keys is not None and first.values is not None
    log.append([EncodedWrite(EVENTS, 0, [first.keys[0], b"poison"], [first.values[0], b"bad"])])
    [batch] = reader.poll(0, 10)
    assert (numbers_of([batch]), offsets_of([batch]), batch.next_offset) == ([1], [1], 3)
    [reject] = batch.rejects
    assert (reject.offset, reject.key, reject.value) == (2, b"poison", b"bad")
    assert numbers_of(read_all(log, EVENTS)) == [1, 1]


@pytest.mark.parametrize("rules", BOTH)
def test_retention_removes_what_nobody_has_read(rules: Rules) -> None:
    made, clock, log = world(rules)
    log.ensure(topic_spec("short", retention=HOUR))
    reader = log.consumer(GroupSpec("g", ("short",), "one", lease=DAY))
    settle_on([reader], partitions_of("short", 1))
    log.append([write("short", range(3))])
    pass_time(clock, 2 * HOUR)
    log.append([write("short", [3])])
    assert made.clean().rows == 3
    assert numbers_of(reader.poll(0, 10)) == [3]
    assert reader.removed == 3


def test_compaction_leaves_what_readers_do_not_see_yet() -> None:
    made, clock, log = world()
    log.ensure(topic_spec("table", compacted=True))
    log.append([write("table", range(4), symbols=["A", "B", "A", "B"])])
    one = join(made.connect("one"), "one")
    settle_on([one], partitions_of(EVENTS, 2))
    kill_at(made, "one", "table")
    with pytest.raises(Killed):
        one.commit({ZERO: 1}, [write("table", [4])])
    assert made.clean().rows == 2
    pass_time(clock, 10 * SECOND)
    assert table_of(read_all(log, "table")) == {"A": 2, "B": 3}


def test_a_time_of_a_producer_that_is_ahead_is_not_believed() -> None:
    made, clock, log = world()
    log.ensure(topic_spec("stamped", append_time=True))
    ahead = made.connect("ahead", ManualClock(clock.now() + HOUR))
    ahead.append([write(EVENTS, [1]), write("stamped", [1])])
    for topic, is_of_log in ((EVENTS, False), ("stamped", True)):
        [batch] = log.read(TopicPartition(topic, 0), 0, 10)
        assert (int(batch.timestamps[0]), batch.has_append_times) == (clock.now(), is_of_log)
    assert int(ahead.read(ZERO, 0, 10)[0].timestamps[0]) == clock.now() + HOUR


# --- Histories -------------------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A process whose member writes what it reads as results; it forgets what is taken from it."""

    log: SimulatedLog
    consumer: Consumer | None = None
    pending: list[Batch] = field(default_factory=list)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Do nothing: the state of a partition is its position."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.pending = [batch for batch in self.pending if TopicPartition(batch.topic, batch.partition) not in partitions]

    lost = revoked

    def poll(self) -> None:
        assert self.consumer is not None
        # Not in one line: the poll may call `revoked`, which makes another list.
        batches = self.consumer.poll(0, 3)
        self.pending += batches

    def commit(self) -> None:
        assert self.consumer is not None
        writes = [Write(RESULTS, batch.partition, batch.records) for batch in self.pending]
        positions, self.pending = positions_of(self.pending), []
        self.consumer.commit(positions, writes)

    def go_back(self) -> None:
        """Read on where the group has committed, since nobody knows what became of a commit."""
        assert self.consumer is not None
        owned = list(self.consumer.assignment)
        self.pending = []
        committed = self.consumer.committed(owned)
        self.consumer.seek({partition: committed.get(partition, 0) for partition in owned})


ACTIONS = ["poll", "poll", "poll", "commit", "commit", "stop", "append", "append", "time", "fault", "leave"]


class History:
    """Processes that come, go, stop and are killed at any point, and a log with every fault that it can have."""

    def __init__(self, rules: Rules, seed: int) -> None:
        self.random = Random(seed)
        self.world, self.clock, self.log = world(rules, seed)
        self.rules = rules
        self.workers: dict[str, Worker] = {}
        self.count = [0, 0]
        self.seen = Counter[str]()
        self.world.on_call(self.kill)

    def kill(self, call: Call) -> None:
        if call.process != "writer" and self.random.random() < (0.03 if call.name == "commit" else 0.01):
            self.seen[f"killed in {call.name}, {call.stage}"] += 1
            raise Killed

    def step(self) -> None:
        name = self.random.choice(["one", "two", "three"])
        action = self.random.choice(
            ["poll", "poll", "poll", "commit", "commit", "stop", "append", "append", "time", "fault", "leave"]
        )
        worker = self.workers.get(name)
        if action == "append":
            self.append(self.random.randrange(2))
        elif action == "time":
            pass_time(self.clock, self.random.choice([MILLISECOND, SECOND, SECOND, 7 * SECOND]))
        elif action == "fault":
            self.fault()
        elif worker is None:
            self.guard(name, lambda: self.join(name))
        elif action == "stop":
            worker.log.process.stop()
        else:
            worker.log.process.resume()
            self.guard(name, {"poll": worker.poll, "commit": worker.commit, "leave": lambda: self.leave(name)}[action])

    def guard(self, name: str, call: Any) -> None:
        """Do something that may fail or end the process."""
        try:
            call()
        except (UnavailableError, FencedError) as error:
            self.seen[type(error).__name__] += 1
            if name in self.workers:
                self.retreat(name)
        except ReplacedError:
            self.seen["replaced"] += 1
            self.end(name)
        except Killed:
            self.end(name)

    def retreat(self, name: str) -> None:
        """Have a worker go back after an error, or end if it cannot."""
        try:
            self.workers[name].go_back()
        except (UnavailableError, Killed):
            self.end(name)

    def end(self, name: str) -> None:
        worker = self.workers.pop(name, None)
        if worker is not None:
            worker.log.process.kill()

    def join(self, name: str) -> None:
        worker = Worker(self.world.connect(name))
        worker.consumer = join(worker.log, name, worker)
        self.workers[name] = worker

    def leave(self, name: str) -> None:
        worker = self.workers.pop(name)
        assert worker.consumer is not None
        try:
            worker.consumer.close()
        finally:
            worker.log.process.kill()

    def append(self, partition: int) -> None:
        for fault in (self.world.faults.leaders_away, self.world.faults.lost_answers):
            fault.clear()
        self.world.faults.full_until = self.world.faults.down_until = 0
        self.log.append([write(EVENTS, [self.count[partition]], partition)])
        self.count[partition] += 1

    def fault(self) -> None:
        faults, later = self.world.faults, self.clock.steady() + self.random.choice([SECOND, 5 * SECOND])
        kind = self.random.randrange(7)
        if kind == 0:
            faults.full_until = later
        elif kind == 1:
            faults.down_until = later
        elif kind == 2:
            faults.leaders_away[TopicPartition(self.random.choice([EVENTS, RESULTS]), self.random.randrange(2))] = later
        elif kind == 3:
            faults.lost_answers[self.random.choice(["one", "two", "three"])] = 1
        elif kind == 4:
            faults.marker_delay = self.random.choice([0, 10 * MILLISECOND, SECOND])
        elif kind == 5:
            faults.fetch_delay = self.random.choice([0.0, 0.5])
        else:
            faults.refused_commits = self.random.choice([0.0, 0.5])

    def finish(self) -> None:
        """Have nothing go wrong any more, and let somebody do what is left to do."""
        self.world.on_call(None)
        self.world.faults.clear()
        for name in list(self.workers):
            self.end(name)
        pass_time(self.clock, 20 * SECOND)
        self.join("one")
        worker = self.workers["one"]
        for _ in range(200):
            worker.poll()
            worker.commit()
            if self.log.committed("g", EVENTS) == dict(enumerate(self.log.ends(EVENTS))):
                break

    def results(self) -> list[list[int]]:
        return [numbers_of(read_all(self.log, RESULTS, partition)) for partition in range(2)]


def play(rules: Rules, seed: int, steps: int = 80) -> History:
    history = History(rules, seed)
    for partition in range(2):
        history.append(partition)
    for _ in range(steps):
        history.step()
    history.finish()
    return history


@pytest.mark.parametrize("rules", BOTH)
def test_whatever_happens_each_record_is_processed_once(rules: Rules) -> None:
    seen = Counter[str]()
    for seed in range(60):
        history = play(rules, seed)
        assert history.results() == [list(range(count)) for count in history.count], f"{rules}, seed {seed}"
        seen += history.seen
    stages = {"embedded": ["commit, before", "commit, after"], "kafka": ["commit, written", "commit, after"]}
    assert all(seen[f"killed in {stage}"] for stage in stages[rules]), seen
    assert seen["UnavailableError"] and seen["FencedError"], seen


@pytest.mark.parametrize("rules", BOTH)
def test_a_seed_gives_the_same_history_again(rules: Rules) -> None:
    first, second = play(rules, 7), play(rules, 7)
    assert (first.seen, first.count, first.clock.now()) == (second.seen, second.count, second.clock.now())
    assert [log.ends(RESULTS) for log in (first.log, second.log)] == [first.log.ends(RESULTS)] * 2


def test_a_group_with_members_is_not_moved() -> None:
    made, clock, log = world()
    one = made.connect("one")
    join(one, "one")
    with pytest.raises(StateError):
        log.set_positions("g", {ZERO: 0})
    one.process.kill()
    pass_time(clock, LEASE)
    log.set_positions("g", {ZERO: 1})
    assert log.committed("g", EVENTS) == {0: 1}
