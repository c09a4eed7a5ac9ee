"""The files of kandle.ksql stand in the order in which its docstring draws them: each imports only files below it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import kandle.ksql

FOLDER = Path(kandle.ksql.__path__[0])
DRAWN = re.findall(r"^ +(\w+)\.py ", kandle.ksql.__doc__ or "", flags=re.MULTILINE)


def imported_files(path: Path) -> set[str]:
    """Return the names of the files of the package that a file imports."""
    return {
        node.module.removeprefix("kandle.ksql.")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("kandle.ksql.")
    }


def test_every_file_is_drawn_once() -> None:
    assert sorted(DRAWN) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def test_a_file_imports_only_files_below_it() -> None:
    upward = {
        name: above
        for position, name in enumerate(DRAWN)
        if (above := imported_files(FOLDER / f"{name}.py") & set(DRAWN[: position + 1]))
    }
    assert upward == {}


def test_the_page_for_developers_names_files_that_exist_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "query-to-ksql.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\d+\. +\*\*`(\w+)\.py`\*\*", page, flags=re.MULTILINE)
    assert len(steps) == 10
    assert set(steps) <= set(DRAWN)
    assert steps == re.findall(r" (?:\d+|\d+ ) ?(\w+)\.py ", page.split("## The steps")[0])
