"""The blocking form: plain `with`, plain `for`, Ctrl-C, and what is said where the two forms are mixed up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kandle.testing
from kandle.errors import ModelError, StateError, TimeframeError
from tests.context.test_context import Hit, Owner, Page, Site

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
NO_QUERIES: dict[str, Any] = {"runtime": {"enabled": False}}


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """SIGINT as in a terminal, also where the tests were started without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_ends_a_call_that_waits_and_the_context_after_it() -> None:
    def interrupt() -> None:
        waited.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    def handle(hit: Hit) -> None:
        # The one hit is handled, so from now on the call waits for another one.
        waited.set()

    waited = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), Site.open(**NO_QUERIES) as site:
        site.hits.add(Hit("/", NOON))
        site.hits.for_each(handle)
    thread.join()
    with Site.open(**NO_QUERIES) as site:
        assert site.hits.to_list() == [Hit("/", NOON)]


def test_a_handler_of_the_blocking_form_may_call_blocking_methods() -> None:
    with Site.open(**NO_QUERIES) as site:
        site.hits.add_many([Hit("/", NOON), Hit("/b", NOON)])
        assert site.hits.for_each(lambda hit: site.owners.add(Owner(hit.page, "me")), limit=2) == 2
        assert [owner.page for owner in site.owners.to_list()] == ["/", "/b"]


def test_a_handler_that_is_a_coroutine_function_is_refused_by_the_blocking_form() -> None:
    async def handle(hit: Hit) -> None:
        raise AssertionError

    with Site.open(**NO_QUERIES) as site, pytest.raises(StateError, match=r"write `await site\.hits\.for_each_async\(\.\.\.\)`"):
        site.hits.for_each(handle)  # type: ignore[arg-type]


def test_a_blocking_call_in_an_event_loop_names_the_one_to_await() -> None:
    async def story() -> None:
        async with Site.open(**NO_QUERIES) as site:
            with pytest.raises(
                StateError, match=r"`site\.hits\.add\(\.\.\.\)` would block .*; write `await site\.hits\.add_async"
            ):
                site.hits.add(Hit("/", NOON))
            with pytest.raises(StateError, match=r"write `async for`"):
                next(iter(site.hits))
            with pytest.raises(StateError, match=r"write `async for`"):
                iter(site.hits.messages())
            with pytest.raises(StateError, match=r"write `async with`"):
                site.hits.manual_commit().__enter__()

    asyncio.run(story())


def test_a_blocking_call_in_a_loop_other_than_that_of_the_context_is_refused_too() -> None:
    with Site.open(**NO_QUERIES) as site:

        async def story() -> None:
            with pytest.raises(StateError, match=r"write `await site\.pages\.to_list_async\(\.\.\.\)`"):
                site.pages.to_list()

        asyncio.run(story())


def test_a_cell_of_a_notebook_may_block_although_its_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))

    async def cell() -> list[Hit]:
        with Site.open(**NO_QUERIES) as site:
            site.hits.add(Hit("/", NOON))
            return site.hits.to_list()

    assert asyncio.run(cell()) == [Hit("/", NOON)]


def test_a_message_of_automatic_commits_is_not_committed_by_hand() -> None:
    with Site.open(**NO_QUERIES) as site:
        site.hits.add_many([Hit("/", NOON) for _ in range(3)])
        message = next(iter(site.hits.messages()))
        with pytest.raises(StateError, match=r"committed by itself .* take them from `manual_commit"):
            message.commit()
        with site.hits.manual_commit() as messages:
            first = next(iter(messages))
            first.commit()
        with pytest.raises(StateError, match="the messages are closed already; commit them inside of `with"):
            first.commit()
        with site.hits.manual_commit() as messages:
            assert next(iter(messages)).offset == first.offset + 1


def test_a_context_of_plain_with_can_be_awaited_in_another_loop() -> None:
    async def story() -> list[Hit]:
        await asyncio.gather(*(site.hits.add_async(Hit(f"/{number}", NOON)) for number in range(3)))
        async for message in site.hits.messages():
            await site.owners.add_async(Owner(message.key[0], "me"))
            if message.offset == 2:
                break
        return await site.hits.to_list_async()

    with Site.open(**NO_QUERIES) as site:
        assert {hit.page for hit in asyncio.run(story())} == {"/0", "/1", "/2"}
        assert len(site.owners.to_list()) == 3


def test_a_context_of_async_with_can_be_used_by_threads() -> None:
    async def story() -> list[Hit]:
        async with Site.open(**NO_QUERIES) as site:
            await asyncio.to_thread(site.hits.add, Hit("/", NOON))
            return await asyncio.to_thread(site.hits.to_list)

    assert asyncio.run(story()) == [Hit("/", NOON)]


def test_an_async_call_without_an_event_loop_names_the_blocking_one() -> None:
    with Site.open(**NO_QUERIES) as site:
        with pytest.raises(StateError, match=r"no event loop runs here.*; write `site\.hits\.add\(\.\.\.\)`, which blocks"):
            site.hits.add_async(Hit("/", NOON))  # type: ignore[unused-coroutine]
        assert site.hits.to_list() == []


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_call_that_nobody_awaits_is_an_error_when_the_context_is_left() -> None:
    async def story() -> None:
        async with Site.open(**NO_QUERIES) as site:
            site.hits.add_async(Hit("/", NOON))  # type: ignore[unused-coroutine]
            await asyncio.create_task(site.hits.add_async(Hit("/b", NOON)))

    with pytest.raises(
        StateError, match=r"^1 call was never awaited, so it did nothing; write `await site\.hits\.add_async\(\.\.\.\)`$"
    ):
        asyncio.run(story())


def test_a_loop_that_is_left_by_break_has_committed_what_it_was_given() -> None:
    problems: list[dict[str, Any]] = []

    async def story() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, problem: problems.append(problem))
        pages = []
        for _ in range(3):
            async with Site.open(**NO_QUERIES) as site:
                async for hit in site.hits:
                    pages.append(hit.page)
                    break
        return pages

    with Site.open(**NO_QUERIES) as site:
        site.hits.add_many([Hit(f"/{number}", NOON) for number in range(3)])
    assert asyncio.run(story()) == ["/0", "/1", "/2"]
    assert not problems


def test_in_an_event_loop_of_trio_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio need not be installed: whoever runs it has imported it, and asks `current_trio_token` for its loop."""
    site: Any
    with Site.open(**NO_QUERIES) as site:
        monkeypatch.setitem(sys.modules, "trio", SimpleNamespace(lowlevel=SimpleNamespace(current_trio_token=object)))
        refused: list[tuple[Callable[[], Any], str]] = [
            (lambda: site.hits.add(Hit("/", NOON)), "do it in a thread: `await trio.to_thread.run_sync"),
            (lambda: site.hits.add_async(Hit("/", NOON)), r"write `await trio.to_thread.run_sync\(site.hits.add, ...\)`"),
            (lambda: anext(aiter(site.hits)).send(None), "iterate in a thread: `for ... in site.hits`"),
            (lambda: Site.open(**NO_QUERIES).__aenter__().send(None), r"open it by `with Site.open\(\) as"),
        ]
        for call, instead in refused:
            with pytest.raises(StateError, match=f"here runs an event loop of trio, .*{instead}.*asyncio"):
                call()
        monkeypatch.delitem(sys.modules, "trio")
        site.hits.add(Hit("/", NOON))


FORKED = """
import os, sys
from datetime import UTC, datetime
from tests.context.test_context import Hit, Site

def attempt(call):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
        os._exit(0)
    os._exit(1)

def again():
    with Site.open(runtime={"enabled": False}) as site:
        site.hits.to_list()

with Site.open(runtime={"enabled": False}) as site:
    site.hits.add(Hit("/", datetime.now(UTC)))
    attempt(site.hits.to_list)
attempt(again)
"""


def test_a_context_in_a_forked_process_is_refused_with_the_way_to_start_one(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    used, opened = run.stdout.splitlines()
    assert used.startswith("StateError this Site was opened in process ")
    assert opened.startswith("StateError process ")
    assert all('Start the process by `multiprocessing.get_context("spawn")`' in line for line in (used, opened))


def test_a_context_that_nobody_opened_says_so_at_once() -> None:
    site = Site()
    for call in (site.hits.to_list, lambda: site.hits.add(Hit("/", NOON)), lambda: next(iter(site.hits))):
        with pytest.raises(StateError, match=r"the context is not open; write `with Site.open\(\) as site:`"):
            call()


def test_a_context_for_tests_blocks_as_well() -> None:
    site: Any
    with kandle.testing.context(Site, start="2024-03-08T12:00Z") as site:
        site.hits.add(Hit("/", NOON))
        site.clock.advance("2m")
        assert [page.hits for page in site.finals(Page, "1m")] == [1, 0]
        site.clock.set("2024-03-08T12:03Z")
        assert len(site.finals(Page, "1m")) == 3
        with pytest.raises(TimeframeError, match="does not go back"):
            site.clock.set(NOON)


def test_a_context_for_tests_is_made_of_a_context() -> None:
    with pytest.raises(ModelError, match=r"kandle\.testing\.context takes a subclass of kandle\.Context, not"):
        kandle.testing.context(Hit, start=NOON)  # type: ignore[type-var]


def test_sets_say_in_a_few_words_what_they_are() -> None:
    site = Site()
    shown = [repr(each) for each in (site.hits, site.owners, site.set(Page, "5m").live, site.time_bucket(Page, "1m"))]
    assert shown == ["EventSet(Hit)", "TableSet(Owner)", "TimeBucket(Page, 5m, live)", "TimeBucket(Page, 1m)"]
