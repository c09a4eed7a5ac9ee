"""Commands that read, on a data folder that cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kandle.log.embedded.log import EmbeddedLog
from tests.cli.commands import Here
from tests.cli.logs import readings_log
from tests.rights import not_writable, readable_folder


def closed(folder: Path) -> None:
    readings_log(folder).close()


def in_use(folder: Path) -> None:
    """Leave the log open, so that its newest records are in the journal."""
    OPEN.append(readings_log(folder))


OPEN: list[EmbeddedLog] = []


@pytest.mark.parametrize("state", [closed, in_use])
def test_a_folder_that_cannot_be_written_is_read_by_all_commands_that_read(here: Here, state: Callable[[Path], None]) -> None:
    with readable_folder() as outer:
        folder = outer / "data"
        folder.mkdir()
        state(folder)
        data = ("--data", str(folder))
        expected = [here.output(*words, *data) for words in (("topics", "list"), ("topics", "tail", "readings"))]
        with not_writable(folder):
            outputs = [here.output(*words, *data) for words in (("topics", "list"), ("topics", "tail", "readings"))]
            _, out, _ = here.run("doctor", *data)
        assert outputs == expected
        assert len(expected[1]) > 4
        assert {line.split()[0] for line in out.splitlines() if "log file" in line} == {"ok"}
