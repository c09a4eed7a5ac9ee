"""Run Kafka in the foreground until Ctrl-C or SIGTERM.

python -m tools.kafka [--port 9092] [--brokers 1] [--data kafka-data]
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND
from tools.kafka.cluster import SIZES, Cluster
from tools.kafka.errors import StartError, ToolError
from tools.kafka.libraries import VERSION


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.kafka", description=f"Run Apache Kafka {VERSION} on loopback.")
    parser.add_argument("--port", type=int, default=9092, help="of the first broker; others have the next ones")
    parser.add_argument("--brokers", type=int, choices=SIZES, default=1)
    parser.add_argument("--data", type=Path, default=Path("kafka-data"), help="folder whose data outlast this run")
    return parser.parse_args()


def serve(cluster: Cluster) -> None:
    """Say where the cluster is, and watch it until a signal ends this process."""
    print(f"Kafka {VERSION} is ready at {cluster.bootstrap}; data in {cluster.folder}; Ctrl-C stops it", flush=True)
    brokers, clock = [cluster.broker(number) for number in range(1, cluster.brokers + 1)], SystemClock()
    while True:
        clock.pause(200 * MILLISECOND)
        for broker in brokers:
            if not broker.is_running:
                raise StartError(f"{broker.name} has ended by itself; it said:\n{broker.tail()}")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    asked = arguments()
    ports = range(asked.port, asked.port + asked.brokers)
    try:
        with Cluster(brokers=asked.brokers, folder=asked.data, ports=ports) as cluster:
            serve(cluster)
    except (ToolError, OSError) as error:
        sys.exit(f"kafka: error: {error}")
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
