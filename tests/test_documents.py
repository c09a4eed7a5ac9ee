"""Every Python snippet of the README and of docs/ runs: those of a page one after the other, in one module."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from kandle import Options
from kandle.context.sections import TopicOptions

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


def test_every_option_is_in_the_page_of_the_configuration() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    tables = {
        found[1]: found[2] for found in re.finditer(r"^\[(\w+)(?:\.\w+)?\](.*?)(?=^\[|^```)", text, re.MULTILINE | re.DOTALL)
    }
    tables["clock"] = text.partition("`[clock]`")[2]
    sections = {name: found.annotation for name, found in Options.model_fields.items()} | {"topics": TopicOptions}
    missing = [
        f"{name}.{option}"
        for name, section in sections.items()
        for option in getattr(section, "model_fields", {})
        if not re.search(rf"\b{option}\b", tables[name])
    ]
    assert missing == []


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
