import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.backfill import text
from kandle.backfill.readers import open_ticks
from kandle.errors import DataError, InputError
from tests.backfill.entities import READING, RENAMED

HEAD = "meter,at,value,note\n"
ROW = "m1,2024-01-01T00:00:00Z,1.5,fine\n"


def read(path: Path, entity: object = READING) -> pl.DataFrame:
    return pl.concat([batch.frame for batch in open_ticks(path, entity).batches()])  # type: ignore[arg-type]


def written(tmp_path: Path, content: str | bytes, name: str = "r.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_values_are_exact_and_other_columns_are_left_out(tmp_path: Path) -> None:
    frame = read(written(tmp_path, "extra,value,meter,note,at\nx,1.38670,m1,,2024-01-01T00:00:00.123456Z\n"))
    assert frame.columns == ["meter", "at", "value", "note"]
    assert frame["value"].to_list() == [138670]
    assert frame["at"].dt.timestamp("us").to_list() == [1704067200123456]
    assert frame["note"].to_list() == [None]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("has_last", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_and_a_missing_last_line_end_change_nothing(
    tmp_path: Path, end: str, has_last: bool, mark: str
) -> None:
    lines = ["meter,at,value,note", "m1,2024-01-01,1,a", "m2,2024-01-02,2,b"]
    frame = read(written(tmp_path, mark + end.join(lines) + (end if has_last else "")))
    assert frame["meter"].to_list() == ["m1", "m2"]
    assert frame["note"].to_list() == ["a", "b"]


def test_quoted_fields_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    frame = read(written(tmp_path, HEAD + '"m,1",2024-01-01,1,"two\nlines"\n"m""2""",2024-01-01,"2",x\n'))
    assert frame["meter"].to_list() == ["m,1", 'm"2"']
    assert frame["note"].to_list() == ["two\nlines", "x"]


def test_a_gz_of_several_members_is_read_whole(tmp_path: Path) -> None:
    packed = gzip.compress((HEAD + ROW).encode()) + gzip.compress(ROW.encode())
    assert read(written(tmp_path, packed, "r.csv.gz")).height == 2


def test_columns_are_found_by_alias(tmp_path: Path) -> None:
    assert read(written(tmp_path, "n,ts\n5,2024-01-01\n"), RENAMED)["count"].to_list() == [5]


def test_a_file_with_only_a_header_has_no_rows(tmp_path: Path) -> None:
    assert read(written(tmp_path, HEAD)).height == 0
    assert read(written(tmp_path, HEAD.strip())).height == 0


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    frame = read(written(tmp_path, HEAD + ROW + "\n" + ROW + "\n\n"))
    assert frame.height == 2


def test_a_value_at_fault_is_named_with_its_row_after_many_batches(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + ROW * 1000 + "m1,2024-01-01,1x,\n" + ROW)
    with pytest.raises(DataError, match=r"r\.csv, row 1001, column value: '1x'"):
        list(open_ticks(path, READING, batch_rows=64).batches())


def test_rows_of_wrong_length_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = "m1,2024-01-01,1\n", "m1,2024-01-01,1,x,y\n"
    for bad, count in ((few, 3), (many, 5)):
        path = written(tmp_path, HEAD + ROW * 7 + bad + ROW)
        with pytest.raises(InputError, match=rf"r\.csv, row 8: {count} fields, but the first line names 4 columns"):
            read(path)


def test_a_short_row_and_a_long_row_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 1: 3 fields"):
        read(written(tmp_path, HEAD + "m1,2024-01-01,1\nm1,2024-01-01,1,x,y\n"))


def test_a_short_row_is_seen_where_a_quoted_comma_hides_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 2: 3 fields"):
        read(written(tmp_path, HEAD + '"m,1",2024-01-01,1,\nm1,2024-01-01,1\n'))


def test_bytes_that_are_not_utf8_are_named_with_their_row(tmp_path: Path) -> None:
    path = written(tmp_path, (HEAD + ROW * 3).encode() + b"m\xff,2024-01-01,1,\n")
    with pytest.raises(InputError, match=r"row 4: not UTF-8 text \(byte 0xff\)"):
        read(path)
    with pytest.raises(InputError, match="the first line is not UTF-8"):
        read(written(tmp_path, (HEAD + ROW).encode("utf-16")))


def test_a_missing_column_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'value' for Reading\.value; did you mean 'valu'"):
        read(written(tmp_path, "meter,at,valu,note\n"))


def test_a_column_that_is_named_twice_is_refused_if_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names column 'value' 2 times"):
        read(written(tmp_path, "meter,at,value,value,note\n"))
    assert read(written(tmp_path, "x,x,meter,at,value,note\n1,2," + ROW)).height == 1


def test_an_empty_first_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it must name the columns"):
        read(written(tmp_path, "\n" + HEAD + ROW))


FIELD = st.text(st.sampled_from('ab,"\n é'), max_size=6)


@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=30), size=st.integers(40, 200), always=st.booleans())
def test_any_text_comes_back_whatever_the_size_of_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], size: int, always: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "r.csv"
    frame = pl.DataFrame(rows, schema={"meter": pl.String, "note": pl.String}, orient="row")
    wide = frame.with_columns(at=pl.lit("2024-01-01"), value=pl.lit("1"))
    wide.write_csv(path, quote_style="always" if always else "necessary")
    table = text.CsvTable("r.csv", READING, ["meter", "note", "at", "value"])
    with text.ByteFile(path) as file:
        parts = list(text.record_chunks(file, "r.csv", has_quotes=True, size=size))
    end = text.first_record_end(parts[0])
    parsed = pl.concat([table.parse(part) for part in [parts[0][end:], *parts[1:]]])
    assert parsed.select("meter", "note").rows() == rows


def test_the_fast_and_the_careful_way_agree(tmp_path: Path) -> None:
    body = b'm1,2024-01-01,1,"a,b"\nm2,2024-01-02,2,\n'
    table = text.CsvTable("r.csv", READING, ["meter", "at", "value", "note"])
    fast, careful = table._fast(body), table._careful(body)
    assert fast is not None
    assert fast.equals(careful)
