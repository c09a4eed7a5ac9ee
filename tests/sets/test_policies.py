"""Policies on the embedded log, and what needs no log at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
import kandle.testing
from kandle import Context, DataError, EventSet, Key, OnError, Timestamp
from kandle.sets.policies import BreakerState, CircuitBreaker, ErrorPolicy, Retries
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.sets.consumed import Work, jobs
from tests.sets.policy_stories import Handler, HandlerError, OpenWork, PolicyStories
from tests.waiting import LIMIT


class TestEmbeddedPolicies(PolicyStories):
    @pytest.fixture
    def open_work(self, tmp_path: Path) -> OpenWork:
        return lambda: Work.open(log={"path": tmp_path / "log"})


def test_waits_double_up_to_the_longest() -> None:
    retries = Retries(5, backoff=100, longest=500, jitter=False)
    assert [retries.wait(attempt) for attempt in range(1, 7)] == [100, 200, 400, 500, 500, None]
    assert Retries(None, 100, 500, jitter=False).wait(10_000) == 500
    waits = {Retries(1, 1_000, 1_000).wait(1) for _ in range(50)}
    assert len(waits) > 1
    assert all(wait is not None and 500 <= wait <= 1_000 for wait in waits)


def test_policies_without_a_sense_are_refused() -> None:
    with pytest.raises(DataError, match="give 0 or more"):
        Retries(-1)
    with pytest.raises(DataError, match=r"max \(1us\) is shorter than backoff \(2us\); give max='2us'"):
        Retries(1, backoff=2, longest=1)
    with pytest.raises(DataError, match="failures=0"):
        CircuitBreaker(0, 1, 1)


@pytest.mark.parametrize(
    ("policy", "waits", "last"),
    [
        (ErrorPolicy(), False, OnError.STOP),
        (ErrorPolicy(OnError.SKIP), False, OnError.SKIP),
        (ErrorPolicy(OnError.RETRY), True, OnError.STOP),
        (ErrorPolicy(OnError.DEAD_LETTER, Retries(1)), True, OnError.DEAD_LETTER),
    ],
)
def test_what_comes_after_a_failure(policy: ErrorPolicy, waits: bool, last: OnError) -> None:
    assert (policy.wait(1) is not None) is waits
    assert policy.last_action is last


def test_a_breaker_opens_tries_once_and_closes() -> None:
    state = BreakerState(CircuitBreaker(3, within=10, rest=100))
    assert [state.fail(now) for now in (0, 8, 20)] == [None, None, None]
    assert [state.fail(now) for now in (21, 22)] == [None, 100]
    assert state.fail(122) == 100
    assert state.succeed()
    assert not state.succeed()
    assert state.fail(230) is None


def test_a_message_waits_by_the_clock_of_its_context() -> None:
    async def story() -> None:
        async with kandle.testing.context(Work, start="2024-03-08T12:00Z") as work:
            await work.jobs.add_many_async(jobs(3))
            handler = Handler(times=1)
            failed = asyncio.Event()

            def handle(job: Any) -> None:
                try:
                    handler(job)
                except HandlerError:
                    failed.set()
                    raise

            set_of_jobs = work.jobs.with_retry(1, backoff="10s", jitter=False)
            task = asyncio.create_task(set_of_jobs.for_each_async(handle, limit=3))
            await asyncio.wait_for(failed.wait(), LIMIT)
            await work.clock.advance_async("9s")  # type: ignore[attr-defined]
            await asyncio.wait([task], timeout=0.3)
            assert not task.done()
            await work.clock.advance_async("1s")  # type: ignore[attr-defined]
            assert await asyncio.wait_for(task, LIMIT) == 3
            assert handler.numbers == [0, 1, 2, 2]

    asyncio.run(story())


def test_a_blocking_test_need_not_move_the_clock() -> None:
    with kandle.testing.context(Work, start="2024-03-08T12:00Z") as work:
        work.jobs.add_many(jobs(3))
        assert work.jobs.with_retry(5, backoff="10s").for_each(Handler(times=3), limit=3) == 3
        assert work.jobs.for_each(lambda job: None, timeout="100ms") == 0


def test_a_partition_whose_messages_fail_rests() -> None:
    with kandle.testing.context(Work, start="2024-03-08T12:00Z") as work:
        work.jobs.add_many(jobs(6))
        resting = work.jobs.on_error(OnError.SKIP).with_circuit_breaker(2, within="1m", rest="5m")
        with resting.messages() as messages:
            rests = []
            for message in messages:
                if message.offset < 4:
                    message.reject(HandlerError("down"))
                prefetcher = messages._prefetcher
                assert prefetcher is not None
                rests.append(prefetcher.rest)
                if message.offset == 5:
                    break
    assert rests == [None, 300 * SECOND, 300 * SECOND, 300 * SECOND, None, None]


def test_sets_stay_as_they_are() -> None:
    with kandle.testing.context(Work, start="2024-03-08T12:00Z") as work:
        changed = work.jobs.on_error(OnError.SKIP).with_retry(3, backoff="200ms", max="30s").limit(2)
        assert changed.policy == ErrorPolicy(OnError.SKIP, Retries(3, 200 * MILLISECOND, 30 * SECOND))
        assert work.jobs.policy == ErrorPolicy()
        assert work.jobs.newest is None


@kandle.stream("jobs", partitions=2)
@dataclass(frozen=True)
class StrictJob:
    id: Annotated[str, Key(0)]
    number: int
    time: Annotated[datetime, Timestamp()]

    def __post_init__(self) -> None:
        if self.number == 2:
            raise ValueError("two is no number of a job")


class StrictWork(Context):
    jobs: EventSet[StrictJob]


def test_a_record_of_which_no_object_can_be_made_is_treated_as_one_that_cannot_be_read(tmp_path: Path) -> None:
    with Work.open(log={"path": tmp_path}) as work:
        work.jobs.add_many(jobs(4))
    seen: list[int] = []
    with StrictWork.open(log={"path": tmp_path}) as strict:
        with pytest.raises(DataError, match=r"jobs, partition 0, offset 2: the record cannot be read: two is no number"):
            strict.jobs.for_each(lambda job: seen.append(job.number))
        with pytest.raises(DataError, match="offset 2"):
            for job in strict.jobs:
                seen.append(job.number)
        strict.jobs.on_error(OnError.DEAD_LETTER).with_retry(3).for_each(lambda job: seen.append(job.number), limit=1)
        (letter,) = strict.jobs.dead_letters().to_list()
        assert (letter.offset, letter.attempts) == (2, 1)
    assert seen == [0, 1, 3]


def test_an_error_of_the_policy_leaves_the_stream_usable(tmp_path: Path) -> None:
    with Work.open(log={"path": tmp_path}) as work:
        work.jobs.add_many(jobs(3))
        with work.jobs.messages() as messages:
            for attempt in (1, 2):
                with pytest.raises(HandlerError):
                    for message in messages:
                        assert (message.offset, message.attempt) == (0, attempt)
                        message.reject(HandlerError("down"))
            for message in messages:
                if message.offset == 2:
                    break
        assert work.jobs.for_each(lambda job: None, timeout="50ms") == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda jobs: jobs.on_error("deadletter"), r"on_error\('deadletter'\): choose from OnError.SKIP, OnError.RETRY, "),
        (lambda jobs: jobs.with_retry("3"), r"with_retry\('3'\): give a whole number of 0 or more"),
        (lambda jobs: jobs.with_retry(-1), r"with_retry\(-1\): give 0 or more"),
        (lambda jobs: jobs.with_retry(None), r"with_retry\(None\): give a whole number of 0 or more"),
        (
            lambda jobs: jobs.with_circuit_breaker(2, within="0s"),
            r"with_circuit_breaker\(within=...\): a breaker of 0s does nothing",
        ),
        (lambda jobs: jobs.since(17), r"17 is not a point in time; give a datetime with a time zone, or an ISO 8601 text"),
        (lambda jobs: jobs.to_list(start=17), r"17 is not a point in time; give a datetime"),
        (lambda jobs: jobs.with_circuit_breaker(0), r"with_circuit_breaker\(failures=0\): give 1 or more"),
        (lambda jobs: jobs.limit(2.5), r"limit\(2.5\): give a whole number of 1 or more"),
        (lambda jobs: jobs.limit(True), r"limit\(True\): give a whole number of 1 or more"),
        (lambda jobs: jobs.from_offsets({"0": 1}), r"from_offsets\(\{'0': 1\}\): give a whole number of 0 or more"),
        (lambda jobs: jobs.dead_letters().limit("2"), r"limit\('2'\): give a whole number of 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_choices(tmp_path: Path, call: Callable[[Any], object], message: str) -> None:
    with Work.open(log={"path": tmp_path / "log"}) as work, pytest.raises(ValueError, match=message):
        call(work.jobs)
