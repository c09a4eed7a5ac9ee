"""What may change in a topic: new nullable columns are added, everything else about columns and keys is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from kandle.errors import SchemaError
from kandle.log.port import Column, TopicSpec
from kandle.log.records import HEADERS, Records
from kandle.model.entity import EntityModel


def merged_columns(there: TopicSpec, wanted: TopicSpec) -> tuple[Column, ...]:
    """The columns of a topic with the wanted new ones behind; SchemaError names what cannot be changed."""
    if there.keys != wanted.keys:
        raise SchemaError(
            f"topic {there.name} has the key ({', '.join(there.keys)}), but ({', '.join(wanted.keys)}) is declared; "
            "a key cannot change: use another topic"
        )
    old = {column.name: column for column in there.columns}
    new = {column.name: column for column in wanted.columns}
    for name, column in old.items():
        _check_same(there.name, column, new.get(name))
    added = [column for name, column in new.items() if name not in old]
    for column in added:
        if not column.nullable:
            raise SchemaError(
                f"topic {there.name} has no column {column.name}; a new column must be nullable (`{column.name}: ... | None`), "
                "since older records have no value for it"
            )
    return (*there.columns, *added)


def _check_same(topic: str, old: Column, new: Column | None) -> None:
    if new is None:
        raise SchemaError(
            f"topic {topic} has the column {old.name}, which is not declared; declare it again or use another topic"
        )
    if replace(old, name=new.name) != new:
        raise SchemaError(
            f"topic {topic}, column {old.name}: it is {_words(old)} in the topic and {_words(new)} in the declaration; "
            "a column cannot change: use another topic or another column"
        )


def _words(column: Column) -> str:
    words = f"{column.kind} | None" if column.nullable else column.kind
    return words if column.header is None else f"{words} of the header {column.header!r}"


SETTINGS = ("partitions", "replication", "retention", "retention_bytes", "compacted", "time")


def differences(there: TopicSpec, wanted: TopicSpec) -> tuple[str, ...]:
    """Settings that differ from those wanted, in words."""
    return tuple(
        f"topic {there.name}: {name} is {getattr(there, name)}, {getattr(wanted, name)} is declared"
        for name in SETTINGS
        if getattr(there, name) != getattr(wanted, name)
    )


def entity_topic(entity: EntityModel, name: str | None = None) -> TopicSpec:
    """The topic of an entity: its fields in their physical types; a table is compacted."""
    columns = tuple(
        Column(found.name, str(found.type), found.type.physical, found.nullable, found.header) for found in entity.fields
    )
    keys = entity.keys
    return TopicSpec(
        name=entity.topic if name is None else name,
        columns=columns,
        keys=tuple(found.name for found in keys),
        partitions=entity.partitions,
        replication=entity.replication,
        retention=entity.retention,
        compacted=entity.kind == "table",
        time=None if entity.timestamp is None else entity.timestamp.name,
    )


def kept(spec: TopicSpec, *, retention: int | None, compacted: bool) -> TopicSpec:
    """The same topic, kept otherwise."""
    return replace(spec, retention=retention, compacted=compacted)


def header_columns(columns: Sequence[Column]) -> dict[str, str]:
    """The header of each column that stands in one."""
    return {column.name: column.header for column in columns if column.header is not None}


def with_headers(records: Records, columns: Mapping[str, str]) -> Records:
    """The records with the headers that their columns say, behind those that they have and that do not say it yet."""
    named = {name: header for name, header in columns.items() if name in records.frame.columns}
    if not any(records.frame[name].count() for name in named):
        return records
    frame = records.frame.select(list(named))
    if records.headers is None:
        lists = [_header(header, pl.col(name)) for name, header in named.items()]
    else:
        frame = frame.with_columns(records.headers.alias("headers"))
        fresh = {header: pl.when(pl.col(name).ne_missing(_value(header))).then(pl.col(name)) for name, header in named.items()}
        lists = [pl.col("headers").fill_null(_NONE), *(_header(header, value) for header, value in fresh.items())]
    return replace(records, headers=frame.select(pl.concat_list(lists).alias("headers"))["headers"])


def with_columns(records: Records, columns: Mapping[str, str]) -> Records:
    """The records with the columns that their headers say; of several headers of a name the last one counts."""
    if not columns or records.headers is None:
        return records
    found = [_value(header).alias(name) for name, header in columns.items()]
    return replace(records, frame=records.frame.with_columns(records.headers.to_frame("headers").select(found).get_columns()))


_NONE = pl.lit([], dtype=HEADERS)


def _header(header: str, value: pl.Expr) -> pl.Expr:
    """A list of the one header, or of none where there is no value."""
    one = pl.concat_list(pl.struct(pl.lit(header).alias("name"), value.alias("value")))
    return pl.when(value.is_not_null()).then(one).otherwise(_NONE)


def _value(header: str) -> pl.Expr:
    part = pl.element().struct
    return pl.col("headers").list.eval(part.field("value").filter(part.field("name") == header)).list.last()
