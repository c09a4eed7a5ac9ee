"""Dead letters of consumers: what they hold, when they are written, and how many."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.headers import header_column, raw_header_rows
from kandle.log.letters import LONGEST_ERROR, LONGEST_TRACEBACK, LetterBox, LetterRate, letters_of_topic
from kandle.log.port import TopicPartition
from kandle.log.records import Batch, Records, RejectedRecord, Write
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.timeframe import MINUTE
from tests.log.building import INSTANT, MovedClock, drop_topic, read_all, records, topic_spec, write

SOURCE = TopicPartition("ticks", 1)


class OutOfStockError(Exception):
    """An error of a user's handler."""


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.ensure(topic_spec("ticks", partitions=2))
    yield log
    log.close()


def ticks(log: EmbeddedLog, count: int) -> Batch:
    """Append and read so many records with a header each."""
    headers = header_column([[("n", str(number)), ("raw", b"\xff")] for number in range(count)])
    log.append([Write(*SOURCE, Records(records(range(count)).frame, headers))])
    [batch] = read_all(log, *SOURCE)
    return batch


def raised(error: Exception) -> Exception:
    """Return an error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def rows(log: EmbeddedLog) -> list[dict[str, Any]]:
    """Return all letters."""
    return [row for part in (0, 1) for batch in read_all(log, "ticks_dlq", part) for row in batch.records.frame.rows(named=True)]


def commit(log: EmbeddedLog, box: LetterBox, position: int) -> None:
    log.append(box.writes({SOURCE: position}))
    box.committed({SOURCE: position})


def test_a_letter_says_what_was_wrong_with_which_record(log: EmbeddedLog) -> None:
    counts: Counter[str] = Counter()
    box = LetterBox(log, "ticks", "app-ticks", log.clock, counts=counts)
    batch = ticks(log, 3)
    box.add(batch, 1, raised(OutOfStockError("none left")), attempts=4)
    commit(log, box, 2)
    [letter] = rows(log)
    assert (letter["topic"], letter["partition"], letter["offset"], letter["kind"]) == ("ticks", 1, 1, "handler")
    assert (letter["error"], letter["error_class"]) == ("none left", f"{__name__}.OutOfStockError")
    assert (letter["attempts"], letter["group"], letter["is_json"]) == (4, "app-ticks", True)
    assert "raise error" in letter["traceback"] and letter["traceback"].endswith("OutOfStockError: none left\n")
    assert json.loads(letter["key"]) == {"symbol": "A"}
    assert json.loads(letter["payload"]) == {"symbol": "A", "number": 1, "time": "2024-03-01 00:00:01+00:00"}
    [read] = read_all(log, "ticks_dlq", 1)
    assert raw_header_rows(read.records) == [(("n", b"1"), ("raw", b"\xff"))]
    assert counts == {"ticks_dlq": 1}


def test_the_bytes_of_a_record_are_its_payload_where_the_log_has_them(log: EmbeddedLog) -> None:
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    whole = ticks(log, 2)
    batch = Batch(*SOURCE, whole.offsets, whole.timestamps, whole.records, keys=[b"k", None], values=[b"\x00", None])
    box.add(batch.slice(1), 0, raised(ValueError("no")))
    box.add(batch, 0, raised(ValueError()))
    box.add_reject(SOURCE, RejectedRecord(2, b"k2", b"torn", "it is cut off", 7, (("h", None),)))
    commit(log, box, 3)
    letters = [(row["offset"], row["key"], row["payload"], row["is_json"], row["error"], row["error_class"]) for row in rows(log)]
    assert letters == [
        (1, None, None, False, "no", "ValueError"),
        (0, b"k", b"\x00", False, "ValueError", "ValueError"),
        (2, b"k2", b"torn", False, "it is cut off", "DataError"),
    ]


def test_errors_and_tracebacks_are_bounded(log: EmbeddedLog) -> None:
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    box.add(ticks(log, 1), 0, raised(ValueError("x" * 100_000)))
    commit(log, box, 1)
    [letter] = rows(log)
    assert (len(letter["error"]), len(letter["traceback"])) == (LONGEST_ERROR, LONGEST_TRACEBACK)


def test_a_letter_is_written_with_the_commit_that_goes_past_its_record(log: EmbeddedLog) -> None:
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    batch = ticks(log, 3)
    for row in range(3):
        box.add(batch, row, raised(ValueError(str(row))))
    assert box.writes({SOURCE: 0}) == [] == box.writes({TopicPartition("ticks", 0): 9})
    commit(log, box, 1)
    commit(log, box, 1)
    assert [row["offset"] for row in rows(log)] == [0]
    commit(log, box, 2)
    box.forget([SOURCE])
    commit(log, box, 3)
    assert [row["offset"] for row in rows(log)] == [0, 1]


def test_letters_beyond_a_rate_are_counted_and_summed_up(log: EmbeddedLog) -> None:
    clock = MovedClock()
    counts: Counter[str] = Counter()
    box = LetterBox(log, "ticks", "app-ticks", clock, LetterRate(2, MINUTE), counts)
    batch = ticks(log, 9)
    for row in (0, 1, 2, 3, 5, 6):
        box.add(batch, row, raised(ValueError(f"bad {row}")))
    commit(log, box, 6)
    *letters, summary = rows(log)
    assert [letter["offset"] for letter in letters] == [0, 1]
    assert (summary["kind"], summary["offset"], summary["count"]) == ("left out", 2, 3)
    assert json.loads(summary["payload"]) == {"offsets": [[2, 3], [5, 5]]}
    assert (
        summary["error"].startswith("3 records from offset 2 to 5 have no letters of their own") and "2 in 1m" in summary["error"]
    )
    assert (summary["key"], summary["error_class"], summary["group"]) == (None, "ValueError", "app-ticks")
    assert counts == {"ticks_dlq": 5}
    clock.ahead += MINUTE
    box.add(batch, 7, raised(ValueError("bad 7")))
    commit(log, box, 8)
    assert [(row["kind"], row["offset"]) for row in rows(log)[3:]] == [("handler", 7), ("left out", 6)]


def test_a_storm_is_one_line_of_the_log_a_minute(log: EmbeddedLog, caplog: pytest.LogCaptureFixture) -> None:
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    batch = ticks(log, 5)
    with caplog.at_level(logging.WARNING, "kandle"):
        for row in range(5):
            box.add(batch, row, raised(ValueError(f"bad {row}")))
            commit(log, box, row + 1)
    [line] = [message for message in caplog.messages if "dead letters" in message]
    assert line == "1 records of ticks, partition 1, are dead letters in topic ticks_dlq; the first, at offset 0: bad 0"


def test_a_letter_that_the_log_does_not_take_loses_its_bytes(log: EmbeddedLog) -> None:
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    box.add(ticks(log, 1), 0, raised(ValueError("no")))
    [kept] = box.without(box.writes({SOURCE: 1}), {0: {0: "too large"}})
    assert kept.records.frame.select("key", "payload").row(0) == (None, None)
    assert kept.records.frame["error"][0].startswith("no (key, payload and headers of the dead letter are left out")
    assert kept.records.headers is not None and kept.records.headers.to_list() == [None]


def test_a_topic_of_dead_letters_of_a_former_version_goes_on(log: EmbeddedLog) -> None:
    spec = letters_of_topic(log.topic("ticks"))
    former = TopicSpec(spec.name, spec.columns[:13], spec.keys, spec.partitions)
    assert former.columns[-1] == TopicColumn("start", "timestamp", INSTANT, nullable=True)
    log.ensure(former)
    old = {"topic": "ticks", "partition": 1, "offset": 7, "error": "old", "kind": "bar", "timeframe": "1m"}
    log.append([Write(spec.name, 1, Records(pl.DataFrame([old], schema=former.schema)))])
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    box.add(ticks(log, 1), 0, raised(ValueError("new")))
    commit(log, box, 1)
    assert [(row["error"], row["error_class"], row["timeframe"]) for row in rows(log)] == [
        ("old", None, "1m"),
        ("new", "ValueError", None),
    ]


def test_the_topic_of_dead_letters_is_as_it_was_asked_for_and_created_again_after_it_was_deleted(log: EmbeddedLog) -> None:
    asked = []

    def wanted(source: TopicSpec) -> TopicSpec:
        asked.append(source.name)
        return replace(letters_of_topic(source), retention=MINUTE)

    box = LetterBox(log, "ticks", "app-ticks", log.clock, wanted=wanted)
    batch = ticks(log, 4)
    for row in range(3):
        box.add(batch, row, raised(ValueError("no")))
        commit(log, box, row + 1)
    assert (asked, log.topic("ticks_dlq").retention) == (["ticks"], MINUTE)
    drop_topic(log, "ticks_dlq")
    box.add(batch, 3, raised(ValueError("no")))
    commit(log, box, 4)
    assert (asked, [row["offset"] for row in rows(log)]) == (["ticks"] * 2, [3])
    # A commit that fails may have failed because of the topic.
    box.add(batch, 3, raised(ValueError("no")))
    for _ in range(2):
        box.writes({SOURCE: 4})
    assert asked == ["ticks"] * 3


def test_letters_of_few_partitions_take_those_of_many(log: EmbeddedLog) -> None:
    log.ensure(TopicSpec("ticks_dlq", letters_of_topic(log.topic("ticks")).columns, ("topic", "partition", "offset"), 1))
    log.append([write("ticks", [0], 0)])
    box = LetterBox(log, "ticks", "app-ticks", log.clock)
    box.add(ticks(log, 1), 0, raised(ValueError("no")))
    assert [write.partition for write in box.writes({SOURCE: 1})] == [0]
