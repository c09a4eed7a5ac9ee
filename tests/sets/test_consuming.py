"""When a message is done: its handler is done, whatever way the loop was left; and what loops are given."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kandle import DataError, OnError, StateError
from kandle.context.context import state_of
from tests.sets.consumed import NOON, OTHER, Job, Site, Work, jobs
from tests.waiting import aside, result_of, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options of a log in a folder of its own; at the end nothing is left of its consumers."""
    options = {"log": {"path": tmp_path / "log"}}
    yield options
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("kandle-work")] == []


@dataclass
class Failing:
    """A handler that raises once, at one job."""

    at: int
    error: BaseException

    def __post_init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, job: Job) -> None:
        self.seen.append(job.number)
        if job.number == self.at and self.seen.count(job.number) == 1:
            raise self.error


def rest(options: dict[str, Any], count: int) -> list[int]:
    """Return the next numbers that another run is given."""
    seen: list[int] = []
    with Work.open(**options) as work:
        work.jobs.for_each(lambda job: seen.append(job.number), limit=count)
    return seen


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(3)])
def test_a_message_whose_handler_has_failed_is_the_next_one(folder: dict[str, Any], error: BaseException) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(6))
        handler = Failing(2, error)
        with pytest.raises(type(error)):
            work.jobs.for_each(handler)
        assert handler.seen == [0, 1, 2]
    assert rest(folder, 4) == [2, 3, 4, 5]


@pytest.mark.parametrize("values", [True, False])
def test_a_loop_that_an_exception_ends_has_not_done_its_last_message(folder: dict[str, Any], values: bool) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(6))
        handler = Failing(2, ValueError("bug"))
        with pytest.raises(ValueError, match="bug"):
            if values:
                for job in work.jobs:
                    handler(job)
            else:
                for message in work.jobs.messages():
                    assert message.value is not None
                    handler(message.value)
    assert rest(folder, 4) == [2, 3, 4, 5]


def test_a_loop_whose_iterator_outlives_an_exception_has_not_done_its_last_message(folder: dict[str, Any]) -> None:
    def handle() -> None:
        loop = iter(work.jobs)
        for job in loop:
            if job.number == 2:
                raise ValueError("bug")

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(6))
        with pytest.raises(ValueError, match="bug"):
            handle()
    assert rest(folder, 4) == [2, 3, 4, 5]


def test_a_loop_that_is_left_by_break_or_return_has_done_its_last_message(folder: dict[str, Any]) -> None:
    def first() -> int:
        for job in work.jobs:
            return job.number
        return -1

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(8))
        for job in work.jobs:
            if job.number == 1:
                break
        assert first() == 2
        for _, job in zip(range(2), work.jobs, strict=False):
            assert job.number > 2
    assert rest(folder, 3) == [5, 6, 7]


def test_a_stream_can_be_used_again_after_break(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(6))
        messages = work.jobs.messages()
        for message in messages:
            assert message.offset == 0
            break
        assert not [name for name in map(_name, threading.enumerate()) if name.startswith("kandle-work")]
        for message in messages:
            assert message.offset == 1
            break
        with messages:
            for message in messages:
                assert message.offset == 2
                break
            for message in messages:
                assert message.offset == 3
                break
    assert rest(folder, 2) == [4, 5]


def _name(thread: threading.Thread) -> str:
    return thread.name


def test_a_message_that_has_failed_within_with_comes_again_in_the_next_loop(folder: dict[str, Any]) -> None:
    seen = []
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(3))
        with work.jobs.messages() as messages:
            for _ in range(2):
                try:
                    for message in messages:
                        seen.append(message.offset)
                        if message.offset == 1 and seen.count(1) == 1:
                            raise ValueError("bug")
                        if message.offset == 2:
                            break
                except ValueError:
                    continue
    assert seen == [0, 1, 1, 2]


@pytest.mark.parametrize("form", ["for_each", "values", "messages"])
def test_a_cancelled_handler_has_not_done_its_message(folder: dict[str, Any], form: str) -> None:
    async def story() -> None:
        async with Work.open(**folder) as work:
            reached = asyncio.Event()

            async def handle(job: Job) -> None:
                if job.number == 2:
                    reached.set()
                    await asyncio.Event().wait()

            async def consume() -> None:
                if form == "for_each":
                    await work.jobs.for_each_async(handle)
                elif form == "values":
                    async for job in work.jobs:
                        await handle(job)
                else:
                    async for message in work.jobs.messages():
                        assert message.value is not None
                        await handle(message.value)

            task = asyncio.create_task(consume())
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(5))
    asyncio.run(story())
    assert rest(folder, 3) == [2, 3, 4]


def test_an_async_loop_that_is_left_by_break_has_done_its_last_message(folder: dict[str, Any]) -> None:
    async def story() -> list[int]:
        seen = []
        async with Work.open(**folder) as work:
            messages = work.jobs.messages()
            for _ in range(2):
                async for message in messages:
                    seen.append(message.offset)
                    break
            async for job in work.jobs:
                seen.append(job.number)
                break
        return seen

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(5))
    assert asyncio.run(story()) == [0, 1, 2]
    assert rest(folder, 2) == [3, 4]


KILLED = """
import os, sys
from tests.sets.consumed import Work
with Work.open(log={"path": sys.argv[1]}) as work:
    seen = 0
    for job in work.jobs:
        os.write(1, f"{job.id} {job.number}\\n".encode())
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_one_message_of_each_partition_in_doubt(folder: dict[str, Any], tmp_path: Path) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many([job for number in range(100) for job in (Job("a", number), Job(OTHER, number))])
    said: list[str] = []
    for count in (7, 30):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, folder["log"]["path"], str(count)], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        said += done.stdout.splitlines()
    seen = {key: [int(line.split()[1]) for line in said if line.startswith(f"{key} ")] for key in ("a", OTHER)}
    for numbers in seen.values():
        assert sorted(set(numbers)) == list(range(max(numbers) + 1))
        assert len(numbers) - len(set(numbers)) <= 1


def test_two_consumers_share_the_work_and_do_nothing_twice(folder: dict[str, Any]) -> None:
    seen: list[tuple[str, int]] = []

    def consume(is_late: bool) -> None:
        with Work.open(**folder, consumer={"group": "shared"}) as work:
            if is_late:
                begun.wait(60)
            for message in work.jobs.messages(timeout="2s"):
                assert message.value is not None
                seen.append((message.value.id, message.value.number))
                begun.set()
                # The other one joins while this one has a message in hand.
                ended.wait(0.002)

    begun, ended = threading.Event(), threading.Event()
    wanted = sorted((key, number) for key in ("a", OTHER) for number in range(300))
    with Work.open(**folder) as work:
        work.jobs.add_many([Job(*of) for of in wanted])
    consumers = [aside(lambda: consume(False)), aside(lambda: consume(True))]
    for consumer in consumers:
        result_of(consumer)
    assert sorted(seen) == wanted


def test_manual_commits_say_what_is_done(folder: dict[str, Any]) -> None:
    async def story() -> None:
        async with Work.open(**folder) as work, work.jobs.manual_commit() as messages:
            async for message in messages:
                if message.offset == 2:
                    await message.commit_async()
                if message.offset == 4:
                    break

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(6))
    asyncio.run(story())
    assert rest(folder, 3) == [3, 4, 5]


def test_what_is_read_ahead_is_bounded_by_rows_and_bytes(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        for number in range(60):
            work.sites.add(Site(str(number), "x" * 100_000))
    for bounds in ({"prefetch_rows": 5}, {"prefetch_bytes": 500_000}):
        consumer = {"batch_rows": 5, "group": str(bounds), **bounds}
        with Work.open(**folder, consumer=consumer) as work, work.sites.messages() as messages:
            for count, _ in enumerate(messages, 1):
                assert messages._prefetcher is not None
                assert sum(flow.rows for flow in messages._prefetcher._flows.values()) <= 10
                if count == 60:
                    break


def test_limit_is_a_number_of_messages_for_loops(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(9))
        assert [job.number for job in work.jobs.limit(2)] == [0, 1]
        assert [message.offset for message in work.jobs.limit(2).messages()] == [2, 3]
        assert work.jobs.limit(1).for_each(lambda job: None) == 1
        assert work.jobs.limit(4).for_each(lambda job: None, limit=2) == 2
        assert [job.number for job in work.jobs.limit(2)] == [7, 8]
        with pytest.raises(DataError, match="limit=0: give 1 or more"):
            work.jobs.for_each(lambda job: None, limit=0)


def test_tombstones_do_not_count_as_values(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        work.sites.add(Site("a", "one"))
        work.sites.remove("a")
        work.sites.add(Site("b", "two"))
        assert [site.name for site in work.sites.limit(2)] == ["one", "two"]


def test_a_loop_with_a_timeout_ends_when_nothing_comes(folder: dict[str, Any]) -> None:
    async def story() -> list[int]:
        async with Work.open(**folder) as work:
            seen = [message.offset async for message in work.jobs.messages(timeout=timedelta(milliseconds=100))]
            assert await work.jobs.for_each_async(lambda job: None, timeout="50ms") == 0
            return seen

    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(3))
        assert work.jobs.limit(2).for_each(lambda job: None, timeout="1m") == 2
    assert asyncio.run(story()) == [2]


@pytest.mark.parametrize("timeout", ["0s", timedelta(microseconds=1)])
def test_what_is_there_comes_before_the_shortest_timeout_ends_a_loop(folder: dict[str, Any], timeout: str | timedelta) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many([Job(key, number) for number in range(3) for key in ("a", OTHER)])
        assert len(list(work.jobs.messages(timeout=timeout))) == 6
        assert work.jobs.for_each(lambda job: None, timeout=timeout) == 0


def test_consuming_begins_at_an_offset_or_at_an_instant(folder: dict[str, Any]) -> None:
    def at(minutes: int) -> Any:
        return NOON + timedelta(minutes=minutes)

    with Work.open(**folder) as work:
        work.jobs.add_many([Job("a", number, at(number)) for number in range(10)])
        partition = next(iter(work.jobs.messages())).partition
        assert [job.number for job in work.jobs.from_offsets({partition: 7}).limit(2)] == [7, 8]
        assert [job.number for job in work.jobs.limit(1)] == [9]
        assert [job.number for job in work.jobs.since(at(4)).limit(2)] == [4, 5]
        seen: list[int] = []
        work.jobs.since("2024-03-08T12:02:30Z").for_each(lambda job: seen.append(job.number), limit=1)
        assert seen == [3]
        assert [job.number for job in work.jobs.to_list(start=at(2), end="2024-03-08T12:05:00Z")] == [2, 3, 4]
        assert [job.number for job in work.jobs.limit(2).to_list("a", end=at(5))] == [3, 4]
        with pytest.raises(DataError, match=r"partition \d of jobs ends at 10, so it cannot be read from 11 on"):
            next(iter(work.jobs.from_offsets({partition: 11})))
        with pytest.raises(DataError, match="jobs has partitions 0 to 1, not 2"):
            next(iter(work.jobs.from_offsets({2: 0})))
        with pytest.raises(DataError, match=r"from_offsets\(\{0: -1\}\): give 0 or more"):
            work.jobs.from_offsets({0: -1})
        wrong: Any = [1]
        with pytest.raises(DataError, match=r"from_offsets\(\[1\]\): give the first offset by the number of a partition"):
            work.jobs.from_offsets(wrong)


@pytest.mark.parametrize("timeout", ["50ms", "1m"])
def test_the_group_goes_on_where_a_loop_has_begun_also_if_nothing_was_done_there(folder: dict[str, Any], timeout: str) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many([Job(key, number, NOON + timedelta(minutes=number)) for number in range(6) for key in ("a", OTHER)])
        assert work.jobs.for_each(lambda job: None, limit=12) == 12
        with pytest.raises(ValueError, match="bug"):
            for _ in work.jobs.since(NOON + timedelta(minutes=4)):
                raise ValueError("bug")
    with Work.open(**folder) as work:
        again = [(job.id, job.number) for job in work.jobs.limit(4)]
        assert sorted(again) == [("a", 4), ("a", 5), (OTHER, 4), (OTHER, 5)]
        with work.jobs.from_offsets({0: 1, 1: 1}).manual_commit(timeout=timeout) as messages:
            for message in messages:
                assert message.offset == 1
                break
        assert work.jobs.for_each(lambda job: None, timeout="50ms") == 0


def test_a_stream_has_one_loop_at_a_time(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(4))
        with work.jobs.messages() as messages:
            older = iter(messages)
            assert next(older).offset == 0
            for message in messages:
                assert (message.offset, message.attempt) == (0, 2)
                break
            with pytest.raises(StateError, match=r"another loop over the same work.jobs.messages\(\) has begun"):
                next(older)
            del older
            assert [message.offset for message, _ in zip(messages, range(1), strict=False)] == [1]
    assert rest(folder, 2) == [2, 3]


def test_a_handler_that_would_do_nothing_is_refused_and_its_message_stays(folder: dict[str, Any]) -> None:
    async def later(job: Job) -> None:
        done.append(job.number)

    def lazily(job: Job) -> Iterator[int]:
        yield job.number

    done: list[int] = []
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(2))
        careful: Any = work.jobs.on_error(OnError.SKIP)
        with pytest.raises(StateError, match=r"is a coroutine function; write `await work.jobs.for_each_async"):
            careful.for_each(lambda job, handle=later: handle(job))
        with pytest.raises(DataError, match="for_each: the handler contains `yield`, so calling it would do nothing"):
            careful.for_each(lazily)
        with pytest.raises(DataError, match="for_each: the handler is None; give a function"):
            careful.for_each(None)
        with pytest.raises(DataError, match="replay: the handler is 5"):
            careful.dead_letters().replay(5)
    assert done == []
    assert rest(folder, 2) == [0, 1]


def test_what_is_done_in_a_partition_that_others_have_taken_is_not_committed(folder: dict[str, Any]) -> None:
    with Work.open(**folder) as work:
        work.jobs.add_many(jobs(3))
        loop = iter(work.jobs.messages())
        message = next(loop)
        database = state_of(work).log._connection.database  # type: ignore[attr-defined]
        database.run("UPDATE lease SET owner = NULL, session = NULL, epoch = epoch + 1", [])
        # The next one is asked for, so this one is done; the commit is refused, and nothing of the partition is delivered.
        message = next(loop)
        assert message.offset == 0
        del loop


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="no signals")
def test_ctrl_c_in_a_handler_leaves_its_message(folder: dict[str, Any]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Work.open(**folder) as work:
            work.jobs.add_many(jobs(4))

            def handle(job: Job) -> None:
                if job.number == 1:
                    os.kill(os.getpid(), signal.SIGINT)
                    wait_until(lambda: False, "the interrupt")

            with pytest.raises(KeyboardInterrupt):
                work.jobs.for_each(handle)
    finally:
        signal.signal(signal.SIGINT, before)
    assert rest(folder, 3) == [1, 2, 3]
