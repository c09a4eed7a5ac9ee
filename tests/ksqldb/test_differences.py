"""What a server has beside what a statement would create, as a real server wrote it down."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kandle.ksql.statements import ColumnDefinition, Create, CreateAs, Select, SelectItem
from kandle.ksql.types import BIGINT, TIMESTAMP, VARCHAR, decimal
from kandle.ksqldb import results as answers
from kandle.ksqldb.comparison import differences, is_same_query
from kandle.ksqldb.results import SourceDescription

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
RECORDED = DATA / "ksqldb_rest.jsonl"

pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")


def exchange(name: str) -> tuple[str, dict[str, Any]]:
    """The statement of a recorded exchange, and its answer."""
    found = next(each for line in RECORDED.read_text().splitlines() if (each := json.loads(line))["name"] == name)
    return json.loads(found["request_body"])["ksql"], json.loads("".join(found["response_chunks"]))[0]


def table() -> tuple[CreateAs, SourceDescription]:
    names = ["broker", "symbol", "start", "open", "high", "low", "close", "volume"]
    items = tuple(SelectItem(f"`{name}`", name) for name in names)
    select = Select(items, "`RecTicks`", "TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 2 SECONDS)")
    properties = {"KAFKA_TOPIC": "rec_bars_1m_live", "KEY_FORMAT": "AVRO", "VALUE_FORMAT": "AVRO"}
    found = answers.result(exchange("describe")[1])
    assert isinstance(found, SourceDescription)
    return CreateAs("table", "RecLive", properties, select), found


def test_a_query_as_the_server_formats_it_is_the_same() -> None:
    asked, answer = exchange("live bars ctas")
    assert is_same_query(asked, answer["statementText"])


@pytest.mark.parametrize(
    ("old", "new"), [("MAX(`bid`)", "MIN(`bid`)"), ("GRACE PERIOD 2", "GRACE PERIOD 3"), ("0 -", "1 -"), ("`high`", "`High`")]
)
def test_another_query_is_different(old: str, new: str) -> None:
    asked, answer = exchange("live bars ctas")
    assert old in asked
    assert not is_same_query(asked.replace(old, new), answer["statementText"])


def test_a_table_as_declared_has_no_differences() -> None:
    assert differences(*table()) == []


def test_differences_are_named() -> None:
    statement, found = table()
    (*items, _), properties = statement.select.items, {**statement.properties, "KEY_FORMAT": "JSON", "PARTITIONS": 8}
    other = CreateAs("table", "RecLive", properties, Select((*items, SelectItem("1", "more")), "`RecTicks`", "HOPPING (..)"))
    assert differences(other, found) == [
        "KEY_FORMAT is AVRO, not JSON",
        "PARTITIONS is 2, not 8",
        "column more is missing",
        "column volume is not declared",
        "its windows are TUMBLING, not HOPPING",
    ]
    declared = Create("stream", "RecLive", (ColumnDefinition("broker", VARCHAR, "KEY"),), {})
    assert differences(declared, found) == ["it is a table, not a stream"]


def test_types_of_declared_columns_are_compared() -> None:
    statement, found = table()
    kinds = [VARCHAR, VARCHAR, TIMESTAMP, *[decimal(18, 6)] * 4, decimal(38, 0)]
    roles = ["PRIMARY KEY", "PRIMARY KEY", *[""] * 6]
    columns = tuple(
        ColumnDefinition(item.name, kind, role) for item, kind, role in zip(statement.select.items, kinds, roles, strict=True)
    )
    assert differences(Create("table", "RecLive", columns, {}), found) == [
        f"column volume is {BIGINT}, not DECIMAL(38,0)",
        "its windows are TUMBLING, not none",
    ]


def test_the_key_and_the_time_of_declared_records_are_compared() -> None:
    statement, found = table()
    kinds = [VARCHAR, VARCHAR, TIMESTAMP, *[decimal(18, 6)] * 4, BIGINT]
    keys = {"symbol": "PRIMARY KEY"}
    columns = tuple(
        ColumnDefinition(item.name, kind, keys.get(item.name, ""))
        for item, kind in zip(statement.select.items, kinds, strict=True)
    )
    declared = Create("table", "RecLive", columns, {"TIMESTAMP": "`start`"})
    assert differences(declared, replace(found, window=None)) == [
        "its key is (broker, symbol), not (symbol)",
        "its TIMESTAMP is that of the records, not start",
    ]
    assert differences(replace(declared, properties={}), replace(found, window=None, timestamp="end"))[1:] == [
        "its TIMESTAMP is end, not that of the records",
    ]
