"""Two processes share the partitions: one stops, is killed or is paused, and nothing is lost, doubled or made up."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.comparing import Outcome, outcome
from tests.soak.crash import clock_options, settled_after
from tests.soak.declaration import PARTITIONS
from tests.soak.processes import Process, Processes, owns, processes
from tests.waiting import wait_until

Case = Callable[[Processes, Process, Process], None]


def pair(folder: Path, lease: int, case: Case, **ticks: int) -> Outcome:
    """A leader and a follower with a producer; what came out after the case was played."""
    settings, clock = clock_options(0)
    with processes(folder, {"clock": settings, "runtime": {"lease": lease}}) as every:
        leader = every.worker("leader")
        wait_until(lambda: owns(leader, partitions=PARTITIONS), "owning all partitions", seen=leader.newest)
        follower = every.worker("follower")
        wait_until(
            lambda: owns(leader, follower, partitions=PARTITIONS),
            "sharing the partitions",
            seen=lambda: (leader.newest(), follower.newest()),
        )
        wait_until(lambda: leader.newest()["leader"], "the leader's own word", seen=leader.newest)
        assert not follower.newest()["leader"]
        producer = every.producer(**ticks)
        wait_until(lambda: follower.newest()["finals"] > 0, "the first final", seen=follower.newest)
        case(every, leader, follower)
        every.of("producer")[-1].stop()
        assert producer.lines()
        until = -(-clock.now() // SECOND) * SECOND
        settled_after(every, until)
        for process in every.started:
            if process.is_running:
                process.stop()
        found = outcome(every, until)
    print(f"\n{found.table()}")
    assert not found.wrong, found.table()
    return found


def has_all(worker: Process, after: int) -> bool:
    """Whether a worker owns everything and leads, by what it said after an instant of steady time."""
    newest = worker.newest()
    return newest["steady"] > after and newest["leader"] and owns(worker, partitions=PARTITIONS)


def taken_over(worker: Process, since: int) -> None:
    """Wait until a worker has everything, and say how long it took."""
    wait_until(lambda: has_all(worker, since), "taking over", seen=worker.newest)
    first = next(line for line in worker.health() if line["leader"] and len(line["partitions"]) == PARTITIONS)
    print(f"\ntaken over after {(first['steady'] - since) / SECOND:.2f} s")


def test_a_worker_that_is_told_to_stop_hands_over_long_before_its_lease_is_over(tmp_path: Path) -> None:
    def case(every: Processes, leader: Process, follower: Process) -> None:
        since = SystemClock().steady()
        # The lease is longer than anybody waits here.
        leader.stop()
        taken_over(follower, since)

    pair(tmp_path, 10 * 60 * SECOND, case)


def test_the_lease_of_a_killed_worker_runs_out_and_the_other_goes_on(tmp_path: Path) -> None:
    def case(every: Processes, leader: Process, follower: Process) -> None:
        since = SystemClock().steady()
        leader.kill()
        taken_over(follower, since)

    pair(tmp_path, 2 * SECOND, case)


def pause(seconds: float) -> None:
    SystemClock().pause(round(seconds * SECOND))


def stopped_and_continued(seconds: float) -> Case:
    """The leader stops for longer than its lease, and goes on by itself."""

    def case(every: Processes, leader: Process, follower: Process) -> None:
        since = SystemClock().steady()
        leader.send(signal.SIGSTOP)
        taken_over(follower, since)
        pause(seconds - (SystemClock().steady() - since) / SECOND)
        leader.send(signal.SIGCONT)
        wait_until(lambda: owns(leader, follower, partitions=PARTITIONS), "sharing again")
        before = leader.newest()["finals"]
        wait_until(lambda: leader.newest()["finals"] > before, "a final of the worker that was paused")

    return case


def test_a_worker_paused_for_longer_than_its_lease_writes_nothing_of_before_and_goes_on(tmp_path: Path) -> None:
    pair(tmp_path, 2 * SECOND, stopped_and_continued(8))


@pytest.mark.soak
def test_a_worker_paused_for_half_a_minute_goes_on(tmp_path: Path) -> None:
    pair(tmp_path, 2 * SECOND, stopped_and_continued(30))


def test_a_worker_that_lags_behind_the_heartbeats_makes_no_gaps_of_unread_ticks(tmp_path: Path) -> None:
    def case(every: Processes, leader: Process, follower: Process) -> None:
        # The lease goes on, so nobody takes over; the leader's heartbeats go on as well, and the ticks are not read.
        follower.send(signal.SIGSTOP)
        pause(4)
        follower.send(signal.SIGCONT)
        every.of("producer")[-1].send(signal.SIGSTOP)
        pause(2)
        every.of("producer")[-1].send(signal.SIGCONT)

    assert pair(tmp_path, 60 * SECOND, case).rows[0].gaps > 0
