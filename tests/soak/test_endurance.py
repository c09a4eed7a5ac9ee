"""Ten thousand keys do not make memory, log or lag grow for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.endurance import run


@pytest.mark.soak
def test_minutes_of_ten_thousand_keys_keeps_memory_log_and_lag_bounded(tmp_path: Path) -> None:
    assert run(tmp_path, seconds=240, keys=10_000, rate=5_000) == []
