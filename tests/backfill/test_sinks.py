"""Folders of bars: all files appear at the commit, or none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from kandle.backfill.sinks import OutputFolder
from kandle.backfill.writers import FORMATS
from kandle.errors import OutputError
from tests.backfill.entities import READING
from tests.backfill.test_writers import READINGS, content, frame_of, write


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_there_before_the_commit_and_all_of_it_after(tmp_path: Path, format: str) -> None:
    folder = tmp_path / "deep" / "out"
    output = OutputFolder(folder, format)
    for name in ("a", "b"):
        output.writer(name, READING).write(frame_of(READINGS))
    assert not list(folder.glob("*"))[1:]
    assert not list(folder.glob(f"*.{format}"))
    output.commit()
    assert sorted(content(folder)) == [f"a.{format}", f"b.{format}"]


@pytest.mark.parametrize("format", FORMATS)
def test_an_abort_leaves_the_folder_as_it_was(tmp_path: Path, format: str) -> None:
    (tmp_path / f"a.{format}").write_text("before")
    output = OutputFolder(tmp_path, format)
    output.writer("a", READING).write(frame_of(READINGS))
    output.abort()
    assert content(tmp_path) == {f"a.{format}": b"before"}
    new = tmp_path / "new"
    OutputFolder(new, format).abort()
    assert not new.exists()


def test_files_of_the_same_name_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, "csv", frame_of(READINGS))
    path = write(tmp_path, "csv", frame_of(READINGS[:1]))
    assert len(path.read_text().splitlines()) == 2


def test_a_commit_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    output = OutputFolder(tmp_path, "csv")
    for name in ("a", "b"):
        output.writer(name, READING).write(frame_of(READINGS))
    next(tmp_path.glob(".kandle-*/a.csv")).unlink()
    with pytest.raises(OutputError, match="cannot be written"):
        output.commit()
    assert content(tmp_path) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match=rf"{path} cannot be written: "):
            OutputFolder(path, "csv")


def test_a_name_that_is_taken_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OutputError, match=r"a\.csv is a folder"):
        OutputFolder(tmp_path, "csv").writer("a", READING)
    output = OutputFolder(tmp_path, "csv")
    output.writer("b", READING)
    with pytest.raises(OutputError, match=r"b\.csv is written twice"):
        output.writer("b", READING)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="unknown format 'xml'; choose one of parquet, csv, ndjson"):
        OutputFolder(tmp_path / "out", "xml")
    assert not (tmp_path / "out").exists()
