"""A process that runs the queries until SIGTERM, and writes its health as a line of JSON ten times a second.

python -m tests.soak.worker CONTEXT OPTIONS OUTPUT [AHEAD]

AHEAD are microseconds by which the clock of its machine seems to be ahead of all others.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import resource
import signal
import sys
import threading
from pathlib import Path

from kandle import Context
from kandle.context.context import state_of
from kandle.time.clock import SystemClock
from tests.soak.declaration import CONTEXTS

EVERY = 0.1
PROBLEM = 3
"""Exit code when a query has stopped."""


def line(context: Context) -> str:
    """What the tests look at; `at` is the time of the context's clock, `steady` that of the machine."""
    query = context.health().queries[0]
    content = {
        "at": state_of(context).clock.now(),
        "steady": SystemClock().steady(),
        "leader": query.is_leader,
        "partitions": list(query.partitions),
        "finals": sum(each.finals for each in query.counters.timeframes.values()),
        "heartbeats": query.counters.heartbeats_sent,
        "fenced": query.counters.fenced,
        "restored": query.counters.restored,
        "warm": query.counters.warm,
        "standby": list(query.standby),
        "lag": query.lag,
        "resident": resident(),
        "problem": query.problem,
    }
    return json.dumps(content) + "\n"


def resident() -> int:
    """Memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def set_ahead(ahead: int) -> None:
    """Have the clock of the system run ahead by so many microseconds, as on a machine whose clock was set wrongly."""
    right = SystemClock.now

    def fast(self: SystemClock) -> int:
        return right(self) + ahead

    SystemClock.now = fast  # type: ignore[method-assign]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    faulthandler.register(signal.SIGUSR1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    name, options, output, *ahead = sys.argv[1:]
    if ahead:
        set_ahead(int(ahead[0]))
    with CONTEXTS[name].open(**json.loads(options)) as context, Path(output).open("a") as lines:
        while not stop.wait(EVERY):
            lines.write(line(context))
            lines.flush()
            if context.problem is not None:
                return PROBLEM
    return 0


if __name__ == "__main__":
    sys.exit(main())
