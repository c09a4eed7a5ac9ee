"""One process of the soak of letters: replays the dead letters of jobs, again and again, until it ends.

python -m tests.soak.replayer OPTIONS
"""

from __future__ import annotations

import json
import sys
from typing import Any

import kandle.sets.replaying
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND
from tests.sets.consumed import Work
from tests.soak.processes import end_in_order_when_told


def replay(options: dict[str, Any]) -> None:
    """Replay letters, few in one commit, so that a kill comes between two of them."""
    kandle.sets.replaying.LETTERS_AT_ONCE = 100
    with Work.open(**options) as work:
        while True:
            done = work.jobs.dead_letters().replay()
            assert not done.refused, done.refused[0].reason
            SystemClock().pause(20 * MILLISECOND)


if __name__ == "__main__":
    end_in_order_when_told()
    replay(json.loads(sys.argv[1]))
