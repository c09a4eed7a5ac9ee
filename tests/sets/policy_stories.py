"""What policies do to messages that fail: the same stories on both logs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from kandle import KandleError, OnError
from tests.sets.consumed import FAILURES, OTHER, Job, Result, Work, jobs

POISON = 2

OpenWork = Callable[[], Work]
"""Returns a context, to be opened by `with`; its log is that of the test."""


class HandlerError(Exception):
    """What handlers raise."""


class Handler:
    """Counts attempts, and fails at poison for so many of them."""

    def __init__(self, times: int = 1_000_000, poison: int = POISON) -> None:
        self._times = times
        self._poison = poison
        self.seen: list[tuple[str, int]] = []

    def __call__(self, job: Job) -> None:
        self.seen.append((job.id, job.number))
        if job.number == self._poison and Counter(self.seen)[job.id, job.number] <= self._times:
            raise HandlerError(f"poison {job.number}")

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.seen]


class PolicyStories:
    """Stories of `open_work`, a fixture that returns contexts on one log, which is empty at first."""

    def test_stop_raises_the_error_and_the_message_is_the_next_one(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(4))
            handler = Handler(times=2)
            for _ in range(2):
                with pytest.raises(HandlerError):
                    work.jobs.for_each(handler)
            assert work.jobs.for_each(handler, limit=2) == 2
            assert handler.numbers == [0, 1, 2, 2, 2, 3]

    def test_skip_goes_on_with_the_next_one(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(4))
            handler = Handler()
            assert work.jobs.on_error(OnError.SKIP).for_each(handler, limit=4) == 3
            assert handler.numbers == [0, 1, 2, 3]

    def test_dead_letters_are_written_once_with_the_attempts(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(4))
            handler = Handler()
            lettering = work.jobs.on_error(OnError.DEAD_LETTER).with_retry(1, backoff="1ms", max="1ms")
            assert lettering.for_each(handler, limit=4) == 3
            (letter,) = work.jobs.dead_letters().to_list()
            assert (letter.offset, letter.attempts, letter.error) == (POISON, 2, "poison 2")
            assert "HandlerError" in str(letter.error_class)
            assert handler.numbers == [0, 1, 2, 2, 3]

    def test_retries_come_before_any_other_message_of_the_partition(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many([job for number in range(4) for job in (Job("a", number), Job(OTHER, number + 10))])
            handler = Handler(times=2)
            retrying = work.jobs.with_retry(3, backoff="100ms", max="1s")
            assert retrying.for_each(handler, limit=8) == 8
            of_key = {key: [number for id, number in handler.seen if id == key] for key in ("a", OTHER)}
            assert of_key == {"a": [0, 1, 2, 2, 2, 3], OTHER: [10, 11, 12, 13]}
            # The other partition went on while the message waited.
            first, last = handler.seen.index(("a", 2)), len(handler.seen) - handler.seen[::-1].index(("a", 2))
            assert (OTHER, 13) in handler.seen[:last]
            assert first < last

    def test_the_policy_follows_the_retries(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(4))
            handler = Handler()
            fast = work.jobs.with_retry(2, backoff="1ms", max="1ms", jitter=False)
            with pytest.raises(HandlerError):
                fast.for_each(handler)
            assert fast.on_error(OnError.SKIP).for_each(handler, limit=2) == 1
            assert handler.numbers == [0, 1, 2, 2, 2, 2, 2, 2, 3]

    def test_retry_goes_on_until_the_message_succeeds(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(3))
            handler = Handler(times=4)
            forever = work.jobs.on_error(OnError.RETRY)
            assert forever.for_each(handler, limit=3, timeout="1m") == 3
            assert handler.numbers == [0, 1, 2, 2, 2, 2, 2]

    def test_loops_reject_messages(self, open_work: OpenWork) -> None:
        async def story() -> list[tuple[int, int]]:
            seen = []
            async with open_work() as work:
                retrying = work.jobs.on_error(OnError.SKIP).with_retry(1, backoff="1ms", max="1ms")
                async for message in retrying.limit(4).messages():
                    seen.append((message.offset, message.attempt))
                    if message.offset == POISON:
                        message.reject(HandlerError("poison"))
            return seen

        with open_work() as work:
            work.jobs.add_many(jobs(5))
        assert asyncio.run(story()) == [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1)]
        with open_work() as work:
            for message in work.jobs.messages():
                assert message.offset == 4
                with pytest.raises(HandlerError, match="no policy"):
                    message.reject(HandlerError("no policy"))
                with pytest.raises(KandleError, match="only once"):
                    message.reject(HandlerError("again"))
                break

    def test_the_context_learns_of_each_failure(self, open_work: OpenWork) -> None:
        FAILURES.clear()
        with open_work() as work:
            work.jobs.add_many(jobs(3))
            work.jobs.on_error(OnError.SKIP).with_retry(1, backoff="1ms", max="1ms").for_each(Handler(), limit=3)
        (first, second) = FAILURES
        assert first.topic.endswith("jobs")
        assert (first.offset, first.key, first.attempt, first.action) == (2, ("a",), 1, OnError.RETRY)
        assert (second.offset, second.attempt, second.action) == (2, 2, OnError.SKIP)
        assert str(second.error) == "poison 2"

    def test_a_transaction_writes_what_is_made_of_a_message_with_its_position(self, open_work: OpenWork) -> None:
        with open_work() as work:
            work.jobs.add_many(jobs(4))
            with pytest.raises(HandlerError), work.transaction() as step:
                for message in step.messages(work.jobs):
                    assert message.value is not None
                    step.add(work.results, Result(message.value.id, message.value.number), headers={"of": "job"})
                    if message.offset == POISON:
                        raise HandlerError("poison")
            assert [result.number for result in work.results.to_list()] == [0, 1]
            with work.transaction() as step:
                for message in step.messages(work.jobs.limit(1)):
                    assert message.value is not None
                    step.add(work.results, Result(message.value.id, message.value.number))
            assert [result.number for result in work.results.to_list()] == [0, 1, 2]

    def test_a_transaction_in_an_event_loop_rejects_messages(self, open_work: OpenWork) -> None:
        async def story() -> list[int]:
            async with open_work() as work:
                async with work.transaction() as step:
                    async for message in step.messages(work.jobs.on_error(OnError.SKIP).limit(4)):
                        assert message.value is not None
                        await step.add(work.results, Result(message.value.id, message.value.number))
                        if message.offset == POISON:
                            message.reject(HandlerError("poison"))
                return [result.number for result in await work.results.to_list_async()]

        with open_work() as work:
            work.jobs.add_many(jobs(4))
        assert asyncio.run(story()) == [0, 1, 3]
