"""Every Python snippet of the README and of docs/ passes mypy --strict and pyright, as a reader would paste them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_documents import NAMED, PAGES, ROOT, snippets


@dataclass(frozen=True)
class Written:
    """Pages written as modules: the page of each file."""

    folder: Path
    pages: dict[str, str]

    def place(self, file: str, line: int) -> str:
        """Page and line of a finding."""
        return f"{self.pages[Path(file).name]}:{line}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A module of each page, with all its snippets at the lines that they have there.

    A snippet that begins with the name of a file is that file; those after it import from it.
    """
    folder, pages = tmp_path_factory.mktemp("pages"), dict[str, str]()
    for page in PAGES:
        lines: dict[str, list[str]] = {}
        for line, source in snippets(page):
            named = NAMED.match(source)
            module = lines.setdefault(named[1] if named else f"page_{page.stem.replace('-', '_').lower()}.py", [])
            module += [""] * (line - len(module)) + source.splitlines()
        for name, text in lines.items():
            assert name not in pages, f"{page.name} and {pages[name]} both have a file {name}"
            (folder / name).write_text("\n".join(text) + "\n", encoding="utf-8")
            pages[name] = page.name
    assert len(pages) > 10
    return Written(folder, pages)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MYPYPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_mypy_has_nothing_to_say_of_the_snippets(written: Written) -> None:
    files = [str(written.folder / name) for name in written.pages]
    cache = ROOT / ".mypy_cache" / "snippets"
    done = run(written.folder, "mypy", "--strict", "--no-error-summary", "--cache-dir", str(cache), *files)
    findings = [
        f"{written.place(file, int(line))}: {text}"
        for file, line, text in re.findall(r"^(\S+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    ]
    assert not findings, "\n".join(findings)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_has_nothing_to_say_of_the_snippets(written: Written) -> None:
    done = run(written.folder, "pyright", "--outputjson", "--pythonpath", sys.executable, str(written.folder))
    answer = json.loads(done.stdout)
    findings = [
        f"{written.place(finding['file'], finding['range']['start']['line'] + 1)}: {finding['message']}"
        for finding in answer["generalDiagnostics"]
        if finding["severity"] == "error"
    ]
    assert not findings, "\n".join(findings)
    assert answer["summary"]["filesAnalyzed"] == len(written.pages)
    assert done.returncode == 0, done.stdout + done.stderr
