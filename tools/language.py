"""Check names and docstrings of the source tree against the project's rules of language.

    python -m tools.language [PATH ...]

Prints a line for each violation below the paths (`src/kandle` by default) and exits with 1 if there is one. The rules:

- A variable, parameter or attribute is named after what it holds; the names of `EMPTY_NAMES` say nothing.
- The docstring of a function starts with a verb in the imperative; that of a property or class is a noun phrase.
- A public function documents its parameters under `Args:` and its result under `Returns:` or `Yields:`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EMPTY_NAMES = frozenset({
    "each", "every", "found", "made", "place", "places", "somebody", "something", "stuff", "there", "thing", "things",
    "told", "what",
})  # fmt: skip
"""Names that fit any value and so tell a reader nothing."""

NO_VERBS = frozenset({
    "a", "all", "an", "and", "another", "any", "as", "at", "both", "by", "each", "either", "every", "for",
    "from", "half", "here", "how", "if", "in", "instead", "it", "its", "less", "more", "neither", "no",
    "nobody", "none", "not", "nothing", "of", "on", "one", "only", "other", "otherwise", "somebody",
    "something", "that", "the", "their", "there", "these", "they", "this", "those", "to", "under", "until",
    "what", "when", "where", "whether", "which", "who", "whose", "why", "with", "without",
})  # fmt: skip
"""First words of a docstring that are no verb."""

PUBLIC = (
    "backfill/backfill.py",
    "calendars.py",
    "context/context.py",
    "context/options.py",
    "errors.py",
    "functions.py",
    "ksqldb/facade.py",
    "log/port.py",
    "model/markers.py",
    "plan/explain.py",
    "query/functions/aggregates.py",
    "query/functions/conditions.py",
    "query/functions/numbers.py",
    "query/functions/results.py",
    "query/functions/texts.py",
    "query/functions/times.py",
    "query/stages.py",
    "sets/bars.py",
    "sets/messages.py",
    "sets/reading.py",
    "sets/sets.py",
    "testing/context.py",
    "time/timeframe.py",
)
"""Files whose definitions users see: these have sections in their docstrings."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Violation:
    """A place that breaks a rule."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def violations(paths: list[Path]) -> list[Violation]:
    """Return what breaks the rules in the given files and folders."""
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    result: list[Violation] = []
    for file in files:
        tree = ast.parse(file.read_text())
        result += [Violation(file, line, message) for line, message in _file_violations(file, tree)]
    return result


def _file_violations(file: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    is_public = any(file.as_posix().endswith(f"kandle/{name}") for name in PUBLIC)
    for node in ast.walk(tree):
        for name, line in _bound_names(node):
            if name in EMPTY_NAMES:
                yield line, f"the name {name!r} says nothing; name it after what it holds"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _docstring_violations(node)
    if is_public:
        yield from _section_violations(tree.body)


def _bound_names(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id, node.lineno
    elif isinstance(node, ast.arg):
        yield node.arg, node.lineno
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr.lstrip("_"), node.lineno


def _docstring_violations(node: Function) -> Iterator[tuple[int, str]]:
    text = ast.get_docstring(node)
    if not text or _is_described_by_a_noun(node):
        return
    first = text.split()[0].strip(".,:;`'\"").lower()
    if first in NO_VERBS:
        yield node.lineno, f"the docstring of {node.name} starts with {first!r}; start with a verb in the imperative"


def _is_described_by_a_noun(node: Function) -> bool:
    """Return whether a function is a property or another attribute in disguise."""
    return any("property" in name or name.endswith((".setter", "fixture")) for name in map(ast.unparse, node.decorator_list))


def _section_violations(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _section_violations(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield from _missing_sections(node)


def _missing_sections(node: Function) -> Iterator[tuple[int, str]]:
    if any(ast.unparse(decorator).endswith(("overload", "property")) for decorator in node.decorator_list):
        return
    text = ast.get_docstring(node)
    if text is None:
        yield node.lineno, f"{node.name} has no docstring"
        return
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    if [argument for argument in arguments if argument.arg not in ("self", "cls")] and "Args:" not in text:
        yield node.lineno, f"the docstring of {node.name} has no section Args:"
    if not _gives_nothing(node.returns) and not ("Returns:" in text or "Yields:" in text):
        yield node.lineno, f"the docstring of {node.name} has no section Returns:"


def _gives_nothing(annotation: ast.expr | None) -> bool:
    return annotation is None or ast.unparse(annotation) in ("None", "Self", "NoReturn")


def main() -> int:
    """Print the violations and return the exit code."""
    paths = [Path(argument) for argument in sys.argv[1:]] or [Path("src/kandle")]
    lines = violations(paths)
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
