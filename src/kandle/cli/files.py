"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

from kandle.errors import OutputError


def written(path: Path, text: str) -> None:
    """Write a text file, in folders that are made; OutputError names the path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
