"""Waiters for commits: whoever wakes one that was closed meanwhile harms nobody."""

from __future__ import annotations

import os
from pathlib import Path

from kandle.log.embedded.notification import PipeWaiter

LIMIT = 10_000_000


def test_a_waiter_that_is_woken_does_not_wait(tmp_path: Path) -> None:
    waiter = PipeWaiter(tmp_path / "bells")
    waiter.wake()
    assert waiter.wait(LIMIT)
    assert not waiter.wait(0)
    waiter.close()


def test_a_wake_after_the_end_writes_nothing_into_the_file_that_has_the_number_of_the_pipe_now(tmp_path: Path) -> None:
    """
    thread of the worker    closes its waiter, pipe 7
    another                                             opens a file, which is 7 now
    thread that stops it                                                              wakes the waiter
    """
    waiter = PipeWaiter(tmp_path / "bells")
    number = waiter._pipe
    waiter.close()
    file = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(file, number)
    waiter.wake()
    assert os.fstat(number).st_size == 0
    for descriptor in {file, number}:
        os.close(descriptor)


def test_a_wait_that_the_end_overtakes_reads_nothing_of_the_file_that_has_the_number_of_the_pipe_now(tmp_path: Path) -> None:
    waiter = PipeWaiter(tmp_path / "bells")
    number = waiter._pipe
    waiter.close()
    reader, writer = os.pipe()
    os.dup2(reader, number)
    os.set_blocking(number, False)
    os.write(writer, b"kept")
    waiter.wait(0)
    assert os.read(number, 10) == b"kept"
    for descriptor in {reader, writer, number}:
        os.close(descriptor)
