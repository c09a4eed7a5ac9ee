"""Kill one of three brokers after the other under two workers and a producer, and compare all that came out.

python -m tests.soak.broker_deaths --deaths 20

A broker is away for some seconds, and the next one dies when all copies are whole again. What is silent meanwhile is shown: the
longest time without a new final in any process, up to a second of which is the bucket's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.soak.comparing import Outcome, outcome
from tests.soak.crash import LONGEST, settled_after
from tests.soak.processes import Process, Processes, end_in_order_when_told, owns, processes
from tests.waiting import LIMIT, wait_until
from tools.kafka.cluster import Cluster

PARTITIONS = 8
AWAY = 5 * SECOND
BROKERS = 3


def options(cluster: Cluster, protocol: str) -> dict[str, Any]:
    """Options of the contexts, in which nothing is said of replication: the brokers' default is three."""
    kafka = {"bootstrap": cluster.bootstrap, "session": 6 * SECOND, "protocol": protocol}
    return {"log": {"kind": "kafka"}, "kafka": kafka, "topics": {"ticks": {"partitions": PARTITIONS}}}


def is_whole(admin: AdminClient) -> bool:
    """Return whether all brokers have all copies."""
    topics = admin.list_topics(timeout=LIMIT).topics.values()
    return all(len(partition.isrs) == BROKERS for topic in topics for partition in topic.partitions.values())


def finals(workers: list[Process]) -> int:
    """Return how many finals the workers have made so far."""
    return sum(worker.newest()["finals"] for worker in workers)


def silence(workers: list[Process], producer: Process, seconds: float) -> float:
    """Watch for a while, and return the longest time in which no final was made; all must stay alive."""
    clock = SystemClock()
    until = clock.steady() + round(seconds * SECOND)
    seen, changed, longest = finals(workers), clock.steady(), 0
    while True:
        for process in (*workers, producer):
            process.check()
        clock.pause(SECOND // 20)
        longest = max(longest, clock.steady() - changed)
        assert longest < LIMIT * SECOND, "no final is made any more"
        if (newest := finals(workers)) != seen:
            seen, changed = newest, clock.steady()
            if changed >= until:
                return longest / SECOND


def run(cluster: Cluster, folder: Path, deaths: int, protocol: str = "classic") -> Outcome:
    """Kill brokers in turn, wait for the end of the last buckets, compare."""
    clock = SystemClock()
    admin = AdminClient({**cluster.client_properties(), "log_level": 0})
    with processes(folder, options(cluster, protocol)) as services:
        workers = [services.worker(f"worker{number}") for number in range(2)]
        check = partial(_check, services)
        wait_until(lambda: owns(*workers, partitions=PARTITIONS), "sharing the partitions", check=check)
        producer = services.producer(keys=200)
        wait_until(lambda: finals(workers) > 0, "the first final", check=check)
        for number in range(deaths):
            broker = cluster.broker(number % BROKERS + 1)
            broker.kill()
            away = silence(workers, producer, AWAY / SECOND)
            broker.start()
            back = silence(workers, producer, 1)
            wait_until(lambda: is_whole(admin), "all copies", check=check)
            print(
                f"death {number + 1} of {deaths}: broker {number % BROKERS + 1}; silence {away:.1f} s, {back:.1f} s", flush=True
            )
        producer.stop()
        until = -(-clock.now() // LONGEST) * LONGEST
        settled_after(services, until)
        for worker in workers:
            worker.stop()
        return outcome(services, until)


def _check(services: Processes) -> None:
    for process in services.started:
        process.check()


def main() -> int:
    end_in_order_when_told()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deaths", type=int, default=20)
    parser.add_argument("--protocol", choices=["classic", "consumer"], default="classic", help="of groups")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Cluster(brokers=BROKERS) as cluster:
        result = run(cluster, Path(folder), choices.deaths, choices.protocol)
    print(result.table())
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
