"""Taking partitions over from a member that has died, and finding where to read on.

The previous owner may have been killed in the middle of a commit. Then its transaction is open, the group's
positions are undecided, and a reader of committed records sees nothing behind it.

    dead owner    claim   begin   records   position 25   (killed)
    takeover              1. which transactional ids have claims to the partition?
                          2. open each of them, so that the broker aborts the transaction
                          3. wait until positions are settled: 10
                          4. read on at 10, the records of the dead commit are never seen

Without step 2 everybody would wait for the broker's transaction timeout.

**Claims.** A transaction belongs to a transactional id, and only who knows the id can abort it. So a member
appends a claim (group, partition, its transactional id) to the topic `_kandle_claims` before its first
transaction that concerns the partition, and removes it when it has given the partition up in order: then it
has nothing open there. A claim that is still there when somebody else takes the partition over is that of a
member that has died, was paused for longer than its session, or could not say goodbye. To open the id of one
that lives after all does no harm: its next commit is refused, and it goes back to the one before.

The group's coordinator could be asked for the living members instead, but the client library ends the process
if that broker goes away meanwhile (an assertion), which is just when partitions are taken over. The metadata
of committed positions could name the owner, too, but the library does not always hand it out as it was
written.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from kandle.errors import AccessError, KandleError, UnavailableError, UnknownTopicError
from kandle.log.kafka.admin import ClusterAdmin
from kandle.log.kafka.assignment import check_positions
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.positions import GroupPositions
from kandle.log.kafka.producer import Appender, Transactions, fence_transactions
from kandle.log.kafka.reading import NO_HEADERS, PartitionReader
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import EncodedWrite
from kandle.plan.topics import TopicSpec
from kandle.serde.port import Decoded, Messages

logger = logging.getLogger("kandle.kafka")

CLAIMS_TOPIC = "_kandle_claims"
ROWS_PER_READ = 10_000

CLAIMS_SETTINGS = {"segment.ms": "3600000", "min.cleanable.dirty.ratio": "0.1"}
"""Claims are read from the beginning by each new process, so few old ones should be there."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One transactional id that may have a transaction open for a partition.

    Attributes:
        group: The consumer group.
        partition: The partition.
        transactional_id: The id.
    """

    group: str
    partition: TopicPartition
    transactional_id: str

    def to_key(self) -> bytes:
        """Return the key of its record."""
        return json.dumps([self.group, *self.partition, self.transactional_id]).encode()

    @classmethod
    def from_key(cls, key: bytes) -> Claim:
        """Return the claim of a record's key."""
        # Newer versions may say more.
        group, topic, number, transactional_id, *_ = json.loads(key)
        return cls(group, TopicPartition(topic, number), transactional_id)


class Claims:
    """The claims of all members, as all processes know them. May be used by several threads."""

    def __init__(self, clients: Clients, admin: ClusterAdmin, reader: PartitionReader, appender: Appender) -> None:
        self._clients = clients
        self._admin, self._reader, self._appender = admin, reader, appender
        self._claims: dict[Claim, tuple[str, int]] = {}
        """The process behind each claim, and a number that grows with each claim."""
        self._newest: dict[tuple[str, str], int] = {}
        """The number of the newest claim of each transactional id and process, whatever became of it."""
        self._position = 0
        self._lock = threading.RLock()

    def ids(self, group: str, partitions: Collection[TopicPartition]) -> dict[str, list[TopicPartition]]:
        """Return the transactional ids that have claims to partitions, with these partitions."""
        wanted = set(partitions)
        by_id: dict[str, list[TopicPartition]] = {}
        with self._lock:
            self._refresh()
            for claim in self._claims:
                if claim.group == group and claim.partition in wanted:
                    by_id.setdefault(claim.transactional_id, []).append(claim.partition)
        return by_id

    def has_successor(self, group: str, transactional_id: str, process: str) -> bool:
        """Return whether another process has made a claim under this id since the last one of this process."""
        with self._lock:
            self._refresh()
            own = self._newest.get((transactional_id, process))
            values = [
                value for claim, value in self._claims.items()
                if (claim.group, claim.transactional_id) == (group, transactional_id)
            ]  # fmt: skip
        return own is not None and any(owner != process and number > own for owner, number in values)

    def add(self, group: str, partitions: Collection[TopicPartition], transactional_id: str, process: str) -> None:
        """Claim partitions; the first call creates the topic."""
        with self._lock:
            if self._admin.topic_size(CLAIMS_TOPIC) is None:
                settings = self._clients.settings
                spec = TopicSpec(
                    CLAIMS_TOPIC,
                    (),
                    replication=settings.replication,
                    compacted=True,
                    configs=tuple(CLAIMS_SETTINGS.items()),
                    is_created=settings.creates,
                )
                self._admin.create(spec)
            self._append([Claim(group, partition, transactional_id) for partition in partitions], process.encode())

    def remove(self, group: str, partitions: Collection[TopicPartition], transactional_id: str) -> None:
        """Remove claims; if that fails, somebody opens the id for nothing one day."""
        try:
            with self._lock:
                known = [Claim(group, partition, transactional_id) for partition in partitions]
                self._append([claim for claim in known if claim in self._claims], None)
        except (KandleError, RuntimeError) as error:
            # The second is raised by a client that was closed meanwhile.
            logger.info("claims of %s stay: %s", transactional_id, error)

    def _append(self, claims: Collection[Claim], value: bytes | None) -> None:
        if not claims:
            return
        keys = [claim.to_key() for claim in claims]
        self._appender.append([EncodedWrite(CLAIMS_TOPIC, 0, keys, [value] * len(keys))], None)
        self._refresh()

    def _refresh(self) -> None:
        """Read what was written since the last time."""
        partition = TopicPartition(CLAIMS_TOPIC, 0)
        try:
            end = self._admin.bounds([partition])[partition][1]
        except (UnknownTopicError, AccessError):
            # Nobody has made a claim yet; or this user only reads, and has nothing to take over.
            return
        while batches := self._reader.read(
            _ClaimDecoder(self._claims, self._newest), partition, self._position, end, ROWS_PER_READ
        ):
            self._position = batches[-1].next_offset


class _ClaimDecoder:
    """Reads records of the claims' topic into claims."""

    headers = NO_HEADERS

    def __init__(self, claims: dict[Claim, tuple[str, int]], newest: dict[tuple[str, str], int]) -> None:
        self._claims, self._newest = claims, newest
        self._number = max(newest.values(), default=0)

    def decode(self, keys: Messages, values: Messages) -> Decoded:
        """Keep the claims that stand; the returned rows are not used."""
        for key, value in zip(keys, values, strict=True):
            claim = Claim.from_key(key or b"")
            if value is None:
                self._claims.pop(claim, None)
            else:
                self._number += 1
                process = value.decode()
                self._claims[claim] = (process, self._number)
                self._newest[claim.transactional_id, process] = self._number
        return Decoded(pl.DataFrame({"key": [(key or b"").decode() for key in keys]}))


class Takeover:
    """Recovers partitions whose previous owner has died, and finds where to read on."""

    def __init__(
        self,
        spec: GroupSpec,
        clients: Clients,
        claims: Claims,
        admin: ClusterAdmin,
        positions: GroupPositions,
        transactions: Transactions,
    ) -> None:
        self._spec = spec
        self._clients = clients
        self._claims = claims
        self._admin = admin
        self._positions = positions
        self._transactions = transactions
        self._claimed: set[TopicPartition] = set()

    def begin(self, partitions: Collection[TopicPartition], added: Collection[TopicPartition] = ()) -> dict[TopicPartition, int]:
        """Return where to read on: the committed position, or what the group's `reset` says.

        The call can be repeated if it fails.

        Args:
            partitions: The partitions.
            added: Those that were added while the group reads: all of their records are new.
        """
        self._abort_open_transactions(partitions)
        committed = self.committed(partitions)
        bounds = self._admin.bounds(list(partitions))
        check_positions(self._spec.group, committed, bounds)
        from_end = set() if self._spec.reset == "earliest" else set(partitions).difference(added)
        return {partition: limits[partition in from_end] for partition, limits in bounds.items()} | committed

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the group's committed positions."""
        # The member's own consumer would wait for its group, which waits for the end of this call.
        return self._positions.settled(self._spec.group, partitions)

    def _abort_open_transactions(self, partitions: Collection[TopicPartition]) -> None:
        """Abort what former owners of these partitions may have left open."""
        claims = self._claims.ids(self._spec.group, partitions)
        if claims.pop(self._transactions.id, None):
            # The process before this one may have been killed within a commit; opening the same id aborts it.
            self._transactions.open()
        for transactional_id, claimed in sorted(claims.items()):
            logger.info("aborting what %s may have left open", transactional_id)
            self._fence(transactional_id, claimed)

    def _fence(self, transactional_id: str, partitions: Collection[TopicPartition]) -> None:
        """Abort, in a thread of its own, the transaction that a dead process has left open; then remove its claims.

        Nobody waits for it: positions and state are read only when no transaction is open anyway, and the
        library takes half a second longer than the broker if there was one, or if another process aborts it too.
        """

        def fence() -> None:
            if fence_transactions(self._clients, transactional_id):
                self._claims.remove(self._spec.group, partitions, transactional_id)

        threading.Thread(target=fence, name=f"kandle-fence-{transactional_id}", daemon=True).start()

    def claim(self, partitions: Collection[TopicPartition]) -> None:
        """Claim owned partitions, before a transaction that concerns them; nothing is done for those that are claimed."""
        fresh = [partition for partition in partitions if partition not in self._claimed]
        if fresh:
            self._claims.add(self._spec.group, fresh, self._transactions.id, self._transactions.process)
            self._claimed.update(fresh)

    def release(self, partitions: Collection[TopicPartition]) -> None:
        """Remove the claims to partitions that go to another member in order.

        They stay if a transaction could not be ended: whoever takes the partitions over has to.
        """
        if not self._transactions.is_settled:
            return
        released = self._claimed.intersection(partitions)
        self._claimed -= released
        self._claims.remove(self._spec.group, sorted(released), self._transactions.id)

    def lose(self, partitions: Collection[TopicPartition]) -> None:
        """Note that partitions belong to others already, which have opened this member's id by now, or will."""
        if self._claimed.intersection(partitions):
            self._claimed.difference_update(partitions)
            self._transactions.discard()

    def has_namesake(self) -> bool:
        """Return whether another process has taken this member's place under its name."""
        try:
            return self._claims.has_successor(self._spec.group, self._transactions.id, self._transactions.process)
        except UnavailableError:
            return False
