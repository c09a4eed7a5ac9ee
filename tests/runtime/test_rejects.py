"""What a worker cannot use: records that cannot be read, and keys in the wrong partition."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kandle.errors import DataError, ModelError
from kandle.log.embedded.batches import BatchTable
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.letters import LetterRate
from kandle.log.port import TopicPartition, TopicState
from kandle.log.records import Batch, Records, RejectedRecord
from kandle.model.markers import stream
from kandle.plan.query_topics import query_topics
from kandle.plan.topics import TopicSpec
from tests.log.building import drop_topic
from tests.runtime.building import Parts, Process, finals_of, parts_of, rows, t, tick
from tests.runtime.declarations import Declared, market

TORN = 13
"""The size of ticks whose bytes are torn."""


@pytest.fixture(autouse=True)
def torn_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the log reject some ticks, as a log on a cluster to which other programs write."""
    read = BatchTable.read

    def with_rejects(table: BatchTable, partition: TopicPartition, *arguments: Any, **settings: Any) -> list[Batch]:
        batches = read(table, partition, *arguments, **settings)
        return [_torn(batch) for batch in batches] if partition.topic == "ticks" else batches

    monkeypatch.setattr(BatchTable, "read", with_rejects)


def _torn(batch: Batch) -> Batch:
    bad = batch.records.frame["size"] == TORN
    rejects = tuple(RejectedRecord(int(offset), b"k", b"torn", "it is cut off") for offset in batch.offsets[bad.to_numpy()])
    kept = ~bad.to_numpy()
    end = batch.next_offset
    records = Records(batch.records.frame.filter(~bad))
    return Batch(batch.topic, batch.partition, batch.offsets[kept], batch.timestamps[kept], records, end, rejects)


def letters(parts: Parts, topic: str = "bars_dlq") -> list[tuple[Any, ...]]:
    """The first columns of all dead letters: where they came from, what is wrong, their bytes."""
    return [tuple(row.values())[:6] for row in rows(parts.log, topic)]


def test_records_that_cannot_be_read_are_dead_letters_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"), tick("14:30:20", size=TORN), tick("14:30:30"))
    process = Process(parts).settle()
    assert letters(parts) == [("ticks", 0, 1, "it is cut off", b"k", b"torn")]
    assert parts.counters.rejected == 1
    assert (
        "1 records of ticks, partition 0, cannot be read and are in topic bars_dlq; the first, at offset 1: it is" in caplog.text
    )
    parts.clock.jump(t("14:31"))
    process.beat()
    process.settle()
    assert finals_of(parts) == [("A", 30, 2)]


def test_dead_letters_are_told_once_a_minute_and_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of()
    process = Process(parts, commit_interval=1)
    for second in range(3):
        parts.add(tick(f"14:30:1{second}", size=TORN), tick(f"14:30:1{second}", size=TORN))
        process.settle()
    told = [message.split(" records of")[0] for message in caplog.messages if "cannot be read" in message]
    assert told == ["2"]
    parts.clock.jump(t("14:31:30"))
    process.beat()
    process.settle()
    (_, rest) = [message for message in caplog.messages if "cannot be read" in message]
    assert rest.startswith("4 records of ticks, ") and "the first, at offset 2:" in rest


def test_dead_letters_alone_are_committed_too_and_only_once() -> None:
    parts = parts_of()
    parts.add(tick("14:30:20", size=TORN), tick("14:30:21", size=TORN))
    Process(parts).settle()
    Process(parts).settle()
    assert [letter[2] for letter in letters(parts)] == [0, 1]
    assert parts.log.committed("kandle-bars", "ticks") == {0: 2}


def test_the_topic_of_dead_letters_is_asked_for_once_and_created_again_after_it_was_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, asked, ensure = parts_of(), list[str](), EmbeddedLog.ensure

    def noted(log: EmbeddedLog, spec: TopicSpec) -> TopicState:
        asked.append(spec.name)
        return ensure(log, spec)

    monkeypatch.setattr(EmbeddedLog, "ensure", noted)
    process = Process(parts)
    for second in range(3):
        parts.add(tick(f"14:30:2{second}", size=TORN))
        process.settle()
    assert (asked.count("bars_dlq"), len(letters(parts))) == (1, 3)
    assert isinstance(parts.log, EmbeddedLog)
    drop_topic(parts.log, "bars_dlq")
    parts.add(tick("14:30:30", size=TORN))
    process.settle()
    assert (asked.count("bars_dlq"), [letter[2] for letter in letters(parts)]) == (2, [3])


def test_records_beyond_a_rate_are_summed_up_in_the_same_commit() -> None:
    parts = parts_of()
    parts.letter_rate = LetterRate(2)
    parts.add(*(tick(f"14:30:1{second}", size=TORN if second != 2 else 1) for second in range(6)))
    Process(parts).settle()
    *first, summary = rows(parts.log, "bars_dlq")
    assert [(row["kind"], row["offset"]) for row in first] == [("unreadable", 0), ("unreadable", 1)]
    assert (summary["kind"], summary["offset"], summary["count"]) == ("left out", 3, 3)
    assert json.loads(summary["payload"]) == {"offsets": [[3, 5]]}
    assert (parts.counters.rejected, parts.counters.dead_letters) == (5, 5)


def test_records_that_cannot_be_brought_to_their_partition_are_dead_letters() -> None:
    context = market(Declared({"minutes": 1}, partitions=2))
    parts = Parts(context, "14:30", partitions=3)
    assert parts.topics.is_repartitioned
    parts.add(tick("14:30:10"), tick("14:30:20", size=TORN), partition=2)
    Process(parts).settle()
    assert letters(parts) == [("ticks", 2, 1, "it is cut off", b"k", b"torn")]
    assert [row["size"] for row in rows(parts.log, parts.topics.events)] == [1]


def test_a_key_in_the_wrong_partition_ends_the_worker_before_there_are_two_bars_of_it() -> None:
    parts = parts_of(partitions=3)
    parts.add(tick("14:30:10", symbol="A"), partition=1)
    parts.add(tick("14:30:10", symbol="D"), tick("14:30:11", symbol="A"), partition=0)
    with pytest.raises(DataError, match=r'key A is in partition 0, but by murmur2.* belongs to partition 1.*partitioner="other"'):
        Process(parts).settle()
    assert parts.log.committed("kandle-bars", "ticks").get(0) is None


def test_a_topic_of_another_partitioner_is_brought_into_order_first() -> None:
    parts = parts_of(partitions=3)
    source = replace(parts.plan.query.source, partitioner="other")
    plan = replace(parts.plan, query=replace(parts.plan.query, source=source))
    assert not parts.topics.is_repartitioned
    assert query_topics(plan, source_partitions=3).is_repartitioned


def test_a_partitioner_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="partitioner = 'crc32'; choose one of murmur2, other"):
        stream("ticks", partitioner="crc32")  # type: ignore[arg-type]
