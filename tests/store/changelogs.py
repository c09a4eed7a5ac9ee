"""Changelogs whose snapshots and changes are numbers, so that tests can say in a line what came back."""

from __future__ import annotations

from typing import Any

import polars as pl

from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log, TopicPartition
from kandle.plan.topics import changelog_topic
from kandle.store.changelog import Changelog
from kandle.store.port import Store

PLACE = TopicPartition("state", 0)


def new_log() -> Log:
    log = EmbeddedLog(None)
    log.ensure(changelog_topic("state", 2))
    return log


def frames(number: int) -> dict[str, pl.DataFrame]:
    return {"numbers": pl.DataFrame({"number": [number]})}


def number_of(state: Any) -> int | None:
    return None if state is None else int(state["numbers"]["number"][0])


def commit(changelog: Changelog, *records: tuple[str, int]) -> None:
    """Record and commit."""
    for kind, number in records:
        changelog.record(kind, frames(number))
    [first] = changelog.log.append(changelog.writes())
    changelog.committed(first)


def restored(log: Log, store: Store | None = None) -> tuple[int | None, list[int | None]]:
    """The numbers of the snapshot and of the changes after it."""
    state = Changelog(log, PLACE, store).restore()
    return number_of(state.snapshot), [number_of(change) for change in state.changes]


def opened(log: Log, store: Store | None = None) -> Changelog:
    """A changelog that goes on where the last one was."""
    changelog = Changelog(log, PLACE, store)
    changelog.restore()
    return changelog
