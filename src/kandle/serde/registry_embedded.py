"""A schema registry without a server: schemas are records of a journal that all processes read and append to.

The journal's order decides, so all processes agree without asking each other: the number of a schema is 1 + the offset of the
first record that holds it, and a record counts only if its schema is compatible with those of its subject that count before it.
So the journal must keep all its records in one order for ever: one partition, no retention, and if it is compacted a key of its
own for each record.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kandle.errors import SchemaError
from kandle.serde.registry import Compatibility, Registered
from kandle.serde.schema import AvroField, AvroType, canonical, parse_schema

PROMOTIONS = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}


def incompatibilities(schema: str, before: Sequence[str], rule: Compatibility) -> tuple[str, ...]:
    """What makes a schema incompatible with those before it, oldest first; nothing if it may follow them."""
    if rule is Compatibility.NONE or not before:
        return ()
    others = before if rule.value.endswith("TRANSITIVE") else before[-1:]
    new = parse_schema(schema)
    found: dict[str, None] = {}
    for text in reversed(others):
        old = parse_schema(text)
        if not rule.value.startswith("FORWARD"):
            found |= dict.fromkeys(f"the new schema cannot read older records: {each}" for each in unreadable(new, old))
        if not rule.value.startswith("BACKWARD"):
            found |= dict.fromkeys(f"older readers cannot read new records: {each}" for each in unreadable(old, new))
    return tuple(found)


def unreadable(reader: AvroType, writer: AvroType, place: str = "the schema") -> Iterator[str]:
    """Why records of the writer cannot be read with the reader's schema."""
    if writer.kind == "union":
        for part in writer.parts:
            yield from unreadable(reader, part, place)
    elif reader.kind == "union":
        if not any(_is_readable(part, writer) for part in reader.parts):
            yield f"{place} is {reader}, which has no branch for {writer}"
    elif reader.kind != writer.kind:
        if (writer.kind, reader.kind) not in PROMOTIONS or "decimal" in (writer.logical, reader.logical):
            yield f"{place} is {reader}, but was written as {writer}"
    else:
        yield from _unreadable_alike(reader, writer, place)


def _is_readable(reader: AvroType, writer: AvroType) -> bool:
    return next(unreadable(reader, writer), None) is None


def _unreadable_alike(reader: AvroType, writer: AvroType, place: str) -> Iterator[str]:
    """Of the same kind."""
    if "decimal" in (reader.logical, writer.logical):
        if (reader.logical, reader.precision, reader.scale) != (writer.logical, writer.precision, writer.scale):
            yield f"{place} is {reader}, but was written as {writer}"
    elif reader.logical != writer.logical and reader.logical is not None and writer.logical is not None:
        # Avro would let milliseconds be read as microseconds; a registry lets it pass, values would not survive.
        yield f"{place} is {reader}, but was written as {writer}"
    if reader.kind in ("array", "map"):
        inner = "items" if reader.kind == "array" else "values"
        yield from unreadable(reader.parts[0], writer.parts[0], f"{place}, {inner}")
    elif reader.kind == "record":
        yield from _unreadable_record(reader, writer, place)
    elif reader.kind == "fixed" and reader.size != writer.size:
        yield f"{place} has {reader.size} bytes, but was written with {writer.size}"
    elif reader.kind == "enum" and reader.symbol_default is None:
        missing = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
        if missing:
            yield f"{place} has no symbol {', '.join(missing)}"


def _unreadable_record(reader: AvroType, writer: AvroType, place: str) -> Iterator[str]:
    last = reader.name.rpartition(".")[2]
    if last != writer.name.rpartition(".")[2] and writer.name not in reader.aliases:
        yield f"{place} is the record {reader.name}, but was written as {writer.name}"
    for each in reader.fields:
        written = _written_field(each, writer)
        where = f"field {each.name}" if place == "the schema" else f"{place}, field {each.name}"
        if written is not None:
            yield from unreadable(each.type, written.type, where)
        elif not each.has_default:
            yield f"{where} was not written and has no default"


def _written_field(found: AvroField, writer: AvroType) -> AvroField | None:
    return next((each for name in (found.name, *found.aliases) for each in writer.fields if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the journal: a subject, and a text that only the registry understands."""

    offset: int
    subject: str
    text: str


class Journal(Protocol):
    """Where an embedded registry keeps its records."""

    def append(self, subject: str, text: str) -> None:
        """Keep a record; when it returns, every process can load it."""

    def load(self, offset: int) -> Sequence[Entry]:
        """All records from an offset on, in their order."""


class MemoryJournal:
    """Records in memory, for tests and for processes that end with their log."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def append(self, subject: str, text: str) -> None:
        """Keep a record."""
        with self._lock:
            self._entries.append(Entry(len(self._entries), subject, text))

    def load(self, offset: int) -> Sequence[Entry]:
        """All records from an offset on."""
        with self._lock:
            return self._entries[offset:]


class EmbeddedRegistry:
    """Schemas of a journal, compatible as `rule` says; may be used by several threads."""

    def __init__(self, journal: Journal, rule: Compatibility = Compatibility.BACKWARD) -> None:
        self._journal = journal
        self._rule = rule
        self._lock = threading.Lock()
        self._next = 0
        self._numbers: dict[str, int] = {}
        self._schemas: dict[int, str] = {}
        self._subjects: dict[str, list[int]] = {}

    def register(self, subject: str, schema: str) -> int:
        """The number of the schema, new or not."""
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
            # Another process was quicker, and ours does not go with its schema.
            self._check(subject, text)
        raise SchemaError(f"subject {subject}: the schema was written to the journal, but cannot be found there")

    def schema(self, number: int) -> str | None:
        """The schema of that number."""
        with self._lock:
            if number not in self._schemas:
                self._refresh()
            return self._schemas.get(number)

    def latest(self, subject: str) -> Registered | None:
        """The newest schema of the subject."""
        with self._lock:
            self._refresh()
            numbers = self._subjects.get(subject)
            if not numbers:
                return None
            return Registered(subject, len(numbers), numbers[-1], self._schemas[numbers[-1]])

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """What makes the schema incompatible with those of the subject."""
        with self._lock:
            self._refresh()
            return self._against(subject, canonical(schema), self._rule)

    def close(self) -> None:
        """There is nothing to let go of: the journal is its owner's."""

    def _known(self, subject: str, text: str) -> int | None:
        number = self._numbers.get(text)
        return number if number in self._subjects.get(subject, ()) else None

    def _check(self, subject: str, text: str) -> None:
        if found := self._against(subject, text, self._rule):
            raise incompatible(subject, found, self._rule.value)

    def _against(self, subject: str, text: str, rule: Compatibility) -> tuple[str, ...]:
        before = [self._schemas[number] for number in self._subjects.get(subject, ())]
        return () if text in before else incompatibilities(text, before, rule)

    def _refresh(self) -> None:
        for entry in self._journal.load(self._next):
            self._take(entry)
            self._next = entry.offset + 1

    def _take(self, entry: Entry) -> None:
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


def incompatible(subject: str, differences: Sequence[str], rule: str) -> SchemaError:
    """The error of a schema that must not follow those before it."""
    kind = f"{rule.lower().replace('_', ' ')} compatible" if rule else "compatible"
    return SchemaError(
        f"subject {subject}: the schema is not {kind}: {'; '.join(differences)}; give new fields a default, or use another topic"
    )
