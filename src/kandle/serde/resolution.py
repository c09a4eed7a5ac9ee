"""Which schemas can read what others have written, by Avro's rules, and what stands against it in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kandle.serde.avro_types import AvroField, AvroType, parse_schema
from kandle.serde.registry import Compatibility

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
