"""Kill processes that replay dead letters, at random for a while: each letter is in the topic of its record exactly once.

python -m tests.soak.letters --seconds 120 --seed 1
python -m tests.soak.letters --seconds 60 --log kafka

Letters come all the time: most hold a record that can be read, and each tenth one bytes that nobody can. Two processes replay
them. Every one to three seconds one of the two is killed (SIGKILL) and comes back under its name, at once or after a while.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kandle.context.context import state_of
from kandle.log.headers import HeaderPairs, raw_header_rows
from kandle.log.letters import Letter, LetterKind, letter_write, letters_of_topic
from kandle.log.port import Log, TopicPartition
from kandle.model.texts import json_row
from kandle.plan.topics import TopicSpec
from kandle.serde.port import column_fields
from kandle.sets.replaying import LETTER_HEADER, ORIGIN_HEADER
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, to_instant
from tests.log.building import read_all
from tests.sets.consumed import NOON, Work
from tests.soak.consuming import KEYS, PARTITIONS, Consuming, consumers
from tests.waiting import wait_until
from tools.kafka.cluster import Cluster

TORN = 10
"""Each letter of a number that this divides holds bytes that are no job."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out.

    Attributes:
        letters: How many letters there were.
        kills: How many processes were killed.
        missing: Numbers of letters that are not in the topic.
        again: Numbers that are in it more than once.
        changed: Numbers whose record has another content, headers or place than it had.
        marks: How many marks say that a letter was replayed.
    """

    letters: int
    kills: int
    missing: list[int]
    again: list[int]
    changed: list[int]
    marks: int

    def __str__(self) -> str:
        return (
            f"{self.letters} letters, {self.kills} kills: {len(self.missing)} missing, {len(self.again)} written again, "
            f"{len(self.changed)} changed, {self.marks} marks"
        )


def is_torn(number: int) -> bool:
    """Return whether the letter of this number holds bytes that are no job."""
    return number % TORN == 0


def source_of(number: int) -> TopicPartition:
    """Return the partition from which the record of a letter came."""
    return TopicPartition("jobs", number % PARTITIONS)


def letter_of(number: int, jobs: TopicSpec) -> Letter:
    """Return the letter of this number, which is also the offset that its record had."""
    headers = [("trace", str(number).encode()), ("trace", b"\xff"), ("none", None)]
    if is_torn(number):
        key, payload = b"\xff", b"\x00torn %d" % number
        return Letter(LetterKind.UNREADABLE, number, "torn", key=key, payload=payload, headers=headers, is_json=False)
    fields = column_fields(jobs.columns)
    row = {"id": KEYS[number % len(KEYS)], "number": number, "time": to_instant(NOON)}
    key, payload = json_row([field for field in fields if field.name in jobs.keys], row), json_row(fields, row)
    return Letter(LetterKind.HANDLER, number, "bad", key=key, payload=payload, headers=headers, is_json=True)


def add_letters(log: Log, begin: int, end: int) -> None:
    """Write the letters of these numbers."""
    jobs = log.topic("jobs")
    spec = log.ensure(letters_of_topic(jobs)).spec
    for first in range(begin, min(end, begin + PARTITIONS)):
        letters = [letter_of(number, jobs) for number in range(first, end, PARTITIONS)]
        log.append([letter_write(spec, source_of(first), letters)])


def replayed(log: Log) -> Iterator[tuple[TopicPartition, object, HeaderPairs]]:
    """Yield partition, number or bytes, and headers of each record of the topic."""
    for number in range(PARTITIONS):
        partition = TopicPartition("jobs", number)
        for batch in read_all(log, *partition):
            rows = zip(batch.records.frame["number"], raw_header_rows(batch.records), strict=True)
            yield from ((partition, value, headers) for value, headers in rows)
            yield from ((partition, (reject.key, reject.value), tuple(reject.headers)) for reject in batch.rejects)


def compared(log: Log, count: int, kills: int) -> Replayed:
    """Return what has become of so many letters."""
    jobs = log.topic("jobs")
    copies: Counter[int] = Counter()
    changed = []
    for partition, content, headers in replayed(log):
        origin = dict(headers)[ORIGIN_HEADER]
        assert origin is not None
        number = int(origin.rsplit(b"/", 1)[1])
        letter = letter_of(number, jobs)
        wanted = (letter.key, letter.payload) if is_torn(number) else number
        kept = tuple(pair for pair in headers if pair[0] not in (LETTER_HEADER, ORIGIN_HEADER))
        if (partition, content, kept) != (source_of(number), wanted, tuple(letter.headers)):
            changed.append(number)
        copies[number] += 1
    marks = sum(
        int((batch.records.frame["kind"] == LetterKind.REPLAYED.value).sum())
        for number in range(PARTITIONS)
        for batch in read_all(log, "jobs_dlq", number)
    )
    missing = [number for number in range(count) if not copies[number]]
    return Replayed(count, kills, missing, [number for number, times in copies.items() if times > 1], changed, marks)


def run_letters(run: Consuming, folder: Path) -> Replayed:
    """Kill for a while, then wait until all letters are replayed.

    Args:
        run: What to run; its rate is that of letters.
        folder: A folder of its own.

    Returns:
        What came out.
    """
    clock = SystemClock()
    with Work.open(**run.options(folder)) as work, consumers(run, folder) as them:
        log = state_of(work).log
        for number in range(run.consumers):
            them.start(f"replayer{number}")
        begun = clock.steady()
        until, kill_at, added = begun + round(run.seconds * SECOND), them.next_kill(begun), 0
        while (now := clock.steady()) < until:
            due = (now - begun) * run.rate // SECOND
            add_letters(log, added, due)
            added = max(added, due)
            if now >= kill_at:
                them.kill_one(now)
                kill_at = them.next_kill(now)
            them.bring_back(now)
            them.check()
            clock.pause(50 * MILLISECOND)
        them.bring_back(2**62)
        wait_until(lambda: not work.jobs.dead_letters().count(), "the end of all letters", check=them.check, pause=0.5)
        them.stop()
        return compared(log, added, them.kills)


def check(outcome: Replayed) -> None:
    """Raise AssertionError if something is not as promised."""
    assert outcome.kills > 0
    assert not outcome.missing, outcome
    assert not outcome.again, outcome
    assert not outcome.changed, outcome
    assert outcome.marks == outcome.letters, outcome


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", choices=["embedded", "kafka"], default="embedded")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster()) if given.log == "kafka" else None
        outcome = run_letters(Consuming(given.seconds, given.seed, "replay", cluster=cluster), folder)
        print(outcome)
        check(outcome)


if __name__ == "__main__":
    main()
