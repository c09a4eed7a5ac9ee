"""Copies of changelogs save reading, and are never believed when they are not copies of this very topic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.log.port import Log, TopicPartition
from kandle.store.changelog import CHANGE, SNAPSHOT, Changelog
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from tests.store.changelogs import PLACE, commit, frames, new_log, opened, restored


def kept(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


def reads(log: Log) -> list[int]:
    """Has the log write down from which offsets it is read."""
    offsets: list[int] = []
    whole = log.read

    def read(partition: TopicPartition, offset: int, *more: Any) -> Any:
        offsets.append(offset)
        return whole(partition, offset, *more)

    log.read = read  # type: ignore[assignment, method-assign]
    return offsets


def test_with_a_copy_only_what_is_newer_is_read(log: Log, store: Store) -> None:
    changelog = opened(log, store)
    commit(changelog, (SNAPSHOT, 1), (CHANGE, 2))
    commit(changelog, (CHANGE, 3))
    offsets = reads(log)
    assert restored(log, store) == (1, [2, 3])
    # The last record is compared with the copy; whatever stands before it is not read.
    assert min(offsets) == 2


def test_a_copy_that_lacks_the_newest_commits_is_completed(log: Log, store: Store) -> None:
    """A process that ended between its commit and the copy of it."""
    changelog = opened(log, store)
    commit(changelog, (SNAPSHOT, 1), (CHANGE, 2))
    commit(Changelog(log, PLACE), (CHANGE, 3), (CHANGE, 4))
    assert restored(log, store) == (1, [2, 3, 4])
    assert restored(log, store) == (1, [2, 3, 4])
    changelog = opened(log, store)
    commit(changelog, (CHANGE, 5))
    assert restored(log, store) == restored(log) == (1, [2, 3, 4, 5])


def test_a_copy_keeps_only_what_is_needed_since_the_newest_snapshot(log: Log, store: Store) -> None:
    changelog = opened(log, store)
    for number in range(20):
        commit(changelog, (CHANGE, number))
    before = len(kept(store))
    commit(changelog, (SNAPSHOT, 20), (CHANGE, 21))
    assert before == 21
    assert len(kept(store)) == 3
    commit(changelog, (CHANGE, 22), (SNAPSHOT, 23))
    assert len(kept(store)) == 2
    assert restored(log, store) == (23, [])


def test_a_copy_that_is_too_old_is_not_trusted(log: Log, store: Store) -> None:
    """The topic begins behind all that the copy has: a snapshot of another process, after which the rest was forgotten."""
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2))
    commit(opened(log), (SNAPSHOT, 3), (CHANGE, 4))
    assert log.first(PLACE) == 2
    assert restored(log, store) == (3, [4])
    commit(opened(log, store), (CHANGE, 5))
    assert restored(log, store) == (3, [4, 5])


def test_a_copy_that_is_ahead_of_the_topic_is_not_trusted(log: Log, store: Store) -> None:
    """A topic that lost its newest commits with the power, or another log in the same place."""
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2), (CHANGE, 3))
    shorter = new_log()
    commit(opened(shorter), (SNAPSHOT, 1), (CHANGE, 2))
    assert restored(shorter, store) == (1, [2])
    commit(opened(shorter, store), (CHANGE, 30))
    assert restored(shorter, store) == (1, [2, 30])


def test_a_copy_of_another_log_is_not_trusted(log: Log, store: Store) -> None:
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2), (CHANGE, 3))
    other = new_log()
    commit(opened(other), (SNAPSHOT, 1), (CHANGE, 2), (CHANGE, 4), (CHANGE, 5))
    assert restored(other, store) == (1, [2, 4, 5])


def test_a_copy_of_another_log_is_not_trusted_even_if_its_last_record_is_the_same(log: Log, store: Store) -> None:
    """Changes that only say that buckets were closed are the very same bytes in many logs."""
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2), (CHANGE, 9))
    other = new_log()
    commit(opened(other), (SNAPSHOT, 100), (CHANGE, 200), (CHANGE, 9))
    assert restored(other, store) == (100, [200, 9])


def test_a_copy_of_an_empty_topic_is_not_trusted(log: Log, store: Store) -> None:
    commit(opened(log, store), (SNAPSHOT, 1))
    empty = new_log()
    assert restored(empty, store) == (None, [])
    commit(opened(empty, store), (CHANGE, 7))
    assert restored(empty, store) == (None, [7])


def test_a_store_with_only_a_position_or_only_records_is_not_trusted(log: Log, store: Store) -> None:
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2))
    content = kept(store)
    position = next(key for key in content if key.endswith(b"/next"))
    store.write({}, [position])
    assert restored(log, store) == (1, [2])
    store.write({}, [key for key in kept(store) if key != position])
    assert restored(log, store) == (1, [2])


@pytest.mark.parametrize("gone", [[3], [2, 3], [1], [1, 2], [0]])
def test_a_copy_of_which_records_are_gone_is_not_trusted(log: Log, store: Store, gone: list[int]) -> None:
    """Whatever took them, at the end or in the middle: the state would silently be an older one, or another."""
    commit(opened(log, store), (SNAPSHOT, 1), (CHANGE, 2), (CHANGE, 3), (CHANGE, 4))
    records = [key for key in kept(store) if b"/record/" in key]
    store.write({}, [records[number] for number in gone])
    assert restored(log, store) == (1, [2, 3, 4])


def test_a_rebuilt_copy_is_like_one_that_was_kept_all_along(log: Log, store: Store) -> None:
    changelog = opened(log, store)
    commit(changelog, (SNAPSHOT, 1), (CHANGE, 2))
    commit(changelog, (CHANGE, 3))
    content = kept(store)
    store.write({}, list(content))
    assert restored(log, store) == (1, [2, 3])
    assert kept(store) == content


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([SNAPSHOT, CHANGE, CHANGE]), min_size=1, max_size=3),
        st.sampled_from(["go on", "crash", "away", "again"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(STEPS)
def test_whatever_happens_to_process_and_copy_the_state_is_that_of_the_last_commit(steps: list[tuple[list[str], str]]) -> None:
    """`crash`: committed, but not copied; `away`: another process without this copy goes on; `again`: a restart."""
    log, store = new_log(), MemoryStore()
    changelog, snapshot, changes, number = opened(log, store), None, list[int](), 0
    for kinds, what in steps:
        for kind in kinds:
            number += 1
            changelog.record(kind, frames(number))
            snapshot, changes = (number, []) if kind == SNAPSHOT else (snapshot, [*changes, number])
        [first] = log.append(changelog.writes())
        if what == "crash":
            changelog = opened(log, store)
            continue
        changelog.committed(first)
        if what == "away":
            changelog = opened(log)
        if what == "again":
            changelog = opened(log, store)
        assert restored(log) == (snapshot, changes)
    assert restored(log, store) == restored(log) == (snapshot, changes)
