from decimal import Decimal
from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from kandle.cli.output import json_line
from kandle.cli.topics import Tail, all_records, newest, records
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.records import Records, Write
from kandle.plan.topics import dead_letter_topic
from tests.cli.logs import LATEST, READINGS, readings_log, write


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    return readings_log(tmp_path)


def offsets(log: EmbeddedLog, count: int) -> list[tuple[int, int]]:
    return [(row["partition"], row["offset"]) for row in records(log, newest(log, "readings", count))]


def test_the_newest_records_of_each_partition_are_read(log: EmbeddedLog) -> None:
    assert offsets(log, 1) == [(0, 2), (1, 1)]
    assert offsets(log, 10) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_records_have_decimals_headers_and_times(log: EmbeddedLog) -> None:
    first, *_ = records(log, newest(log, "readings", 10))
    assert first["value"]["value"] == Decimal("1.50")
    assert first["headers"] == {"source": "a b"}
    assert first["timestamp"] == "2024-03-08T12:00:00.000Z"


def test_of_a_removed_row_only_the_key_is_shown(log: EmbeddedLog) -> None:
    *_, last = records(log, newest(log, "latest", 10))
    assert last["tombstone"]
    assert last["value"] == {"meter": "m2"}


def test_offsets_that_a_compaction_took_away_do_not_make_the_end_shorter(log: EmbeddedLog) -> None:
    keys = [f"k{number}" for number in range(5)] + ["m1"] * 1_500
    rows = pl.DataFrame({"meter": keys, "value": range(len(keys))}, schema=LATEST.schema)
    log.append([Write("latest", 0, Records(rows))])
    log.maintain()
    assert log.partitions("latest")[0].rows < 20
    kept = [row["value"]["meter"] for row in records(log, newest(log, "latest", 3))]
    assert kept[-1] == "m1"
    assert len(kept) >= 3


def test_a_tail_gives_each_record_once_and_only_what_comes(log: EmbeddedLog) -> None:
    tail = Tail.at_end(log, ["readings"])
    assert tail.read() == []
    log.append([write(1, ["m3", "m3"], [1, 2])])
    (batch,) = tail.read()
    assert batch.offsets.tolist() == [2, 3]
    assert tail.read() == []
    log.append([write(0, ["m4"], [1])])
    assert [batch.partition for batches in islice(tail.follow(), 1) for batch in batches] == [0]


def test_a_whole_topic_is_one_frame_with_offsets_and_append_times(log: EmbeddedLog) -> None:
    frame = all_records(log, "readings")
    assert frame.columns == [*READINGS.schema, "_partition", "_offset", "_appended"]
    assert frame["value"].to_list() == [Decimal(text) for text in ("1.50", "2.25", "-0.01", "3.00", "0.05")]
    assert frame["_offset"].to_list() == [0, 1, 2, 0, 1]


def test_an_empty_topic_is_an_empty_frame(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    log.ensure(READINGS)
    assert all_records(log, "readings").height == 0
    assert newest(log, "readings", 5) == []


def test_bytes_that_are_text_are_shown_as_text_and_others_as_what_they_are(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    spec = dead_letter_topic("letters", 1, 1)
    log.ensure(spec)
    texts = [b'{"a": "b\n"}', "Köln".encode(), b"\x00\x01", b"\xff", None]
    frame = pl.DataFrame(
        [{"topic": "ticks", "partition": 0, "offset": at, "error": "torn", "payload": text} for at, text in enumerate(texts)],
        schema=spec.schema,
    )
    log.append([Write("letters", 0, Records(frame))])
    payloads = [row["value"]["payload"] for row in records(log, newest(log, "letters", 9))]
    assert payloads == ['{"a": "b\n"}', "Köln", {"base64": b"\x00\x01"}, {"base64": b"\xff"}, None]
    assert json_line({"payload": payloads[2]}) == '{"payload": {"base64": "AAE="}}'
