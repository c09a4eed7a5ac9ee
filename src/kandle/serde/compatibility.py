"""Whether a new schema of a subject may follow those before it, and what makes it incompatible with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from kandle.errors import SchemaError
from kandle.serde.schema import AvroField, AvroType, parse_schema


class Compatibility(Enum):
    """What a new schema of a subject must be able to do; the names are those of the Confluent Schema Registry.

    BACKWARD reads what the one before wrote, FORWARD is read by it, FULL is both; TRANSITIVE means all that were before.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


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
    """Return what makes a schema incompatible with those before it, in words; nothing if it may follow them.

    Args:
        schema: The new schema as JSON.
        before: The schemas of its subject, oldest first.
        rule: What the new schema must be able to do.
    """
    if rule is Compatibility.NONE or not before:
        return ()
    others = before if rule.value.endswith("TRANSITIVE") else before[-1:]
    new = parse_schema(schema)
    reasons: dict[str, None] = {}
    for text in reversed(others):
        old = parse_schema(text)
        if not rule.value.startswith("FORWARD"):
            reasons |= dict.fromkeys(f"the new schema cannot read older records: {reason}" for reason in unreadable(new, old))
        if not rule.value.startswith("BACKWARD"):
            reasons |= dict.fromkeys(f"older readers cannot read new records: {reason}" for reason in unreadable(old, new))
    return tuple(reasons)


def unreadable(reader: AvroType, writer: AvroType, where: str = "the schema") -> Iterator[str]:
    """Return why records of the writer cannot be read with the reader's schema, in words."""
    if writer.kind == "union":
        for part in writer.parts:
            yield from unreadable(reader, part, where)
    elif reader.kind == "union":
        if not any(_is_readable(part, writer) for part in reader.parts):
            yield f"{where} is {reader}, which has no branch for {writer}"
    elif reader.kind != writer.kind:
        if (writer.kind, reader.kind) not in PROMOTIONS or "decimal" in (writer.logical, reader.logical):
            yield f"{where} is {reader}, but was written as {writer}"
    else:
        yield from _unreadable_alike(reader, writer, where)


def _is_readable(reader: AvroType, writer: AvroType) -> bool:
    return next(unreadable(reader, writer), None) is None


def _unreadable_alike(reader: AvroType, writer: AvroType, where: str) -> Iterator[str]:
    """Return the same of two types of the same kind."""
    if "decimal" in (reader.logical, writer.logical):
        if (reader.logical, reader.precision, reader.scale) != (writer.logical, writer.precision, writer.scale):
            yield f"{where} is {reader}, but was written as {writer}"
    elif reader.logical != writer.logical and reader.logical is not None and writer.logical is not None:
        # Avro would let milliseconds be read as microseconds; a registry lets it pass, values would not survive.
        yield f"{where} is {reader}, but was written as {writer}"
    if reader.kind in ("array", "map"):
        content = "items" if reader.kind == "array" else "values"
        yield from unreadable(reader.parts[0], writer.parts[0], f"{where}, {content}")
    elif reader.kind == "record":
        yield from _unreadable_record(reader, writer, where)
    elif reader.kind == "fixed" and reader.size != writer.size:
        yield f"{where} has {reader.size} bytes, but was written with {writer.size}"
    elif reader.kind == "enum" and reader.symbol_default is None:
        missing = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
        if missing:
            yield f"{where} has no symbol {', '.join(missing)}"


def _unreadable_record(reader: AvroType, writer: AvroType, where: str) -> Iterator[str]:
    last = reader.name.rpartition(".")[2]
    if last != writer.name.rpartition(".")[2] and writer.name not in reader.aliases:
        yield f"{where} is the record {reader.name}, but was written as {writer.name}"
    for field in reader.fields:
        written = _written_field(field, writer)
        inner = f"field {field.name}" if where == "the schema" else f"{where}, field {field.name}"
        if written is not None:
            yield from unreadable(field.type, written.type, inner)
        elif not field.has_default:
            yield f"{inner} was not written and has no default"


def _written_field(field: AvroField, writer: AvroType) -> AvroField | None:
    return next((other for name in (field.name, *field.aliases) for other in writer.fields if other.name == name), None)


def incompatible(subject: str, differences: Sequence[str], rule: str) -> SchemaError:
    """Return the error of a schema that must not follow those before it."""
    kind = f"{rule.lower().replace('_', ' ')} compatible" if rule else "compatible"
    return SchemaError(
        f"subject {subject}: the schema is not {kind}: {'; '.join(differences)}; give new fields a default, or use another topic"
    )
