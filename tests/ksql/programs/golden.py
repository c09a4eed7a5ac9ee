"""The files of expected programs: blocks that several programs share are written once, in shared.sql.

A block is a paragraph of a script: a statement with the comment before it. A line `@name` in a program's file stands for the
block that follows the line `@name` in shared.sql. What a file means is therefore exact, to the last character.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

SHARED_BY = 3
"""Programs that a block must be in to be written once; what only both roles of one query have is read best in its place."""

CREATED = re.compile(r"^CREATE \w+ IF NOT EXISTS `(\w+)`", re.MULTILINE)


def blocks(text: str) -> list[str]:
    """Return the paragraphs of a script."""
    return text.rstrip("\n").split("\n\n")


def written(programs: Mapping[str, str]) -> dict[str, str]:
    """Return the content of each file of expected programs, shared.sql among them, by file name.

    Args:
        programs: The text of each program by the name of its file.
    """
    names = _names(programs.values())
    files = {
        file: "\n\n".join(f"@{names[block]}" if block in names else block for block in blocks(text)) + "\n"
        for file, text in programs.items()
    }
    shared = sorted((name, block) for block, name in names.items())
    return {**files, "shared.sql": "\n\n".join(f"@{name}\n{block}" for name, block in shared) + "\n"}


def whole(text: str, shared: str) -> str:
    """Return the program that a file means, with all shared blocks in place.

    Args:
        text: Content of the program's file.
        shared: Content of shared.sql.
    """
    known = dict(block.removeprefix("@").split("\n", 1) for block in blocks(shared))
    return "\n\n".join(known[block.removeprefix("@")] if block.startswith("@") else block for block in blocks(text)) + "\n"


def _names(programs: Iterable[str]) -> dict[str, str]:
    """Return the blocks of several programs, each with a name of its own."""
    counted = Counter(block for program in programs for block in set(blocks(program)))
    shared = sorted(block for block, count in counted.items() if count >= SHARED_BY)
    used: Counter[str] = Counter()
    names = {}
    for block in shared:
        name = _stem(block)
        used[name] += 1
        names[block] = name if used[name] == 1 else f"{name}_{used[name]}"
    return names


def _stem(block: str) -> str:
    """Return the stream or table that a block makes, or the first words of a comment."""
    if (created := CREATED.search(block)) is not None:
        return created[1]
    return "settings" if block.startswith("SET ") else "_".join(re.findall(r"\w+", block)[:3]).lower()
