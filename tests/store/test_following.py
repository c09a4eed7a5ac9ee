"""Changelogs that another process writes are followed piece by piece; what does not go on from what is known is never taken."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.plan.topics import changelog_topic
from kandle.store.changelog import CHANGE, PIECE, SNAPSHOT, Changelog, RestoredState
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from tests.store.changelogs import PLACE, commit, frames, new_log, number_of, opened, restored

Numbers = tuple[int | None, list[int | None]]


def numbers(state: RestoredState | None) -> Numbers | None:
    return None if state is None else (number_of(state.snapshot), [number_of(change) for change in state.changes])


def followed(changelog: Changelog) -> Numbers | None:
    """What is new to a changelog that is written elsewhere."""
    return numbers(changelog.follow(list(changelog.beyond())))


def test_what_others_commit_is_followed_and_gone_on_with(log: Log) -> None:
    writer = opened(log)
    commit(writer, (SNAPSHOT, 1), (CHANGE, 2))
    reader = opened(log)
    assert followed(reader) == (None, [])
    commit(writer, (CHANGE, 3))
    commit(writer, (CHANGE, 4), (CHANGE, 5))
    assert followed(reader) == (None, [3, 4, 5])
    assert followed(reader) == (None, [])
    commit(writer, (CHANGE, 6), (SNAPSHOT, 7), (CHANGE, 8))
    # What stood before the snapshot is forgotten, so it is where to begin anew.
    assert followed(reader) in (None, (7, [8]))
    reader.restore()
    commit(reader, (CHANGE, 9))
    assert restored(log) == (7, [8, 9])
    assert followed(writer) is None


def test_what_is_beyond_changes_nothing_until_it_is_taken(log: Log) -> None:
    writer = opened(log)
    commit(writer, (SNAPSHOT, 1))
    reader = opened(log)
    commit(writer, (CHANGE, 2))
    assert list(reader.beyond(10)) == list(reader.beyond()) == list(reader.beyond())
    assert len(list(reader.beyond())) == 2
    assert followed(reader) == (None, [2])


def test_a_changelog_without_records_has_to_be_restored(log: Log) -> None:
    reader = opened(log)
    assert followed(reader) is None
    commit(opened(log), (SNAPSHOT, 1))
    assert followed(reader) is None


@pytest.mark.parametrize("other", [[1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]])
def test_a_topic_that_was_replaced_is_never_gone_on_with(log: Log, other: list[int]) -> None:
    """Deleted and made anew it may be shorter, as long or longer, and have the very same numbers."""
    writer = opened(log)
    commit(writer, (SNAPSHOT, 1), *[(CHANGE, number) for number in (2, 3, 4)])
    reader = opened(log)
    fresh = new_log()
    replaced = opened(fresh)
    commit(replaced, (SNAPSHOT, other[0]), *[(CHANGE, number) for number in other[1:]])
    reader.log = fresh
    assert followed(reader) is None
    assert numbers(reader.restore()) == restored(fresh) == (1, other[1:])


def test_records_that_were_forgotten_before_they_were_read_are_not_gone_over(log: Log) -> None:
    writer = opened(log)
    commit(writer, (SNAPSHOT, 1))
    reader = opened(log)
    commit(writer, (CHANGE, 2))
    commit(writer, (SNAPSHOT, 3))
    commit(writer, (CHANGE, 4))
    assert followed(reader) is None
    assert numbers(reader.restore()) == (3, [4])


def large(number: int) -> dict[str, pl.DataFrame]:
    return frames(number) | {"rest": pl.DataFrame({"content": [bytes(3 * PIECE)]})}


@pytest.mark.parametrize("kind", [SNAPSHOT, CHANGE])
def test_pieces_are_taken_when_the_last_one_is_there(log: Log, store: Store, kind: str) -> None:
    """Other logs than the embedded one may cut a commit anywhere."""
    writer = opened(log)
    commit(writer, (CHANGE, 1))
    reader = opened(log, store)
    writer.record(CHANGE, frames(2))
    writer.record(kind, large(3))
    writer.record(CHANGE, frames(4))
    log.append(writer.writes())
    records = list(reader.beyond())
    assert len(records) == 1 + 6 or len(records) == 1 + 7
    followed_states = []
    for before, after in pairwise(records):
        followed_states.append(numbers(reader.follow([before, after])))
        assert reader.is_whole == (not after[1].more)
    changed = [state for state in followed_states if state != (None, [])]
    assert changed == [(None, [2]), (3, []) if kind == SNAPSHOT else (None, [3]), (None, [4])]
    assert restored(log, store) == restored(log)


def test_a_copy_goes_along(log: Log, store: Store) -> None:
    writer = opened(log)
    commit(writer, (SNAPSHOT, 1), (CHANGE, 2))
    reader = opened(log, store)
    commit(writer, (CHANGE, 3))
    followed(reader)
    assert len(list(store.scan(b""))) == 4
    assert restored(log, store) == (1, [2, 3])
    commit(writer, (CHANGE, 4))
    assert followed(reader) == (None, [4])
    assert restored(log, store) == (1, [2, 3, 4])


class Slow(EmbeddedLog):
    """A log that gives one record at a time, and lets others write in between."""

    def __init__(self) -> None:
        super().__init__(None)
        self.between: list[Any] = []

    def read(self, partition: TopicPartition, offset: int, max_rows: int, span: tuple[int, int] | None = None) -> list[Batch]:
        batches = [batch.slice(0, 1) for batch in super().read(partition, offset, 1, span)]
        if self.between:
            self.between.pop(0)()
        return batches


def test_a_snapshot_that_comes_while_another_one_is_read_is_what_is_restored() -> None:
    """
    read:     snapshot 1, piece 1 |             | snapshot 2 ...
    written:                      | snapshot 2, and snapshot 1 is forgotten
    """
    log = Slow()
    log.ensure(changelog_topic("state", 2))
    writer = Changelog(log, PLACE)
    writer.record(SNAPSHOT, large(1))
    [first] = log.append(writer.writes())
    writer.committed(first)
    log.between = [lambda: commit(writer, (SNAPSHOT, 2))]
    reader = Changelog(log, PLACE)
    assert numbers(reader.restore()) == (2, [])
    assert not log.between


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([SNAPSHOT, CHANGE, CHANGE]), max_size=3), st.sampled_from(["follow", "wait", "take over"])
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(STEPS, st.booleans())
def test_however_it_is_followed_the_state_is_that_of_the_last_commit(steps: list[tuple[list[str], str]], copies: bool) -> None:
    """Whoever follows restores where it cannot go on, and may be the next one to write."""
    log, store = new_log(), MemoryStore() if copies else None
    writer, reader, number = opened(log), opened(log, store), 0
    known: Numbers = (None, [])
    for kinds, what in steps:
        for kind in kinds:
            number += 1
            commit(writer, (kind, number))
        if what == "wait":
            continue
        current = followed(reader)
        if current is None:
            current = known = numbers(reader.restore()) or known
        elif current[0] is not None:
            known = current
        else:
            known = (known[0], [*known[1], *current[1]])
        assert known == restored(log)
        if what == "take over":
            writer, reader = reader, opened(log, store)
    assert restored(log, store) == restored(log)
