"""The schema registry, which says for what schema a number in a message stands: the port, and a registry without a server.

The adapter of a Confluent Schema Registry is `log.kafka.registry`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kandle.errors import SchemaError
from kandle.serde.compatibility import Compatibility, incompatibilities, incompatible
from kandle.serde.schema import Side, canonical, parse_schema


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema of a subject, as it was registered; versions count from 1, `number` stands in messages."""

    subject: str
    version: int
    number: int
    schema: str


class Registry(Protocol):
    """Schemas by number and by subject; each method raises UnavailableError if the registry cannot be reached."""

    def register(self, subject: str, schema: str) -> int:
        """Return the number of the schema, new or not; SchemaError names what is not compatible with those before."""

    def schema(self, number: int) -> str | None:
        """Return the schema of that number; None if there is none."""

    def latest(self, subject: str) -> Registered | None:
        """Return the newest schema of the subject; None if it has none."""

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """Return what makes the schema incompatible with those of the subject, in words; nothing if it may be registered."""

    def close(self) -> None:
        """Close connections."""


def subject_of(topic: str, side: Side) -> str:
    """Return the subject of a topic's keys or values: `ticks-key` or `ticks-value`."""
    return f"{topic}-{side}"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A record of the journal: a subject, and a text that only the registry understands."""

    offset: int
    subject: str
    text: str


class RegistryJournal(Protocol):
    """Where an embedded registry keeps its records."""

    def append(self, subject: str, text: str) -> None:
        """Append a record; when it returns, every process can load it."""

    def load(self, offset: int) -> Sequence[JournalEntry]:
        """Return all records from an offset on, in their order."""


class MemoryJournal:
    """Records in memory, for tests and for processes that end with their log."""

    def __init__(self) -> None:
        self._entries: list[JournalEntry] = []
        self._lock = threading.Lock()

    def append(self, subject: str, text: str) -> None:
        """Append a record."""
        with self._lock:
            self._entries.append(JournalEntry(len(self._entries), subject, text))

    def load(self, offset: int) -> Sequence[JournalEntry]:
        """Return all records from an offset on."""
        with self._lock:
            return self._entries[offset:]


class EmbeddedRegistry:
    """Schemas that are records of a journal, which all processes read and append to; may be used by several threads.

    The journal's order decides, so all processes agree without asking each other: the number of a schema is 1 + the offset of
    the first record that holds it, and a record counts only if its schema is compatible with those of its subject that count
    before it. So the journal must keep all its records in one order for ever: one partition, no retention, and if it is
    compacted a key of its own for each record.

    Args:
        journal: Where the records are kept.
        rule: How new schemas of this process must go with those before.
    """

    def __init__(self, journal: RegistryJournal, rule: Compatibility = Compatibility.BACKWARD) -> None:
        self._journal = journal
        self._rule = rule
        self._lock = threading.Lock()
        self._next = 0
        self._numbers: dict[str, int] = {}
        self._schemas: dict[int, str] = {}
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, schema: str) -> int:
        """Return the number of the schema, new or not; SchemaError names what is not compatible with those before."""
        parse_schema(schema)
        text = canonical(schema)
        with self._lock:
            self._refresh()
            if (number := self._known(subject, text)) is not None:
                return number
            self._check(subject, text)
            self._journal.append(subject, json.dumps({"rule": self._rule.value, "schema": text}))
            self._refresh()
            if (number := self._known(subject, text)) is not None:
                return number
            # Another process was quicker, and this schema does not go with its one.
            self._check(subject, text)
        raise SchemaError(f"subject {subject}: the schema was written to the journal, but cannot be found there")

    def schema(self, number: int) -> str | None:
        """Return the schema of that number; None if there is none."""
        with self._lock:
            if number not in self._schemas:
                self._refresh()
            return self._schemas.get(number)

    def latest(self, subject: str) -> Registered | None:
        """Return the newest schema of the subject; None if it has none."""
        with self._lock:
            self._refresh()
            numbers = self._subjects.get(subject)
            if not numbers:
                return None
            return Registered(subject, len(numbers), numbers[-1], self._schemas[numbers[-1]])

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """Return what makes the schema incompatible with those of the subject, in words."""
        with self._lock:
            self._refresh()
            return self._against(subject, canonical(schema), self._rule)

    def close(self) -> None:
        """Do nothing: the journal is its owner's."""

    def _known(self, subject: str, text: str) -> int | None:
        number = self._numbers.get(text)
        return number if number in self._subjects.get(subject, ()) else None

    def _check(self, subject: str, text: str) -> None:
        if differences := self._against(subject, text, self._rule):
            raise incompatible(subject, differences, self._rule.value)

    def _against(self, subject: str, text: str, rule: Compatibility) -> tuple[str, ...]:
        before = [self._schemas[number] for number in self._subjects.get(subject, ())]
        return () if text in before else incompatibilities(text, before, rule)

    def _refresh(self) -> None:
        for entry in self._journal.load(self._next):
            self._take(entry)
            self._next = entry.offset + 1

    def _take(self, entry: JournalEntry) -> None:
        content = json.loads(entry.text)
        text = content["schema"]
        # The rule of the record, not of this process: all must come to the same result.
        if self._against(entry.subject, text, Compatibility(content["rule"])):
            return
        number = self._numbers.setdefault(text, entry.offset + 1)
        self._schemas[number] = text
        numbers = self._subjects.setdefault(entry.subject, [])
        if number not in numbers:
            numbers.append(number)
