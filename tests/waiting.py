"""Waits that end by their condition, and fail after minutes with what was seen last.

A test must pass on a machine that is busy with something else, so nothing here expects a time: `LIMIT` is only there so that
a run whose condition never comes true ends at all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from threading import Thread
from time import monotonic, sleep
from typing import TypeVar

Value = TypeVar("Value")

LIMIT = 300
"""Seconds after which a wait gives up."""


def wait_until(
    done: Callable[[], object],
    expected: str = "the condition",
    *,
    seen: Callable[[], object] | None = None,
    check: Callable[[], object] | None = None,
    pause: float = 0.02,
) -> None:
    """Look again and again until it is done.

    Args:
        done: Says whether it is done.
        expected: Names what is waited for, for the message of a failure.
        seen: Gives what that message shows besides.
        check: Is called before each look; raises when it makes no sense to go on, for instance since a worker has failed.
        pause: Seconds between two looks.

    Raises:
        AssertionError: It was not done within `LIMIT` seconds.
    """
    until = monotonic() + LIMIT
    while not done():
        if check is not None:
            check()
        if monotonic() > until:
            raise AssertionError(f"{expected} did not come within {LIMIT} s" + (f"; last seen: {seen()!r}" if seen else ""))
        sleep(pause)


def wait_for(
    look: Callable[[], Value],
    fits: Callable[[Value], object] = bool,
    expected: str = "the condition",
    *,
    check: Callable[[], object] | None = None,
    pause: float = 0.02,
) -> Value:
    """Look again and again until the value fits, and return it; see `wait_until`. A failure shows the last value."""
    values: list[Value] = []

    def done() -> object:
        values[:] = [look()]
        return fits(values[0])

    wait_until(done, expected, seen=lambda: values[0], check=check, pause=pause)
    return values[0]


def result_of(future: Future[Value], expected: str = "the result") -> Value:
    """Return the result of a call in another thread."""
    try:
        return future.result(LIMIT)
    except NotInTime:
        raise AssertionError(f"{expected} did not come within {LIMIT} s") from None


def aside(call: Callable[[], Value]) -> Future[Value]:
    """Make a call in a thread of its own."""
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
