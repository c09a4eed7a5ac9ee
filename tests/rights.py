"""Folders that this process may read, but not write, even if it belongs to the superuser."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Give up the rights of the superuser, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def not_writable(path: Path) -> Iterator[None]:
    """Take the right to write from a folder and its files, and from the user of this process."""
    for part in (path, *path.rglob("*")):
        part.chmod(0o555 if part.is_dir() else 0o444)
    try:
        with as_ordinary_user():
            yield
    finally:
        for part in (path, *path.rglob("*")):
            part.chmod(0o755 if part.is_dir() else 0o644)


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A new folder that every user may read; those of pytest are for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
