"""Changelogs: what a task recorded comes back as of its last commit, from the topic alone or with a copy that deserves trust."""

from __future__ import annotations

import random

import polars as pl
import pytest

from kandle.log.port import Log, TopicPartition
from kandle.store.changelog import CHANGE, PIECE, SNAPSHOT, Changelog, decode_frames, encode_frames
from kandle.store.port import Store
from tests.store.changelogs import PLACE, commit, frames, number_of, opened, restored


def test_before_the_first_commit_there_is_nothing(log: Log) -> None:
    assert restored(log) == (None, [])
    assert Changelog(log, PLACE).writes() == []


def test_the_newest_snapshot_and_the_changes_after_it_come_back(log: Log) -> None:
    changelog = opened(log)
    commit(changelog, (SNAPSHOT, 1))
    commit(changelog, (CHANGE, 2), (CHANGE, 3))
    assert restored(log) == (1, [2, 3])
    commit(changelog, (CHANGE, 4), (SNAPSHOT, 5), (CHANGE, 6))
    commit(changelog, (CHANGE, 7))
    assert restored(log) == (5, [6, 7])


def test_changes_before_any_snapshot_come_back_too(log: Log) -> None:
    commit(opened(log), (CHANGE, 1), (CHANGE, 2))
    assert restored(log) == (None, [1, 2])


def test_what_was_recorded_but_not_committed_is_forgotten(log: Log) -> None:
    changelog = opened(log)
    commit(changelog, (SNAPSHOT, 1))
    changelog.record(CHANGE, frames(2))
    assert len(changelog.writes()) == 1
    assert changelog.restore().changes == ()
    assert changelog.writes() == []
    commit(changelog, (CHANGE, 3))
    assert restored(log) == (1, [3])


def test_partitions_have_changelogs_of_their_own_also_in_one_store(log: Log, store: Store) -> None:
    other = Changelog(log, TopicPartition("state", 1), store)
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2))
    commit(other, (SNAPSHOT, 10))
    assert restored(log, store) == (1, [2])
    assert number_of(Changelog(log, TopicPartition("state", 1), store).restore().snapshot) == 10


def test_a_snapshot_has_what_stands_before_it_forgotten(log: Log) -> None:
    changelog = opened(log)
    for number in range(5):
        commit(changelog, (CHANGE, number))
    assert log.first(PLACE) == 0
    commit(changelog, (SNAPSHOT, 5))
    assert (log.first(PLACE), log.ends("state")[0]) == (5, 6)
    commit(changelog, (CHANGE, 6))
    assert log.first(PLACE) == 5
    commit(changelog, (SNAPSHOT, 7))
    assert [(state.start, state.end, state.rows) for state in log.partitions("state")] == [(7, 8, 1), (0, 0, 0)]


def test_a_snapshot_in_the_middle_of_a_commit_is_found_behind_the_changes_of_its_batch(log: Log) -> None:
    changelog = opened(log)
    commit(changelog, (SNAPSHOT, 0))
    commit(changelog, (CHANGE, 1), (SNAPSHOT, 2), (CHANGE, 3))
    # Batches are forgotten as wholes only.
    assert log.first(PLACE) == 1
    assert restored(log) == (2, [3])


def test_more_records_than_are_read_at_once_all_come_back(log: Log) -> None:
    changelog = opened(log)
    commit(changelog, *[(CHANGE, number) for number in range(2_500)])
    assert restored(log) == (None, list(range(2_500)))


FRAMES = [
    {},
    {"empty": pl.DataFrame()},
    {
        "a": pl.DataFrame({"x": [1, None], "y": ["", "z\n\0"]}),
        "b": pl.DataFrame({"x": []}, schema={"x": pl.Datetime("us", "UTC")}),
    },
    {"a/b": pl.DataFrame({"d": pl.Series(["1.5", "-2"]).cast(pl.Decimal(18, 3)), "l": [[1], None], "b": [b"\n", b""]})},
    {'"quoted"\n': pl.DataFrame({"x": [True]}), "é": pl.DataFrame({"x": [1.5]})},
]


@pytest.mark.parametrize("content", FRAMES)
def test_named_frames_survive_as_bytes(content: dict[str, pl.DataFrame]) -> None:
    decoded = decode_frames(encode_frames(content))
    assert list(decoded) == list(content)
    for name, frame in content.items():
        assert decoded[name].schema == frame.schema
        assert decoded[name].equals(frame)


def large(number: int, size: int) -> dict[str, pl.DataFrame]:
    return frames(number) | {"rest": pl.DataFrame({"content": [random.Random(number).randbytes(size)]})}


@pytest.mark.parametrize("kind", [SNAPSHOT, CHANGE])
def test_what_is_large_is_cut_into_pieces_and_comes_back_whole(log: Log, store: Store, kind: str) -> None:
    """
    one commit:   change 1 | snapshot 2 or change 2, in four pieces ... | change 3
    """
    changelog = opened(log, store)
    changelog.record(CHANGE, frames(1))
    assert changelog.record(kind, large(2, 3 * PIECE)) > 3 * PIECE
    changelog.record(CHANGE, frames(3))
    [first] = log.append(changelog.writes())
    changelog.committed(first)
    records = log.read(PLACE, 0, 100)[0].records.frame
    assert records["content"].bin.size().max() == PIECE
    assert records["more"].to_list() == [False, True, True, True, False, False]
    for copy in (None, store):
        restored_state = Changelog(log, PLACE, copy).restore()
        states = [state for state in [restored_state.snapshot, *restored_state.changes] if state is not None]
        assert [number_of(state) for state in states] == ([2, 3] if kind == SNAPSHOT else [1, 2, 3])
        assert states[-2]["rest"].equals(large(2, 3 * PIECE)["rest"])
        assert (restored_state.snapshot is None) == (kind == CHANGE)


def test_offsets_are_those_of_the_commit_even_if_others_wrote_in_between(log: Log, store: Store) -> None:
    """A transaction may take an offset for itself; whoever counts its own records would forget and copy the wrong ones."""
    changelog = opened(log, store)
    commit(changelog, (CHANGE, 1))
    commit(opened(log), (CHANGE, 2))
    commit(changelog, (SNAPSHOT, 3))
    assert log.first(PLACE) == 2
    assert restored(log, store) == restored(log) == (3, [])
