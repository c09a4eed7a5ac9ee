"""Records per second appended to the embedded log and read from it, by rows per batch; every append is a commit.

python -m benchmarks.log --rows 2000000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.declarations import Tick, ticks
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.log.records import Records, Write
from kandle.model.entity import entity_model
from kandle.plan.topics import entity_topic

BATCHES = (1, 10, 100, 1_000, 20_000, 100_000)
MOST_BATCHES = 2_000


def measured(log: EmbeddedLog, topic: str, rows: int, batch: int) -> tuple[float, float, float]:
    """Return the seconds of an append, and the rows appended and read per second."""
    count = max(1, min(rows // batch, MOST_BATCHES))
    frame = ticks(np.arange(batch) * 1_000 + 1_700_000_000_000_000, 100, np.random.default_rng(7))
    began = time.perf_counter()
    for _ in range(count):
        log.append([Write(topic, 0, Records(frame))])
    appended = time.perf_counter() - began
    partition = TopicPartition(topic, 0)
    offset = rows_read = 0
    began = time.perf_counter()
    while batches := log.read(partition, offset, 200_000):
        rows_read += sum(map(len, batches))
        offset = batches[-1].next_offset
    read = time.perf_counter() - began
    assert rows_read == count * batch
    return appended / count, count * batch / appended, rows_read / read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--durability", choices=["normal", "full"], default="normal")
    options = parser.parse_args()
    print(f"embedded log, durability {options.durability}")
    print("rows a batch  ms a commit    appended/s        read/s")
    with tempfile.TemporaryDirectory() as folder:
        log = EmbeddedLog(Path(folder), durability=options.durability)
        for batch in BATCHES:
            topic = f"ticks-{batch}"
            log.ensure(entity_topic(entity_model(Tick), topic))
            seconds, appended, read = measured(log, topic, options.rows, batch)
            print(f"{batch:>12,}  {seconds * 1000:>11.2f}  {appended:>12,.0f}  {read:>12,.0f}")
        log.close()


if __name__ == "__main__":
    main()
