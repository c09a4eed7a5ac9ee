"""Producers of one process on a cluster: transactions, and appends under a fence; see `kandle.log.kafka.producer`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from kandle.errors import FencedError, UnavailableError
from kandle.log.port import Fence, TopicPartition
from kandle.time.timeframe import MILLISECOND
from tests.simulation.logs.brokers import BrokerState, OpenTransaction
from tests.simulation.logs.state import Process
from tests.simulation.logs.storage import Partition, Prepared


def place_of(partition: Partition) -> TopicPartition:
    """Return the name of a partition."""
    return TopicPartition(partition.topic, partition.number)


class Stamps:
    """The times of the records that a process writes: that of the brokers where a topic says so, else its own."""

    def __init__(self, state: BrokerState, process: Process) -> None:
        self._state, self._process = state, process

    def of(self, topic: str) -> tuple[int, bool]:
        """Return the time in whole milliseconds, and whether it is that of the brokers."""
        is_stamped = self._state.topics.get(topic).spec.append_time
        clock = self._state.clock if is_stamped else self._process.clock
        return clock.now() // MILLISECOND * MILLISECOND, is_stamped


def lose_answer(state: BrokerState, process: Process, action: str) -> None:
    """Raise UnavailableError if the answer to what was done is to be lost."""
    left = state.faults.lost_answers.get(process.name, 0)
    if left:
        state.faults.lost_answers[process.name] = left - 1
        raise UnavailableError(f"{action}: there was no answer; it may have been made or not")


class Transactions:
    """Commits records and positions together, under one transactional id.

    Attributes:
        id: The transactional id.
        number: Tells this user of the id from others before and after it.
        is_settled: Whether every transaction was committed or aborted.
    """

    def __init__(self, state: BrokerState, process: Process, transactional_id: str) -> None:
        self._state, self._process = state, process
        self._stamps = Stamps(state, process)
        self._epoch: int | None = None
        self.id = transactional_id
        self.number = state.number()
        self.is_settled = True

    def open(self) -> int:
        """Return the epoch of the producer; the first call fences older producers of the id."""
        if self._epoch is None:
            self._state.at(self._process, "open_id")
            self._epoch, self.is_settled = self._state.open_id(self.id), True
        return self._epoch

    def commit(
        self,
        prepared: Sequence[Prepared],
        group: str = "",
        positions: Mapping[TopicPartition, int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """Commit records and positions of a group.

        Args:
            prepared: The records.
            group: The group.
            positions: Next offsets that become positions of the group.
            check: Raises FencedError if the member is not in its group any more.

        Returns:
            The offset of the first record of each write, -1 for a write without records.
        """
        epoch = self.open()
        self.is_settled = False
        is_refused = False
        try:
            self._state.check_epoch(self.id, epoch)
            transaction = self._state.begin(self.id)
            first = [self._write(transaction, write, epoch) for write in prepared]
            if positions:
                try:
                    check()
                except FencedError:
                    is_refused = True
                    raise
                transaction.group = group
                transaction.positions.update(positions)
                self._state.at(self._process, "commit", "written", list(positions))
            self._state.check_epoch(self.id, epoch)
            self._state.end(self.id, is_committed=True)
        except Exception:
            self._abort(epoch, is_discarded=not is_refused)
            raise
        self.is_settled = True
        try:
            self._state.at(self._process, "commit", "after", [place_of(write.partition) for write in prepared])
            lose_answer(self._state, self._process, f"commit of transactional id {self.id}")
        except Exception:
            self.discard()
            raise
        return first

    def _write(self, transaction: OpenTransaction, write: Prepared, epoch: int) -> int:
        if not len(write):
            return -1
        self._state.check_epoch(self.id, epoch)
        time, is_stamped = self._stamps.of(write.partition.topic)
        first = self._state.write(transaction, write, time, is_stamped=is_stamped)
        self._state.at(self._process, "commit", "written", [place_of(write.partition)])
        return first

    def _abort(self, epoch: int, *, is_discarded: bool) -> None:
        """Abort the transaction if it is still that of this producer."""
        identity = self._state.ids[self.id]
        if identity.epoch == epoch:
            if identity.open is not None:
                self._state.end(self.id, is_committed=False)
            self.is_settled = True
        if is_discarded:
            self.discard()

    def discard(self) -> None:
        """Release the producer; the next commit opens the id anew."""
        self._epoch = None


class FencedProducers:
    """Transactions for appends under a `Fence`, and the partitions that members of one process own."""

    def __init__(self, state: BrokerState, process: Process) -> None:
        self._state, self._process = state, process
        self._owned: dict[str, dict[TopicPartition, int]] = {}
        self._transactions: dict[Fence, Transactions] = {}

    def set_owned(self, group: str, owned: Mapping[TopicPartition, int], dropped: Collection[TopicPartition] = ()) -> None:
        """Note the partitions, with their epochs, that a member owns and those that it owns no longer."""
        kept = {partition: epoch for partition, epoch in self._owned.get(group, {}).items() if partition not in dropped}
        self._owned[group] = kept | dict(owned)

    def transactions(self, fence: Fence) -> Transactions:
        """Return the transactions of a fence; FencedError if no member of this process owns the partition with this epoch."""
        if self._owned.get(fence.group, {}).get(fence.partition) != fence.epoch:
            raise FencedError(
                f"partition {fence.partition.partition} of {fence.partition.topic} belongs to another member of group "
                f"{fence.group}; nothing was written"
            )
        if fence not in self._transactions:
            key = (fence.group, fence.partition)
            for old in [other for other in self._transactions if (other.group, other.partition) == key]:
                del self._transactions[old]
            transactional_id = f"{fence.group}-{fence.partition.topic}-{fence.partition.partition}"
            self._transactions[fence] = Transactions(self._state, self._process, transactional_id)
        return self._transactions[fence]
