"""Every Python snippet of the README and of docs/ runs: those of a page one after the other, in one module."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from kandle import Options
from kandle.context.variables import section_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

NAMED = re.compile(r"# (\w+\.py)\n")
"""A snippet that begins with the name of its file; those after it may import from it."""


def snippets(page: Path) -> list[tuple[int, str]]:
    """Line number and text of every Python snippet of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found[1]) for found in SNIPPET.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_runs(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for line, source in snippets(page):
        if (name := NAMED.match(source)) is not None:
            (tmp_path / name[1]).write_text(source, encoding="utf-8")
            monkeypatch.delitem(sys.modules, name[1].removesuffix(".py"), raising=False)
        # Blank lines in front make the line numbers of an error those of the page.
        exec(compile("\n" * line + source, str(page), "exec"), module.__dict__)


def test_there_are_snippets_to_run() -> None:
    with_snippets = {page.name for page in PAGES if snippets(page)}
    assert with_snippets >= {
        "README.md",
        "entities.md",
        "query-language.md",
        "time-and-sessions.md",
        "backfill.md",
        "first-steps.md",
    }


def options_below(section: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every option; what users name themselves, such as topics, is left out of it."""
    for name, field in section.model_fields.items():
        kinds = [section_of(kind) for kind in (field.annotation, *get_args(field.annotation))]
        below = next(filter(None, kinds), None)
        if below is None:
            yield (*path, name)
        else:
            yield from options_below(below, (*path, name))


OPTIONS = set(options_below(Options))


def test_every_option_is_in_the_page_of_the_configuration() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    tables = {"": text[text.index("```toml") : text.index("[log]")]}
    for found in re.finditer(r"^\[(\w+)(?:\.\w+)?\](.*?)(?=^\[|^```)", text, re.MULTILINE | re.DOTALL):
        tables[found[1]] = tables.get(found[1], "") + found[2]
    tables["clock"] = text.partition("`[clock]`")[2]
    assert len(OPTIONS) > 80
    missing = [path for path in sorted(OPTIONS) if not re.search(rf"\b{path[-1]}\b", tables[path[0] if len(path) > 1 else ""])]
    assert missing == []


NAMED_BY_USER = ("topics", "entities")
FILES = ("py", "toml", "txt", "db", "sql")


def set_in(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every option that a configuration sets."""
    for name, value in content.items():
        if path in OPTIONS:
            yield path
        elif not isinstance(value, Mapping):
            yield (*path, name)
        else:
            is_name = len(path) == 1 and path[0] in NAMED_BY_USER
            yield from ((*path, option) for option in value) if is_name else set_in(value, (*path, name))


def settings_of(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the options that a page names: in blocks of TOML, as `section.option`, as `[section] option = ..`, as variables."""
    for block in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from set_in(tomllib.loads(block))
    sections = {path[0] for path in OPTIONS if len(path) > 1}
    for section, option in re.findall(r"`([a-z_]+)\.([a-z_]+)(?: = [^`]*)?`", text) + re.findall(r"`\[(\w+)\] (\w+) =", text):
        if section in sections and option not in FILES and section not in NAMED_BY_USER:
            yield section, option
    for variable in re.findall(r"\bKANDLE_(\w+__\w+)", text):
        path = tuple(variable.lower().split("__"))
        yield (path[0], *path[2:]) if path[0] in NAMED_BY_USER else path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    named = set(settings_of(page.read_text(encoding="utf-8")))
    assert sorted(path for path in named if path not in OPTIONS) == []
    if page.name == "configuration.md":
        assert len(named) > 60


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_what_the_readme_shows_is_what_comes_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = types.ModuleType("page_readme_output")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    page = ROOT / "README.md"
    for _, source in snippets(page):
        exec(compile(source, str(page), "exec"), module.__dict__)
    shown = re.search(r"^```\n(shape: .*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1].split() == capsys.readouterr().out.split()
