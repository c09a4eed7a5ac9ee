from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from kandle.backfill.readers import open_ticks
from kandle.backfill.text import ByteFile, JsonLines
from kandle.errors import DataError, InputError
from tests.backfill.entities import READING, RENAMED

GOOD = '{"meter": "m1", "at": "2024-01-01T00:00:00Z", "value": 1.38670}\n'


def read(tmp_path: Path, content: str | bytes, entity: object = READING) -> pl.DataFrame:
    path = tmp_path / "r.ndjson"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return pl.concat([batch.frame for batch in open_ticks(path, entity).batches()])  # type: ignore[arg-type]


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    lines = [
        f'{{"meter":"m","at":"2024-01-01","value":{value}}}' for value in ("1.10", "0.1", "1e2", '"2.5"', "1234567890123.00001")
    ]
    frame = read(tmp_path, "\n".join(lines))
    assert frame["value"].to_list() == [110000, 10000, 10000000, 250000, 123456789012300001]


def test_a_field_that_may_be_missing_may_be_missing(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD)["note"].to_list() == [None]
    assert read(tmp_path, GOOD + GOOD.replace("}", ', "note": "x"}'))["note"].to_list() == [None, "x"]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + GOOD + "\n" + GOOD + "\r\n").height == 2


def test_escapes_and_aliases_are_understood(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace("m1", "\\u00e9\\n"))["meter"].to_list() == ["é\n"]
    assert read(tmp_path, '{"time": "2024-01-01", "n": 3}', RENAMED)["count"].to_list() == [3]


def test_a_file_of_blank_lines_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "\n\n").height == 0


def test_values_are_those_of_a_json_topic(tmp_path: Path) -> None:
    """Milliseconds since the epoch are an instant, and an empty text is a text."""
    frame = read(tmp_path, GOOD.replace('"2024-01-01T00:00:00Z"', "1704067200000").replace("}", ', "note": ""}'))
    assert frame.rows() == [("m1", datetime(2024, 1, 1, tzinfo=UTC), 138670, "")]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"meter": "m1", "at"', r"line 3: it is not JSON"),
        ("[1, 2]", "line 3: it is not a JSON object, but an array"),
        ("null", "line 3: it is not a JSON object, but null"),
        ("7", "line 3: it is not a JSON object, but a single value"),
        ('{"meter": "m", "at": "2024-01-01", "value": NaN}', "line 3: it is not JSON: NaN is no number of JSON"),
        ('{"meter": "m"} {"meter": "m"}', "line 3: it is not JSON: Extra data"),
    ],
)
def test_a_line_at_fault_is_named(tmp_path: Path, bad: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, GOOD + "\n" + bad + "\n")


@pytest.mark.parametrize("value", ['{"id": 1}', '["m"]'])
def test_an_object_or_array_in_the_place_of_a_text_is_named_with_its_row(tmp_path: Path, value: str) -> None:
    with pytest.raises(DataError, match=r"row 2, column meter: .* is not str \(Reading\.meter is str\)"):
        read(tmp_path, GOOD + "\n" + GOOD.replace('"m1"', value))


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: it is not JSON: 'utf-8' codec can't decode byte 0xff"):
        read(tmp_path, GOOD.encode() + b'{"meter": "\xff"}\n')


def test_a_value_that_does_not_fit_is_named_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.ndjson, row 2, column value: True is not Decimal\(18, 5\)"):
        read(tmp_path, GOOD + GOOD.replace("1.38670", "true"))
    with pytest.raises(DataError, match=r"row 2, column value: there is no value"):
        read(tmp_path, GOOD + GOOD.replace("1.38670", "null"))


def test_a_field_that_is_not_in_an_object_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.ndjson, line 2: no column 'value' for Reading\.value; did you mean 'valeu'"):
        read(tmp_path, GOOD + '{"meter": "m1", "at": "2024-01-01", "valeu": 1}\n')


@pytest.mark.parametrize("size", [7, 60, 1000])
def test_chunks_of_any_size_give_the_same_rows_and_the_same_numbers_in_errors(tmp_path: Path, size: int) -> None:
    def rows(content: str) -> int:
        path = tmp_path / "r.ndjson"
        path.write_text(content)
        lines = JsonLines("r.ndjson", READING)
        with ByteFile(path) as file:
            return sum(lines.parse(chunk).height for chunk in chunks_of(file, size))

    assert rows((GOOD + "\n") * 4) == 4
    with pytest.raises(DataError, match="row 4, column value"):
        rows((GOOD + "\n") * 3 + GOOD.replace("1.38670", "true"))
    with pytest.raises(InputError, match="line 7: it is not JSON"):
        rows((GOOD + "\n") * 3 + "{\n")


def chunks_of(file: ByteFile, size: int) -> Iterator[bytes]:
    """Whole lines, however small the pieces are in which they are read."""
    rest = b""
    while data := file.read(size):
        end = (rest + data).rfind(b"\n") + 1
        if end:
            yield (rest + data)[:end]
        rest = (rest + data)[end:]
    if rest:
        yield rest
