"""A good query passes mypy --strict and pyright; wrong ones fail where they should, and only there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOOD, WRONG = HERE / "good.py", HERE / "wrong.py"


def marked() -> set[int]:
    """Numbers of the lines that are marked as wrong."""
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.rstrip().endswith("# wrong")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mypy_errors() -> dict[str, set[int]]:
    """Lines with errors by file name."""
    answer = run("mypy", "--strict", "--no-incremental", "--explicit-package-bases", "--no-error-summary", str(GOOD), str(WRONG))
    found: dict[str, set[int]] = {"good.py": set(), "wrong.py": set()}
    for name, line in re.findall(r"typing/(\w+\.py):(\d+): error", answer.stdout):
        found[name].add(int(line))
    assert found["wrong.py"], answer.stdout + answer.stderr
    return found


@pytest.fixture(scope="module")
def pyright_errors() -> dict[str, set[int]]:
    """Lines with errors by file name."""
    answer = run("pyright", "--outputjson", "--pythonpath", sys.executable, str(GOOD), str(WRONG))
    found: dict[str, set[int]] = {"good.py": set(), "wrong.py": set()}
    for each in json.loads(answer.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name].add(each["range"]["start"]["line"] + 1)
    assert found["wrong.py"], answer.stdout + answer.stderr
    return found


def test_mypy_has_nothing_to_say_of_a_good_query(mypy_errors: dict[str, set[int]]) -> None:
    assert mypy_errors["good.py"] == set()


def test_mypy_reports_every_wrong_line_and_no_other(mypy_errors: dict[str, set[int]]) -> None:
    assert mypy_errors["wrong.py"] == marked()


def test_pyright_has_nothing_to_say_of_a_good_query(pyright_errors: dict[str, set[int]]) -> None:
    assert pyright_errors["good.py"] == set()


def test_pyright_reports_every_wrong_line_and_no_other(pyright_errors: dict[str, set[int]]) -> None:
    assert pyright_errors["wrong.py"] == marked()
