from pathlib import Path

import polars as pl
import pytest

from kandle.backfill.readers import open_ticks
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


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"meter": "m1", "at"', r"line 3: not JSON"),
        ("[1, 2]", "line 3: every line must be a JSON object, but this is an array"),
        ("null", "but this is null"),
        ('{"meter": {"id": 1}, "at": "2024-01-01", "value": 1}', "line 3: field 'meter' is an object"),
        ('{"meter": ["m"], "at": "2024-01-01", "value": 1}', "line 3: field 'meter' is an array"),
        ('{"meter": "m", "at": "2024-01-01", "value": NaN}', "line 3: not JSON: NaN is no JSON number"),
        ('{"meter": "m"} {"meter": "m"}', "line 3: not JSON: Extra data"),
    ],
)
def test_a_line_at_fault_is_named(tmp_path: Path, bad: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, GOOD + GOOD + bad + "\n")


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: not UTF-8 text \(byte 0xff\)"):
        read(tmp_path, GOOD.encode() + b'{"meter": "\xff"}\n')


def test_a_value_that_does_not_fit_is_named_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2, column value: 'true'"):
        read(tmp_path, GOOD + GOOD.replace("1.38670", "true"))
    with pytest.raises(DataError, match=r"row 2, column value: there is no value"):
        read(tmp_path, GOOD + GOOD.replace("1.38670", "null"))


def test_a_field_that_is_in_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'value' for Reading\.value"):
        read(tmp_path, '{"meter": "m1", "at": "2024-01-01"}\n')
