"""Keys of ksqlDB's windowed tables."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from kandle.errors import SchemaError
from kandle.model.types import STRING, TIMESTAMP
from kandle.plan.topics import TopicColumn
from kandle.serde.codec import Formats, TopicCodec, topic_codec
from tests.serde.building import registry

COLUMNS = [
    TopicColumn("code", str(STRING), STRING.physical),
    TopicColumn("start", str(TIMESTAMP), TIMESTAMP.physical),
    TopicColumn("note", str(STRING), STRING.physical),
]
ROWS = pl.DataFrame(
    {"code": ["a,b", ""], "start": [0, 1_704_153_600_000_000], "note": ["x", "y"]},
    schema={column.name: column.physical for column in COLUMNS},
)


def codec(key: str = "KAFKA") -> TopicCodec:
    return topic_codec("bars_1m_live", COLUMNS, ("code", "start"), registry(), Formats(key, "JSON", windowed=True))


def test_the_start_of_the_window_stands_behind_the_key_as_the_server_writes_it() -> None:
    keys, values = codec().encode(ROWS)
    assert keys == [b"a,b" + bytes(8), bytes.fromhex("0000018cc7785000")]
    assert values == [b'{"note":"x"}', b'{"note":"y"}']


@pytest.mark.parametrize("key", ["KAFKA", "JSON", "AVRO"])
def test_rows_come_back(key: str) -> None:
    result = codec(key)
    assert_frame_equal(result.decode(*result.encode(ROWS)).frame, ROWS)


def test_what_has_no_window_or_no_key_is_a_reject_and_the_others_are_read() -> None:
    result = codec("JSON")
    keys, values = result.encode(ROWS)
    back = result.decode(
        [keys[0], b"short", None, b"{torn" + bytes(8), b'{"code":"z"}' + b"\x7f" * 8, keys[1]], [*values, *values, *values]
    )
    assert back.frame["code"].to_list() == ["a,b", ""]
    assert [reject.at for reject in back.rejects] == [1, 2, 3, 4]
    assert "5 bytes are too few for the start of a window" in back.rejects[0].reason
    assert "is not the start of a window" in back.rejects[3].reason


def test_a_window_starts_at_an_instant() -> None:
    with pytest.raises(SchemaError, match="the last part of a windowed key is the window's start, not code"):
        topic_codec("bars", COLUMNS, ("start", "code"), registry(), Formats("JSON", "JSON", windowed=True))
