"""Programs of the catalogue equal their files, and ksqlDB accepts them; what it cannot do is refused by name.

KANDLE_REWRITE=1 writes the files, docs/ksql-models.md and examples/ksql/ anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kandle.errors import QueryError
from kandle.ksql.program import ScriptRole
from kandle.ksql.types import name_of_topic
from tests.cli.commands import Here
from tests.ksql.programs.cases import Case
from tests.ksql.programs.catalogue import CASES
from tests.ksql.programs.golden import whole, written
from tests.ksql.programs.page import page
from tests.ksqldb.simulator.checking import check_script

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
PROGRAMS = [(case, role) for case in CASES.values() for role in case.roles]
EXAMPLES = [(name, role) for name in ("fx", "gold") for role in ScriptRole]


def content(path: Path, text: str) -> str:
    """Return the content of a file; with KANDLE_REWRITE, write the text into it first."""
    if os.environ.get("KANDLE_REWRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def file_of(case: Case, role: ScriptRole) -> str:
    return f"{case.name}.{role.value}.sql"


def text_of(case: Case, role: ScriptRole) -> str:
    return f"{case.script(role).text}\n"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Return the content of each file of expected programs; with KANDLE_REWRITE, write all files first."""
    folder = HERE / "sql"
    if os.environ.get("KANDLE_REWRITE"):
        for path in folder.iterdir():
            path.unlink()
        for name, text in written({file_of(case, role): text_of(case, role) for case, role in PROGRAMS}).items():
            (folder / name).write_text(text, encoding="utf-8")
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize(("case", "role"), PROGRAMS, ids=lambda value: value.name if isinstance(value, Case) else value.value)
def test_a_program_is_the_one_in_its_file_and_a_server_takes_it(case: Case, role: ScriptRole, files: dict[str, str]) -> None:
    text = text_of(case, role)
    assert whole(files[file_of(case, role)], files["shared.sql"]) == text
    assert check_script(text) == []
    comments = [line for line in text.splitlines() if line.startswith("--")]
    assert not set("".join(comments)) & set("'\"`;")


@pytest.mark.parametrize(
    ("topic", "name"),
    [("market.ticks", "market_ticks"), ("a-b", "a_b"), ("2024", "t_2024"), ("_2b", "t__2b"), ("_b2", "_b2"), ("Raw", "Raw")],
)
def test_a_topic_has_a_name_that_ksqldb_and_avro_take(topic: str, name: str) -> None:
    assert name_of_topic(topic) == name


def test_a_block_of_several_programs_is_written_once_and_there_is_no_file_without_a_program(files: dict[str, str]) -> None:
    assert files == written({file_of(case, role): text_of(case, role) for case, role in PROGRAMS})


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.refused], ids=lambda case: case.name)
def test_what_cannot_be_closed_inside_of_ksqldb_is_refused_with_the_reason(case: Case) -> None:
    with pytest.raises(QueryError) as error:
        case.script(ScriptRole.ALL)
    assert case.refused in str(error.value)
    assert str(error.value).startswith(f"query of {case.query.target.name} on ksqlDB: ")
    assert 'role "live"' in str(error.value)


def test_the_page_of_both_readings_is_up_to_date() -> None:
    text = page(list(CASES.values()))
    assert content(ROOT / "docs" / "ksql-models.md", text) == text


@pytest.mark.parametrize(("name", "role"), EXAMPLES)
def test_the_scripts_of_the_examples_are_what_the_command_prints(
    name: str, role: ScriptRole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, printed, errors = Here(capsys).run("script", f"examples.{name}:{name.capitalize()}", "--role", role.value)
    assert (code, errors) == (0, "")
    assert content(ROOT / "examples" / "ksql" / f"{name}_{role.value}.sql", printed) == printed
    assert check_script(printed) == []
