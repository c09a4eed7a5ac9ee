from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.backfill.text import ByteFile, first_record_end, last_record_end, record_chunks
from kandle.errors import InputError


def chunks(path: Path, size: int, *, has_quotes: bool = True) -> list[bytes]:
    with ByteFile(path) as file:
        return list(record_chunks(file, "x", has_quotes=has_quotes, size=size))


def test_a_line_break_in_quotes_ends_no_record() -> None:
    #  a,1\n  b,"x\ny"\n  c,"op
    #       ^           ^
    #       4          12
    assert last_record_end(b'a,1\nb,"x\ny"\nc,"op\nen') == 12
    assert last_record_end(b'a,1\nb,"x\ny') == 4
    assert last_record_end(b'"a\nb') == 0
    assert last_record_end(b"") == 0


def test_the_first_record_may_hold_a_line_break_in_quotes() -> None:
    assert first_record_end(b'"a\nb",c\nd') == 8
    assert first_record_end(b"a,b") == 3


@given(
    rows=st.lists(st.sampled_from([b"a,1\n", b'"x\ny",2\n', b'"""\n",3\r\n', b",\n", b'"",""\n'])),
    tail=st.sampled_from([b"", b"z,9"]),
    size=st.integers(5, 40),
)
def test_chunks_end_at_records_and_make_up_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], tail: bytes, size: int
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "x.csv"
    path.write_bytes(b"".join(rows) + tail)
    pieces = chunks(path, size)
    ends = {sum(map(len, rows[:count])) for count in range(len(rows) + 1)} | {path.stat().st_size}
    position = 0
    for chunk in pieces:
        position += len(chunk)
        assert position in ends
    assert b"".join(pieces) == path.read_bytes()


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,"' + b"2\n" * 200)
    with pytest.raises(InputError, match="is a quote or a line not closed"):
        chunks(path, 10)


def test_without_quotes_every_line_break_ends_a_record(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.write_bytes(b'"a\nb"\nc')
    assert chunks(path, 4, has_quotes=False) == [b'"a\n', b'b"\n', b"c"]
