"""Members of a consumer group: they share partitions, and commit records together with positions.

**Names.** The name of a member identifies a process. A process that is restarted joins under the same name
and takes the place of its former self. With the classic protocol the name is the `group.instance.id` (static
membership): a process that is restarted within its session gets its partitions back without a rebalance. If
two processes use one name, the brokers refuse the older one (`FENCED_INSTANCE_ID`). With the protocol
`consumer` (KIP-848) brokers accept several members of one name; there the older one learns it from its next
commit, since both use the same transactional id.

    process A    join "one"  poll  commit            poll -> ReplacedError
    process B                             join "one"  gets the partitions of A   poll   commit

After an outage a process can appear to be its own rival: it has joined again, the answer was lost, and its
next request still carries the old identity. The brokers report that like a second process, and so they do of a
process that was paused while it joined. If there were connection errors within the last minute, or nothing was polled for
half a session and nobody has claimed partitions in its name since, the member therefore joins again instead of
giving up; if it does have a rival, one of the two ends later.

**Commits.** Records and positions are one transaction, made in the name of the member's generation in the
group. A commit of a generation that is over is refused, so a member that has lost partitions cannot write
results for them. While others join or leave, the generation changes without this member having heard of it;
then the same commit is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as ClientPartition

from kandle.errors import FencedError, ReplacedError, StorageError, UnavailableError
from kandle.forks import keep_in_children
from kandle.log.kafka.admin import ClusterAdmin
from kandle.log.kafka.assignment import Assignment, Rebalancing, Sharing
from kandle.log.kafka.catalog import COUNT_INTERVAL, TopicCatalog, TopicCodecs
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.failures import code_of, translate_errors
from kandle.log.kafka.positions import GroupPositions
from kandle.log.kafka.producer import REFUSED_BY_GROUP, FencedProducers, Transactions
from kandle.log.kafka.reading import WAIT_SLICE, Fetcher, pause_garbage_collection, translate_poll_errors
from kandle.log.kafka.settings import Statistics
from kandle.log.kafka.takeover import Claims, Takeover
from kandle.log.port import Consumer, GroupSpec, Listener, TopicPartition
from kandle.log.records import AnyWrite, Batch, EncodedWrite
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

logger = logging.getLogger("kandle.kafka")

COUNT_TIMEOUT = SECOND
"""Longest wait for the number of partitions of a topic, since records wait meanwhile."""

ATTEMPTS = 25
PAUSE = 20 * MILLISECOND

REPEATABLE = {
    # Others have joined or left, and this member has not heard of it; it still owns its partitions.
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    # The library sent records in the wrong order after an aborted commit; this commit was aborted too.
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
}
"""Why a commit was undone that can be tried again as it is."""


@dataclass(frozen=True, slots=True)
class LogServices:
    """What a member needs of the log that it belongs to."""

    clients: Clients
    admin: ClusterAdmin
    positions: GroupPositions
    claims: Claims
    fenced: FencedProducers
    catalog: TopicCatalog
    codecs: TopicCodecs


class GroupCommitter:
    """Commits records and positions of one member, all or nothing."""

    def __init__(self, client: Client, spec: GroupSpec, clients: Clients, transactions: Transactions, takeover: Takeover) -> None:
        self._client = client
        self._spec = spec
        self._clients = clients
        self._transactions = transactions
        self._takeover = takeover

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[EncodedWrite]) -> list[int]:
        """Commit next offsets and records.

        Args:
            offsets: Next offset of each partition.
            writes: Records as bytes.

        Returns:
            The offset of the first record of each write.

        Raises:
            FencedError: The member is not in the group any more, or another process has its name; nothing was
                written.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._try(offsets, writes)
            except (FencedError, UnavailableError) as error:
                if code_of(error) not in REPEATABLE:
                    raise
                self._clients.clock.pause(PAUSE)
        return self._try(offsets, writes)

    def _try(self, offsets: Mapping[TopicPartition, int], writes: Sequence[EncodedWrite]) -> list[int]:
        with self._translate_errors():
            if any(write.values for write in writes):
                self._takeover.claim(offsets)
                metadata = self._client.consumer_group_metadata() if offsets else None
                return self._transactions.commit(writes, self._clients.record_timestamp, offsets, metadata)
            if offsets:
                self._commit_offsets(offsets)
        return [0 for _ in writes]

    def _commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        positions = [ClientPartition(*partition, following) for partition, following in offsets.items()]
        for position in self._client.commit(offsets=positions, asynchronous=False) or ():
            if position.error is not None:
                raise KafkaException(position.error)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise FencedError also where the brokers say that another process has the member's name.

        They say so, too, of a member whose session has ended and that has joined again: the other is the
        member itself. Whether there really is another one comes out with the next poll.
        """
        try:
            with translate_errors(f"commit of group {self._spec.group}"):
                yield
        except (ReplacedError, StorageError) as error:
            if isinstance(error, StorageError) and code_of(error) != KafkaError._FATAL:
                raise
            raise FencedError(f"the session of {self._spec.member} has ended, and it has lost its partitions: {error}") from error


class Stalls:
    """Notices that a member has not polled for long: its process was paused, or worked on something.

    Args:
        clock: The clock.
        limit: The time between two polls that is a stall, in microseconds.
    """

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._polled_at = clock.steady()
        self._stalled_at: int | None = None

    def note_poll(self) -> None:
        """Note that the member polls."""
        now = self._clock.steady()
        if now - self._polled_at > self._limit:
            self._stalled_at = now
        self._polled_at = now

    @property
    def are_recent(self) -> bool:
        """Whether there was a stall within the last minute."""
        return self._stalled_at is not None and self._clock.steady() - self._stalled_at < MINUTE


class KafkaConsumer(Consumer):
    """A member of a group; see `kandle.log.port.Consumer` for its methods."""

    def __init__(self, services: LogServices, spec: GroupSpec, listener: Listener | None) -> None:
        clients = services.clients
        self._services = services
        self._spec = spec
        self._clock = clients.clock
        self._settings = clients.settings
        self._statistics = Statistics(self._settings.statistics)
        self._transactions = Transactions(clients, spec.member, f"{spec.group}-{spec.member}", self._statistics)
        sharing = Sharing({topic: services.catalog.current(topic).partitions for topic in spec.topics})
        self._takeover = Takeover(spec, clients, services.claims, services.admin, services.positions, self._transactions)
        self._assignment = Assignment(spec.group, services.fenced, clients.clock)
        self._rebalancing = Rebalancing(self._assignment, self._takeover, sharing, listener)
        self._counted_at = clients.clock.steady()
        self._replaced: ReplacedError | None = None
        """Says that another process has the member's name; the next poll finds out whether that is true."""
        self._is_woken = False
        self._stalls = Stalls(clients.clock, self._settings.session_of(spec) // 2)
        keep_in_children(self)
        self._join()

    def _join(self) -> None:
        services, spec = self._services, self._spec
        self._client = services.clients.member(spec, self._statistics)
        self._assignment.set_client(self._client)
        self._committer = GroupCommitter(self._client, spec, services.clients, self._transactions, self._takeover)
        self._fetcher = Fetcher(self._client, spec, services.clients, services.admin, self._rebalancing, services.codecs.codec)
        with translate_errors(f"group {spec.group}"):
            for topic in spec.topics:
                # For all topics: the library would look for those it does not subscribe to at their first read.
                services.clients.load_metadata(self._client, topic, {})
            self._rebalancing.subscribe(self._client)

    @property
    def assignment(self) -> Mapping[TopicPartition, int]:
        return self._assignment.epochs

    @property
    def statistics(self) -> Mapping[str, int]:
        return self._statistics.figures

    @property
    def removed(self) -> int:
        return self._fetcher.removed

    def poll(self, timeout: int, max_rows: int) -> list[Batch]:
        deadline = self._clock.steady() + timeout
        # A clock that is moved by hand does not move while this waits.
        waited = 0
        while True:
            left = max(0, min(deadline - self._clock.steady(), timeout - waited, WAIT_SLICE))
            with pause_garbage_collection():
                batches = self._fetch(left, max_rows)
            waited += left
            if batches or waited >= timeout or self._clock.steady() >= deadline or self._is_woken:
                self._is_woken = False
                return batches

    def _fetch(self, timeout: int, max_rows: int) -> list[Batch]:
        self._stalls.note_poll()
        if self._replaced is not None:
            self._check_replaced(self._replaced)
        self._count_partitions()
        self._rebalancing.begin_poll()
        try:
            return self._fetcher.fetch(timeout, max_rows)
        except ReplacedError as error:
            self._replaced = error
            return self._fetch(timeout, max_rows)

    def _count_partitions(self) -> None:
        """Look now and then whether partitions were added to topics that the brokers do not assign."""
        sharing, now = self._rebalancing.sharing, self._clock.steady()
        if not sharing.others or 0 <= now - self._counted_at < COUNT_INTERVAL:
            return
        self._counted_at = now
        with suppress(UnavailableError):
            counts = {topic: self._services.admin.topic_size(topic, COUNT_TIMEOUT) for topic in sharing.others}
            more = [topic for topic, size in counts.items() if size is not None and sharing.set_count(topic, size[0])]
            if more:
                logger.info("group %s: there are more partitions of %s", self._spec.group, ", ".join(more))
                self._rebalancing.extend()

    def _check_replaced(self, error: ReplacedError) -> None:
        """Join again if the member is its own rival; raise ReplacedError if another process has its name."""
        self._rebalancing.lose_all()
        if not self._services.clients.errors.are_recent and not self._is_own_rival():
            raise ReplacedError(
                f"another process has joined group {self._spec.group} as {self._spec.member!r}; "
                f"give each process its own name (option runtime.instance): {error}"
            ) from error
        logger.warning("group %s: %s joins again: %s", self._spec.group, self._spec.member, error)
        self._assignment.abandon()
        self._services.clients.close(self._client)
        # The old client has reported that it released its partitions, which is known.
        self._rebalancing.forget_error()
        self._join()
        self._replaced = None

    def _is_own_rival(self) -> bool:
        """Return whether the process was paused, and no other has taken its place by what stands in the claims."""
        return self._stalls.are_recent and not self._takeover.has_namesake()

    def wake(self) -> None:
        self._is_woken = True

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._assignment.seek(positions)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._assignment.pause(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._assignment.resume(partitions)

    def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return self._takeover.committed(partitions)

    def commit(self, offsets: Mapping[TopicPartition, int], writes: Sequence[AnyWrite] = ()) -> list[int]:
        for partition in offsets:
            if partition not in self._assignment:
                raise FencedError(
                    f"partition {partition.partition} of {partition.topic} is not owned by {self._spec.member} in group "
                    f"{self._spec.group} any more; nothing was written"
                )
        encoded = self._services.codecs.encode(writes)
        try:
            first = self._committer.commit(offsets, encoded)
        except FencedError as error:
            is_by_name = code_of(error) not in REFUSED_BY_GROUP
            if self._settings.protocol == "consumer" and is_by_name and self._takeover.has_namesake():
                self._replaced = ReplacedError(str(error))
            raise
        self._services.clients.note_appended(first, writes)
        return first

    def close(self) -> None:
        if self._assignment.is_ended:
            return
        self._assignment.end()
        try:
            if self._replaced is None:
                self._leave()
        finally:
            self._assignment.drop(list(self._assignment))
            self._assignment.abandon()
            self._services.clients.close(self._client)
            self._transactions.close()
        self._rebalancing.raise_error()

    def _leave(self) -> None:
        """Unsubscribe, so that the partitions are free at once.

        A static member that only closes would be missed after its session.
        """
        with suppress(ReplacedError), translate_poll_errors(self._spec.group):
            self._client.unsubscribe()
            deadline = self._clock.steady() + self._settings.request
            while self._assignment and self._clock.steady() < deadline:
                self._client.consume(1, 5 * MILLISECOND / SECOND)
