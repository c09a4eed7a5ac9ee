"""Histories from seeds: none breaks a law, each is the same when it is replayed, and faults that are planted are found."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.planted import planted, world_of
from tests.simulation.running import history_of, result_of, shrunk

SEEDS = 200
AT_ONCE = 25

FOUND = {
    "close-without-barrier": 7,
    "commit-before-write": 34,
    "forget-a-gap": 5,
    "go-on-after-a-failure": 38,
    "heartbeats-without-fence": 5,
    "leave-the-live-bar": 0,
    "obey-every-heartbeat": 1,
    "positions-of-what-was-read": 21,
    "renewal-too-late": 0,
    "restore-all-but-the-last-change": 4,
    "write-before-commit": 34,
}
"""A seed that finds each planted fault, the first one from 0 on."""


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_history_breaks_a_law(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        result = result_of(history_of(seed))
        assert not result.broken, result.text()


def test_a_seed_is_replayed_exactly() -> None:
    for seed in range(3):
        first, again = result_of(history_of(seed)), result_of(history_of(seed))
        assert first.timeline == again.timeline
        assert first.counts == again.counts


def test_all_kinds_of_faults_are_drawn() -> None:
    kinds = Counter(fault.kind for seed in range(SEEDS) for fault in history_of(seed).faults)
    assert min(kinds.values()) >= 5, kinds


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_planted_fault_is_found_by_its_seed(name: str) -> None:
    with planted(name):
        assert result_of(history_of(FOUND[name]), world_of(name)).broken


def test_a_failing_history_is_shrunk_to_a_smaller_one_that_fails_too() -> None:
    with planted("commit-before-write"):
        result = result_of(history_of(FOUND["commit-before-write"]))
        smallest = shrunk(result, most=8)
    assert smallest.broken
    assert len(smallest.history.adding) < len(result.history.adding)
    assert f"seed {result.history.seed}" in smallest.text()
    assert "BROKEN" in smallest.text()
