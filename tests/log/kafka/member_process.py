"""A process that is a member of a group: it copies the first partition, and the second one when it is told to.

python -m tests.log.kafka.member_process BOOTSTRAP GROUP NAME
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable

from kandle.errors import KandleError
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import Consumer, GroupSpec
from kandle.log.records import Batch, Write
from kandle.time.timeframe import MINUTE
from tests.log.building import numbers_of, poll_until, positions_of


def copy(consumer: Consumer, batches: Iterable[Batch], results: str, partitions: Collection[int] = (0, 1)) -> None:
    """Commit the records of these partitions as results."""
    copied = [batch for batch in batches if batch.partition in partitions]
    if copied:
        consumer.commit(positions_of(copied), [Write(results, batch.partition, batch.records) for batch in copied])


def main() -> None:
    bootstrap, group, name = sys.argv[1:]
    # Its open transaction would block the others for a minute, unless the member that takes over aborts it.
    log = KafkaLog(KafkaSettings(bootstrap, protocol="consumer", transaction=MINUTE))
    consumer = log.consumer(GroupSpec(group, (group,), name))
    batches = poll_until(consumer, 20)
    copy(consumer, batches, f"{group}.results", [0])
    print("copied", len(numbers_of(batches)), flush=True)
    sys.stdin.readline()
    try:
        copy(consumer, batches, f"{group}.results", [1])
    except KandleError as error:
        print(type(error).__name__, flush=True)
    while not consumer.poll(10_000, 10):
        pass
    print("reads on", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
