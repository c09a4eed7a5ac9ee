"""One consumer of the soak of consuming: writes a line into a book for each job that it has done.

python -m tests.soak.handler OPTIONS BOOK handler|transaction

Every fiftieth job is poison: its handler always fails. Every seventeenth one fails at the first attempt of a process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from kandle import OnError
from tests.sets.consumed import Job, Result, Work
from tests.soak.processes import end_in_order_when_told

POISON = 50
FLAKY = 17


def is_poison(number: int) -> bool:
    """Return whether nobody can handle the job of this number."""
    return number % POISON == POISON - 1


class HandlerError(Exception):
    """What fails here on purpose."""


class Handler:
    """Does jobs, and notes each in a book that survives the process."""

    def __init__(self, book: str) -> None:
        self._book = os.open(book, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        self._tried: set[int] = set()

    def check(self, job: Job) -> None:
        """Raise HandlerError for poison, and for a flaky job at the first attempt."""
        if is_poison(job.number):
            raise HandlerError(f"job {job.number} is poison")
        if job.number % FLAKY == 0 and job.number not in self._tried:
            self._tried.add(job.number)
            raise HandlerError(f"job {job.number} fails once")

    def __call__(self, job: Job) -> None:
        self.check(job)
        os.write(self._book, f"{job.id} {job.number}\n".encode())


def consume(options: dict[str, Any], book: str, kind: str) -> None:
    """Do jobs until the process ends."""
    handler = Handler(book)
    with Work.open(**options) as work:
        jobs = work.jobs.on_error(OnError.DEAD_LETTER).with_retry(2, backoff="10ms", max="40ms")
        if kind == "handler":
            jobs.for_each(handler)
        with work.transaction() as step:
            for message in step.messages(jobs):
                job = message.value
                assert job is not None
                step.add(work.results, Result(job.id, job.number))
                try:
                    handler.check(job)
                except HandlerError as error:
                    message.reject(error)


if __name__ == "__main__":
    end_in_order_when_told()
    consume(json.loads(sys.argv[1]), *sys.argv[2:4])
