"""Print figures of the source tree: how it is cut, who imports whom, and how well it is documented.

    python -m tools.structure [FOLDER]

FOLDER is the package to look at, `src/kandle` by default. The figures are read from the syntax trees; nothing is imported.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:")


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.text.splitlines())


def modules(folder: Path) -> dict[str, Module]:
    """Return the modules of a package by dotted name, without empty `__init__` files."""
    result: dict[str, Module] = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text()
        if not text.strip():
            continue
        parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts).removesuffix(".__init__")
        result[name] = Module(name, path, text, ast.parse(text))
    return result


def imports(tree: dict[str, Module]) -> dict[str, set[str]]:
    """Return which modules of the package each module imports, imports for type checkers included."""
    result: dict[str, set[str]] = {name: set() for name in tree}
    for name, module in tree.items():
        for node in ast.walk(module.tree):
            result[name] |= set(_targets(node, tree)) - {name}
    return result


def _targets(node: ast.AST, tree: dict[str, Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in tree)
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            target = name if name in tree else node.module
            if target in tree:
                yield target


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    reachable = {name: _reachable(name, graph) for name in graph}
    groups = {frozenset(other for other in reachable[name] if name in reachable[other]) for name in graph}
    return [set(group) for group in groups if len(group) > 1]


def _reachable(start: str, graph: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen


def shared_class_names(tree: dict[str, Module]) -> dict[str, list[str]]:
    """Return the names that more than one class has, with the modules of these classes."""
    owners: dict[str, list[str]] = defaultdict(list)
    for name, module in tree.items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                owners[node.name].append(name)
    return {name: places for name, places in sorted(owners.items()) if len(places) > 1}


def public_definitions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield functions and classes without a leading underscore, and such methods of such classes."""
    bodies: list[list[ast.stmt]] = [module.tree.body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    bodies.append(node.body)


def _comment_lines(module: Module) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def main() -> None:
    """Print the figures."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "src/kandle")
    tree = modules(folder)
    graph = imports(tree)
    importers: dict[str, int] = {name: sum(name in targets for targets in graph.values()) for name in tree}
    lines = [module.lines for module in tree.values()]
    definitions = [node for module in tree.values() for node in public_definitions(module)]
    documented = [ast.get_docstring(node) or "" for node in definitions]
    inside = [group for group in cycles(graph) if len(group) > 1]
    shared = shared_class_names(tree)
    print(f"files                        {len(tree)}")
    print(f"lines                        {sum(lines)}")
    print(f"median lines of a file       {statistics.median(lines):g}")
    print(f"largest file                 {max(lines)}")
    print(f"files with one importer      {sum(count == 1 for count in importers.values())}")
    print(f"import cycles                {len(inside)} ({sum(map(len, inside))} files)")
    print(f"class names used twice       {len(shared)}  {', '.join(shared)}")
    print(f"comments per 1,000 lines     {1000 * sum(map(_comment_lines, tree.values())) / sum(lines):.0f}")
    with_sections = sum(any(section in text for section in SECTIONS) for text in documented)
    print(f"public definitions           {len(definitions)}")
    print(f"  with a docstring           {sum(map(bool, documented)) / len(definitions):.0%}")
    print(f"  with sections              {with_sections / len(definitions):.0%}")


if __name__ == "__main__":
    main()
