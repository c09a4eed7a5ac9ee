"""Commits of a log that goes away: nothing is lost, and nothing is written twice, whether a commit was made or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kandle import OnError, UnavailableError
from kandle.context.context import state_of
from kandle.errors import FencedError
from kandle.log.port import TopicPartition
from kandle.log.records import Write
from tests.sets.consumed import Result, Work, jobs
from tests.sets.policy_stories import Handler

BEFORE, AFTER, FENCED = "before", "after", "fenced"


class LostAnswers:
    """A log whose commits fail as a plan says: before they are made, after it, or since a rebalance is under way."""

    def __init__(self, log: Any, plan: Iterator[str | None]) -> None:
        self._log = log
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def consumer(self, *given: Any) -> Any:
        return FailingConsumer(self._log.consumer(*given), self._plan)


class FailingConsumer:
    """A consumer of such a log."""

    def __init__(self, consumer: Any, plan: Iterator[str | None]) -> None:
        self._consumer = consumer
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[Write] = ()) -> Any:
        step = next(self._plan, None)
        if step == BEFORE:
            raise UnavailableError("the log is away")
        if step == FENCED:
            raise FencedError("a rebalance is under way")
        first = self._consumer.commit(offsets, writes)
        if step == AFTER:
            raise UnavailableError("the answer was lost")
        return first


PLANS = [[BEFORE], [AFTER], [FENCED], [None, AFTER, BEFORE, FENCED, AFTER], [BEFORE, BEFORE, AFTER]]


@pytest.mark.parametrize("plan", PLANS)
def test_each_message_is_handled_once(tmp_path: Path, plan: list[str | None]) -> None:
    with Work.open(log={"path": tmp_path}) as work:
        work.jobs.add_many(jobs(6))
        opened: Any = state_of(work).opened
        opened.log = LostAnswers(opened.log, iter(plan))
        handler = Handler()
        work.jobs.on_error(OnError.DEAD_LETTER).for_each(handler, limit=5)
        work.jobs.for_each(handler, limit=1)
        assert handler.numbers == list(range(6))
        assert [letter.offset for letter in work.jobs.dead_letters().to_list()] == [2]


@pytest.mark.parametrize("plan", PLANS)
def test_a_transaction_writes_once(tmp_path: Path, plan: list[str | None]) -> None:
    with Work.open(log={"path": tmp_path}) as work:
        work.jobs.add_many(jobs(6))
        opened: Any = state_of(work).opened
        opened.log = LostAnswers(opened.log, iter(plan))
        with work.transaction() as step:
            for message in step.messages(work.jobs.limit(6)):
                assert message.value is not None
                step.add(work.results, Result("a", message.value.number))
        assert [result.number for result in work.results.to_list()] == list(range(6))
