from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kandle.errors import OptionsError
from kandle.model.types import STRING, TIMESTAMP
from kandle.plan.topics import TopicColumn
from kandle.serde.codec import Formats, TopicCodec, topic_codec
from kandle.serde.schema import Shape
from tests.serde.building import TICK, registry, ticks

COLUMNS = [TopicColumn(field.name, str(field.type), field.type.physical, field.nullable) for field in TICK]
FORMATS = [Formats("AVRO", "AVRO"), Formats("JSON", "AVRO"), Formats("JSON", "JSON"), Formats("AVRO", "JSON")]


def codec(formats: Formats, keys: tuple[str, ...] = ("code", "venue")) -> TopicCodec:
    return topic_codec("ticks", COLUMNS, keys, registry(), formats)


@pytest.mark.parametrize("formats", FORMATS)
def test_rows_come_back_with_their_columns_in_order(formats: Formats) -> None:
    topic = codec(formats)
    keys, values = topic.encode(ticks(9))
    back = topic.decode(keys, values)
    assert_frame_equal(back.frame, ticks(9))
    assert (back.rejects, back.tombstones) == ((), None)


def test_a_key_holds_its_columns_in_their_order_and_a_value_the_others() -> None:
    keys, values = codec(Formats("JSON", "JSON")).encode(ticks(1))
    assert keys == [b'{"code":"C0","venue":"north"}']
    assert values == [b'{"at":0,"level":1.000000,"size":0}']


def test_a_tombstone_is_a_key_without_a_value() -> None:
    topic = codec(Formats())
    gone = pl.Series([False, True, False])
    blank = ticks(3).with_columns(pl.when(pl.Series([True, False, True])).then(pl.col("at", "level", "size")))
    keys, values = topic.encode(blank, gone)
    assert [value is None for value in values] == [False, True, False]
    back = topic.decode(keys, values)
    assert_frame_equal(back.frame, blank)
    assert back.tombstones is not None and back.tombstones.to_list() == [False, True, False]


def test_only_tombstones_are_rows_too() -> None:
    topic = codec(Formats())
    keys, values = topic.encode(ticks(2).select("code", "venue"), pl.Series([True, True]))
    back = topic.decode(keys, values)
    assert back.frame["code"].to_list() == ["C0", "C1"]
    assert back.frame["size"].to_list() == [None, None]
    assert back.tombstones is not None and back.tombstones.all()


@pytest.mark.parametrize("formats", FORMATS)
def test_columns_of_null_alone_may_be_left_out(formats: Formats) -> None:
    columns = [*COLUMNS, TopicColumn("note", "str", pl.String(), nullable=True)]
    topic = topic_codec("ticks", columns, ["code"], registry(), formats)
    keys, values = topic.encode(ticks(2))
    assert topic.decode(keys, values).frame["note"].to_list() == [None, None]


def test_a_topic_without_keys_has_none_and_no_tombstones() -> None:
    topic = codec(Formats(), ())
    keys, values = topic.encode(ticks(2))
    assert keys == [None, None]
    back = topic.decode(keys, [values[0], None])
    assert_frame_equal(back.frame, ticks(1))
    assert [(reject.at, reject.reason) for reject in back.rejects] == [(1, "ticks-value: there is no record (null)")]


def test_all_columns_may_be_those_of_the_key() -> None:
    for formats in FORMATS:
        topic = codec(formats, tuple(field.name for field in TICK))
        keys, values = topic.encode(ticks(3))
        assert_frame_equal(topic.decode(keys, values).frame, ticks(3))
        back = topic.decode(keys, [values[0], b"?", None])
        assert_frame_equal(back.frame, ticks(3)[[0, 2]])
        assert [reject.at for reject in back.rejects] == [1]
        assert back.tombstones is not None and back.tombstones.to_list() == [False, True]


@pytest.mark.parametrize("formats", FORMATS)
@given(data=st.data())
def test_bad_keys_and_values_are_rejected_and_all_others_kept(formats: Formats, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    states = data.draw(st.lists(st.sampled_from("gggkvbtn"), min_size=count, max_size=count))
    topic = codec(formats)
    keys, values = topic.encode(ticks(count), pl.Series([state == "t" for state in states], dtype=pl.Boolean))
    for at, state in enumerate(states):
        if state in "kb":
            keys[at] = b"?"
        if state in "vb":
            values[at] = b"?"
        if state == "n":
            keys[at] = None
    back = topic.decode(keys, values)
    assert [reject.at for reject in back.rejects] == [at for at, state in enumerate(states) if state in "kvbn"]
    kept = [state for state in states if state in "gt"]
    good = ticks(count).filter(pl.Series([state in "gt" for state in states], dtype=pl.Boolean))
    assert_frame_equal(back.frame.select("venue", "code"), good.select("venue", "code"))
    alive = pl.Series([state == "g" for state in kept], dtype=pl.Boolean)
    assert_frame_equal(back.frame.filter(alive), good.filter(alive))
    assert (back.tombstones is None) == ("t" not in kept)
    for reject, key in zip(back.rejects, back.reject_keys, strict=True):
        assert key == (None if states[reject.at] in "kbn" else ticks(len(states)).select("code", "venue").row(reject.at))
        assert ("ticks-key: " in reject.reason) == (states[reject.at] in "kbn")
        assert ("ticks-value: " in reject.reason) == (states[reject.at] in "vb")


def test_a_key_of_another_schema_is_rejected_by_name() -> None:
    schemas = registry()
    other = topic_codec("ticks", [TopicColumn("code", "int", pl.Int64()), *COLUMNS[2:]], ["code"], schemas)
    keys, values = other.encode(ticks(1).drop("venue").with_columns(code=pl.lit(5, pl.Int64)))
    back = topic_codec("ticks", COLUMNS[1:], ["code"], schemas).decode(keys, values)
    words = "subject ticks-key, field code: it is long in the schema and str in the declaration"
    assert words in back.rejects[0].reason


def test_windowed_bars_are_keyed_by_plain_columns() -> None:
    columns = [TopicColumn("code", "str", STRING.physical), TopicColumn("start", "datetime", TIMESTAMP.physical)]
    schemas = registry()
    topic = topic_codec("bars_1m_final", [*columns, TopicColumn("n", "int", pl.Int64())], ["code", "start"], schemas)
    frame = pl.DataFrame({"code": ["a"], "start": ticks(1)["at"], "n": [1]})
    topic.encode(frame)
    latest = schemas.latest("bars_1m_final-key")
    assert latest is not None
    schema = json.loads(latest.schema)
    assert schema["name"] == "bars_1m_final_key"
    assert [value["name"] for value in schema["fields"]] == ["code", "start"]


def test_a_bare_key_is_what_ksqldb_expects_of_one_column() -> None:
    schemas = registry()
    topic_codec("ticks", COLUMNS, ["code"], schemas, Formats(key_shape=Shape.BARE)).encode(ticks(1))
    latest = schemas.latest("ticks-key")
    assert latest is not None and latest.schema == '"string"'


def test_kafka_keys_are_bare_bytes() -> None:
    topic = codec(Formats("KAFKA", "JSON"), ("code",))
    keys, values = topic.encode(ticks(2))
    assert keys == [b"C0", b"C1"]
    assert_frame_equal(topic.decode(keys, values).frame, ticks(2))


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(OptionsError, match="value_format = 'XML': there are AVRO, JSON, KAFKA"):
        Formats("AVRO", "XML")


def test_avro_without_a_registry_says_the_way_out() -> None:
    with pytest.raises(OptionsError, match="topic ticks: value_format = 'AVRO' needs a schema registry"):
        topic_codec("ticks", COLUMNS, (), None)
