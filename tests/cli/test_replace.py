"""The options `--replace` and `--from` of `kandle run`."""

from __future__ import annotations

import pytest

from tests.cli.commands import Here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "latest"], "--from says where a replaced declaration begins: name its bars with --replace"),
        (["--replace", "bars", "--from", "noon"], "--from noon: valid are 'latest' and instants such as '2024-03-08T14:30Z'"),
        (["--replace", "candles"], "runtime.replace: no query makes bars 'candles'; choose from: bars"),
    ],
)
def test_what_a_command_cannot_replace_is_one_line(here: Here, arguments: list[str], message: str) -> None:
    assert message in here.failure("run", "kandle.cli.demo_market:Market", *arguments)
