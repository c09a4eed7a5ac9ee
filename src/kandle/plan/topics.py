"""What a topic is: columns, key and settings; and the topics whose records are kandle's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from kandle.errors import OptionsError
from kandle.model.entity import EntityModel
from kandle.model.settings import FOREVER, UNCHANGED, TopicSettings
from kandle.time.timeframe import MILLISECOND

INSTANT = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class TopicColumn:
    """One column of a topic.

    `kind` is its type in words (`Decimal(18, 6)`), which must not change; `physical` is its type in frames. With `header`
    its values are those of the header of that name of each record, and it is part of neither key nor value.
    """

    name: str
    kind: str
    physical: pl.DataType
    nullable: bool = False
    header: str | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic should be: its columns, those of its key in their order, and how its records are kept.

    `replication` None leaves the number of copies to the log. `retention` is in microseconds since the append,
    `retention_bytes` per partition; None keeps records for ever. A compacted topic keeps at least the newest record of
    each key. `time` names the datetime column by which reads of a span of time can be narrowed. With `append_time` records
    have the time of the log's clock, whatever their producers say. `configs` are further settings of the brokers of a cluster.
    A topic that is not `is_created` belongs to others: it is an error if it is missing. One that `is_growing` is kandle's own:
    newer versions may have added nullable columns, which older ones leave alone.
    """

    name: str
    columns: tuple[TopicColumn, ...]
    keys: tuple[str, ...] = ()
    partitions: int = 1
    replication: int | None = None
    retention: int | None = None
    retention_bytes: int | None = None
    compacted: bool = False
    time: str | None = None
    append_time: bool = False
    configs: tuple[tuple[str, str], ...] = ()
    is_created: bool = True
    is_growing: bool = False

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns of the topic's frames with their types."""
        return {column.name: column.physical for column in self.columns}

    @property
    def key_columns(self) -> tuple[TopicColumn, ...]:
        """The columns of the key, in the order of its parts."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.keys)

    @property
    def value_columns(self) -> tuple[TopicColumn, ...]:
        """The columns of the value: neither parts of the key nor headers."""
        return tuple(column for column in self.columns if column.name not in self.keys and column.header is None)

    @property
    def header_columns(self) -> tuple[TopicColumn, ...]:
        """The columns whose values stand in headers."""
        return tuple(column for column in self.columns if column.header is not None)


def entity_topic(entity: EntityModel, name: str | None = None) -> TopicSpec:
    """Return the topic of an entity, with its fields as columns; the topic of a table is compacted.

    Args:
        entity: The entity whose records the topic holds.
        name: The name of the topic, if it is not the entity's own.

    Returns:
        The topic as the entity declares it.
    """
    columns = tuple(
        TopicColumn(part.name, str(part.type), part.type.physical, part.nullable, part.header) for part in entity.fields
    )
    spec = TopicSpec(
        name=entity.topic if name is None else name,
        columns=columns,
        keys=tuple(part.name for part in entity.keys),
        partitions=entity.partitions,
        replication=entity.replication,
        retention=entity.retention,
        compacted=entity.kind == "table",
        time=None if entity.timestamp is None else entity.timestamp.name,
    )
    return with_settings(spec, entity.settings)


APPEND_TIME = ("message.timestamp.type", "LogAppendTime")
"""The setting of brokers with which records have the time of their clock."""

NO_LIMIT = "-1"
"""How brokers write that records are kept for ever."""


def with_settings(spec: TopicSpec, settings: TopicSettings) -> TopicSpec:
    """Return a topic with the settings that the configuration gives for it.

    Args:
        spec: The topic as the model has it.
        settings: The settings.

    Raises:
        OptionsError: A setting is not possible for this topic.
    """
    if settings == UNCHANGED:
        return spec
    retention = _limit(spec.retention, settings.retention)
    if settings.cleanup == "compact" and settings.retention is None:
        retention = None
    is_stamped = spec.append_time or APPEND_TIME in settings.configs
    changed = replace(
        spec,
        partitions=settings.partitions or spec.partitions,
        replication=settings.replication or spec.replication,
        retention=retention,
        retention_bytes=_limit(spec.retention_bytes, settings.retention_bytes),
        compacted=spec.compacted if settings.cleanup is None else "compact" in settings.cleanup,
        append_time=is_stamped,
        configs=tuple(item for item in settings.configs if item != APPEND_TIME),
        is_created=spec.is_created if settings.create is None else settings.create,
    )
    problem = _impossible(spec, changed, settings)
    if problem is not None:
        raise OptionsError(f"{settings.origin}{problem}")
    return changed


def _limit(limit: int | None, given: int | None) -> int | None:
    return limit if given is None else None if given == FOREVER else given


def _impossible(spec: TopicSpec, changed: TopicSpec, settings: TopicSettings) -> str | None:
    """Return what cannot be set for a topic, in words."""
    if changed.compacted and not changed.keys and not spec.compacted:
        return f"topic {spec.name} cannot be compacted, since its records have no key; leave cleanup out"
    if settings.cleanup == "compact,delete" and changed.retention is None and changed.retention_bytes is None:
        return 'cleanup = "compact,delete" needs a retention, such as retention = "7d"'
    if spec.append_time and dict(changed.configs).get(APPEND_TIME[0]) is not None:
        return f"topic {spec.name} needs {'='.join(APPEND_TIME)}: heartbeats count by the clock of the log"
    return None


def broker_config(spec: TopicSpec) -> dict[str, str]:
    """Return how a topic is kept, in the settings of the brokers."""
    stamps = dict([APPEND_TIME]) if spec.append_time else {}
    is_limited = spec.retention is not None or spec.retention_bytes is not None
    policies = [*(["compact"] if spec.compacted else []), *(["delete"] if not spec.compacted or is_limited else [])]
    return {
        "cleanup.policy": ",".join(policies),
        "retention.ms": NO_LIMIT if spec.retention is None else str(spec.retention // MILLISECOND),
        "retention.bytes": NO_LIMIT if spec.retention_bytes is None else str(spec.retention_bytes),
        **stamps,
        **dict(spec.configs),
    }


def config_differences(config: Mapping[str, str], wanted: TopicSpec) -> list[str]:
    """Return in words which further settings of a topic are not as they are declared."""
    return [
        f"topic {wanted.name}: {name} is {config.get(name, 'unknown to the brokers')}, {value} is declared"
        for name, value in wanted.configs
        if config.get(name) != value
    ]


def missing_topics(specs: Sequence[TopicSpec]) -> str:
    """Return the message for topics that are missing and that kandle must not create, with the settings that they need."""
    listed = "; ".join(f"{spec.name} ({_creation(spec)})" for spec in specs)
    subject = "topic is missing, which kandle is" if len(specs) == 1 else "topics are missing, which kandle is"
    return (
        f"{len(specs)} {subject} not to create: {listed}. Create {'it' if len(specs) == 1 else 'them'} with these settings, or "
        "let kandle do it: create = true in the section of the topic, or log.create = true"
    )


def _creation(spec: TopicSpec) -> str:
    copies = "" if spec.replication is None else f", replication {spec.replication}"
    count = "1 partition" if spec.partitions == 1 else f"{spec.partitions} partitions"
    return f"{count}{copies}, {', '.join(f'{name}={value}' for name, value in broker_config(spec).items())}"


def heartbeat_topic(name: str, partitions: int, replication: int | None, retention: int) -> TopicSpec:
    """Return the topic of heartbeats, whose key is the start of a base bucket and the grace with which it is over.

    One record stands for all the keys of its partition, which only its owner knows. `position` is the next offset of the
    partition in the topic `events` when the heartbeat was sent: what follows it came too late for the bucket. `asked` is
    when that position was asked for, by the log's clock; NULL in one that is repeated. On a cluster the topic may have
    heartbeats of other queries, whose events are in other topics.
    """
    columns = (
        TopicColumn("start", "timestamp", INSTANT),
        TopicColumn("grace", "int", pl.Int64()),
        TopicColumn("instant", "timestamp", INSTANT),
        TopicColumn("position", "int", pl.Int64()),
        TopicColumn("events", "str", pl.String(), nullable=True),
        TopicColumn("asked", "timestamp", INSTANT, nullable=True),
    )
    return TopicSpec(
        name,
        columns,
        ("start", "grace"),
        partitions,
        replication,
        retention,
        compacted=True,
        time="start",
        append_time=True,
        is_growing=True,
    )


def changelog_topic(name: str, partitions: int, replication: int | None = None) -> TopicSpec:
    """Return the topic of a state: whole snapshots now and then, between them what every commit changed."""
    columns = (
        TopicColumn("kind", "string", pl.String()),
        TopicColumn("chain", "int", pl.Int64()),
        TopicColumn("more", "bool", pl.Boolean()),
        TopicColumn("content", "bytes", pl.Binary()),
    )
    return TopicSpec(name, columns, partitions=partitions, replication=replication, is_growing=True)


DECLARATIONS = "_kandle_queries"
"""The topic of the declarations of all queries."""


def declarations_topic(replication: int | None) -> TopicSpec:
    """Return the topic of the declarations of all queries, which are kept for ever.

    A row is a generation of the declaration of a query, that is of the topic `bars`: the first row of a number counts, and a
    number counts after the one before it only. `begin` says where a later generation begins; NULL is where the former stood.
    """
    columns = (
        TopicColumn("bars", "str", pl.String()),
        TopicColumn("generation", "int", pl.Int64()),
        TopicColumn("fingerprint", "str", pl.String()),
        TopicColumn("declaration", "str", pl.String()),
        TopicColumn("member", "str", pl.String()),
        TopicColumn("begin", "timestamp", INSTANT, nullable=True),
    )
    return TopicSpec(DECLARATIONS, columns, ("bars", "generation"), replication=replication, is_growing=True)


def dead_letter_topic(name: str, partitions: int, replication: int | None) -> TopicSpec:
    """Return the topic of dead letters, which are kept for ever: where a record was, what is wrong, and its bytes.

    `kandle.log.letters` says what the columns hold for records, events and bars.
    """
    columns = (
        TopicColumn("topic", "string", pl.String()),
        TopicColumn("partition", "int", pl.Int64()),
        TopicColumn("offset", "int", pl.Int64()),
        TopicColumn("error", "string", pl.String()),
        TopicColumn("key", "bytes", pl.Binary(), nullable=True),
        TopicColumn("payload", "bytes", pl.Binary(), nullable=True),
        TopicColumn("time", "timestamp", INSTANT, nullable=True),
        TopicColumn("kind", "string", pl.String(), nullable=True),
        TopicColumn("entity", "string", pl.String(), nullable=True),
        TopicColumn("field", "string", pl.String(), nullable=True),
        TopicColumn("value", "string", pl.String(), nullable=True),
        TopicColumn("timeframe", "string", pl.String(), nullable=True),
        TopicColumn("start", "timestamp", INSTANT, nullable=True),
        TopicColumn("error_class", "string", pl.String(), nullable=True),
        TopicColumn("traceback", "string", pl.String(), nullable=True),
        TopicColumn("attempts", "int", pl.Int64(), nullable=True),
        TopicColumn("group", "string", pl.String(), nullable=True),
        TopicColumn("is_json", "bool", pl.Boolean(), nullable=True),
        TopicColumn("count", "int", pl.Int64(), nullable=True),
        TopicColumn("letter", "int", pl.Int64(), nullable=True),
    )
    return TopicSpec(name, columns, ("topic", "partition", "offset"), partitions, replication, is_growing=True)


def dead_letter_name(topic: str) -> str:
    """Return the name of the topic of dead letters: of the records of a topic, or of the query that makes these bars."""
    return f"{topic}_dlq"


def has_letters(spec: TopicSpec) -> bool:
    """Return whether a topic is one of dead letters, of this version or a former one."""
    return spec.name.endswith(dead_letter_name("")) and {"topic", "offset", "error", "payload"} <= set(spec.schema)


def intervals_topic(name: str, partitions: int, replication: int | None) -> TopicSpec:
    """Return the topic of session intervals: the key as text, the value as the text of a JSON object."""
    columns = (TopicColumn("id", "str", pl.String()), TopicColumn("row", "str", pl.String()))
    return TopicSpec(name, columns, ("id",), partitions, replication, compacted=True, is_growing=True)
