"""Fixtures of the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Here, Processes


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    """Commands in this process, in a folder without a configuration file."""
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    return Here(capsys)


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts commands that are ended with the test."""
    found = Processes()
    yield found
    found.close()
