"""A log with a topic for changelogs, and each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kandle.log.port import Log
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from kandle.store.rocks import RocksStore
from tests.store.changelogs import new_log


@pytest.fixture
def log() -> Iterator[Log]:
    opened = new_log()
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "copy")
    yield opened
    opened.close()
