import gzip
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kandle.backfill import columnar
from kandle.backfill.readers import input_size, open_ticks
from kandle.errors import DataError, InputError, MissingExtraError
from tests.backfill.entities import READING, Reading

ROWS = 1000
FRAME = pl.DataFrame(
    {
        "unused": [None] * ROWS,
        "note": [None if number % 3 else f"n{number}" for number in range(ROWS)],
        "value": pl.Series(range(ROWS), dtype=pl.Decimal(18, 2)),
        "meter": pl.Series([f"m{number % 7}" for number in range(ROWS)]),
        "at": pl.Series(range(ROWS)).cast(pl.Datetime("ms", "UTC")),
    }
)


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ").encode()


def _text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))


def _batches(frame: pl.DataFrame) -> Any:
    table = frame.drop("unused").to_arrow().combine_chunks()
    return pa.Table.from_batches(table.to_batches(max_chunksize=130), table.schema)


def _write_stream(frame: pl.DataFrame, path: Path) -> None:
    """A stream with dictionaries (categorical columns) and several record batches."""
    table = _batches(frame)
    position = table.schema.get_field_index("meter")
    table = table.set_column(position, "meter", table["meter"].dictionary_encode())
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


Write = Callable[[pl.DataFrame, Path], Any]
FORMATS: dict[str, Write] = {
    "csv": lambda frame, path: frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ"),
    "csv.gz": lambda frame, path: path.write_bytes(gzip.compress(_csv(frame))),
    "ndjson": lambda frame, path: _text(frame).write_ndjson(path),
    "jsonl.gz": lambda frame, path: path.write_bytes(gzip.compress(_text(frame).write_ndjson().encode())),
    "parquet": lambda frame, path: frame.write_parquet(path, row_group_size=300),
    "arrow": lambda frame, path: frame.write_ipc(path),
    "feather": lambda frame, path: frame.write_ipc(path, compression="zstd"),
    "arrows": _write_stream,
}
OBJECTS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "frame": lambda frame: frame,
    "lazy frame": lambda frame: frame.lazy(),
    "Arrow table": lambda frame: frame.drop("unused").to_arrow(),
    "Arrow reader": lambda frame: _batches(frame).to_reader(),
}


def collected(source: Any, rows: int = 90) -> pl.DataFrame:
    batches = list(open_ticks(source, READING, batch_rows=rows).batches())
    assert max(batch.frame.height for batch in batches) <= rows
    assert [batch.rows_before for batch in batches] == [
        sum(batch.frame.height for batch in batches[:position]) for position in range(len(batches))
    ]
    return pl.concat([batch.frame for batch in batches])


def expected(frame: pl.DataFrame = FRAME) -> pl.DataFrame:
    return frame.select(
        "meter",
        pl.col("at").cast(pl.Datetime("us", "UTC")),
        pl.col("value").cast(pl.Int64) * 100000,
        "note",
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_rows_in_the_order_of_the_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    FORMATS[ending](FRAME, path)
    assert collected(path).equals(expected())
    source = open_ticks(str(path), READING)
    assert source.total_bytes == path.stat().st_size == input_size([path])
    assert [batch.bytes_read for batch in source.batches()][-1] == pytest.approx(path.stat().st_size, rel=0.1)


def test_an_arrow_stream_is_read_by_polars_where_pyarrow_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.arrows"
    FORMATS["arrows"](FRAME, path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(columnar, "find_spec", lambda name: None)
    assert collected(path).equals(expected())
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(InputError, match="cannot be read as an Arrow IPC stream"):
        collected(path)
    monkeypatch.setattr(columnar, "LARGEST_WHOLE_STREAM", 1000)
    with pytest.raises(MissingExtraError, match=r'An Arrow stream of more than .*r\.arrows.* pip install "kandle\[arrow\]"'):
        collected(path)


def test_an_arrow_stream_file_is_read_batch_by_batch(tmp_path: Path) -> None:
    path = tmp_path / "r.arrows"
    FORMATS["arrows"](FRAME, path)
    positions = [batch.bytes_read for batch in open_ticks(path, READING, batch_rows=1000).batches() if batch.frame.height]
    assert len(positions) == len(_batches(FRAME).to_batches())
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("kind", OBJECTS)
def test_frames_and_arrow_streams_give_the_same_rows(kind: str) -> None:
    assert collected(OBJECTS[kind](FRAME)).equals(expected())
    assert open_ticks(OBJECTS[kind](FRAME), READING).total_bytes is None


def test_an_arrow_stream_is_not_read_whole_before_its_first_batch_comes() -> None:
    taken = 0

    def batches() -> Any:
        nonlocal taken
        for batch in _batches(FRAME).to_batches() * 100:
            taken += batch.num_rows
            yield batch

    reader = pa.RecordBatchReader.from_batches(_batches(FRAME).schema, batches())
    given = farthest_ahead = 0
    for batch in open_ticks(reader, READING, batch_rows=130).batches():
        given += batch.frame.height
        farthest_ahead = max(farthest_ahead, taken - given)
    assert given == taken == 100 * ROWS
    assert farthest_ahead < 20 * ROWS


def test_objects_of_the_entity_are_read() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    frame = collected([Reading("m1", at, Decimal("1.5")), Reading("m2", at, Decimal(2), "x")])
    assert frame["value"].to_list() == [150000, 200000]
    assert frame["note"].to_list() == [None, "x"]


def test_several_files_are_read_in_the_order_given_and_globs_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        FRAME.head(1).with_columns(meter=pl.lit(name)).write_parquet(tmp_path / f"{name}.parquet")
    FRAME.head(2).with_columns(meter=pl.lit("z")).write_csv(tmp_path / "z.csv", datetime_format="%FT%TZ")
    assert collected(f"{tmp_path}/*.parquet")["meter"].to_list() == ["a", "b", "c"]
    given: list[str | Path] = [tmp_path / "z.csv", f"{tmp_path}/[ab].parquet"]
    assert collected(given)["meter"].to_list() == ["z", "z", "a", "b"]
    source = open_ticks(given, READING)
    assert [batch.bytes_read for batch in source.batches()][-1] == source.total_bytes == input_size(given)


def test_rows_are_counted_anew_in_every_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("meter,at,value,note\nm,2024-01-01,1,\nm,2024-01-01,1,\n")
    bad.write_text("meter,at,value,note\nm,2024-01-01,x,\n")
    with pytest.raises(DataError, match=r"b\.csv, row 1, column value"):
        collected([good, bad])


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows"])
def test_a_file_without_rows_gives_an_empty_batch_of_the_right_columns(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    FORMATS[ending](FRAME.clear(), path)
    assert collected(path).schema == expected().schema


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "csv", "ndjson"])
def test_a_missing_column_is_named_in_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    FORMATS[ending](FRAME.rename({"value": "valeu"}), path)
    with pytest.raises(DataError, match=r"no column 'value' for Reading\.value; did you mean 'valeu'"):
        collected(path)


def test_a_missing_column_of_a_frame_is_named() -> None:
    for empty in (FRAME.drop("at"), FRAME.drop("at").clear(), FRAME.drop("at").lazy()):
        with pytest.raises(DataError, match=r"no column 'at' for Reading\.at"):
            collected(empty)


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_file_is_an_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"r\..*: the file is empty"):
        collected(path)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "csv.gz"])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"r.{ending}"
    path.write_text("meter,at,value\n" * 20)
    with pytest.raises(InputError, match=r"^[^\n]*r\.[^\n]*(cannot be read as|is not gzip)[^\n]*$"):
        collected(path)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "csv.gz", "jsonl.gz"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
def test_a_truncated_file_is_an_error(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"r.{ending}"
    FORMATS[ending](FRAME, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=r"^[^\n]*r\.[^\n]*$"):
        collected(path)


def test_a_damaged_gz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.csv.gz"
    packed = bytearray(gzip.compress(_csv(FRAME)))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(InputError, match=r"gzip data are damaged|is not gzip"):
        collected(path)


def test_what_cannot_be_opened_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "r.xlsx").write_bytes(b"x")
    (tmp_path / "r.parquet.gz").write_bytes(b"x")
    cases = {
        tmp_path / "none.csv": "no such file: .*none.csv",
        tmp_path: r"is a folder; .*\*\.parquet",
        tmp_path / "r.xlsx": r"the name must end with \.csv, \.csv\.gz, .*\.arrows$",
        tmp_path / "r.parquet.gz": "the format is not known by the ending of the name",
        f"{tmp_path}/*.csv": "no file matches",
    }
    for source, message in cases.items():
        with pytest.raises(InputError, match=message):
            open_ticks(source, READING)
    for nothing, shown in (([], "an empty list"), (7, "a int"), (None, "a NoneType")):
        with pytest.raises(InputError, match=f"cannot be read from {shown}"):
            open_ticks(nothing, READING)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "r[1].csv"
    path.write_text("meter,at,value,note\nm,2024-01-01,1,\n")
    assert collected(path).height == 1


def test_a_lazy_frame_that_fails_is_an_error_of_one_line() -> None:
    broken = FRAME.lazy().with_columns(value=pl.col("note").cast(pl.Int64))
    with pytest.raises(InputError, match=r"^the lazy frame cannot be computed: [^\n]+$"):
        collected(broken)
