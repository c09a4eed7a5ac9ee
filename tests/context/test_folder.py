"""Contexts whose folder goes away, is full, or can only be read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kandle.context.options import Options
from kandle.errors import KandleError, StorageError
from kandle.runtime.counters import QueryState
from tests.rights import not_writable, readable_folder
from tests.runtime.building import tick
from tests.runtime.declarations import Bar, Tick, bars_market
from tests.waiting import LIMIT, wait_until

ROOT = Path(__file__).parents[2]
GONE = "was removed, moved or replaced while it was open"
MARKET = bars_market(minutes=1)


def options(folder: Path, **settings: Any) -> Options:
    return Options(**({"access": "read_write", "log": {"path": folder / "data"}} | settings))


def test_a_query_whose_folder_goes_away_stops_with_an_error_that_names_it(tmp_path: Path) -> None:
    with MARKET(options(tmp_path)) as market:
        market.ticks.add(tick(datetime.now(UTC)))  # type: ignore[attr-defined]
        wait_until(lambda: market.health().queries[0].counters.events == 1)
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        wait_until(lambda: market.problem is not None)
        assert isinstance(market.problem, StorageError)
        assert GONE in str(market.problem)
        assert str(tmp_path / "data") in str(market.problem)
        health = market.health()
        assert health.state is QueryState.FAILED
        assert GONE in str(health.queries[0].problem)
        with pytest.raises(StorageError, match=GONE):
            market.ticks.add(tick(datetime.now(UTC)))  # type: ignore[attr-defined]
    assert not (tmp_path / "data").exists()


def test_a_reader_that_waits_for_messages_stops_too(tmp_path: Path) -> None:
    async def reading() -> None:
        async with MARKET(options(tmp_path, access="read_only")) as market:
            async for _ in market.ticks:  # type: ignore[attr-defined]
                (tmp_path / "data").rename(tmp_path / "elsewhere")

    with MARKET(options(tmp_path, access="write_only")) as market:
        market.ticks.add(tick("14:30:00"))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=GONE):
        asyncio.run(asyncio.wait_for(reading(), LIMIT))


LEAVES_WITH_A_FULL_DISK = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from kandle.errors import StorageError
from tests.context.test_folder import MARKET, options
from tests.runtime.building import tick
from tests.waiting import wait_until

folder = Path(sys.argv[1])
try:
    with MARKET(options(folder, runtime={"commit_interval": "1h"})) as market:
        # The first commit comes at once, the next one after an hour.
        for number in range(1, 3):
            market.ticks.add(tick(datetime.now(UTC)))
            wait_until(lambda: market.health().queries[0].counters.events == number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    print("left in silence")
except StorageError as error:
    print(error)
"""


def test_a_context_that_is_left_with_a_full_disk_ends_with_its_error_and_loses_nothing(tmp_path: Path) -> None:
    """No file can grow any more when the last work of the query is to be committed."""
    command = [sys.executable, "-c", LEAVES_WITH_A_FULL_DISK, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert f"log {tmp_path / 'data'}: the disk" in done.stdout
    with MARKET(options(tmp_path)) as market:
        bars = market.set(Bar, "1m")
        wait_until(lambda: sum(bar.ticks for bar in bars.to_list(include_live=True)) == 2, seen=bars.to_list)


def test_a_folder_that_cannot_be_written_is_read_by_contexts_that_only_read() -> None:
    with readable_folder() as folder:
        with MARKET(options(folder, access="write_only")) as market:
            market.ticks.add(tick("14:30:00", 5))  # type: ignore[attr-defined]
        with not_writable(folder / "data"):
            with MARKET(options(folder, access="read_only")) as market:
                assert market.ticks.to_list() == [tick("14:30:00", 5)]  # type: ignore[attr-defined]
                assert market.set(Tick).to_list(["A"]) == [tick("14:30:00", 5)]
                assert market.set(Bar, "1m").to_list() == []
            for access in ("write_only", "read_write"):
                with pytest.raises(KandleError, match="can only be read"), MARKET(options(folder, access=access)):
                    raise AssertionError("it was opened")
