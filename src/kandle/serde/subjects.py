"""The Avro schemas of a topic by their subjects, without a registry."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.model.entity import EntityModel
from kandle.serde.fields import ColumnLike, column_fields
from kandle.serde.formats import Formats
from kandle.serde.registry import subject_of
from kandle.serde.schema import Shape, avro_schema, bare_schema


def topic_schemas(
    topic: str, columns: Sequence[ColumnLike], keys: Sequence[str], formats: Formats, entity: EntityModel | None = None
) -> dict[str, str]:
    """The schemas with which a topic's keys and values are written, as far as they are Avro."""
    fields = {each.name: each for each in column_fields(columns, entity)}
    found: dict[str, str] = {}
    if formats.key == "AVRO" and keys:
        parts = [fields[name] for name in keys]
        is_bare = formats.key_shape is Shape.BARE and len(parts) == 1
        found[subject_of(topic, "key")] = (
            bare_schema(parts[0]) if is_bare else avro_schema(parts, topic, "key", formats.namespace)
        )
    if formats.value == "AVRO":
        values = [each for name, each in fields.items() if name not in keys]
        found[subject_of(topic, "value")] = avro_schema(values, topic, "value", formats.namespace)
    return found
