"""The topics of the embedded log, as all its connections know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from kandle.errors import LogError, SchemaError, StorageError, UnknownTopicError
from kandle.log.embedded.database import Database
from kandle.log.port import TopicState
from kandle.log.schema import decode_spec, differences, encode_spec, merged_columns, with_declared
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec, entity_topic, missing_topics

RESERVED = "__"
"""Prefix of the log's own columns; columns of users must not begin with it."""

NO_ENTITIES: Mapping[str, EntityModel] = MappingProxyType({})

TOPICS = "\0topics"
"""The generation that counts changes of topics; no group can have this name."""


class Catalog:
    """The topics that one connection knows; it looks at them again whenever one has changed.

    Args:
        database: The database of the log.
        declared: The entities of topics by name, as this process declares them.
    """

    def __init__(self, database: Database, declared: Mapping[str, EntityModel] = NO_ENTITIES) -> None:
        self._database = database
        self._declared = declared
        self._topics: dict[str, tuple[int, TopicSpec]] = {}
        self._generation = -1

    def ensure(self, spec: TopicSpec) -> TopicState:
        """Create a topic if it is missing, else compare it and add new nullable columns."""
        _check_spec(spec)
        with self._database.transaction():
            rows = self._database.rows("SELECT id, spec, empty FROM topic WHERE name = ?", [spec.name])
            if not rows and not spec.is_created:
                raise UnknownTopicError(missing_topics([spec]))
            if not rows:
                self._create(spec)
                return TopicState(spec)
            number, text, empty = rows[0]
            stored = _spec_of(text, empty)
            merged = replace(stored, columns=merged_columns(stored, spec))
            if merged != stored:
                self._database.run("UPDATE topic SET spec = ?, empty = ? WHERE id = ?", [*encode_spec(merged), number])
                self.invalidate()
        return TopicState(merged, differences(merged, spec))

    def _create(self, spec: TopicSpec) -> None:
        text, empty = encode_spec(spec)
        number = self._database.run("INSERT INTO topic (name, spec, empty) VALUES (?, ?, ?)", [spec.name, text, empty]).lastrowid
        assert number is not None
        for partition in range(spec.partitions):
            self._database.run("INSERT INTO partition (topic, number) VALUES (?, ?)", [number, partition])
        self.invalidate()

    def invalidate(self) -> None:
        """Have all connections look at the topics again."""
        self._database.run(
            "INSERT INTO generation (name, number) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET number = number + 1", [TOPICS]
        )

    def known(self, name: str) -> tuple[int, TopicSpec]:
        """Return a topic's number in the tables and its spec; UnknownTopicError names the topics that exist."""
        generation = self._database.value("SELECT number FROM generation WHERE name = ?", [TOPICS])
        if generation != self._generation:
            self._topics.clear()
            self._generation = generation
        if name not in self._topics:
            rows = self._database.rows("SELECT id, spec, empty FROM topic WHERE name = ?", [name])
            if not rows:
                raise UnknownTopicError(f"there is no topic {name!r}; there are {', '.join(self.names()) or 'none'}")
            number, text, empty = rows[0]
            spec, entity = _spec_of(text, empty), self._declared.get(name)
            self._topics[name] = (number, spec if entity is None else with_declared(spec, entity_topic(entity, name)))
        return self._topics[name]

    def declared(self, name: str) -> EntityModel | None:
        """Return the entity of a topic as this process declares it; None if it declares none."""
        return self._declared.get(name)

    def names(self) -> list[str]:
        """Return the names of all topics in order; they can be read even where a topic's description is damaged."""
        return [row[0] for row in self._database.rows("SELECT name FROM topic ORDER BY name")]

    def all(self) -> list[TopicSpec]:
        """Return all topics, by name."""
        return [_spec_of(text, empty) for text, empty in self._database.rows("SELECT spec, empty FROM topic ORDER BY name")]


def _spec_of(text: str, empty: bytes) -> TopicSpec:
    try:
        return decode_spec(text, empty)
    except StorageError as error:
        raise StorageError(f"{error}; stop all processes and run `kandle doctor --repair`") from error


def _check_spec(spec: TopicSpec) -> None:
    names = [column.name for column in spec.columns]
    for name in names:
        if name.startswith(RESERVED):
            raise SchemaError(f"topic {spec.name}: column {name!r} must not begin with {RESERVED!r}")
    unknown = [key for key in spec.keys if key not in names]
    if unknown:
        raise SchemaError(f"topic {spec.name}: the key {unknown[0]!r} is not a column; there are {', '.join(names)}")
    if spec.partitions < 1:
        raise LogError(f"topic {spec.name} needs at least one partition, not {spec.partitions}")
