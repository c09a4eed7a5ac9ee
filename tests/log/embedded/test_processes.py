"""Several processes with one embedded log: they see, wake, replace and survive each other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.notification import Waiting
from kandle.log.port import Consumer, GroupSpec, TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND
from tests.log.building import (
    LONG,
    Recorder,
    numbers_of,
    partitions_of,
    poll_until,
    read_all,
    settle,
    settle_on,
    topic_spec,
    write,
)
from tests.log.embedded.processes import Process
from tests.waiting import aside, result_of, wait_for

Start = Callable[..., Process]

LEASE = 400 * MILLISECOND
"""Of members that a test lets die."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(path)
    yield opened
    assert opened.check() == []
    opened.close()


@pytest.fixture
def start(path: Path, log: EmbeddedLog) -> Iterator[Start]:
    started: list[Process] = []

    def process(script: str, *words: object) -> Process:
        started.append(Process(path, script, *words))
        return started[-1]

    yield process
    for running in started:
        running.kill()


def join(log: EmbeddedLog, member: str, lease: int = 10 * MINUTE, listener: Recorder | None = None) -> Consumer:
    return log.consumer(GroupSpec("group", ("topic",), member, lease=lease), listener)


ECHO = """
while line := instruction():
    number = int(line)
    say(numbers_of(read_all(log, "topic")))
    log.append([write("topic", [number])])
    say("done")
"""


def test_two_processes_see_each_others_records_at_once(log: EmbeddedLog, start: Start) -> None:
    log.ensure(topic_spec("topic"))
    other = start(ECHO)
    expected: list[int] = []
    for number in range(0, 20, 2):
        log.append([write("topic", [number])])
        expected.append(number)
        other.tell(number + 1)
        assert other.heard() == str(expected)
        assert other.heard() == "done"
        expected.append(number + 1)
        assert numbers_of(read_all(log, "topic")) == expected


def test_a_topic_that_another_process_made_or_widened_is_known(log: EmbeddedLog, start: Start) -> None:
    other = start(
        """
from tests.log.contract_topics import VENUE
log.ensure(topic_spec("topic"))
say("made")
instruction()
log.ensure(topic_spec("topic", columns=(*COLUMNS, VENUE)))
say("widened")
"""
    )
    assert other.heard() == "made"
    log.append([write("topic", [1])])
    assert numbers_of(read_all(log, "topic")) == [1]
    other.tell("go on")
    assert other.heard() == "widened"
    (batch,) = read_all(log, "topic")
    assert batch.records.frame.columns == ["symbol", "number", "time", "venue"]


WAITER = """
consumer = log.consumer(GroupSpec("group", ("topic",), "other", lease=LONG))
settle([consumer], lambda: len(consumer.assignment) == 1)
while True:
    say("waiting")
    batches = consumer.poll(LONG, 10)
    say(numbers_of(batches))
    log.append([write("answers", numbers_of(batches))])
"""


def test_a_reader_in_another_process_wakes_when_a_batch_is_committed(log: EmbeddedLog, start: Start) -> None:
    for topic in ("topic", "answers"):
        log.ensure(topic_spec(topic))
    other = start(WAITER)
    for number in range(3):
        assert other.heard() == "waiting"
        SystemClock().pause(700 * MILLISECOND if number == 2 else 50 * MILLISECOND)
        log.append([write("topic", [number])])
        assert other.heard() == str([number])


WITHOUT_LOOKING = """
import kandle.log.embedded.consumer
kandle.log.embedded.consumer.LONGEST_WAIT = LONG
"""


WITHOUT_PIPES = """
import os, select
log.close()
del os.mkfifo, select.poll
sys.modules["fcntl"] = None
log = EmbeddedLog(Path(path))
"""
"""A system that has neither named pipes nor locks of files."""


@pytest.mark.parametrize(
    ("waiting", "system"), [("pipe", ""), ("pipe", WITHOUT_PIPES), ("poll", WITHOUT_PIPES)], ids=["pipes", "mixed", "polling"]
)
def test_two_processes_that_wait_for_each_other_take_turns_hundreds_of_times(
    log: EmbeddedLog, path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, waiting: Waiting, system: str
) -> None:
    """Neither looks without being told whether there is something new, so that each turn needs a notification."""
    monkeypatch.setattr("kandle.log.embedded.consumer.LONGEST_WAIT", LONG)
    for topic in ("topic", "answers"):
        log.ensure(topic_spec(topic))
    other = start(system + WITHOUT_LOOKING + WAITER)
    assert other.heard() == "waiting"
    own = EmbeddedLog(path, waiting=waiting)
    consumer = own.consumer(GroupSpec("answers", ("answers",), "one", lease=LONG))
    settle_on([consumer], partitions_of("answers", 1))
    for number in range(300):
        own.append([write("topic", [number])])
        assert numbers_of(result_of(aside(lambda: consumer.poll(LONG, 10)), f"the turn after {number}")) == [number]
    consumer.close()
    own.close()


def test_records_of_a_commit_wake_a_reader_in_another_process(log: EmbeddedLog, start: Start) -> None:
    for topic in ("topic", "answers", "source"):
        log.ensure(topic_spec(topic))
    other = start(WAITER)
    assert other.heard() == "waiting"
    consumer = log.consumer(GroupSpec("source", ("source",), "one", lease=10 * MINUTE))
    partition = TopicPartition("source", 0)
    settle_on([consumer], [partition])
    consumer.commit({partition: 0}, [write("topic", [7])])
    assert other.heard() == "[7]"
    consumer.close()


MEMBER = """
listener = Recorder("other")
consumer = log.consumer(GroupSpec("group", ("topic",), "other", lease=int(words[0])), listener)
while line := instruction():
    try:
        if line == "poll":
            say(numbers_of(consumer.poll(10_000, 100)))
        elif line == "join":
            settle([consumer], lambda: len(consumer.assignment) > 0)
            fences = [Fence("group", partition, epoch) for partition, epoch in consumer.assignment.items()]
            say(len(consumer.assignment))
        elif line == "commit":
            consumer.commit(dict.fromkeys(consumer.assignment, 3), [write("results", [1])])
            say("committed")
        elif line == "append":
            log.append([write("results", [2])], fences[0])
            say("appended")
        elif line == "lost":
            say(len(listener.heard("lost")))
        elif line == "wait":
            say(numbers_of(consumer.poll(LONG, 100)))
        elif line == "close":
            consumer.close()
            say("closed")
    except FencedError as error:
        say("fenced", error)
"""


def test_members_in_two_processes_share_and_hand_over_at_once(log: EmbeddedLog, start: Start) -> None:
    log.ensure(topic_spec("topic", partitions=2))
    other = start(MEMBER, 10 * MINUTE)
    other.tell("join")
    assert other.heard() == "2"
    other.tell("wait")
    consumer = join(log, "one")
    settle([consumer], lambda: len(consumer.assignment) == 1)
    (mine,) = consumer.assignment
    theirs = TopicPartition("topic", 1 - mine.partition)
    log.append([write("topic", [5], theirs.partition)])
    assert other.heard() == "[5]"
    other.tell("close")
    assert other.heard() == "closed"
    assert numbers_of(poll_until(consumer, 1, timeout=LONG)) == [5]
    assert set(consumer.assignment) == {mine, theirs}
    consumer.close()


def test_another_takes_over_from_a_process_that_was_killed(log: EmbeddedLog, start: Start) -> None:
    log.ensure(topic_spec("topic"))
    log.append([write("topic", range(3))])
    other = start(MEMBER, LEASE)
    other.tell("join")
    assert other.heard() == "1"
    listener = Recorder("one")
    consumer = join(log, "one", LEASE, listener)
    assert consumer.poll(0, 10) == []
    other.kill()
    assert numbers_of(poll_until(consumer, 3)) == [0, 1, 2]
    assert listener.heard("assigned") == partitions_of("topic", 1)
    (state,) = log.groups()
    assert set(state.owners.values()) == {"one"}
    consumer.close()


def test_a_process_that_is_alive_but_quiet_in_a_poll_keeps_its_partitions(log: EmbeddedLog, start: Start) -> None:
    log.ensure(topic_spec("topic"))
    other = start(MEMBER, 3 * SECOND)
    other.tell("join")
    assert other.heard() == "1"
    other.tell("wait")
    consumer = join(log, "one", lease=3 * SECOND)
    until = SystemClock().steady() + 4 * SECOND
    settle([consumer], lambda: SystemClock().steady() >= until)
    assert consumer.assignment == {}
    log.append([write("topic", [1])])
    assert other.heard() == "[1]"
    consumer.close()


@pytest.mark.parametrize("first", ["commit", "append"])
def test_a_process_that_was_frozen_past_its_lease_writes_nothing_when_it_comes_back(
    log: EmbeddedLog, start: Start, first: str
) -> None:
    """
    other   owns ... | frozen ................... | commit: fenced
    one              | lease over, takes over     |
    """
    log.ensure(topic_spec("topic"))
    log.ensure(topic_spec("results"))
    log.append([write("topic", range(3))])
    other = start(MEMBER, LEASE)
    other.tell("join")
    assert other.heard() == "1"
    consumer = join(log, "one", lease=LEASE)
    other.send(SIGSTOP)
    settle_on([consumer], partitions_of("topic", 1))
    consumer.commit({TopicPartition("topic", 0): 2}, [write("results", [9])])
    other.send(SIGCONT)
    other.tell(first)
    assert other.heard().startswith("fenced")
    assert log.committed("group", "topic") == {0: 2}
    assert numbers_of(read_all(log, "results")) == [9]
    other.tell("poll")
    other.heard()
    other.tell("lost")
    assert other.heard() == "1"
    consumer.close()


WRITER = """
from tests.log.embedded.test_processes import size_of
partition = int(words[0])
begun = len(offsets_of(read_all(log, "counts", partition)))
first = log.ends("topic")[partition]
say(first)
for number in range(begun, 1_000_000):
    numbers = range(first, first + size_of(number))
    log.append([write("topic", numbers, partition), write("copies", numbers, partition), write("counts", [number], partition)])
    first += len(numbers)
    say(first)
"""


def size_of(number: int) -> int:
    """How many rows the append of this number has."""
    return 1500 if number % 10 == 9 else 1 + number % 7


def test_killing_writers_at_any_moment_loses_nothing_acknowledged_and_keeps_no_half(
    log: EmbeddedLog, start: Start, path: Path
) -> None:
    """Writers say how far they are after every append, and are killed somewhere in one; then others go on."""
    chance, writers = random.Random(20240301), 5
    for topic in ("topic", "copies", "counts"):
        log.ensure(topic_spec(topic, partitions=writers))
    acknowledged = [0] * writers
    for _ in range(2):
        started = [start(WRITER, partition) for partition in range(writers)]
        for writer in started:
            writer.heard()
        for partition in chance.sample(range(writers), writers):
            SystemClock().pause(chance.randrange(40 * MILLISECOND))
            said = [int(line) for line in started[partition].kill() if line]
            acknowledged[partition] = max([acknowledged[partition], *said[:-1]])
        reopened = EmbeddedLog(path)
        assert reopened.check() == []
        for partition in range(writers):
            kept = numbers_of(read_all(reopened, "topic", partition))
            appends = numbers_of(read_all(reopened, "counts", partition))
            assert appends == list(range(len(appends)))
            assert kept == list(range(sum(size_of(number) for number in appends)))
            assert numbers_of(read_all(reopened, "copies", partition)) == kept
            assert len(kept) >= acknowledged[partition]
        reopened.close()
    assert all(acknowledged)


WORKER = """
while True:
    consumer = log.consumer(GroupSpec("group", ("topic",), words[0], lease=int(words[1])))
    try:
        while True:
            batches = consumer.poll(100_000, 5)
            if batches:
                results = [Write("results", batch.partition, batch.records) for batch in batches]
                consumer.commit(positions_of(batches), results)
    except FencedError:
        consumer.close()
"""


def wait_for_results(log: EmbeddedLog, least: int) -> None:
    wait_for(lambda: sum(log.ends("results")), lambda results: results >= least, f"{least} results")


def test_workers_that_are_killed_and_replaced_process_each_record_once(log: EmbeddedLog, start: Start) -> None:
    """One of two workers is killed somewhere in its work, three times."""
    chance = random.Random(1)
    for topic in ("topic", "results"):
        log.ensure(topic_spec(topic, partitions=3))
    workers = {name: start(WORKER, name, LEASE) for name in ("a", "b")}
    count = 0
    for killed in ("a", "b", "a"):
        for _ in range(200):
            log.append([write("topic", [count], count % 3)])
            count += 1
        wait_for_results(log, count - 149)
        SystemClock().pause(chance.randrange(20 * MILLISECOND))
        workers[killed].kill()
        workers[killed] = start(WORKER, killed, LEASE)
    wait_for_results(log, count)
    for partition in range(3):
        assert numbers_of(read_all(log, "results", partition)) == list(range(partition, count, 3))


def test_a_killed_reader_does_not_hold_up_writers(log: EmbeddedLog, start: Start) -> None:
    for topic in ("topic", "answers"):
        log.ensure(topic_spec(topic))
    other = start(WAITER)
    assert other.heard() == "waiting"
    log.append([write("topic", [1])])
    assert other.heard() == "[1]"
    other.kill()
    assert [log.append([write("topic", [number])]) for number in (2, 3)] == [[1], [2]]


def test_a_reader_that_does_not_listen_does_not_hold_up_writers(log: EmbeddedLog, start: Start, path: Path) -> None:
    """Its pipe takes no more rings when some 65,536 have not been heard."""
    for topic in ("topic", "answers"):
        log.ensure(topic_spec(topic))
    other = start(WAITER)
    assert other.heard() == "waiting"
    other.send(SIGSTOP)
    log.append([write("topic", [1])])
    for bell in (path / "bells").iterdir():
        pipe = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, bytes(4096))
        os.close(pipe)
    for number in (2, 3):
        log.append([write("topic", [number])])
    other.send(SIGCONT)
    assert other.heard() == "[1, 2, 3]"
