"""Options: code before environment before file, and errors that name key, file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kandle import Context, Options
from kandle.errors import ModelError, OptionsError


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
    (
        '[topics.a]\nretention = "7d"\n[heartbeat]\nretention = "soon"\n',
        r"kandle\.toml, line 4: option 'heartbeat\.retention' = 'soon': 'soon' is not a duration",
    ),
    (
        '[universe]\nkeys = [\n  ["a"],\n  "b",\n]\n',
        r"kandle\.toml, line 2: option 'universe\.keys\.1' = 'b': give a list in brackets",
    ),
    (
        '[topics."a.b"]\npartitions = "x"\n',
        r"kandle\.toml, line 2: option 'topics\.a\.b\.partitions' = 'x': give a whole number",
    ),
    ("heartbeat = {retention = 5, jiter = 2}\n", r"line 1: unknown option 'heartbeat\.jiter'; did you mean 'jitter'\?"),
    ("runtime.lease = 5\n", r"line 1: option 'runtime\.lease' = 5: give a duration of at least 100ms, as a text such as \"1s\""),
    ('log = "here"\n', r"line 1: option 'log' = 'here': this is a section of options: write them below a line \[log\]"),
    ("[log]\npath = 5\n", r"line 2: option 'log\.path' = 5: give a path as text"),
    ("[bogus]\na = 1\n", r"line 1: unknown option 'bogus'; valid are validation, access"),
    ('[topics.a]\nretention = "soon"\n', r"line 2: option 'topics\.a\.retention' = 'soon': 'soon' is not a duration"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_option_is_named_with_file_and_line(text: str, message: str) -> None:
    written(text)
    with pytest.raises(OptionsError, match=message):
        Options.load()


def test_a_wrong_option_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    written('access = "read_only"\n')
    monkeypatch.setenv("KANDLE_VALIDATION", "lax")
    with pytest.raises(OptionsError, match=r"environment, KANDLE_VALIDATION: option 'validation' = 'lax'"):
        Options.load()


def test_a_variable_of_a_section_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_OF_MY_OWN", "1")
    assert Options.load().access == "read_write"
    monkeypatch.setenv("KANDLE_RUNTIM__LEASE", "5s")
    with pytest.raises(OptionsError, match=r"environment, KANDLE_RUNTIM__LEASE: unknown option 'runtim'; did you mean 'runtime'"):
        Options.load()


def test_a_wrong_option_in_code_is_named() -> None:
    with pytest.raises(OptionsError, match=r"unknown option 'acces'; did you mean 'access'\?"):
        Options(acces="read_only")


def test_a_file_that_was_asked_for_must_be_there() -> None:
    with pytest.raises(OptionsError, match=r"there is no configuration file other\.toml"):
        Options.load("other.toml")


def test_an_option_of_the_environment_is_not_taken_for_one_of_the_same_name_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written('[runtime]\nlease = "5s"\n')
    monkeypatch.setenv("KANDLE_RUNTIME__LEASE", "fast")
    with pytest.raises(OptionsError, match=r"^environment, KANDLE_RUNTIME__LEASE: option 'runtime\.lease' = 'fast'"):
        Options.load()
    with pytest.raises(OptionsError, match=r"^option 'runtime\.lease' = 'slow'"):
        Options.load(runtime={"lease": "slow"})


def test_settings_of_a_topic_that_the_context_has_not_are_named_with_file_and_line() -> None:
    class Empty(Context):
        """No sets."""

    written('access = "read_only"\n[topics.nowhere]\npartitions = 3\n')
    with pytest.raises(ModelError, match=r"^kandle\.toml, line 2: topics\.nowhere: Empty has no such topic"):
        Empty.open()
