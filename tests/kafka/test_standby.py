"""Two processes of a query with warm standby, on each kind of log: one leaves, and the other has the state ready."""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

from kandle import Context
from kandle.context.context import state_of
from kandle.runtime.counters import QueryHealth
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND, from_instant
from tests.soak.comparing import frame_of
from tests.soak.declaration import PARTITIONS, Short, Tick
from tests.waiting import wait_until
from tools.kafka.cluster import Cluster

KEYS = 20
ALL = list(range(PARTITIONS))


def health(context: Context) -> QueryHealth:
    return context.health().queries[0]


def is_shared(*contexts: Context) -> bool:
    """Return whether these have all partitions between them, and each keeps those of the others ready."""
    states = [health(context) for context in contexts]
    owned = sorted(partition for state in states for partition in state.partitions)
    return owned == ALL and all(state.partitions and sorted([*state.partitions, *state.standby]) == ALL for state in states)


def ticks(number: int) -> list[Tick]:
    """Return a tick of each key, so far ahead that none is late on a busy machine."""
    moment = from_instant(SystemClock().now() // MILLISECOND * MILLISECOND + 3 * SECOND)
    return [Tick(moment, str(key), Decimal(number), number) for key in range(KEYS)]


def counted(context: Context) -> int:
    """Return the number of ticks in the finals."""
    frames = [frame_of(state_of(context).log, "bars_1s_final", partition) for partition in ALL]
    return sum(int(frame["ticks"].sum()) for frame in frames if frame.height)


def check_handover(options: dict[str, Any]) -> None:
    with ExitStack() as stack:
        one, two = (Short.open(**options, state={"standby": True}, runtime={"instance": name}) for name in ("one", "two"))
        stack.enter_context(two)
        with one:
            wait_until(lambda: sorted([*health(one).partitions, *health(two).partitions]) == ALL, "sharing the partitions")
            two.ticks.add_many(ticks(1))
            wait_until(lambda: counted(two) == KEYS, "the first finals")
            wait_until(lambda: is_shared(one, two), "following each other")
            before = health(two).counters
        wait_until(lambda: list(health(two).partitions) == ALL, "taking over")
        two.ticks.add_many(ticks(2))
        wait_until(lambda: counted(two) >= 2 * KEYS, "the finals after that")
        assert counted(two) == 2 * KEYS
        # On a busy machine partitions can move more than once; each of them has to be ready whenever it is taken over.
        after = health(two).counters
        assert after.warm - before.warm == after.restored - before.restored > 0
        wait_until(lambda: health(two).standby == (), "letting go of what is its own")


def test_on_the_embedded_log(tmp_path: Path) -> None:
    check_handover({"log": {"path": tmp_path}})


def test_on_kafka(cluster: Cluster) -> None:
    check_handover({"log": {"kind": "kafka"}, "kafka": {"bootstrap": cluster.bootstrap}})
