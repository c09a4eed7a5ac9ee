"""The blocking form: plain `with`, plain `for`, Ctrl-C, and what is said where the two forms are mixed up."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import kandle.testing
from kandle.errors import ModelError, StateError, TimeframeError
from tests.context.test_context import Hit, Page, Site

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)
NO_QUERIES: dict[str, Any] = {"runtime": {"enabled": False}}


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """SIGINT as in a terminal, also where the tests were started without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(value: object) -> None:
    """Ctrl-C, while the main thread waits."""
    assert threading.current_thread() is not threading.main_thread()
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_ends_a_call_that_waits_and_the_context_after_it() -> None:
    with pytest.raises(KeyboardInterrupt), Site.open(**NO_QUERIES) as site:
        site.hits.add(Hit("/", NOON))  # type: ignore[unused-coroutine]
        site.hits.for_each(interrupt)  # type: ignore[unused-coroutine]
    with Site.open(**NO_QUERIES) as site:
        assert site.hits.to_list() == [Hit("/", NOON)]


def test_a_loop_of_the_other_kind_is_refused_with_the_right_one() -> None:
    async def story() -> None:
        async with Site.open(**NO_QUERIES) as site:
            with pytest.raises(StateError, match=r"opened by `with`; write `async for` and `async with`"):
                next(iter(site.hits))
            with pytest.raises(StateError, match=r"write `async for`"):
                iter(site.hits.messages())

    asyncio.run(story())


def test_a_context_that_nobody_opened_says_so_at_once() -> None:
    site: Any = Site()
    for call in (site.hits.to_list, lambda: site.hits.add(Hit("/", NOON)), lambda: next(iter(site.hits))):
        with pytest.raises(
            StateError, match=r"the context is not open; write `async with Site.open\(\) as context:`|opened by `with`"
        ):
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
    with pytest.raises(ModelError, match=r"a context for tests is made of a subclass of kandle\.Context, not of"):
        kandle.testing.context(Hit, start=NOON)  # type: ignore[type-var]


def test_sets_say_in_a_few_words_what_they_are() -> None:
    site = Site()
    shown = [repr(each) for each in (site.hits, site.owners, site.set(Page, "5m").live, site.time_bucket(Page, "1m"))]
    assert shown == ["EventSet(Hit)", "TableSet(Owner)", "EventSet(Page, 5m, live)", "TimeBucket(Page, 1m)"]
