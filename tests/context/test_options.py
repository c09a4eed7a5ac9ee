"""Options: code before environment before file, and errors that name key, file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    (
        '[dead_letters]\nrate = "many"\n',
        r"line 2: option 'dead_letters\.rate' = 'many': write a number of letters and a duration, such as 1000/1m",
    ),
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


WRONG_VARIABLES = [
    ("KANDLE_ACCES", "read_only", r"no option has this name; did you mean KANDLE_ACCESS\?"),
    ("kandle_acces", "read_only", r"did you mean KANDLE_ACCESS\?"),
    ("KANDLE_LOG_PATH", "x", r"did you mean KANDLE_LOG__PATH \(two underscores between log and path\)\?"),
    ("KANDLE_LOGPATH", "x", r"did you mean KANDLE_LOG__PATH"),
    ("KANDLE__LOG__PATH", "x", r"did you mean KANDLE_LOG__PATH\?"),
    ("KANDLE_LOG.PATH", "x", r"did you mean KANDLE_LOG__PATH"),
    ("KANDLE_RUNTIM__LEASE", "5s", r"did you mean KANDLE_RUNTIME__LEASE\?"),
    ("KANDLE_LOG_LEVEL", "info", r"no option has this name; those of the section log are KANDLE_LOG__KIND, KANDLE_LOG__PATH"),
    ("KANDLE_LOG__PAHT", "x", r"unknown option 'log\.paht'; did you mean 'path'\?"),
    ("KANDLE_LOG__PATH__X", "x", r"option 'log\.path' = \{'x': 'x'\}: give a path as text"),
    ("KANDLE_NOTHING__LIKE_IT", "x", r"unknown option 'nothing'; valid are validation, access"),
    ("KANDLE_LOG", "embedded", r"log is a section of options; did you mean KANDLE_LOG__KIND=embedded\?"),
    ("KANDLE_LOG", "here", r"log is a section of options, not an option; set those in it: KANDLE_LOG__KIND"),
    ("KANDLE_LOG", "3", r"option 'log' = 3: this is a section of options"),
    (
        "KANDLE_UNIVERSE__KEYS",
        "ACME",
        r"the value is not JSON; write it like KANDLE_UNIVERSE__KEYS='\[\[",
    ),
    ("KANDLE_KAFKA__PROPERTIES", "secret", r"the value is not JSON; write it like KANDLE_KAFKA__PROPERTIES='\{\"name\": "),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_VARIABLES)
def test_a_variable_that_sets_no_option_is_an_error_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    for make in (Options, Options.load):
        with pytest.raises(OptionsError, match=rf"^environment, {name}: .*{message}") as failure:
            make()
        assert "secret" not in str(failure.value)


def test_variables_of_others_and_sections_in_json_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_OF_MY_OWN", "1")
    monkeypatch.setenv("KANDLE_HOME", "/home/kandle")
    monkeypatch.setenv("KANDLE_LOG", '{"path": "elsewhere"}')
    monkeypatch.setenv("KANDLE_TOPICS__ticks__partitions", "3")
    monkeypatch.setenv("KANDLE_UNIVERSE__KEYS", '[["A"]]')
    options = Options.load()
    assert (options.log.path, options.topics["ticks"].partitions, options.universe.keys) == (Path("elsewhere"), 3, (("A",),))


def test_a_file_that_is_no_text_is_an_error_that_names_line_and_encoding() -> None:
    Path("kandle.toml").write_bytes('[log]\npath = "Börse"\n'.encode("latin-1"))
    with pytest.raises(OptionsError, match=r"^kandle\.toml, line 2: the byte 0xf6 is not UTF-8; save the file "):
        Options.load()


def test_a_mark_of_the_encoding_before_the_text_does_no_harm() -> None:
    Path("kandle.toml").write_bytes('access = "read_only"\n'.encode("utf-8-sig"))
    assert Options.load().access == "read_only"


def test_a_folder_in_the_place_of_the_file_is_an_error_that_says_so() -> None:
    Path("kandle.toml").mkdir()
    with pytest.raises(OptionsError, match=r"^kandle\.toml is a folder, not a configuration file"):
        Options.load()
    with pytest.raises(OptionsError, match=r"^here is a folder, not a configuration file"):
        Path("here").mkdir()
        Options.load("here")


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


@pytest.mark.parametrize("section", ["kafka", "topics.ticks"])
@pytest.mark.parametrize(("name", "way"), [("group.id", "consumer.group"), ("enable.auto.commit", "leave it out")])
def test_properties_on_which_promises_depend_are_refused_with_the_way_out(section: str, name: str, way: str) -> None:
    properties = {"consumer": {name: "secret"}}
    values: dict[str, Any] = {"kafka": properties} if section == "kafka" else {"topics": {"ticks": properties}}
    with pytest.raises(OptionsError, match=f"^option '{section}.consumer': kandle sets {name} itself; .*{way}") as caught:
        Options(**values)
    assert "secret" not in str(caught.value)


def test_a_property_in_a_variable_of_its_own_is_refused_with_the_spelling_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_KAFKA__PROPERTIES__SASL_PASSWORD", "hidden")
    with pytest.raises(OptionsError, match=r"""KANDLE_KAFKA__PROPERTIES='\{"sasl\.password": "\.\.\."\}'""") as caught:
        Options()
    assert "hidden" not in str(caught.value)
