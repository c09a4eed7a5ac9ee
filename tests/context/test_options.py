"""Options: code before environment before file, and errors that name key, file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kandle import Options
from kandle.errors import OptionsError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("kandle.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_there_are_defaults() -> None:
    options = Options.load()
    assert (options.validation, options.access, options.context, options.topics) == ("strict", "read_write", None, {})


def test_code_is_before_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written('validation = "relaxed"\naccess = "read_only"\ncontext = "app:File"\n[topics.trades]\npartitions = 3\n')
    monkeypatch.setenv("KANDLE_ACCESS", "write_only")
    monkeypatch.setenv("KANDLE_CONTEXT", "app:Environment")
    options = Options.load(context="app:Code")
    assert (options.validation, options.access, options.context) == ("relaxed", "write_only", "app:Code")
    assert options.topics["trades"].partitions == 3


WRONG = [
    (
        'access = "read_write"\nvalidaton = "strict"\n',
        r"kandle\.toml, line 2: unknown option 'validaton'; did you mean 'validation'\? valid are",
    ),
    ('validation = "lax"\n', r"kandle\.toml, line 1: option 'validation' = 'lax': Input should be 'strict' or 'relaxed'"),
    ("\n[topics.a]\npartitions = 0\n", r"kandle\.toml, line 3: option 'topics\.a\.partitions' = 0"),
    (
        "[topics.a]\npartition = 1\n",
        r"line 2: unknown option 'topics\.a\.partition'; did you mean 'partitions'\? valid are partitions, rep",
    ),
    ('[runtime]\nlease = "fast"\n', r"line 2: option 'runtime\.lease' = 'fast': 'fast' is not a duration; write numbers with us"),
    ("access = \n", r"kandle\.toml is not TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_option_is_named_with_file_and_line(text: str, message: str) -> None:
    written(text)
    with pytest.raises(OptionsError, match=message):
        Options.load()


def test_a_wrong_option_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    written('access = "read_only"\n')
    monkeypatch.setenv("KANDLE_VALIDATION", "lax")
    with pytest.raises(OptionsError, match=r"environment: option 'validation' = 'lax'"):
        Options.load()


def test_a_wrong_option_in_code_is_named() -> None:
    with pytest.raises(OptionsError, match=r"unknown option 'acces'; did you mean 'access'\?"):
        Options(acces="read_only")


def test_a_file_that_was_asked_for_must_be_there() -> None:
    with pytest.raises(OptionsError, match=r"there is no configuration file other\.toml"):
        Options.load("other.toml")
