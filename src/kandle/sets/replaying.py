"""What is done with dead letters: replayed into the topic of their records or into a handler, or dropped; each exactly once.

Whoever does it owns partition 0 of the letters in a group of its own. What is written and the mark that says so are one commit of
that group, so a process that is killed has done both or neither, and one that was away for too long can do neither:

    process A   owns p0: reads letters and marks ── commit (records, marks) ─✗ killed
    process B   waits for p0 ──────────────────────────────────────────────── owns p0: reads letters and marks, does the rest
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import polars as pl

from kandle.errors import DataError, FencedError, StateError, UnknownTopicError, UnwritableError
from kandle.log.headers import HeaderPairs, column_of_pairs, raw_header_rows
from kandle.log.letters import Letter, LetterKind, class_name, letter_records
from kandle.log.port import Consumer, GroupSpec, Log, TopicPartition
from kandle.log.records import AnyWrite, Batch, EncodedWrite, Records, Write
from kandle.model.texts import row_of_json
from kandle.plan.topics import TopicSpec, dead_letter_topic
from kandle.runtime.generations import bar_topics
from kandle.serde.port import column_fields
from kandle.sets.letters import DeadLetter, LetterFilter, letter_states, read_letters
from kandle.time.timeframe import MILLISECOND, MINUTE, SECOND

LETTER_HEADER = "kandle-dead-letter"
"""Header of a replayed record: topic, partition and offset of its letter."""

ORIGIN_HEADER = "kandle-origin"
"""Header of a replayed record: topic, partition and offset that it had first."""

LETTERS_AT_ONCE = 500
BYTES_AT_ONCE = 4 << 20
"""Letters and bytes of one commit."""

POLL = 50 * MILLISECOND
PATIENCE = 60 * SECOND
"""How long a process is waited for that works on letters, and gets no further."""

STALL = 10 * MINUTE
ROWS_AT_ONCE = 10_000

NO_REPLAY = "bars are made by their query: correct the entity, and replace its declaration with `kandle run --replace`"


NO_REPLAY_OF_BARS = (
    "its record is a bar, which its query alone writes, and once: hand it to a handler, by replay(handler) or "
    "`kandle dlq replay --handler MODULE:FUNCTION`"
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that was left as it was, and why."""

    letter: DeadLetter
    reason: str


@dataclass(frozen=True, slots=True)
class LettersDone:
    """What became of the letters that were chosen.

    Attributes:
        done: How many were replayed or dropped.
        refused: Those that could not be.
    """

    done: int
    refused: tuple[Refused, ...] = ()


WritesOf = Callable[[DeadLetter], Sequence[AnyWrite]]
"""Does what is to be done with a letter, and returns what is to be written for it; DataError if that is impossible."""


@dataclass(frozen=True, slots=True)
class LetterWork:
    """What to do with letters: `mark` says it afterwards, and at most `at_once` of them share a commit."""

    writes_of: WritesOf
    mark: LetterKind
    at_once: int


def drop() -> LetterWork:
    """Return the work of dropping letters."""
    return LetterWork(lambda letter: (), LetterKind.DROPPED, LETTERS_AT_ONCE)


def replay(log: Log) -> LetterWork:
    """Return the work of writing the records of letters to their topics again."""
    # Read by the thread that writes.
    topics_of_bars = cache(partial(bar_topics, log))

    def writes_of(letter: DeadLetter) -> Sequence[AnyWrite]:
        if letter.topic in topics_of_bars():
            raise DataError(NO_REPLAY_OF_BARS)
        return source_writes(log, letter)

    return LetterWork(writes_of, LetterKind.REPLAYED, LETTERS_AT_ONCE)


def handle(handler: Callable[[DeadLetter], None]) -> LetterWork:
    """Return the work of having a handler called with each letter; each is done when the handler has returned."""

    def writes_of(letter: DeadLetter) -> Sequence[AnyWrite]:
        try:
            handler(letter)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"the handler has failed again: {class_name(error)}: {error}") from error
        return ()

    return LetterWork(writes_of, LetterKind.REPLAYED, at_once=1)


def letters_group(topic: str) -> str:
    """Return the consumer group of those who work on the letters of a topic."""
    return f"kandle-{topic}"


def finish(
    log: Log,
    topic: str,
    member: str,
    chosen: LetterFilter,
    work: LetterWork,
    check_cancelled: Callable[[], None] = lambda: None,
) -> LettersDone:
    """Do something with each letter that is chosen and open, exactly once.

    Args:
        log: The log.
        topic: A topic of letters.
        member: The name of this process in the group of those who work on them.
        chosen: Which letters.
        work: What to do.
        check_cancelled: Is called between two commits; what it raises ends the work there.

    Returns:
        How many are done, and which could not be.

    Raises:
        StateError: Another process works on letters of this topic and does not come to an end.
    """
    current = log.topic(topic)
    spec = log.ensure(dead_letter_topic(topic, current.partitions, current.replication)).spec
    consumer = log.consumer(GroupSpec(letters_group(topic), (topic,), member, stall=STALL))
    try:
        # Nothing is read by this consumer: it owns partitions and commits.
        consumer.pause([TopicPartition(topic, number) for number in range(spec.partitions)])
        return _Finisher(log, spec, consumer, chosen, work, check_cancelled).run()
    finally:
        consumer.close()


class _Finisher:
    """Does the work of one process; `lock` is the partition whose owner may work on all of them."""

    def __init__(
        self,
        log: Log,
        spec: TopicSpec,
        consumer: Consumer,
        chosen: LetterFilter,
        work: LetterWork,
        check_cancelled: Callable[[], None],
    ) -> None:
        self._log, self._spec, self._consumer, self._work = log, spec, consumer, work
        self._chosen = replace(chosen, is_done=False)
        self._check_cancelled = check_cancelled
        self._lock = TopicPartition(spec.name, 0)
        self._position = log.ends(spec.name)[0]
        self._done = 0
        self._refused: dict[tuple[int, int], Refused] = {}

    def run(self) -> LettersDone:
        left = [TopicPartition(self._spec.name, number) for number in range(self._spec.partitions)]
        waited, ends = 0, self._log.ends(self._spec.name)
        while left:
            self._check_cancelled()
            self._consumer.poll(POLL, 1)
            if self._lock in self._consumer.assignment:
                waited = 0
                # Who was away for too long has lost the lock, and gets it again when the other one is ready.
                with suppress(FencedError):
                    while left:
                        self._finish(left[0])
                        del left[0]
            else:
                waited += POLL
            if waited > PATIENCE:
                waited, before, ends = 0, ends, self._log.ends(self._spec.name)
                if ends == before:
                    raise StateError(
                        f"another process works on letters of {self._spec.name}, and gets no further; wait for it, or stop it"
                    )
        return LettersDone(self._done, tuple(self._refused.values()))

    def _finish(self, partition: TopicPartition) -> None:
        states = letter_states(self._log, partition)
        done: set[int] = set()
        for letters in _portions(read_letters(self._log, partition, self._chosen, states), self._work.at_once):
            done |= self._commit(partition, letters)
            self._consumer.poll(0, 1)
            self._check_cancelled()
        if self._work.mark is LetterKind.DROPPED:
            # What stands before the first open letter is of no use to anybody.
            first = next((offset for offset in states.open.tolist() if offset not in done), states.end)
            self._log.truncate(partition, first)

    def _commit(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> set[int]:
        """Do the work of some letters in one commit; return the offsets of those that are done."""
        writes: list[AnyWrite] = []
        done: list[DeadLetter] = []
        for letter in letters:
            try:
                writes += self._work.writes_of(letter)
            except (DataError, UnknownTopicError) as error:
                self._refuse(letter, str(error))
            else:
                done.append(letter)
        if not done:
            return set()
        try:
            self._consumer.commit({self._lock: self._position}, [*merged(writes), self._marks(partition, done)])
        except UnwritableError as error:
            if len(done) == 1:
                self._refuse(done[0], str(error))
                return set()
            return set().union(*(self._commit(partition, [letter]) for letter in done))
        self._done += len(done)
        return {letter.letter_offset for letter in done}

    def _refuse(self, letter: DeadLetter, reason: str) -> None:
        self._refused[letter.letter_partition, letter.letter_offset] = Refused(letter, reason)

    def _marks(self, partition: TopicPartition, letters: Sequence[DeadLetter]) -> Write:
        kind = self._work.mark
        marks = [
            (letter.source, Letter(kind, letter.offset, f"{kind.value}: {letter.error}", letter=letter.letter_offset))
            for letter in letters
        ]
        return Write(partition.topic, partition.partition, letter_records(self._spec, marks))


def _portions(letters: Iterable[DeadLetter], at_once: int) -> Iterator[Sequence[DeadLetter]]:
    """Yield letters in parts of bounded size."""
    part: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if part and (len(part) == at_once or size >= BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(letter)
        size += len(letter.payload or b"")
    if part:
        yield part


def source_writes(log: Log, letter: DeadLetter) -> list[AnyWrite]:
    """Return what writes the record of a letter to its topic again, in the partition that it had.

    Its headers are kept; two more say which letter it was, and where the record was first.

    Args:
        log: The log.
        letter: The letter.

    Raises:
        DataError: The letter has no record that could be written, or the record does not fit its topic.
        UnknownTopicError: The topic is gone.
    """
    if letter.kind == LetterKind.BAR.value:
        raise DataError(NO_REPLAY)
    spec = log.topic(letter.topic)
    if letter.partition >= spec.partitions:
        raise DataError(f"topic {letter.topic} has no partition {letter.partition} any more")
    if letter.kind == LetterKind.LEFT_OUT.value:
        return list(_left_out_writes(log, letter))
    headers = replay_headers(letter, letter.offset, letter.raw_headers)
    if letter.payload is None and letter.key is None:
        raise DataError("the letter has neither key nor payload, since it would have been too large; read the record where it is")
    if not letter.is_json:
        return [EncodedWrite(letter.topic, letter.partition, [letter.key], [letter.payload], [headers])]
    return [Write(letter.topic, letter.partition, letter_record(spec, letter, headers))]


def letter_record(spec: TopicSpec, letter: DeadLetter, headers: HeaderPairs) -> Records:
    """Return the record of a letter that holds fields as JSON.

    Args:
        spec: The topic of the record.
        letter: The letter.
        headers: The headers of the record.

    Raises:
        DataError: A field does not fit its column.
    """
    is_gone = letter.payload is None
    columns = spec.key_columns if is_gone else spec.columns
    text = letter.key if is_gone else letter.payload
    assert text is not None
    row = row_of_json(column_fields(columns), text)
    frame = pl.DataFrame([row], schema={column.name: column.physical for column in columns})
    if is_gone:
        others = [pl.lit(None, dtype=kind).alias(name) for name, kind in spec.schema.items() if name not in spec.keys]
        frame = frame.with_columns(others).select(list(spec.schema))
    tombstones = pl.Series("tombstones", [True]) if is_gone else None
    return Records(frame, column_of_pairs([headers]), tombstones)


def replay_headers(letter: DeadLetter, offset: int, headers: HeaderPairs) -> HeaderPairs:
    """Return the headers of a replayed record.

    Args:
        letter: The letter.
        offset: The offset that the record had.
        headers: The headers that the record had; those of an earlier replay give way, but the first origin stays.
    """
    origins = [value for name, value in headers if name == ORIGIN_HEADER]
    origin = origins[0] if origins else f"{letter.topic}/{letter.partition}/{offset}".encode()
    name = f"{letter.letter_topic}/{letter.letter_partition}/{letter.letter_offset}".encode()
    kept = tuple(pair for pair in headers if pair[0] not in (LETTER_HEADER, ORIGIN_HEADER))
    return (*kept, (ORIGIN_HEADER, origin), (LETTER_HEADER, name))


def _left_out_writes(log: Log, letter: DeadLetter) -> Iterable[AnyWrite]:
    """Yield the records for which a letter stands that sums them up, read where they are."""
    ranges = json.loads(letter.payload or b"{}").get("offsets", [])
    for first, last in ranges:
        if log.first(letter.source) > first:
            raise DataError(f"the records from offset {first} of {letter.topic}, partition {letter.partition}, are gone by now")
        offset = first
        while offset <= last and (batches := log.read(letter.source, offset, min(last - offset + 1, ROWS_AT_ONCE))):
            for batch in batches:
                yield from _copies(letter, batch, first, last)
            offset = batches[-1].next_offset


def _copies(letter: DeadLetter, batch: Batch, first: int, last: int) -> Iterable[AnyWrite]:
    wanted = (batch.offsets >= first) & (batch.offsets <= last)
    if wanted.any():
        records = batch.records.filter(pl.Series(wanted))
        offsets = batch.offsets[wanted].tolist()
        headers = [replay_headers(letter, *pair) for pair in zip(offsets, raw_header_rows(records), strict=True)]
        yield Write(letter.topic, letter.partition, replace(records, headers=column_of_pairs(headers)))
    for reject in batch.rejects:
        if first <= reject.offset <= last:
            headers = [replay_headers(letter, reject.offset, tuple(reject.headers))]
            yield EncodedWrite(letter.topic, letter.partition, [reject.key], [reject.value], headers)


def merged(writes: Sequence[AnyWrite]) -> list[AnyWrite]:
    """Return writes with those of one partition that follow each other in one.

    Args:
        writes: Writes of replayed records, which all have headers.
    """
    result: list[AnyWrite] = []
    for write in writes:
        last = result[-1] if result else None
        if last is None or (type(last), last.topic, last.partition) != (type(write), write.topic, write.partition):
            result.append(write)
        elif isinstance(last, EncodedWrite) and isinstance(write, EncodedWrite):
            keys, values = [*last.keys, *write.keys], [*last.values, *write.values]
            result[-1] = replace(last, keys=keys, values=values, headers=[*(last.headers or ()), *(write.headers or ())])
        elif isinstance(last, Write) and isinstance(write, Write):
            result[-1] = replace(last, records=_joined(last.records, write.records))
    return result


def _joined(one: Records, other: Records) -> Records:
    headers = None if one.headers is None or other.headers is None else pl.concat([one.headers, other.headers])
    marks = [
        pl.Series("tombstones", [False] * len(part)) if part.tombstones is None else part.tombstones for part in (one, other)
    ]
    tombstones = pl.concat(marks)
    return Records(pl.concat([one.frame, other.frame]), headers, tombstones if tombstones.any() else None)
