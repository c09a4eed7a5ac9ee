"""Files of bars: every format holds every value exactly."""

import csv
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.backfill import writers
from kandle.backfill.readers import open_ticks
from kandle.backfill.sinks import OutputFolder
from kandle.backfill.writers import FORMATS, csv_values, ndjson_lines
from kandle.errors import DataError
from kandle.model.columns import logical_schema, to_logical
from kandle.model.mapping import mapping
from tests.backfill.entities import EVERYTHING, READING, Everything, Reading

AT = datetime(2014, 5, 1, tzinfo=UTC)
READINGS = [
    Reading("m1", AT, Decimal("1.38680"), "x"),
    Reading("m2", AT + timedelta(microseconds=1500), Decimal("-0.5"), None),
    Reading("m3", AT + timedelta(microseconds=1501), Decimal("1234567890123.45678"), ""),
]
THING = Everything(
    'k,"1"\n\u2028é', AT, date(2024, 2, 29), True, -7, 0.1, Decimal("-1.0000000001"),
    UUID("00000000-0000-0000-0000-0000000000ff"), b"\x00\xff", {"a": 'x"y', "b": ""}, None, Decimal("1.5"),
)  # fmt: skip


def frame_of(objects: list[Any], entity: Any = READING) -> pl.DataFrame:
    return to_logical(entity, mapping(entity).to_frame(objects))


def write(folder: Path, format: str, *frames: pl.DataFrame, entity: Any = READING) -> Path:
    output = OutputFolder(folder, format)
    writer = output.writer("t", entity)
    for frame in frames:
        writer.write(frame)
    output.commit()
    return writer.path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_csv_has_all_digits_and_the_shortest_exact_time(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", frame_of(READINGS[:1]), frame_of(READINGS[1:]))
    assert path.read_text().split("\n") == [
        "meter,at,value,note",
        "m1,2014-05-01T00:00:00.000Z,1.38680,x",
        "m2,2014-05-01T00:00:00.001500Z,-0.50000,",
        'm3,2014-05-01T00:00:00.001501Z,1234567890123.45678,""',
        "",
    ]


def test_ndjson_has_decimals_as_numbers_with_all_digits(tmp_path: Path) -> None:
    path = write(tmp_path, "ndjson", frame_of(READINGS[:1]), frame_of(READINGS[1:]))
    lines = path.read_text().splitlines()
    assert lines[0] == '{"meter":"m1","at":"2014-05-01T00:00:00.000Z","value":1.38680,"note":"x"}'
    assert lines[1] == '{"meter":"m2","at":"2014-05-01T00:00:00.001500Z","value":-0.50000,"note":null}'
    assert json.loads(lines[2], parse_float=Decimal)["value"] == Decimal("1234567890123.45678")
    assert lines[2].endswith('"note":""}')


def test_ndjson_of_every_type_is_read_back_as_it_was(tmp_path: Path) -> None:
    frame = frame_of([THING], EVERYTHING)
    path = write(tmp_path, "ndjson", frame, entity=EVERYTHING)
    [batch] = open_ticks(path, EVERYTHING).batches()
    assert to_logical(EVERYTHING, batch.frame).equals(frame)


def test_every_type_has_a_text() -> None:
    frame = frame_of([THING], EVERYTHING)
    (row,) = csv.DictReader(csv_values(EVERYTHING, frame).write_csv().splitlines(keepends=True))
    assert row == {
        "key": 'k,"1"\n\u2028é',
        "at": "2014-05-01T00:00:00.000Z",
        "day": "2024-02-29",
        "flag": "true",
        "number": "-7",
        "ratio": "0.1",
        "exact": "-1.0000000001",
        "identity": "00000000-0000-0000-0000-0000000000ff",
        "raw": "AP8=",
        "labels": '{"a": "x\\"y", "b": ""}',
        "text": "",
        "maybe": "1.50",
    }
    assert json.loads(ndjson_lines(EVERYTHING, frame).item()) == {
        **row,
        "flag": True,
        "number": -7,
        "ratio": 0.1,
        "exact": -1.0000000001,
        "labels": {"a": 'x"y', "b": ""},
        "text": None,
        "maybe": 1.5,
    }


def test_json_cannot_say_infinity() -> None:
    frame = frame_of([THING], EVERYTHING).with_columns(ratio=pl.lit(float("inf")))
    with pytest.raises(DataError, match=r"Everything\.ratio is infinite or not a number, which JSON cannot hold"):
        ndjson_lines(EVERYTHING, frame)


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows_is_written_too(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format)
    if format == "parquet":
        assert pl.read_parquet(path).schema == pl.Schema(logical_schema(READING))
    else:
        assert path.read_text() == ("meter,at,value,note\n" if format == "csv" else "")


def test_parquet_keeps_order_and_types_over_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "PART_ROWS", 50)
    base = frame_of(READINGS)
    frames = [base.with_columns(meter=pl.lit(f"m{number}")) for number in range(100)]
    path = write(tmp_path, "parquet", *frames)
    assert pl.read_parquet(path).equals(pl.concat(frames))
    assert list(content(tmp_path)) == ["t.parquet"]


MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
DECIMALS = st.decimals(-(10**12), 10**12, places=5)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)


@given(
    objects=st.lists(st.builds(Reading, TEXTS, MOMENTS, DECIMALS, TEXTS.filter(bool) | st.none()), min_size=1, max_size=20),
    format=st.sampled_from(["csv", "ndjson"]),
)
def test_what_is_written_as_text_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, objects: list[Reading], format: str
) -> None:
    path = write(tmp_path_factory.mktemp("trip"), format, frame_of(objects))
    read = pl.concat([batch.frame for batch in open_ticks(path, READING).batches()])
    assert read.equals(mapping(READING).to_frame(objects))
