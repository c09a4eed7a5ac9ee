"""The files of a package stand in the order in which its docstring draws them: each imports only files below it."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

# `kandle.plan` is a function, too, so packages are asked for by name.
PACKAGES = [import_module(f"kandle.{name}") for name in ("runtime", "store", "log.embedded", "plan", "time")]


def drawn(package: ModuleType) -> list[str]:
    """Return the files that the docstring of a package lists, in their order."""
    return re.findall(r"^ +(\w+)\.py ", package.__doc__ or "", flags=re.MULTILINE)


def imported_files(package: ModuleType, name: str) -> set[str]:
    """Return the files of a package that one of its files imports."""
    prefix = f"{package.__name__}."
    tree = ast.parse((Path(package.__path__[0]) / f"{name}.py").read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {module.removeprefix(prefix) for module in modules if module.startswith(prefix)}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_is_drawn_once(package: ModuleType) -> None:
    assert sorted(drawn(package)) == sorted(path.stem for path in Path(package.__path__[0]).glob("[!_]*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_imports_only_files_below_it(package: ModuleType) -> None:
    order = drawn(package)
    upward = {
        name: above
        for position, name in enumerate(order)
        if (above := imported_files(package, name) & set(order[: position + 1]))
    }
    assert upward == {}
