"""The command `kandle rekey`."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.commands import environment, failure, run

APP = """
from dataclasses import dataclass
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key


@kandle.stream("numbers")
@dataclass(frozen=True)
class NumberV1:
    number: Annotated[int, Key(0)]


@kandle.stream("numbers", key_version=2, previous=NumberV1, upgrade=lambda old: Number(old.number % 10, old.number))
@dataclass(frozen=True)
class Number:
    digit: Annotated[int, Key(0)]
    number: Annotated[int, Key(1)]


class Old(Context):
    numbers: EventSet[NumberV1]


class New(Context):
    numbers: EventSet[Number]


if __name__ == "__main__":
    with Old.open(validation="relaxed") as market:
        market.numbers.add_many([NumberV1(number) for number in range(20)])
"""


def test_history_is_copied_verified_and_reported(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "kandle.toml").write_text('context = "app:New"\nvalidation = "relaxed"\n')
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=environment(), check=True)
    done = run(tmp_path, "rekey", "app:New", "NumberV1", "Number")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "20 records copied from numbers to numbers_v2"
    assert done.stdout.splitlines()[1].startswith("verified: 20 records in both, checksum ")
    assert done.stdout.splitlines()[-1] == "nobody reads numbers any more"
    again = json.loads(run(tmp_path, "rekey", "NumberV1", "Number", "--json").stdout)
    assert (again["copied"], again["records"], again["is_free"]) == (0, 20, True)
    swapped = run(tmp_path, "rekey", "Number", "NumberV1").stderr
    assert "NumberV1 is an earlier version of Number: name the former class first" in swapped
    assert "give two classes, such as `kandle rekey app:Market BarV1 Bar`" in failure(tmp_path, "rekey", "Number")
