"""A task whose group has lost its position goes on by the last event of its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.runtime.resuming import LastEvent, resumed_position
from tests.log.building import read_all, topic_spec, write

PARTITION = TopicPartition("events", 0)
GROUP = "kandle-bars"


def log_with(folder: Path, *values: int) -> EmbeddedLog:
    """Return a log with records of these values, one batch each."""
    log = EmbeddedLog(folder)
    log.ensure(topic_spec("events"))
    for value in values:
        log.append([write("events", [value])])
    return log


def last_of(log: EmbeddedLog) -> LastEvent:
    """Return what a state says that holds all records of a log."""
    batch = read_all(log, "events")[-1]
    return LastEvent.of(batch.next_offset, batch)


def test_the_state_goes_on_behind_its_last_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_with(tmp_path, 1, 2)
    last = last_of(log)
    log.append([write("events", [3])])
    assert resumed_position(log, GROUP, PARTITION, last) == 2
    assert "partition 0 of events: the position of the group is gone; the state goes on at offset 2" in caplog.text
    log.close()


@pytest.mark.parametrize("values", [(), (7,), (7, 8, 9)])
def test_a_topic_that_was_created_again_is_read_from_its_beginning(tmp_path: Path, values: tuple[int, ...]) -> None:
    before = log_with(tmp_path / "before", 1, 2)
    after = log_with(tmp_path / "after", *values)
    assert resumed_position(after, GROUP, PARTITION, last_of(before)) == 0
    before.close()
    after.close()


def test_a_state_without_events_goes_on_at_its_position(tmp_path: Path) -> None:
    log = log_with(tmp_path, 1)
    assert resumed_position(log, GROUP, PARTITION, LastEvent(0)) == 0
    log.close()


def test_what_a_state_says_is_read_as_it_was_written() -> None:
    last = LastEvent(4, 3, 17, 5)
    assert LastEvent.from_numbers(last.numbers()) == last
    assert LastEvent.from_numbers({"closed": 1}) is None
