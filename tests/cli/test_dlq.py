"""The commands `kandle dlq` and `kandle groups` on the embedded log."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kandle.cli.log_checks import group_findings
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.letters import LetterBox
from kandle.log.port import GroupSpec, TopicPartition
from kandle.plan.topics import changelog_topic
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, to_instant
from tests.cli.commands import Here
from tests.cli.logs import NOON, readings_log, write
from tests.log.building import read_all


class OutOfStockError(Exception):
    """An error of a handler."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """Five readings, of which three are dead letters: two, and an hour later another one."""
    clock = ManualClock(to_instant(NOON))
    log = readings_log(tmp_path / "data", clock)
    box = LetterBox(log, "readings", "market-readings", clock)
    [first] = read_all(log, "readings", 0)
    [second] = read_all(log, "readings", 1)
    box.add(first, 0, OutOfStockError("no more\x1b of it"), attempts=3)
    box.add(first, 2, ValueError("wrong"))
    _commit(log, box, 0)
    clock.jump(to_instant(NOON) + HOUR)
    box.add(second, 0, ValueError("also wrong"))
    _commit(log, box, 1)
    yield log
    log.close()


def _commit(log: EmbeddedLog, box: LetterBox, partition: int) -> None:
    positions = {TopicPartition("readings", partition): 3}
    log.append(box.writes(positions))
    box.committed(positions)


@pytest.fixture
def data(log: EmbeddedLog, tmp_path: Path) -> str:
    return str(tmp_path / "data")


def test_topics_of_dead_letters_are_listed_with_their_errors(here: Here, data: str) -> None:
    head, row = here.output("dlq", "list", "--data", data)
    assert head.split() == ["topic", "letters", "newest", "classes"]
    assert row.split() == [
        "readings_dlq",
        "3",
        "2024-03-08T13:00:00.000Z",
        "2",
        "ValueError,",
        "1",
        f"{__name__}.OutOfStockError",
    ]
    (line,) = here.output("dlq", "list", "--data", data, "--json")
    assert json.loads(line)["classes"] == {"ValueError": 2, f"{__name__}.OutOfStockError": 1}


def test_letters_are_listed_newest_last_and_without_escape_codes(here: Here, data: str) -> None:
    head, *rows = here.output("dlq", "list", "readings", "--data", data)
    assert head.split() == ["letter", "written", "state", "kind", "partition", "offset", "key", "class", "error"]
    assert [row.split()[0] for row in rows] == ["0:0", "0:1", "1:0"]
    assert rows[0].split()[2:7] == ["open", "handler", "0", "0", "m1"] and rows[0].endswith(r"no more\x1b of it")
    assert here.output("dlq", "list", "readings_dlq", "--data", data)[1:] == rows


@pytest.mark.parametrize(
    ("options", "letters"),
    [
        (["--error-class", "ValueError"], ["0:1", "1:0"]),
        (["--error-class", "OutOfStockError"], ["0:0"]),
        (["--since", "2024-03-08T12:30Z"], ["1:0"]),
        (["--until", "2024-03-08T12:30Z", "--partition", "0"], ["0:0", "0:1"]),
        (["--key", "m2"], ["1:0"]),
        (["--kind", "bar"], []),
        (["--group", "market-readings", "-n", "9"], ["0:0", "0:1", "1:0"]),
    ],
)
def test_letters_are_filtered(here: Here, data: str, options: list[str], letters: list[str]) -> None:
    rows = here.output("dlq", "list", "readings", "--data", data, *options)[1:]
    assert [row.split()[0] for row in rows] == letters


def test_the_tail_of_a_topic_of_letters_can_be_read(here: Here, data: str) -> None:
    head, first, *_ = here.output("topics", "tail", "readings_dlq", "--data", data)
    assert head.split()[3:] == ["kind", "record", "key", "error_class", "error", "payload", "headers"]
    assert first.split()[3:6] == ["handler", "readings/0/0", '{"meter":']
    assert first.endswith("source=a b")


def test_one_letter_is_shown_with_record_and_traceback(here: Here, data: str) -> None:
    page = "\n".join(here.output("dlq", "show", "readings", "0:0", "--data", data))
    for text in (
        "error class   tests.cli.test_dlq.OutOfStockError",
        "attempts      3",
        "headers       source=a b",
        '"value": "1.50"',
    ):
        assert text in page
    (line,) = here.output("dlq", "show", "readings", "0:0", "--data", data, "--json")
    letter = json.loads(line)
    assert (letter["topic"], letter["offset"], letter["key"], letter["headers"]) == ("readings", 0, ["m1"], [["source", "a b"]])
    assert "OutOfStockError: no more\x1b of it" in letter["traceback"]
    assert here.failure("dlq", "show", "readings", "0:7", "--data", data).startswith("topic readings_dlq has no letter 0:7")
    assert "write PARTITION:OFFSET" in here.failure("dlq", "show", "readings", "7", "--data", data)


def test_letters_are_replayed_once_and_after_a_question_only(here: Here, log: EmbeddedLog, data: str) -> None:
    asked = here.failure("dlq", "replay", "readings", "--data", data)
    assert asked == "this would replay 3 letters of readings_dlq into their topic; add --yes, since there is nobody to ask"
    assert here.output("dlq", "replay", "readings", "--letter", "0:1", "--yes", "--data", data) == ["1 replayed"]
    assert log.ends("readings") == [4, 2]
    assert here.output("dlq", "replay", "readings", "--yes", "--data", data) == ["2 replayed"]
    assert here.output("dlq", "replay", "readings", "--yes", "--data", data) == ["0 replayed"]
    assert log.ends("readings") == [5, 3]
    states = [row.split()[2] for row in here.output("dlq", "list", "readings", "--all", "--data", data)[1:]]
    assert states == ["replayed"] * 3


HANDLING = """
seen = []


def handle(reading):
    if reading.meter == "m2":
        raise LookupError(reading.meter)
    seen.append(reading.value)
"""


def test_a_function_is_called_with_the_objects_of_letters(here: Here, log: EmbeddedLog, data: str) -> None:
    Path("kandle.toml").write_text('context = "tests.cli.declared:Meters"\n')
    Path("handling.py").write_text(HANDLING)
    replay = ("dlq", "replay", "readings", "--handler", "handling:handle", "--yes", "--data", data)
    done, out, errors = here.run(*replay)
    assert (done, out) == (2, "2 replayed\n")
    assert "letter 1:0 is left as it is: the handler has failed again: LookupError: m2" in errors
    assert [str(value) for value in importlib.import_module("handling").seen] == ["1.50", "-0.01"]
    assert log.ends("readings") == [3, 2]
    assert "did you mean 'handle'?" in here.failure(
        "dlq", "replay", "readings", "--handler", "handling:hande", "--yes", "--data", data
    )


def test_letters_are_dropped(here: Here, data: str) -> None:
    assert "this would drop 2 letters" in here.failure("dlq", "drop", "readings", "--error-class", "ValueError", "--data", data)
    done = here.output("dlq", "drop", "readings", "--error-class", "ValueError", "--yes", "--json", "--data", data)
    assert [json.loads(line) for line in done] == [{"dropped": 2, "refused": []}]
    assert [row.split()[0] for row in here.output("dlq", "list", "readings", "--data", data)[1:]] == ["0:0"]


def test_what_is_wrong_with_the_arguments_is_named(here: Here, data: str) -> None:
    assert "there are no dead letters of reading; did you mean 'readings_dlq'?" in here.failure(
        "dlq", "list", "reading", "--data", data
    )
    assert "did you mean 'handler'?" in here.failure("dlq", "list", "readings", "--kind", "handle", "--data", data)
    assert here.output("dlq") == here.output("dlq", "--help")
    for command in ("list", "show", "replay", "drop"):
        assert any("Example: kandle dlq" in line for line in here.output("dlq", command, "--help"))


@pytest.fixture
def live(log: EmbeddedLog, data: str) -> Iterator[EmbeddedLog]:
    """The same log with the clock of the system, by which leases count for the commands."""
    live = EmbeddedLog(Path(data))
    yield live
    live.close()


def test_groups_are_listed_and_described(here: Here, live: EmbeddedLog, data: str) -> None:
    consumer = live.consumer(GroupSpec("market-readings", ("readings",), "one"))
    consumer.poll(0, 10)
    consumer.commit({TopicPartition("readings", 0): 2})
    head, row = here.output("groups", "list", "market", "--data", data)
    assert head.split() == ["group", "kind", "state", "topics", "lag"]
    assert row.split() == ["market-readings", "readers", "active", "readings", "1"]
    title, _, first, second = here.output("groups", "describe", "market-readings", "--data", data)
    assert title == "market-readings: readers, active"
    assert first.split() == ["readings", "0", "2", "3", "1", "one"]
    assert second.split() == ["readings", "1", "2", "one"]
    (line,) = here.output("groups", "describe", "market-readings", "--data", data, "--json")
    assert json.loads(line)["partitions"][0]["lag"] == 1
    assert "did you mean 'market-readings'?" in here.failure("groups", "describe", "market-reading", "--data", data)
    consumer.close()
    assert here.output("groups", "list", "market", "--data", data)[1].split()[2:4] == ["no", "members"]


def test_who_replays_letters_has_those_before_him_that_are_open(here: Here, log: EmbeddedLog, data: str) -> None:
    group = "kandle-readings_dlq"
    here.output("dlq", "replay", "readings", "--error-class", "OutOfStockError", "--yes", "--data", data)
    row = here.output("groups", "list", group, "--data", data)[1]
    assert row.split() == [group, "replays", "of", "readings_dlq", "no", "members", "readings_dlq", "2"]
    [(finding, advice)] = [(line.message, line.advice) for line in group_findings(log) if group in line.message]
    assert finding == f"group {group}: no members, 2 partitions, lag 2 records" and "kandle dlq list readings_dlq" in advice
    here.output("dlq", "drop", "readings", "--yes", "--data", data)
    (line,) = here.output("groups", "describe", group, "--data", data, "--json")
    assert json.loads(line)["lag"] == 0
    assert [part["lag"] for part in json.loads(line)["partitions"]] == [0, 0]
    assert log.ends("readings_dlq")[0] > 2


def test_positions_are_moved(here: Here, log: EmbeddedLog, data: str) -> None:
    log.set_positions("market-readings", {TopicPartition("readings", 0): 2, TopicPartition("readings", 1): 1})
    reset = ("groups", "reset", "market-readings", "--data", data)
    assert "add --yes" in here.run(*reset, "--to", "earliest")[2]
    assert log.committed("market-readings", "readings") == {0: 2, 1: 1}
    here.output(*reset, "--to", "earliest", "--yes")
    assert log.committed("market-readings", "readings") == {0: 0, 1: 0}
    here.output(*reset, "--to", "latest", "--yes")
    assert log.committed("market-readings", "readings") == {0: 3, 1: 2}
    _, row = here.output(*reset, "--to", "1", "--partition", "1", "--yes")
    assert row.split() == ["readings", "1", "2", "1"]
    log.append([write(0, ["m7"], [7])])
    here.output(*reset, "--to", "2024-03-08T12:30Z", "--yes")
    assert log.committed("market-readings", "readings") == {0: 3, 1: 2}
    here.output("groups", "reset", "new", "--to", "2024-03-08", "--topic", "readings", "--yes", "--data", data)
    assert log.committed("new", "readings") == {0: 0, 1: 0}
    assert "write earliest, latest, an offset, or a time" in here.failure(*reset, "--to", "later", "--yes")
    assert "has offsets 0 to 4" in here.failure(*reset, "--to", "7", "--partition", "0", "--yes")


def test_positions_of_queries_and_of_groups_with_members_are_not_moved(here: Here, live: EmbeddedLog, data: str) -> None:
    log = live
    log.ensure(changelog_topic("bars_changelog", 1))
    log.set_positions("kandle-bars", {TopicPartition("readings", 0): 2})
    refused = here.failure("groups", "reset", "kandle-bars", "--to", "earliest", "--yes", "--data", data)
    assert "is the group of the query that makes bars" in refused and "kandle run --replace bars" in refused
    assert here.output("groups", "list", "kandle-bars", "--data", data)[1].split()[1:4] == ["query", "of", "bars"]
    consumer = log.consumer(GroupSpec("market-readings", ("readings",), "one"))
    consumer.poll(0, 10)
    refused = here.failure(
        "groups", "reset", "market-readings", "--to", "earliest", "--topic", "readings", "--yes", "--data", data
    )
    assert refused.startswith("group market-readings has members")
    consumer.close()
